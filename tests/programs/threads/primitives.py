"""Lock, RLock, Condition, Event, Semaphore, BoundedSemaphore and Barrier, with time-outs, and what goes wrong with them."""
import threading
import time

from steps import finish, run, start, step

lock, recursive, condition = threading.Lock(), threading.RLock(), threading.Condition()
event, limited, barrier = threading.Event(), threading.BoundedSemaphore(2), threading.Barrier(3)
inside, most, items, orders = 0, 0, [], []


def locked(number):
    for i in range(10):
        with lock:
            step(i)
    with recursive, recursive:
        step("twice")


def limited_to_two(number):
    global inside, most
    for _ in range(3):
        with limited:
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.001)
            step(inside)
            with lock:
                inside -= 1


def waits(number):
    with condition:
        condition.wait_for(lambda: items)
        step(items.pop())
        condition.notify()
    assert event.wait(10)
    step("event")


def meets(number):
    for _ in range(5):
        orders.append((barrier.wait(), number))
        step(number)


run(3, locked, names="locked")
run(4, limited_to_two, names="limited")
assert most == 2, most
waiting = start(3, waits, names="waits")
for n in range(3):
    with condition:
        items.append(n)
        condition.notify_all()
event.set()
for thread in waiting:
    thread.join()
run(3, meets, names="meets")
assert sorted(n for n, _ in orders) == sorted([0, 1, 2] * 5)

# time-outs, and errors
lock.acquire()
assert not lock.acquire(timeout=0.005) and not lock.acquire(blocking=False) and not threading.Event().wait(0.005)
with condition:
    assert not condition.wait(0.005)
assert not threading.Semaphore(0).acquire(timeout=0.005)
errors = []
for wrong in limited.release, recursive.release, condition.notify, threading.Lock().release:
    try:
        wrong()
    except (RuntimeError, ValueError) as e:
        errors.append(type(e).__name__)
assert errors == ["ValueError", "RuntimeError", "RuntimeError", "RuntimeError"], errors
broken = threading.Barrier(2, timeout=0.005)
try:
    broken.wait()
except threading.BrokenBarrierError:
    errors.append("broken")
assert broken.broken


def releases(number):
    step("before")
    lock.release()  # not the thread that took it


run(1, releases, names="releases")
assert not lock.locked()
finish(orders=orders, errors=errors)
