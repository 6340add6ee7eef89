"""Quicksort of lists, with loops in each call. argv[1]: numbers. Prints its number of calls and the seconds, and the CPU seconds of the process."""
import random
import sys
from time import perf_counter, process_time

calls = 0


def quicksort(numbers):
    global calls
    calls += 1
    if len(numbers) < 2:
        return numbers
    pivot = numbers[len(numbers) // 2]
    low, same, high = [], [], []
    for number in numbers:
        if number < pivot:
            low.append(number)
        elif number > pivot:
            high.append(number)
        else:
            same.append(number)
    return quicksort(low) + same + quicksort(high)


chance = random.Random(7)
numbers = [chance.randrange(1 << 30) for _ in range(int(sys.argv[1]))]
started = perf_counter()
ordered = quicksort(numbers)
took = perf_counter() - started
assert ordered == sorted(numbers)
print(calls, took, process_time())
