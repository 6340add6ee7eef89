"""Memory that the kernel may drop (MAP_DROPPABLE, since Linux 6.11): a forked child has zeros there. Every process prints its
number, its parent's, and each value that work() returns."""
import mmap
import os
import sys

MAP_DROPPABLE = 0x08
NOT_WIPED = 99
os.urandom(8)  # libc has such a map of its own, from 2.41 on


def work(*values):
    return values


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


def wait(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == NOT_WIPED:
        sys.exit(NOT_WIPED)
    return status


def begin_child(m):
    if any(m[:]):
        os._exit(NOT_WIPED)


def droppable():
    try:
        return mmap.mmap(-1, 3 * mmap.PAGESIZE, flags=MAP_DROPPABLE | mmap.MAP_ANONYMOUS)
    except OSError:  # an older kernel
        return None


def generation(m, depth):
    m[:6] = b"parent"
    m[2 * mmap.PAGESIZE:2 * mmap.PAGESIZE + 1] = b"p"
    tell(work(depth, m[:8], m[2 * mmap.PAGESIZE]))
    if depth == 3:
        return
    pid = os.fork()
    if pid == 0:
        begin_child(m)
        tell(work("child", depth, m[:8], m[2 * mmap.PAGESIZE]))
        generation(m, depth + 1)
        os._exit(depth)
    tell(work("child of", depth, wait(pid), m[:8], m[2 * mmap.PAGESIZE]))


def main():
    m = droppable()
    tell(work("map", m is not None))
    if m is None:
        return
    generation(m, 1)
    m.resize(5 * mmap.PAGESIZE)
    m[-1:] = b"e"
    tell(work("resized", len(m), m[:8], m[-1]))
    if pid := os.fork():
        tell(work("again", wait(pid), m[:8], m[-1]))
    else:
        begin_child(m)
        tell(work("in the child", m[:8], m[-1]))
        os._exit(0)
    m[:4] = b"back"
    m.madvise(mmap.MADV_DONTNEED)
    tell(work("given back", m[:8]))
    m.close()
    pid = os.fork()
    tell(work("closed", bool(pid)))
    if pid == 0:
        os._exit(0)
    wait(pid)


main()
