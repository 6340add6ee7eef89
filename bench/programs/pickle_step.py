"""Objects with states of their own to pickles and back. argv[1]: times 200 objects. Prints how many objects were restored, the seconds, and the CPU seconds of the process."""
import pickle
import sys
from time import perf_counter, process_time

restored = 0


class Item:
    def __init__(self, n, parent):
        self.n, self.parent, self.names = n, parent, {f"key{k}": (k, n * k) for k in range(20)}

    def __getstate__(self):
        return self.n, self.parent, self.names

    def __setstate__(self, state):
        restore(self, state)


def restore(item, state):
    global restored
    restored += 1
    item.n, item.parent, item.names = state


def tree(size):
    items = [Item(0, None)]
    for n in range(1, size):
        items.append(Item(n, items[n // 2]))
    return items


started = perf_counter()
items = tree(200)
for _ in range(int(sys.argv[1])):
    again = pickle.loads(pickle.dumps(items))
    assert again[199].parent is again[99] and again[99].names == items[99].names
print(restored, perf_counter() - started, process_time())
