"""cffi: libc's functions called without a compiler, callbacks, memory that is shared with C."""
from cffi import FFI

ffi = FFI()
ffi.cdef("""
    typedef struct { long tv_sec; long tv_nsec; } span;
    int clock_gettime(int, span *);
    void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
    int sprintf(char *, const char *, ...);
    int getpid(void);
    char *getenv(const char *);
""")
libc = ffi.dlopen(None)


def ordered(numbers):
    compared = []

    @ffi.callback("int(const void *, const void *)")
    def compare(a, b):
        a, b = ffi.cast("int *", a)[0], ffi.cast("int *", b)[0]
        compared.append((a, b))
        return (a > b) - (a < b)

    array = ffi.new("int[]", numbers)
    libc.qsort(array, len(numbers), 4, compare)
    return list(array), len(compared) > 0


print(ordered([5, 3, 9, 1, 7]))
text, now = ffi.new("char[50]"), ffi.new("span *")
print(libc.sprintf(text, b"%d and %s", ffi.cast("int", 7), ffi.new("char[]", b"more")), ffi.string(text))
print(libc.clock_gettime(1, now), now.tv_sec >= 0, libc.getpid() > 0, libc.getenv(b"no such") == ffi.NULL)
