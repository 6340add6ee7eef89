"""id(), default reprs and the order of sets, as several threads find them: addresses come from the allocator in the order of the turns."""
from steps import finish, run, step


class Thing:
    pass


things, kept = set(), []


def work(number):
    for i in range(15):
        thing = Thing()
        things.add(thing)
        kept.append([0] * (number * 10 + i))
        step(f"{id(thing):x} {id(kept[-1]):x}")
        del kept[::7]
    step(repr(object()))


run(4, work)
order = [hex(id(t)) for t in things]
finish(order=order, hashes=[hash(t) for t in list(things)[:5]], kept=[hex(id(k)) for k in kept])
