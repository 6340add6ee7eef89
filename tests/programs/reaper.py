"""SIGCHLD, SIGTERM and alarms while children come and go. Each process prints what work() returns."""
import os
import signal
import subprocess
import sys
import time

reaped = {}


def work(*values):
    return values


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


def on_child(number, frame):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        reaped[pid] = os.waitstatus_to_exitcode(status)


def patient(seconds):
    """A child that ends when it is told to."""
    told = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    until = time.monotonic() + seconds
    while not told and time.monotonic() < until:
        time.sleep(0.01)
    tell(work("told", told))
    os._exit(len(told))


def main():
    signal.signal(signal.SIGCHLD, on_child)
    pids = []
    for n in range(20):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            time.sleep(0.002 * (n % 5))
            os._exit(n)
        pids.append(pid)
    until = time.monotonic() + 20
    while len(reaped) < len(pids) and time.monotonic() < until:
        time.sleep(0.005)
    tell(work("reaped", [reaped.get(pid) for pid in pids]))

    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        patient(20)
    time.sleep(0.1)
    os.kill(pid, signal.SIGTERM)
    while pid not in reaped and time.monotonic() < until:
        time.sleep(0.005)
    tell(work("told", reaped.get(pid)))

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    rings = []
    signal.signal(signal.SIGALRM, lambda number, frame: rings.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    outputs = [subprocess.run(["echo", str(n)], capture_output=True, text=True).stdout for n in range(15)]
    until = time.monotonic() + 20
    while len(rings) < 5 and time.monotonic() < until:
        time.sleep(0.001)
    signal.setitimer(signal.ITIMER_REAL, 0)
    tell(work("outputs", outputs, len(rings) >= 5))
    pid = os.fork()  # a signal that is blocked and pending is not inherited
    if pid == 0:
        tell(work("pending", sorted(signal.sigpending())))
        os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    main()
    tell(work("pending", sorted(int(s) for s in signal.sigpending())))
