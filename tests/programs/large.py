"""5 MB written and read again, in one piece, in lines, by seek, by readinto and by mmap-free os calls."""
import hashlib
import os

LINE = bytes(range(32, 126)) + b"\n"
COUNT = 5 * 1024 * 1024 // len(LINE)


def write(path):
    with open(path, "wb", buffering=1 << 16) as f:
        for i in range(COUNT):
            f.write(LINE[i % 80:] + LINE[:i % 80])


def digests(path):
    with open(path, "rb") as f:
        yield hashlib.md5(f.read()).hexdigest()
    with open(path, "rb") as f:
        yield sum(1 for _ in f)
    with open(path, "rb") as f:
        f.seek(-1000, os.SEEK_END)
        yield f.tell(), len(f.read()), f.seek(12345), f.read(8)
    buffer = bytearray(1 << 20)
    total = 0
    with open(path, "rb", buffering=0) as f:
        while n := f.readinto(buffer):
            total += n
    yield total


write("large.bin")
for digest in digests("large.bin"):
    print(digest)
fd = os.open("large.bin", os.O_RDWR)
print(os.pread(fd, 6, 100), os.pwrite(fd, b"HELLO", 100), os.pread(fd, 6, 100), os.lseek(fd, 0, os.SEEK_END))
print(os.readv(fd, [bytearray(3)]), os.truncate("large.bin", 50), os.fstat(fd).st_size)
os.fsync(fd)
os.close(fd)
