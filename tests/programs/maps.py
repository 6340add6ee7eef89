"""Maps of memory and of files that only this process can change; what becomes of their bytes."""
import ctypes
import errno
import mmap
import os
import sqlite3
import tempfile

libc = ctypes.CDLL(None, use_errno=True)


def own_files():
    fd = os.memfd_create("mine")
    os.ftruncate(fd, 8192)
    os.pwrite(fd, b"before", 0)
    m = mmap.mmap(fd, 4096)
    print(m[:8], os.pread(fd, 8, 0))
    m[:5] = b"after"
    print(m[:8], os.pread(fd, 8, 0), m.flush(), m.madvise(mmap.MADV_DONTNEED), m[:8])
    m.resize(8192)
    m[5000:5005] = b"grown"
    print(len(m), m[:8], m[4998:5007], os.pread(fd, 8, 4999))
    os.pwrite(fd, b"behind the map" * 400, 8192)
    m.close()
    os.pwrite(fd, b"in between", 0)
    again = mmap.mmap(fd, 8192)
    print(again[:12], again[4998:5007])
    other = mmap.mmap(fd, 4096, offset=8192)
    other[0] = 66
    print(other[:8], again[:8])
    return again, other


def unlinked():
    with tempfile.TemporaryFile() as f:
        f.write(b"x" * 10000)
        f.flush()
        with mmap.mmap(f.fileno(), 0) as u:
            u[3:6] = b"abc"
            print(u[:10], u.find(b"abc"), f.seek(0), f.read(10), u.size())
            return u[2:7]


def named():
    """A file with a name: nobody else has it open."""
    with open("named", "wb+") as f:
        f.write(b"0" * 10000)
        f.flush()
        m = mmap.mmap(f.fileno(), 0)
    m[4:8] = b"four"
    m.resize(20000)
    m[15000:15004] = b"more"
    print(m[:10], len(m), m.flush(), os.stat("named").st_size, m.find(b"more"))
    m.close()
    with open("named", "r+b") as f, mmap.mmap(f.fileno(), 4096) as first, mmap.mmap(f.fileno(), 4096, offset=8192) as second:
        first[0:1] = second[0:1] = b"x"
        os.pwrite(f.fileno(), b"behind", 15000)
        return first[:8], second[:2], os.pread(f.fileno(), 8, 0)


def journal():
    """SQLite keeps the index of its log in such a file."""
    connection, other = (sqlite3.connect("a.db", isolation_level=None) for _ in range(2))
    print(connection.execute("pragma journal_mode = wal").fetchone(), connection.execute("create table t (a)").fetchone())
    connection.executemany("insert into t values (?)", ((i,) for i in range(100)))
    print(other.execute("select sum(a) from t").fetchone())
    other.execute("begin")
    print(other.execute("select count(*) from t").fetchone(), connection.execute("insert into t values (7)").rowcount,
          other.execute("select count(*) from t").fetchone())
    other.close(), connection.close()
    with sqlite3.connect("a.db") as again:
        return again.execute("select count(*) from t").fetchone()


def no_file():
    a = mmap.mmap(-1, 8192)
    a[:4] = b"anon"
    a.madvise(mmap.MADV_DONTNEED)
    print(a[:6])
    a.madvise(mmap.MADV_REMOVE)
    print(a[:6])
    p = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    p[:4] = b"priv"
    p.madvise(mmap.MADV_DONTNEED)
    z = mmap.mmap(os.open("/dev/zero", os.O_RDWR), 4096, mmap.MAP_PRIVATE)
    z[0:1] = b"z"
    print(p[:6], z[:3])


def copies():
    with open("data", "wb+") as f:
        f.write(bytes(range(256)) * 64)
        f.flush()
        c = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
        c[0:3] = b"new"
        print(c[:5])
        c.madvise(mmap.MADV_DONTNEED)
        only = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        only.madvise(mmap.MADV_DONTNEED)
        print(only[:3])
        r = mmap.mmap(f.fileno(), 4096, access=mmap.ACCESS_READ)
        print(c[:5], r[10:13])
        f.seek(0, 2)
        f.write(b"behind the maps")
        f.flush()
        return c[-3:], r[:2]


def questions():
    buffer = ctypes.create_string_buffer(8192)
    page, there, mode = (ctypes.addressof(buffer) + 4095) // 4096 * 4096, ctypes.create_string_buffer(4), ctypes.c_int(-1)
    print(libc.mlock(ctypes.c_void_p(page), 100), libc.munlock(ctypes.c_void_p(page), 100))
    print(libc.mincore(ctypes.c_void_p(page), 4096, there), there.raw[0] & 1, libc.mincore(ctypes.c_void_p(page + 1), 4096, there))
    print(libc.syscall(239, ctypes.byref(mode), None, 0, None, 0), mode.value)


kept = own_files()
for part in (unlinked, named, journal, no_file, copies, questions):
    print(part(), part.__name__)
print([m[:4] for m in kept])
