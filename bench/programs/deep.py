"""Recursion 4,000 calls deep, again and again. argv[1]: how often. Prints its number of calls, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time

DEPTH = 4000


def down(n, path):
    if n == 0:
        return len(path)
    return down(n - 1, path) + 1


sys.setrecursionlimit(DEPTH * 3)
times = int(sys.argv[1])
started = perf_counter()
for _ in range(times):
    assert down(DEPTH, ()) == DEPTH
print(times * (DEPTH + 1), perf_counter() - started, process_time())
