"""Pythons that are executed: by subprocess, through a shell, by a forked child, and at last by the program itself. Each prints
what work() returns."""
import os
import subprocess
import sys


def work(*values):
    return values


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


def main(role):
    me = [sys.executable, __file__]
    tell(work(role, len(sys.argv)))
    if role == "first":
        subprocess.run([*me, "child"], check=True)
        subprocess.run(f"true; '{me[0]}' '{me[1]}' shell; true", shell=True, check=True)
        pid = os.fork()
        if pid == 0:
            tell(work("forked"))
            os.execv(me[0], [*me, "executed"])
        os.waitpid(pid, 0)
        tell(work("becomes another"))
        os.execv(me[0], [*me, "last"])
    if role == "child":
        tell(work("grandchild", subprocess.run([*me, "grandchild"], close_fds=False).returncode))


main(sys.argv[1] if len(sys.argv) > 1 else "first")
