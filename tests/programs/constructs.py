"""Every way into and out of a Python frame that the interpreter has a short cut for, often enough for it to take it."""
import functools
import gc


class Base:
    def __init__(self, x):
        self.x = x

    def __getitem__(self, i):
        return i

    @property
    def twice(self):
        return self.x * 2

    def __iter__(self):
        yield from (self.x, self.x)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        return True

    def __eq__(self, other):
        return self.x == other.x

    def __hash__(self):
        return self.x

    def __lt__(self, other):
        return self.x < other.x

    def __call__(self, y):
        return self.x + y

    def __add__(self, y):
        return Base(self.x + y)

    def __contains__(self, y):
        return y == self.x

    def __len__(self):
        return 3


class Derived(Base):
    def __init__(self, x):
        super().__init__(x)
        self.y = x

    def __getattr__(self, name):
        return name


class All:
    def __getattribute__(self, name):
        return object.__getattribute__(self, "real_" + name)

    real_a = 5


class Dies:
    def __del__(self):
        len("gone")


class Meta(type):
    def __new__(mcls, name, bases, ns, **kw):
        return super().__new__(mcls, name, bases, ns)

    def __call__(cls, *args):
        return super().__call__(*args)


class Made(Base, metaclass=Meta, word=1):
    z = [i for i in range(3)]


def gen(n):
    for i in range(n):
        got = yield i
        if got:
            yield got


def dele(n):
    r = yield from gen(n)
    return r


def closer(k):
    def inner(v):
        nonlocal k
        k += v
        return k
    return inner


def star(*args, **kw):
    return len(args) + len(kw)


def raises(n):
    if n:
        raises(n - 1)
    raise KeyError(n)


def swallowed():
    for i in range(3):
        try:
            raises(i)
        finally:
            continue


async def sleeper(n):
    return n


async def agen(n):
    for i in range(n):
        await sleeper(i)
        yield i


class Awaits:
    def __await__(self):
        got = yield 1
        return got


async def main():
    got = [i async for i in agen(4)]
    async with Actx() as c:
        got.append(c)
    got.append(await Awaits())
    return got


class Actx:
    async def __aenter__(self):
        return "c"

    async def __aexit__(self, *what):
        return False


def drive(coro):
    sent = None
    while True:
        try:
            sent = coro.send(sent)
        except StopIteration as e:
            return e.value


def thrown():
    g = gen(3)
    try:
        g.throw(ValueError("unstarted"))
    except ValueError:
        pass
    g = dele(5)
    next(g)
    try:
        g.throw(ValueError("delegated"))
    except ValueError:
        pass
    g = gen(3)
    next(g)
    g.close()
    g = dele(3)
    next(g)
    del g


@functools.lru_cache
def cached(n):
    return n


def once(n):
    b, d = Base(n), Derived(n)
    s = b[1] + b.twice + len([*b]) + d.x + All().a
    with b:
        raise ValueError
    s += sum(gen(3)) + sum(dele(3)) + closer(1)(2)
    s += star(*[1, 2], **{"a": 1}) + star(1, z=2)
    s += sorted([b, Base(n + 1)], key=lambda o: -o.x)[0].x
    s += sorted([b, d])[0].x + sum(map(b, [1, 2])) + sum(filter(lambda v: v > 1, (1, 2, 3)))
    s += len({b, d}) + (b == d) + (n in b) + len(b) + (b + 1).x + len(d.nothing)
    s += sum(x for x in range(3)) + len([y for y in range(3)]) + len({y: 1 for y in range(3)}) + len({y for y in range(3)})
    s += Made(1).x + cached(n)
    try:
        raises(2)
    except KeyError:
        s += 1
    swallowed()
    del b, d
    Dies()
    loop = Dies()
    loop.me = loop
    del loop
    s += drive(main()) is not None
    thrown()
    exec("def e(v):\n    return v\ne(n)", {"n": n})
    s += eval("(lambda v: v + 1)(2)")
    return s


gc.disable()
for n in range(40):
    total = once(n)
gc.collect()
print(total)
