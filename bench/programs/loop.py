"""A loop without any call. argv[1]: how often."""
import sys
from time import perf_counter


def loop(n):
    total = 0
    i = 0
    while i < n:
        total = (total * 31 + i) & 0xFFFFFFFF
        if total & 1:
            total ^= 0x5A5A5A5A
        i += 1
    return total


started = perf_counter()
loop(int(sys.argv[1]))
print(1, perf_counter() - started)
