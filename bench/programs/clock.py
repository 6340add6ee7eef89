"""Asks for the time so many times."""
import sys
import time

n = int(sys.argv[1])
ask = time.time
started = time.perf_counter()
for _ in range(n):
    ask()
print(n, time.perf_counter() - started)
