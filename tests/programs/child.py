"""Starts another program."""
import subprocess


def before(n):
    return n * 2


print(before(21), flush=True)
print(subprocess.run(["/bin/echo", "from the child"], capture_output=True, text=True).stdout)
