"""Many threads that write to standard output and error at once: print, sys.stdout.write, os.write. Each line is whole."""
import os
import sys

from steps import finish, run, step


def work(number):
    for i in range(10):
        print(f"print {number} {i}")
        sys.stdout.write(f"write {number} {i}\n")
        os.write(1, b"os.write %d %d\n" % (number, i))
        print(f"error {number} {i}", file=sys.stderr)
        if i % 3 == 0:
            sys.stdout.flush()
            step(i)


run(8, work)
sys.stdout.flush()
finish()
