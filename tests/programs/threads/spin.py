"""Threads that spin on a flag without any call, until another one sets it: they have to be switched in the midst of it."""
from steps import finish, start, step

flag = False
turn = 0


def spins(number):
    step("spins")
    while not flag:
        pass
    step("seen")


def in_turn(number):
    global turn
    for i in range(3):
        while turn != number:
            pass
        step(i)
        turn = (number + 1) % 3


threads = start(2, spins, names="spins")
step("set")
flag = True
for thread in threads:
    thread.join()
for thread in start(3, in_turn, names="in turn"):
    thread.join()
finish()
