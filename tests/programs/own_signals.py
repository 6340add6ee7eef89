"""Signals that the program sends itself: handlers run at a known place, also nested and blocked; the last one ends it."""
import os
import signal
import sys

seen = []


def handler(number, frame):
    seen.append((signal.Signals(number).name, frame.f_lineno))
    if number == signal.SIGUSR1:
        os.kill(os.getpid(), signal.SIGUSR2)


def work(n):
    return n * 2


signal.signal(signal.SIGUSR1, handler)
signal.signal(signal.SIGUSR2, handler)
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR2)
print(seen, work(3))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.raise_signal(signal.SIGUSR2)
print(signal.sigpending(), len(seen))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
print(work(4), len(seen))
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.raise_signal(signal.SIGUSR1)
sys.stdout.flush()
if sys.argv[1:] == ["opened"]:  # no handler: nothing comes while it is blocked, and the end when the mask opens
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.kill(os.getpid(), signal.SIGUSR2)
    print(work(5), signal.sigpending(), flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    print("never")
if sys.argv[1:] == ["killed"]:
    os.kill(os.getpid(), signal.SIGTERM)
