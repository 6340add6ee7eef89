"""How deep recursion goes, by way of each kind of call."""
import sys

depth = 0


def f():
    global depth
    depth += 1
    f()


def by_sort(x):
    global depth
    depth += 1
    sorted([1], key=by_sort)


def by_star(*a, **k):
    global depth
    depth += 1
    by_star(*a, **k)


class Item:
    def __getitem__(self, i):
        global depth
        depth += 1
        self[i]

    @property
    def p(self):
        global depth
        depth += 1
        self.p

    def __getattr__(self, name):
        global depth
        depth += 1
        getattr(self, name + "")

    def method(self):
        global depth
        depth += 1
        self.method()

    def __repr__(self):
        global depth
        depth += 1
        return repr([self])


def gen():
    global depth
    depth += 1
    yield from gen()


def walk(n):
    global depth
    depth += 1
    for x in walk(n + 1):
        yield x


def mixed(n):
    global depth
    depth += 1
    if n % 50 == 0:
        sorted([n + 1], key=mixed)
    else:
        mixed(n + 1)


for name, call in (("f", f), ("by_sort", lambda: by_sort(1)), ("by_star", lambda: by_star(1, a=2)), ("item", lambda: Item()[0]),
                   ("property", lambda: Item().p), ("getattr", lambda: Item().zzz), ("method", lambda: Item().method()),
                   ("repr", lambda: repr(Item())), ("gen", lambda: next(gen())), ("walk", lambda: next(walk(0))),
                   ("mixed", lambda: mixed(1))):
    for limit in (300, 1000, 20000):
        sys.setrecursionlimit(limit)
        depth = 0
        try:
            call()
        except RecursionError:
            print(name, limit, depth)
