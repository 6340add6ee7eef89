"""id(), default reprs and the order of sets of plain objects: all from addresses."""


class Plain:
    pass


def make(n):
    return [Plain() for _ in range(n)]


things = make(200)
print([id(t) % 65536 for t in things[:20]], repr(things[3]), hash(things[4]))
order = list(set(things))
print([things.index(t) for t in order])
junk = [bytearray(i * 37) for i in range(500)]
more = make(100) + [Plain] + junk[:3]
print(sorted(map(id, more))[:5], id(make), id(object()), make)
