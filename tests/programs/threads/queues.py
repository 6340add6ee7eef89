"""Producers and consumers: queue.Queue with task_done and join, a bounded one, SimpleQueue, LifoQueue, PriorityQueue, time-outs."""
import queue

from steps import finish, run, start, step

bounded, results, simple = queue.Queue(2), queue.Queue(), queue.SimpleQueue()


def produce(number):
    for i in range(8):
        bounded.put((number, i))
        step(f"put {i}")


def consume(number):
    while (item := bounded.get()) is not None:
        step(f"got {item[0]}.{item[1]}")
        results.put(item)
        bounded.task_done()
    bounded.task_done()


consumers = start(2, consume, names="consumer")
run(3, produce, names="producer")
for _ in consumers:
    bounded.put(None)
bounded.join()
for thread in consumers:
    thread.join()
got = sorted(results.get_nowait() for _ in range(results.qsize()))
assert got == [(n, i) for n in range(3) for i in range(8)]


def answer(number):
    total = 0
    while (n := simple.get()) >= 0:
        total += n
    step(total)


answering = start(2, answer, names="answering")
for i in range(50):
    simple.put(i)
simple.put(-1), simple.put(-1)
for thread in answering:
    thread.join()
empty = full = 0
try:
    simple.get(timeout=0.01)
except queue.Empty:
    empty += 1
try:
    bounded.get(timeout=0.01)
except queue.Empty:
    empty += 1
bounded.put(1), bounded.put(2)
try:
    bounded.put(3, timeout=0.01)
except queue.Full:
    full += 1
first = queue.PriorityQueue()
run(4, lambda n: (first.put(10 - n), step(n)), names="priority")
assert [first.get() for _ in range(4)] == [7, 8, 9, 10] and (empty, full) == (2, 1)
finish(got=got)
