"""sys.settrace, threading.settrace, sys.setprofile and threading.setprofile: each thread counts what it is told."""
import sys
import threading

from steps import finish, run, step

lines, calls = {}, {}


def counted(n):
    total = 0
    for i in range(n):
        total += i
    return total


def tracer(frame, event, arg):
    if frame.f_code is not counted.__code__:
        return None
    me = threading.current_thread().name
    lines[me] = lines.get(me, 0) + 1
    return tracer


def profiler(frame, event, arg):
    if frame.f_code is counted.__code__ and event == "call":
        me = threading.current_thread().name
        calls[me] = calls.get(me, 0) + 1


def work(number):
    for i in range(5):
        counted(number + i)
        step(i)
    sys.settrace(None), sys.setprofile(None)
    counted(3)


threading.settrace(tracer)
run(3, work, names="traced")
threading.settrace(None)
threading.setprofile(profiler)
run(3, work, names="profiled")
threading.setprofile(None)
assert calls == {f"profiled-{n}": 5 for n in range(3)}, calls
assert sorted(lines) == ["traced-0", "traced-1", "traced-2"]
finish(lines=lines)
