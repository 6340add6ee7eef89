"""multiprocessing.Pool. Its parent starts threads, so a replay of it ends there; its workers are replayed as a whole. Each worker
prints what work() returns."""
import multiprocessing
import os
import sys


def work(*values):
    return values


def job(n):
    value = work(n, n * n)
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()
    return n * n


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
        total = sum(pool.map(job, range(40), chunksize=2))
        pool.close()
        pool.join()
    sys.exit(total != sum(n * n for n in range(40)))
