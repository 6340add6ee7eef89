"""for _ in range(n): with lock: x += 1, in several threads."""
import threading

from steps import finish, run, step

lock, x, y = threading.Lock(), 0, 0
recursive = threading.RLock()


def work(number):
    global x, y
    for _ in range(3000):
        with lock:
            x += 1
    step(x)
    for _ in range(1000):
        with recursive:
            with recursive:
                y += 1
    step(y)


run(4, work)
assert (x, y) == (12000, 4000)
finish()
