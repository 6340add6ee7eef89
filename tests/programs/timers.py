"""A hundred signals that arrive anywhere: in calls of Python functions, in outside calls, in sleeps; the handler calls functions and raises."""
import signal
import time

seen = []


class Enough(Exception):
    pass


def work(n):
    return n + 1


def handler(number, frame):
    seen.append((frame.f_code.co_name, frame.f_lineno, work(len(seen))))
    if len(seen) % 40 == 0:
        raise Enough(len(seen))


def spin(seconds):
    n, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        n = work(n)
    return n


signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
results = []
while len(seen) < 100:
    try:
        results.append(spin(0.004))
        time.sleep(0.003)
        for _ in range(2000):
            work(0)
    except Enough as e:
        results.append(str(e))
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(seen), results, seen)
