"""Two threads that each want the other's lock.
resolved: with time-outs. alarm: for ever, until SIGALRM kills the process. dump: until faulthandler's own thread ends it."""
import faulthandler
import signal
import sys
import threading
import time

from steps import finish, run, start, step

how = sys.argv[1]
locks = [threading.Lock(), threading.Lock()]
both = threading.Barrier(2)


def polite(number):
    first, second = locks[number], locks[1 - number]
    for attempt in range(100):
        with first:
            if attempt == 0:
                both.wait()
            if second.acquire(timeout=0.005 * (number + 1)):
                second.release()
                step(attempt)
                return
            step(-1)
        time.sleep(0.004 * number)


def stubborn(number):
    with locks[number]:
        both.wait()
        step(number)
        if number == 0:
            finish()
        with locks[1 - number]:
            assert False


if how == "resolved":
    run(2, polite)
    finish()
else:
    if how == "alarm":
        signal.alarm(1)
    else:
        faulthandler.dump_traceback_later(0.5, exit=True)
    for thread in start(2, stubborn):
        thread.join()
