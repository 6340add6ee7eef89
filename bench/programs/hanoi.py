"""The towers of Hanoi: recursion that moves disks between lists. argv[1]: disks. Prints its number of calls and the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time


def hanoi(disks, source, target, spare):
    if disks:
        hanoi(disks - 1, source, spare, target)
        target.append(source.pop())
        hanoi(disks - 1, spare, target, source)


started = perf_counter()
disks = int(sys.argv[1])
first, second, third = list(range(disks, 0, -1)), [], []
hanoi(disks, first, second, third)
took = perf_counter() - started
assert second == list(range(disks, 0, -1)) and not first and not third
print(2 ** (disks + 1) - 1, took, process_time())
