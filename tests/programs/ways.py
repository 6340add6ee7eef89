"""One function for each way in which code comes to run. For breakpoints and steps in all of them."""
import sys


def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)


def numbers(n):
    for i in range(n):
        got = yield i
        if got:
            n = got


def squares(n):
    return [k * k for k in range(n)]


def by_key(words):
    return sorted(words, key=lambda w: len(w))


def guarded(n):
    try:
        return 1 // n
    except ZeroDivisionError:
        return -1
    finally:
        n = None


class Body:
    kind = "body"
    size = len(kind)

    def __del__(self):
        seen.append(self.size)


async def waits(n):
    return n + 1


def drive(c):
    try:
        c.send(None)
    except StopIteration as e:
        return e.value


seen = []
print(fib(4))
print(list(numbers(3)), squares(4), by_key(["ccc", "a", "bb"]))
print(guarded(0), guarded(1))
b = Body()
del b
print(drive(waits(1)), seen)
scope = {}
exec("def made(x):\n    y = x + 1\n    return y\nz = made(4)\n", scope)
import shop.prices
print(scope["z"])
sys.exit(7)
