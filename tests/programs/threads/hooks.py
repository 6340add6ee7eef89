"""Exceptions that end threads: threading.excepthook, the default one, SystemExit, _thread.start_new_thread and sys.unraisablehook."""
import _thread
import sys
import threading

from steps import finish, run, step

caught, done = [], threading.Lock()


def fails(number):
    step(number)
    raise [ValueError, KeyError, SystemExit, ZeroDivisionError][number](number)


def hook(args):
    step(args.exc_type.__name__)
    caught.append((args.exc_type.__name__, args.thread.name))


run(1, fails, names="default")
threading.excepthook = hook
run(4, fails, names="fails")
threading.excepthook = threading.__excepthook__
assert sorted(caught) == [("KeyError", "fails-1"), ("SystemExit", "fails-2"), ("ValueError", "fails-0"), ("ZeroDivisionError", "fails-3")]
raised = []
sys.unraisablehook = lambda args: (raised.append(args.exc_type.__name__), done.release())
done.acquire()
_thread.start_new_thread(lambda: 1 / 0, ())
assert done.acquire(timeout=10) and raised == ["ZeroDivisionError"]
finish(caught=caught)
