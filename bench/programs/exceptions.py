"""Exceptions that pass through six functions, with and without finally, are caught, raised again, replaced. argv[1]: how many. Prints these, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time


class Refused(Exception):
    pass


cleaned = 0


def refuse(n):
    raise (ValueError, KeyError, Refused)[n % 3](n)


def pass_on(n, depth):
    if depth:
        pass_on(n, depth - 1)
    else:
        refuse(n)


def clean(n):
    global cleaned
    try:
        pass_on(n, 2)
    finally:
        cleaned += 1


def replace(n):
    try:
        clean(n)
    except KeyError as e:
        raise Refused(n) from e


def attempt(n):
    try:
        replace(n)
    except ValueError:
        return 1
    except Refused as e:
        return 2 if e.__cause__ is None else 3


times = int(sys.argv[1])
started = perf_counter()
for n in range(times):
    assert attempt(n) == (1, 3, 2)[n % 3]
assert cleaned == times
print(times, perf_counter() - started, process_time())
