"""threading.local, with a class of its own and its finaliser; contextvars; current_thread and enumerate."""
import contextvars
import threading

from steps import finish, run, step

gone = []


class Mine(threading.local):
    def __init__(self, start):
        self.n = start


class Ends:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        gone.append(self.number)


mine, plain, var = Mine(100), threading.local(), contextvars.ContextVar("var", default=-1)
var.set(7)
seen = []


def work(number):
    assert not hasattr(plain, "x") and mine.n == 100
    plain.x, plain.ends = number, Ends(number)
    token = var.set(number)
    for _ in range(20):
        mine.n += number
        assert plain.x == var.get() == number
        step(mine.n)
    var.reset(token)
    seen.append((number, mine.n, threading.current_thread().name))
    assert threading.current_thread() in threading.enumerate()


run(4, work)
assert sorted(seen) == [(n, 100 + 20 * n, f"worker-{n}") for n in range(4)]
assert mine.n == 100 and var.get() == 7 and sorted(gone) == [0, 1, 2, 3]
finish(seen=seen, gone=gone)
