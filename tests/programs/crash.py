"""Ways to die: crash.py WAY [faulthandler]. The line at which it dies is marked; `n` is 41 there."""
import ctypes
import faulthandler
import mmap
import os
import resource
import signal
import sys
import tempfile
import time

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
memmove = libc.memmove
memmove.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
buffer = ctypes.create_string_buffer(8)
memset, free, fatal_error = libc.memset, libc.free, ctypes.pythonapi.Py_FatalError
kept = []


def before(n):
    return n + 1


def code(*machine):
    """A function made of machine code."""
    memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(bytes(machine))
    view = ctypes.c_char.from_buffer(memory)
    kept.append((memory, view))
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(view))


def segfault(n):
    n += 1
    memset(8, 0, 1)  # dies
    n += 1


def abort(n):
    n += 1
    os.abort()  # dies
    n += 1


def heap(n):
    block = ctypes.c_void_p(libc.malloc(100000))
    free(block)
    n += 1
    free(block)  # dies
    n += 1


def stack(n):
    deeper = code(0xE8, 0xFB, 0xFF, 0xFF, 0xFF)  # call itself
    n += 1
    deeper()  # dies
    n += 1


def divide(n):
    zero = code(0x31, 0xC9, 0x89, 0xC8, 0x99, 0xF7, 0xF9, 0xC3)  # idiv by 0
    n += 1
    zero()  # dies
    n += 1


def illegal(n):
    ud2 = code(0x0F, 0x0B)
    n += 1
    ud2()  # dies
    n += 1


def trap(n):
    int3 = code(0xCC, 0xC3)
    n += 1
    int3()  # dies
    n += 1


def bus(n):
    """A mapping that is longer than its file."""
    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        address = libc.mmap(None, 8192, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0)
        memmove(buffer, address + 5, 1)
        n += 1 + buffer.raw[0]
        memmove(buffer, address + 5000, 1)  # dies
        n += 1


def fatal(n):
    n += 1
    fatal_error(b"so it ends")  # dies
    n += 1


def term(n):
    n += 1
    os.kill(os.getpid(), signal.SIGTERM)  # dies
    n += 1


def kill(n):
    n += 1
    os.kill(os.getpid(), signal.SIGKILL)  # dies
    n += 1


def group(n):
    n += 1
    os.kill(0, signal.SIGHUP)  # dies
    n += 1


def segv_sent(n):
    n += 1
    os.kill(os.getpid(), signal.SIGSEGV)  # dies
    n += 1


def leave(n):
    n += 1
    os._exit(7)  # dies
    n += 1


def loop(n):
    """Killed from outside, between events."""
    print("up", flush=True)
    while True:
        n = before(n) % 40


def sleep(n):
    """Killed from outside, in a call."""
    n += 1
    print("up", flush=True)
    time.sleep(60)  # dies


def later(n):
    """A thread of the interpreter's, once cancelled at once, and once after it has done its work."""
    before(n)
    faulthandler.dump_traceback_later(60)
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(0.02)
    time.sleep(0.1)  # watched
    faulthandler.cancel_dump_traceback_later()


def handled(n):
    """A handler of the program's own, that comes back: the kernel would have it again and again."""
    seen = []
    signal.signal(signal.SIGSEGV, lambda *a: seen.append(a[0]))
    os.kill(os.getpid(), signal.SIGSEGV)
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    print(seen, before(n))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "faulthandler" in sys.argv[2:]:
        faulthandler.enable()
    print("so far", flush=True)
    globals()[sys.argv[1]](40)
