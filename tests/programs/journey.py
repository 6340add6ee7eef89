"""Every kind of frame, with variables that change in every kind of way: for moving through a run."""
import functools
import os

counter = 0
mode = None


def bump(by=1):
    global counter
    counter += by
    return counter


class Shape:
    sides = 0
    for k in range(3):
        sides += k
    squares = [k * k for k in (1, 2)]

    def __init__(self, n):
        self.n = n

    def __del__(self):
        left = self.n
        bump(left)

    def __lt__(self, other):
        return self.n < other.n

    @property
    def area(self):
        n = self.n
        return n * n


def fib(n):
    if n < 2:
        return n
    a = fib(n - 1)
    b = fib(n - 2)
    return a + b


def gen(n):
    seen = 0
    try:
        for i in range(n):
            got = yield i
            seen += 1
            if got:
                seen = got
    except KeyError:
        seen = -1
        yield seen
    finally:
        seen = None


def delegate(n):
    total = 0
    result = yield from gen(n)
    total += 1
    yield total
    return result


def closure(n):
    kept = n

    def change(by):
        nonlocal kept
        kept += by
        return kept
    for by in (1, 0, 2):
        got = change(by)
    return sorted([3, 1, 2], key=lambda v: -change(v)), got


def callbacks(words):
    order = []
    kept = [Shape(3), Shape(1), Shape(2)]

    def key(word):
        order.append(word)
        n = len(word)
        return n
    best = sorted(words, key=key)
    worst = max(words, key=key)
    shapes = [s.n for s in sorted(kept)]
    kept.clear()
    return best, worst, order, functools.reduce(lambda a, b: a * b, shapes)


def fails(n):
    state = "begun"
    try:
        if n == 0:
            state = "raising"
            raise ValueError("zero")
        fails(n - 1)
    finally:
        state = "left"


def catches(n):
    caught = None
    for k in range(n):
        try:
            if k % 3 == 0:
                fails(k)
            elif k % 3 == 1:
                {}[k]
            else:
                int("x" * k)
        except (KeyError, ValueError) as e:
            caught = type(e).__name__
        else:
            caught = "none"
    return caught


def raises_again():
    try:
        fails(1)
    except ValueError as e:
        bump(0)
        raise RuntimeError("again") from e


def swallows():
    for k in range(3):
        try:
            fails(k)
        finally:
            continue
    return k


def comprehensions(m):
    a = [x * m for x in range(4)]
    b = {x: y
         for x, y in zip(a, a)}
    c = sum(x + m for x in a if x)
    return a, b, c, [[i * j for i in range(2)] for j in range(2)]


def loops(n):
    i = total = 0
    while i < n:
        i += 1
        if i == 3: continue
        total += i
        if total > 20: break
    for total in range(3): pass
    del i
    i = "again"
    return i, total


class Pause:
    def __await__(self):
        got = yield
        return got


class Lock:
    async def __aenter__(self):
        await Pause()
        return "locked"

    async def __aexit__(self, *what):
        return False


async def value(v):
    await Pause()
    w = v + 1
    return w


async def ticks(n):
    for i in range(n):
        await value(i)
        yield i


async def main():
    got = [i async for i in ticks(3)]
    got.append(await value(7))
    async with Lock() as lock:
        got.append(lock)
    return got


def drive(coro):
    sent = None
    while True:
        try:
            sent = coro.send(sent)
        except StopIteration as e:
            return e.value


def thrown():
    g = delegate(4)
    first = next(g)
    second = g.send(9)
    third = g.throw(KeyError("thrown"))
    g.close()
    u = gen(2)
    try:
        u.throw(ValueError("never started"))
    except ValueError:
        pass
    left = [gen(3)]
    next(left[0])
    left.clear()
    return first, second, third


def made():
    space = {"bump": bump}
    text = "x = bump(2)\ndef f(y):\n    z = y + x\n    return z\nr = f(4)\n"
    exec(compile(text, os.path.join(os.path.dirname(__file__), "<made>"), "exec"), space)
    exec("q = 1\nq += 1", space)
    return space["r"], eval("(lambda v: v + 1)(2)")


def match(what):
    match what:
        case {"kind": "move", "by": [x, y]}:
            return x + y
        case [_, *rest]:
            return rest
    return None


def looking():
    held = [Shape(5)]
    numbers = [held[0].area]
    numbers.append(held[0].area + 1)
    numbers[0] = 7
    text = f"{held[0].n}" \
           f"{numbers}"
    with open(os.devnull) as f:
        nothing = f.read()
    held.clear()
    return text, nothing


for mode in ("first", "second"):
    print(fib(4), list(delegate(3)), closure(5), catches(7))
    print(callbacks(["ccc", "a", "bb"]), swallows(), comprehensions(2))
    try:
        raises_again()
    except RuntimeError as e:
        mode = repr(e)
    print(loops(9), thrown(), made(), match({"kind": "move", "by": [1, 2]}), match([1, 2]), match(3))
    print(looking(), counter)
print(drive(main()))
shape = Shape(100)
shape = None
print([bump(k) for k in range(3)], mode)
