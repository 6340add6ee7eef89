"""Processes that wait for each other at multiprocessing's locks, semaphores, events and queues. Each process prints what work() returns."""
import multiprocessing
import os
import signal
import time


def work(name, value):
    return name, value


def tell(value):
    os.write(1, f"{os.getpid()} {os.getppid()} {value!r}\n".encode())


def counts(lock, path, n):
    for _ in range(n):
        with lock:
            with open(path) as f:
                value = int(f.read())
            time.sleep(0.0005)
            with open(path, "w") as f:
                f.write(str(value + 1))
    tell(work("counted", n))


def answers(asked, answered):
    while (n := asked.get()) is not None:
        answered.put(n * n)
        tell(work("answered", n))


def waits(ready, go, room):
    with room:
        ready.release()
        tell(work("went", go.wait(20)))


def interrupted(lock, ready):
    """Waits for a lock that is taken; a signal's handler raises."""
    def give_up(number, frame):
        raise InterruptedError(number)

    signal.signal(signal.SIGTERM, give_up)
    ready.release()
    try:
        lock.acquire()
        tell(work("got it", True))
    except InterruptedError as e:
        tell(work("gave up", e.args))


def main():
    context = multiprocessing.get_context("fork")
    lock, path = context.Lock(), f"counter-{os.getpid()}"
    with open(path, "w") as f:
        f.write("0")
    children = [context.Process(target=counts, args=(lock, path, 15)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    with open(path) as f:
        tell(work("sum", int(f.read())))
    os.unlink(path)

    asked, answered = context.SimpleQueue(), context.SimpleQueue()
    child = context.Process(target=answers, args=(asked, answered))
    child.start()
    for n in range(5):
        asked.put(n)
    got = [answered.get() for _ in range(5)]
    asked.put(None)
    child.join()
    tell(work("squares", got))

    ready, go, room = context.Semaphore(0), context.Event(), context.BoundedSemaphore(2)
    children = [context.Process(target=waits, args=(ready, go, room)) for _ in range(2)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    go.set()
    for child in children:
        child.join()
    tell(work("values", (ready.get_value(), room.get_value(), go.is_set())))

    lock.acquire()
    child = context.Process(target=interrupted, args=(lock, ready))
    child.start()
    ready.acquire()
    time.sleep(0.05)
    child.terminate()
    child.join()
    tell(work("exit", (child.exitcode, lock.acquire(timeout=0.01))))


main()
