"""A program that traces itself, with a Python trace function and a profiler, and looks at what they saw."""
import sys

seen = []


def tracer(frame, event, arg):
    if frame.f_code.co_filename == __file__:
        seen.append((event, frame.f_lineno))
    return tracer


def profiler(frame, event, arg):
    if frame.f_code.co_filename == __file__:
        seen.append(("profile " + event, frame.f_lineno))


def work(n):
    a = n
    b = a + 1
    return b


sys.settrace(tracer)
work(1)
work(2)
sys.settrace(None)
sys.setprofile(profiler)
work(3)
sys.setprofile(None)
print(seen)
