"""A signal that arrives while the program waits for it."""
import signal


def before(n):
    return n * 2


print(before(21), flush=True)
signal.signal(signal.SIGALRM, lambda number, frame: print("rang"))
signal.setitimer(signal.ITIMER_REAL, 0.02)
signal.pause()
print(before(4))
