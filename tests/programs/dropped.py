"""Functions whose variables run code when they are dropped."""
class Handle:
    def __init__(self, n):
        self.n = n

    def __del__(self):
        helper(self.n)


def helper(n):
    return n + 1


def f(k):
    a = Handle(1)
    b = Handle(2)
    helper(10)
    return k * 3


def g():
    x = Handle(5)
    raise ValueError("x")


print(f(4))
try:
    g()
except ValueError:
    pass
