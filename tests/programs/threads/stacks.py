"""Threads with stacks of other sizes: threading.stack_size, recursion in several threads at once."""
import threading

from steps import finish, run, step


def depth(n):
    return 1 + depth(n - 1) if n else 0


def work(number):
    step(depth(200 + number))
    try:
        depth(100000)
    except RecursionError:
        step("too deep")


before = threading.stack_size()
run(2, work, names="default")
for size in 16 << 20, 64 << 20:
    threading.stack_size(size)
    run(2, work, names=f"stack-{size >> 20}")
threading.stack_size(1 << 19)
run(2, lambda n: step(depth(20)), names="small")
threading.stack_size(0)
try:
    threading.stack_size(1000)
except ValueError as e:
    step(str(e))
finish(before=before)
