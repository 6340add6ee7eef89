"""Starts another program: not covered yet, a replay must stop there and say so."""
import subprocess


def before(n):
    return n * 2


print(before(21), flush=True)
print(subprocess.run(["/bin/echo", "from the child"], capture_output=True, text=True).stdout)
