"""Lines, locals, cells and exits of every kind of frame; calls nothing from the library."""


def plain(a, b=2, *rest, key=None):
    total = a + b
    for i in range(3):
        total += i
        if i == 1:
            total -= 1
    return total


def closure(n):
    kept = [n]

    def inner(v):
        kept.append(v)
        return n + v
    r = inner(1)
    r += inner(2)
    del n
    return r


def gen(n):
    try:
        for i in range(n):
            got = yield i
            if got:
                yield got * 10
    except ValueError as e:
        yield str(e)
    finally:
        n = -1


def outer():
    x = yield from gen(2)
    yield x
    return "done"


class Thing:
    kind = "thing"
    sizes = [s for s in (1, 2)]

    def __init__(self, size):
        self.size = size

    @property
    def big(self):
        big = self.size > 1
        return big

    def __repr__(self):
        return f"Thing({self.size})"

    class Inner:
        deep = 1


def fails(n):
    if n == 0:
        raise KeyError("zero")
    try:
        fails(n - 1)
    finally:
        n += 100


def catches():
    got = None
    try:
        fails(2)
    except KeyError as e:
        got = e.args
    return got


def swallow():
    for k in range(2):
        try:
            fails(k)
        finally:
            continue
    return k


def callbacks():
    def key(v):
        w = -v
        return w
    return sorted([3, 1, 2], key=key)


def comprehensions(m):
    a = [x * m for x in range(3)]
    b = {x: y for x, y in zip(a, a)}
    c = sum(x + m for x in a)
    return a, b, c


async def value(v):
    w = v + 1
    return w


async def waits():
    a = await value(1)
    b = await value(a)
    return a + b


def run(coro):
    try:
        coro.send(None)
    except StopIteration as e:
        return e.value


def one_line(): return [1][0]


def while_loop(n):
    while n:
        n -= 1
    else:
        n = "end"
    return n


g = gen(3)
first = next(g)
second = g.send(7)
third = next(g)
thrown = g.throw(ValueError("v"))
g.close()
results = [plain(1), plain(1, 2, 3, key=4), closure(5), list(outer()), Thing(2).big, catches(), swallow(), callbacks()]
results += [comprehensions(3), run(waits()), one_line(), while_loop(3)]
total = 0
for n in range(3):
    total += n
    squares = [n * q for q in range(2)]
u = gen(1)
try:
    u.throw(KeyError("never started"))
except KeyError:
    pass
print(results, total)
