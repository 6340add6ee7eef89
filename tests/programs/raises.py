"""Raises: the ends of coroutines and iterations, which are none, and one behind a call of its own line."""
def done(c):
    try: c.send(None)
    except StopIteration: pass
async def get(): return 1
async def gen():
    for i in range(3): yield await get()
async def main():
    async for j in gen():
        k = j
def f():
    raise ValueError(g())
def g(): return 1
def h():
    try:
        f()
    except ValueError:
        pass
done(main())
h()
h()
