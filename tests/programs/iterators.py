"""Generators sent to, thrown into, closed, delegated, left suspended; itertools with callbacks."""
import functools
import itertools


def average():
    total = n = 0
    value = None
    while True:
        try:
            got = yield value
        except ValueError:
            total = n = 0
            value = "reset"
            continue
        total += got
        n += 1
        value = total / n


def tree(depth, path=""):
    if depth:
        yield from tree(depth - 1, path + "l")
        yield path or "root"
        yield from tree(depth - 1, path + "r")


def grouped(rows):
    for key, group in itertools.groupby(rows, key=lambda row: row % 7):
        yield key, functools.reduce(lambda a, b: a * 10 + b, group)


class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n


a = average()
next(a)
print([a.send(v) for v in (2, 4, 9)], a.throw(ValueError()), a.send(5))
a.close()
print(list(tree(4)), list(grouped(sorted(range(12), key=lambda v: -v % 5))))
print(list(Countdown(4)), list(itertools.accumulate(range(6), lambda x, y: x * 2 + y)), sorted({3: "c", 1: "a"}.items(), key=lambda kv: kv[1]))
left = tree(3)
print(next(left), next(left))
