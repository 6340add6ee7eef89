"""KeyboardInterrupt in main while threads work: in join, in a loop, in a lock; sent by a thread, and by _thread.interrupt_main."""
import _thread
import os
import signal
import threading
import time

from steps import finish, start, step

stop, places = threading.Event(), []


def works(number):
    while not stop.is_set():
        step("works")
        time.sleep(0.002)


def interrupts(number):
    time.sleep(0.01)
    step("interrupts")
    if number == 1:
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGINT)


def in_sleep():
    time.sleep(1000)


def in_loop():
    n = 0
    while True:
        n = abs(n + 1)


def in_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


workers = start(2, works)
for place, number in (in_sleep, 0), (in_loop, 1), (in_lock, 2):
    thread = threading.Thread(target=interrupts, args=(number,), name=f"interrupts-{number}")
    try:
        thread.start()
        place()
    except KeyboardInterrupt:
        places.append(place.__name__)
    thread.join()
stop.set()
for thread in workers:
    thread.join()
assert places == ["in_sleep", "in_loop", "in_lock"]
finish()
