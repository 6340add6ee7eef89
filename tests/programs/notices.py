"""What the kernel tells through descriptors, and through signals: timerfd, eventfd, inotify, signalfd, POSIX timers, signals that are waited for."""
import ctypes
import errno
import faulthandler
import os
import select
import signal
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
seen = []


def handler(number, frame):
    seen.append(signal.Signals(number).name)


def step(n):
    return n + 1


def says(result):
    return result if result != -1 else errno.errorcode[ctypes.get_errno()]


def timers():
    fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
    spec, old = (ctypes.c_long * 4)(0, 0, 0, 20000000), (ctypes.c_long * 4)()
    print(says(libc.timerfd_settime(fd, 0, spec, old)), list(old))
    print(says(libc.timerfd_gettime(fd, old)), 0 < old[3] <= 20000000)
    buffer = ctypes.create_string_buffer(8)
    print(says(libc.read(fd, buffer, 8)), len(select.select([fd], [], [], 5)[0]), os.read(fd, 8), says(libc.timerfd_settime(-1, 0, spec, None)))
    os.close(fd)
    fd = libc.eventfd(3, os.O_NONBLOCK)
    print(os.write(fd, struct.pack("Q", 4)), struct.unpack("Q", os.read(fd, 8)), says(libc.read(fd, buffer, 8)))
    os.close(fd)


def watches():
    fd = libc.inotify_init()
    os.mkdir("watched")
    watch = libc.inotify_add_watch(fd, b"watched", 0x100 | 0x200 | 0x8)
    print(watch, says(libc.inotify_add_watch(fd, b"missing", 0x100)))
    with open("watched/file", "w") as f:
        f.write("text")
    os.unlink("watched/file")
    data = os.read(fd, 4096)
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        print(hex(mask), data[16:16 + length].rstrip(b"\0"))
        data = data[16 + length:]
    print(says(libc.inotify_rm_watch(fd, watch)), says(libc.inotify_rm_watch(fd, 77)))
    os.close(fd)


def waited_for():
    signal.signal(signal.SIGUSR1, handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGUSR1)
    print(signal.sigwait({signal.SIGUSR1}), signal.sigpending(), seen)
    os.kill(os.getpid(), signal.SIGUSR2)  # without a handler
    info = signal.sigwaitinfo({signal.SIGUSR2, signal.SIGTERM})
    print(info.si_signo, info.si_pid == os.getpid(), info.si_uid == os.getuid(), signal.sigtimedwait({signal.SIGUSR2}, 0.01))
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    mask = ctypes.c_ulong(1 << signal.SIGTERM - 1)
    fd = libc.signalfd(-1, ctypes.byref(mask), os.O_NONBLOCK)
    print(len(select.select([fd], [], [], 1)[0]), struct.unpack("I", os.read(fd, 128)[:4]), says(libc.read(fd, ctypes.create_string_buffer(128), 128)))
    os.close(fd)
    print(signal.sigpending(), seen)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM})
    print(signal.sigpending(), seen)


def interrupted_waits():
    """Each wait is cut short by a timer."""
    signal.signal(signal.SIGALRM, handler)
    del seen[:]
    zero = ctypes.c_ulong(0)
    buffer = ctypes.create_string_buffer(8)
    r, w = os.pipe()
    for call in (lambda: libc.pause(), lambda: libc.sigsuspend(ctypes.byref(zero)), lambda: libc.poll(None, 0, 5000),
                 lambda: libc.select(0, None, None, None, None), lambda: libc.read(r, buffer, 8)):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        print(says(call()), seen)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # sigsuspend and ppoll let it through
    for call in (lambda: libc.sigsuspend(ctypes.byref(zero)), lambda: libc.ppoll(None, 0, None, ctypes.byref(zero))):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        print(says(call()), seen, signal.sigpending())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.alarm(1)
    print(0 < signal.alarm(0) <= 1, signal.setitimer(signal.ITIMER_REAL, 10)[0], 9 < signal.getitimer(signal.ITIMER_REAL)[0] <= 10)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(signal.setitimer(signal.ITIMER_VIRTUAL, 0.01))
    signal.signal(signal.SIGVTALRM, handler)
    while "SIGVTALRM" not in seen:
        step(1)
    print(seen[-1])


def posix_timers():
    signal.signal(signal.SIGRTMIN, handler)
    del seen[:]
    event = ctypes.create_string_buffer(struct.pack("QiiQ", 7, signal.SIGRTMIN, 0, 0), 64)
    timer, spec = ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, 0, 10000000)
    print(libc.timer_create(time.CLOCK_REALTIME, event, ctypes.byref(timer)), libc.timer_settime(timer, 0, spec, None))
    while not seen:
        time.sleep(0.005)
    print(seen, libc.timer_getoverrun(timer), libc.timer_gettime(timer, spec), list(spec), libc.timer_delete(timer), says(libc.timer_delete(ctypes.c_void_p(99))))


def queued():
    """Real-time signals are queued, each with its value."""
    got = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    callback = kind(lambda number, info, context: got.append(struct.unpack("i", ctypes.string_at(info + 24, 4))[0]))
    action = ctypes.create_string_buffer(struct.pack("Q", ctypes.cast(callback, ctypes.c_void_p).value) + bytes(128) + struct.pack("i", 4), 152)
    print(libc.sigaction(signal.SIGRTMIN + 1, action, None))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN + 1})
    for value in (3, 1, 2):
        libc.sigqueue(os.getpid(), signal.SIGRTMIN + 1, ctypes.c_void_p(value))
    print(got)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGRTMIN + 1})
    print(got)


def woken():
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w)
    signal.raise_signal(signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while len(select.select([r], [], [], 5)[0]) and len(data := os.read(r, 10)) < 2 and data[-1:] != bytes([signal.SIGALRM]):
        pass
    signal.set_wakeup_fd(-1)
    print(data[-1] == signal.SIGALRM, seen[-2:])
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)
    os.killpg(0, signal.SIGUSR1)
    print(seen[-1])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        print("not reached")
    except KeyboardInterrupt:
        print("interrupted")
    with open("traceback", "w+") as f:
        faulthandler.register(signal.SIGUSR2, file=f)
        os.kill(os.getpid(), signal.SIGUSR2)
        f.seek(0)
        print([line.split(" in ")[-1] for line in f.read().splitlines()][-2:])
        faulthandler.unregister(signal.SIGUSR2)


for part in (timers, watches, waited_for, interrupted_waits, posix_timers, queued, woken):
    print(part.__name__)
    part()
    sys.stdout.flush()
