"""What the programs of this folder share: a history of the steps that their threads take. It is printed at the end, and is the
oracle: at any position of a replay the history is a beginning of it, and each step returns what it returned.

A name stands for one thread, so who is first, second, ... of a thread is known without a lock."""
import json
import sys
import threading

HISTORY = []  # [thread, its number of the step, value], in the order of the appends
RETURNED = {}  # thread: [how long the history was when step n returned, ...]


def step(value=None):
    """Takes the next step of this thread. Returns [length of the history, thread, number, value]."""
    me = threading.current_thread().name
    lengths = RETURNED.setdefault(me, [])
    mine = len(lengths) + 1
    HISTORY.append([me, mine, value])
    length = len(HISTORY)
    lengths.append(length)
    return [length, me, mine, value]


def finish(**results):
    """Prints the history so far, and what else the program found out."""
    length = len(HISTORY)
    sys.stdout.write(json.dumps({"history": HISTORY[:length], "returned": RETURNED, "results": results}) + "\n")
    sys.stdout.flush()


def start(count, work, *args, names="worker", **how):
    """So many threads that call work(number, *args), started."""
    threads = [threading.Thread(target=work, args=(n, *args), name=f"{names}-{n}", **how) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def run(count, work, *args, **how):
    """The same, and waits for their end."""
    for thread in start(count, work, *args, **how):
        thread.join()
