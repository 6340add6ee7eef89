"""What a replay cannot repeat: memory whose bytes change in a way that no call tells. The program itself runs on."""
import array
import mmap
import os
import socket
import sys


def before(n):
    return n + 1


def own():
    fd = os.memfd_create("own")
    os.write(fd, b"x" * 4096)
    return fd


def alias():
    fd = own()
    return mmap.mmap(fd, 4096), mmap.mmap(fd, 4096)


def written():
    fd = own()
    m = mmap.mmap(fd, 4096)
    os.pwrite(fd, b"new", 0)
    return m[:4]


def cut():
    fd = own()
    m = mmap.mmap(fd, 4096)
    os.ftruncate(fd, 100)
    return m[:101]


def read_only():
    with open("file", "wb+") as f:
        f.write(b"x" * 100)
        f.flush()
        m = mmap.mmap(f.fileno(), 100, access=mmap.ACCESS_READ)
        f.seek(0)
        f.write(b"new")
        f.flush()
        return m[:4]


def named():
    with open("file", "wb+") as f:
        f.write(b"x" * 100)
        f.flush()
        with open("file", "rb"):
            return mmap.mmap(f.fileno(), 100)[:4]


def again():
    with open("file", "wb+") as f:
        f.write(b"x" * 100)
        f.flush()
        m = mmap.mmap(f.fileno(), 100)
        m[:4] = b"news"
    with open("file", "r+b") as f:
        f.write(b"more")
    return m[:4]


def passed():
    a, b = socket.socketpair()
    fd = own()
    m = mmap.mmap(fd, 4096)
    return a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]), m[:1]


def got():
    a, b = socket.socketpair()
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [own()]))])
    b.recvmsg(1, 100)
    return mmap.mmap(own(), 4096)[:2]


print([before(n) for n in range(20)])
sys.stdout.flush()
print(globals()[sys.argv[1]]() and "went on")
