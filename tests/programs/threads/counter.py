"""A counter without a lock: read, call, write. Updates may get lost; how many is printed."""
from steps import finish, run, step

counter = 0


def read():
    return counter


def work(number):
    global counter
    for i in range(100):
        value = read()
        if i % 10 == 0:
            step(value)
        counter = value + 1


run(4, work)
assert 100 <= counter <= 400
finish(counter=counter)
