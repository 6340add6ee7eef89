"""fib that sleeps for 10 microseconds in every call but the innermost. argv[1]: fib of what. Prints its number of calls and the seconds, and the CPU seconds of the process."""
import sys
import time
from time import perf_counter, process_time

calls = 0


def slow_fib(n):
    global calls
    calls += 1
    if n < 2:
        return n
    time.sleep(0.00001)
    return slow_fib(n - 1) + slow_fib(n - 2)


started = perf_counter()
slow_fib(int(sys.argv[1]))
print(calls, perf_counter() - started, process_time())
