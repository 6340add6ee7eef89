"""What the kernel says about how this process is scheduled: two system calls that write a structure or nothing, and their failures."""
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
SYS_ioprio_get, PROCESS = 252, 1


def slice_of(pid):
    try:
        return os.sched_rr_get_interval(pid)
    except OSError as error:
        return errno.errorcode[error.errno]


def io_priority(pid):
    result = libc.syscall(SYS_ioprio_get, PROCESS, pid)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


print(slice_of(0), slice_of(-1), slice_of(99999999))
print(io_priority(0), io_priority(99999999))
