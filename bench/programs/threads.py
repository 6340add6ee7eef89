"""Work for several threads: prints how often the work was done, and the seconds that it took."""
import hashlib
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

kind, count = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 4
lock = threading.Lock()
x = 0


def all_of(work):
    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def lock_only():
    """Contended, and nothing else in the loop."""
    global x
    for _ in range(count):
        with lock:
            x += 1


def add():
    global x
    x += 1


def lock_and_call():
    for _ in range(count):
        with lock:
            add()


def small(n):
    return n + 1


data = bytes(1000000)


def hashes():
    for _ in range(count):
        hashlib.sha256(data).digest()


def ping_pong():
    there, back = queue.Queue(), queue.Queue()

    def answer():
        for _ in range(count):
            back.put(there.get() + 1)

    thread = threading.Thread(target=answer)
    thread.start()
    n = 0
    for _ in range(count):
        there.put(n)
        n = back.get()
    thread.join()
    return n


def pool():
    with ThreadPoolExecutor(threads) as p:
        return sum(1 for _ in p.map(small, range(count)))


def crowd():
    """Threads that wait for ever, and a main thread that looks how long it stands still now and then: for a checkpoint."""
    ballast = [bytearray(1 << 20) for _ in range(200)]
    end = threading.Event()
    waiting = [threading.Thread(target=end.wait) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    gaps = []
    began = before = time.perf_counter()
    while before - began < count / 1000:
        small(1)
        now = time.perf_counter()
        if now - before > 0.0005:
            gaps.append(now - before)
        before = now
    end.set()
    for thread in waiting:
        thread.join()
    return gaps, len(ballast)


started = time.perf_counter()
if kind == "lock":
    all_of(lock_only)
elif kind == "call":
    all_of(lock_and_call)
elif kind == "hash":
    all_of(hashes)
elif kind == "queue":
    x = ping_pong()
elif kind == "pool":
    x = pool()
elif kind == "crowd":
    gaps, _ = crowd()
    print("gaps", *(f"{g * 1000:.3f}" for g in gaps))
print(x, f"{time.perf_counter() - started:.4f}")
