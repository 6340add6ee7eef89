"""A program that uses sys.settrace and sys.setprofile itself."""
import sys

seen = []


def tracer(frame, event, arg):
    seen.append((event, frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno))
    return tracer


def profiler(frame, event, arg):
    seen.append((event, getattr(arg, "__name__", None) or frame.f_code.co_name))


def work(n):
    total = 0
    for i in range(n):
        total += i
    return total


sys.settrace(tracer)
work(3)
sys.settrace(None)
sys.setprofile(profiler)
work(2), len("abc")
sys.setprofile(None)
for item in seen:
    print(item)
