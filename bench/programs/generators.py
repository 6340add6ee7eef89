"""Generators that take from each other, one of them by yield from, and comprehensions. argv[1]: numbers that go through. Prints how many came out, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time


def numbers(n):
    for i in range(n):
        yield i


def squares(source):
    for i in source:
        yield i * i % 1009


def pairs(source):
    for i in source:
        yield i
        yield i + 1


def through(source):
    yield from source


came = 0


def use(i):
    global came
    came += 1
    return i & 1


started = perf_counter()
odd = sum(use(i) for i in through(pairs(squares(numbers(int(sys.argv[1]))))))
assert odd == came // 2
print(came, perf_counter() - started, process_time())
