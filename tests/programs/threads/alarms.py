"""Signals and threads: setitimer, alarm in the midst of lock waits of main, pthread_kill, sigwait in a thread, set_wakeup_fd, masks."""
import os
import signal
import socket
import threading
import time

from steps import finish, start, step

came = []


def handler(number, frame):
    step(signal.Signals(number).name)
    came.append((number, threading.current_thread() is threading.main_thread()))


for number in signal.SIGALRM, signal.SIGUSR1, signal.SIGVTALRM:
    signal.signal(number, handler)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
stop, got = threading.Event(), []


def busy(number):
    n = 0
    while not stop.is_set():
        n = (n * 7 + len(came)) % 1000
    step("stopped")


def waits(number):
    got.append(signal.sigwait([signal.SIGUSR2]))
    step("sigwait")


def sends(number):
    main = threading.main_thread().ident
    for n in range(3):
        signal.pthread_kill(main, signal.SIGUSR1)
        while sum(number == signal.SIGUSR1 for number, _ in came) <= n:  # another one would be lost
            time.sleep(0.002)
    step("sent")
    os.kill(os.getpid(), signal.SIGUSR2)


a, b = socket.socketpair()
a.setblocking(False), b.setblocking(False)
signal.set_wakeup_fd(a.fileno())
threads = start(2, busy, names="busy") + start(1, waits, names="waits")
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
lock = threading.Lock()
lock.acquire()
while len(came) < 5:
    lock.acquire(timeout=0.02)
signal.setitimer(signal.ITIMER_REAL, 0)
threads += start(1, sends, names="sends")
signal.pthread_kill(threads[0].ident, 0)
while sum(n == signal.SIGUSR1 for n, _ in came) < 3:
    time.sleep(0.003)
threads[2].join()
stop.set()
for thread in threads:
    thread.join()
signal.set_wakeup_fd(-1)
assert all(main for _, main in came) and got == [signal.SIGUSR2]
assert len(b.recv(1000)) >= 5
finish(came=[n for n, _ in came])
