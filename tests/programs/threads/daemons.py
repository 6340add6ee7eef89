"""Daemon threads that are still there when the interpreter ends: in sleep, lock, queue, accept, select, a loop with and without calls."""
import queue
import select
import socket
import threading
import time

from steps import finish, start, step

never = threading.Lock()
never.acquire()
nothing = queue.Queue()
listening = socket.create_server(("127.0.0.1", 0))
a, b = socket.socketpair()


def call():
    return 1


def forever(number):
    step(number)
    if number == 0:
        time.sleep(1000)
    elif number == 1:
        never.acquire()
    elif number == 2:
        nothing.get()
    elif number == 3:
        listening.accept()
    elif number == 4:
        select.select([a], [], [])
    elif number == 5:
        threading.Event().wait()
    elif number == 6:
        while True:
            call()
    elif number == 7:
        n = 0
        while True:
            n += 1
    elif number == 8:
        while True:
            time.sleep(0.0005)


start(9, forever, names="daemon", daemon=True)
time.sleep(0.03)
finish()
