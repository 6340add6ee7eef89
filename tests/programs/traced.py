"""Functions that a trace function, a profile function and __del__ see leaving."""
import sys


def counted(n):
    total = 0
    for i in range(n):
        total += i
    return total


def tracer(frame, event, arg):
    if frame.f_code is not counted.__code__:
        return None
    len([])
    return tracer


def prof(frame, event, arg):
    if frame.f_code is counted.__code__ and event == "call":
        len([])


sys.settrace(tracer)
counted(2)
sys.settrace(None)
sys.setprofile(prof)
counted(2)
sys.setprofile(None)


class Last:
    def __del__(self):
        counted(1)


def holds():
    last = Last()
    return 7


sys.settrace(tracer)
holds()
sys.settrace(None)
