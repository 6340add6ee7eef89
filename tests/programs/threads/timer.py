"""threading.Timer: several at once, one that is cancelled, one that starts the next."""
import threading

from steps import finish, step

rang, last = [], threading.Event()


def ring(n):
    step(n)
    rang.append(n)


def again(n):
    step(n)
    if n:
        threading.Timer(0.003, again, (n - 1,)).start()
    else:
        last.set()


timers = [threading.Timer(0.01 * (5 - n), ring, (n,)) for n in range(5)]
for timer in timers:
    timer.start()
cancelled = threading.Timer(60, ring, (99,))
cancelled.start()
cancelled.cancel()
again(4)
for timer in [*timers, cancelled]:
    timer.join()
assert last.wait(10) and sorted(rang) == [0, 1, 2, 3, 4]
finish(rang=rang)
