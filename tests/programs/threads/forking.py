"""subprocess and os.fork from threads; os.fork in main while threads exist. A child prints nothing; its exit status is what it found."""
import os
import subprocess
import sys
import threading
import warnings

from steps import HISTORY, finish, run, start, step

warnings.simplefilter("ignore")  # 3.12: fork in a process with threads
statuses, stop = {}, threading.Event()


def forks(number):
    pid = os.fork()
    if pid == 0:
        step("child")
        # One thread is left: this one.
        os._exit(10 * threading.active_count() + number)
    statuses[number] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    step(statuses[number])


def executes(number):
    done = subprocess.run(["/bin/sh", "-c", f"echo out {number}; cat; exit {number}"], input=b"in", capture_output=True)
    statuses[f"sh {number}"] = done.returncode
    assert done.stdout == b"out %d\nin" % number
    step(done.returncode)


def idles(number):
    while not stop.wait(0.002):
        step("idles")


idle = start(2, idles, names="idles")
forks(9)
run(3, forks, names="forks")
run(3, executes, names="executes")
stop.set()
for thread in idle:
    thread.join()
assert statuses == {9: 19, 0: 10, 1: 11, 2: 12, "sh 0": 0, "sh 1": 1, "sh 2": 2}, statuses
finish(statuses={str(k): v for k, v in statuses.items()})
