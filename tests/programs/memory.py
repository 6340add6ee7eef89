"""Memory: shared between forks, mapped files, a limit that is reached, addresses that are none."""
import ctypes
import mmap
import os
import resource
import tempfile

shared = mmap.mmap(-1, 4096)


def bump():
    shared[0] += 1
    return shared[0]


print([bump() for _ in range(5)])
with tempfile.TemporaryFile() as f:
    f.write(bytes(range(256)) * 64)
    f.flush()
    private = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    private[0] = 7
    print(len(private), private[0], private[300])
libc = ctypes.CDLL(None, use_errno=True)
print(libc.open(ctypes.c_void_p(8), os.O_RDONLY), ctypes.get_errno())
print(libc.chdir("/" * 5000 + "none"), ctypes.get_errno())
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, resource.RLIM_INFINITY))
try:
    bytearray(1 << 33)
except MemoryError:
    print("no memory")
print(bump())
