"""__del__, weakref callbacks and gc in whatever thread they happen to run in."""
import gc
import threading
import weakref

from steps import finish, run, step

gc.set_threshold(50, 2, 2)
died, called, by = 0, 0, {}


class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        global died
        died += 1
        me = threading.current_thread().name
        by[me] = by.get(me, 0) + 1
        if died % 40 == 0:
            step(died)


def callback(ref):
    global called
    called += 1


def work(number):
    refs = []
    for i in range(100):
        cycle = Cycle()
        refs.append(weakref.ref(cycle, callback))
        del cycle
        weakref.finalize(Cycle(), int)
    step(len(refs))
    if number == 1:
        gc.collect()


run(4, work)
gc.collect()
finish(died=died, called=called, by=by)
