"""weakref, gc, __del__, finalisers: when things die must be the same in replay."""
import atexit
import gc
import weakref


class Node:
    def __init__(self, name):
        self.name, self.other = name, None

    def __del__(self):
        print("del", self.name, gc.get_count()[2])


def pair(a, b):
    x, y = Node(a), Node(b)
    x.other, y.other = y, x
    return weakref.ref(x)


refs = [pair(f"a{i}", f"b{i}") for i in range(5)]
print([r() is not None for r in refs])
print(gc.collect() > 0, [r() for r in refs])
for i in range(300):
    pair(f"x{i}", f"y{i}")
    junk = [[] for _ in range(40)]
weakref.finalize(keep := Node("kept"), print, "finalised")
cache = weakref.WeakValueDictionary(one=keep)
print(len(cache), gc.isenabled(), len(gc.get_stats()))
del keep
print(len(cache))
atexit.register(print, "bye")
at_exit = Node("at exit")
