import functools


@functools.lru_cache
def price(name):
    return sum(map(ord, name)) % 100
