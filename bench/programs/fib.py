"""Calls and nothing else. argv: numbers, fib of each in turn. Prints its own number of calls, the seconds that they took, and the CPU seconds: of the work, and of the process."""
import sys
from time import perf_counter, process_time


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def calls(n):
    """How many calls fib(n) makes, itself included."""
    a, b = 1, 1
    for _ in range(n - 1):
        a, b = b, a + b + 1
    return b


def now():
    return perf_counter()


numbers = [int(a) for a in sys.argv[1:]] or [26]
began = process_time()
started = now()
for n in numbers:
    fib(n)
print(sum(map(calls, numbers)), now() - started, process_time() - began, process_time())
