"""Deep recursion, up to the limit and back, twice."""
import sys


def ackermann(m, n):
    if m == 0:
        return n + 1
    return ackermann(m - 1, 1 if n == 0 else ackermann(m, n - 1))


def dig(n):
    try:
        return dig(n + 1)
    except RecursionError:
        return n


print(ackermann(2, 9))
first = dig(0)
sys.setrecursionlimit(3000)
print(first, dig(0) - first)
