"""Loops without calls in several threads, and what they share without a lock: how they were switched is in what they find."""
from steps import finish, run, step

shared = 0
seen = {}


def work(number):
    global shared
    mine, changes, last = 0, 0, -1
    for i in range(150000):
        shared += 1
        mine += i & number
        if last != number:
            changes += 1
        last = number
    seen[number] = (mine, shared)
    step(shared)


run(4, work)
assert 150000 <= shared <= 600000
assert [seen[n][0] for n in range(4)] == [sum(i & n for i in range(150000)) for n in range(4)]
finish(shared=shared, seen=seen)
