"""Programs with memory, for the section "checkpoints" of bench/run. argv: kind, seconds' worth of work, megabytes.

list    makes and drops lists of numbers, 14 MB of them living
write   calls, and writes to every page of its memory in turn
io      writes and reads files of 64 kB in the folder that it was started in
server  waits 8 ms, then answers with some 2 ms of work: a tenth of its memory is written to
still   calls, and leaves its memory alone; says how long it stood still

Prints the number of rounds, the seconds and the CPU seconds that the work took; still: the longest gaps, in milliseconds, by both clocks, too.
The work is a number of rounds, so that a slower run does as much."""
import heapq
import os
import random
import sys
import time

kind, amount, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 100
PAGE = 4096


def small(n):
    return n + 1


def calls(n):
    x = 0
    for _ in range(n):
        x = small(x)
    return x


def memory():
    """Each page another one, a quarter of it noise."""
    chance = random.Random(7)
    return bytearray(b"".join(chance.randbytes(1024) + chance.randbytes(64) * 48 for _ in range(megabytes * 256)))


def of_lists(rounds):
    living = [list(range(1000, 1040)) for _ in range(10000)]
    for n in range(rounds):
        at = n * 37 % len(living)
        living[at] = [small(v) for v in living[at]]


def of_writes(rounds):
    data = memory()
    pages = len(data) // PAGE
    for n in range(rounds):
        data[n % pages * PAGE] = n & 255
        calls(20)


def of_files(rounds):
    data = os.urandom(1 << 16)
    name = f"bench-{os.getpid()}"
    for _ in range(rounds):
        with open(name, "wb") as file:
            file.write(data)
        with open(name, "rb") as file:
            while file.read(1 << 14):
                calls(10)
    os.unlink(name)


def of_requests(rounds):
    data = memory()
    pages = len(data) // PAGE
    for n in range(rounds):
        time.sleep(0.008)
        calls(8000)
        data[n % (pages // 10) * PAGE] = n & 255


def of_stillness(rounds):
    """The longest gaps between two looks at the clock; CPU time does not count what other programs do."""
    data = memory()
    wall, cpu = [0.0] * 400, [0.0] * 400
    last, last_cpu = time.perf_counter(), time.thread_time()
    for _ in range(rounds):
        calls(60)
        now, now_cpu = time.perf_counter(), time.thread_time()
        heapq.heappushpop(wall, now - last)
        heapq.heappushpop(cpu, now_cpu - last_cpu)
        last, last_cpu = now, now_cpu
    return len(data), wall, cpu


# rounds that take about a second, recorded, on the machine of docs/performance.md
WORK = {"list": (of_lists, 150000), "write": (of_writes, 220000), "io": (of_files, 400), "server": (of_requests, 100), "still": (of_stillness, 80000)}
work, rounds = WORK[kind]
began, began_cpu = time.perf_counter(), time.process_time()
result = work(rounds * amount)
print(rounds * amount, f"{time.perf_counter() - began:.4f} {time.process_time() - began_cpu:.4f}")
if result:
    for gaps in result[1:]:
        print(*(f"{g * 1e3:.3f}" for g in sorted(gaps, reverse=True)))
