"""Sockets in every way that one thread has: messages, options, errors, waiting."""
import array
import ctypes
import errno
import os
import select
import selectors
import signal
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)


def says(call, *args):
    """What a call returns, or the name of its error."""
    try:
        return call(*args)
    except OSError as e:
        return errno.errorcode[e.errno] if e.errno else type(e).__name__


def ancillary():
    a, b = socket.socketpair()
    r, w = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [r, w, r]))]
    print(a.sendmsg([b"with ", b"descriptors"], rights), says(a.sendmsg, [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [999]))]))
    data, control, flags, address = b.recvmsg(100, socket.CMSG_SPACE(12))
    fds = array.array("i", control[0][2])
    os.write(fds[1], b"through a passed descriptor")
    print(data, len(fds), flags, address, os.read(fds[0], 100))
    for fd in (*fds, r, w):
        os.close(fd)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    a.send(b"who")
    into = bytearray(2), bytearray(5)
    n, control, flags, _ = b.recvmsg_into(into, socket.CMSG_SPACE(12))
    pid, uid, gid = struct.unpack("3i", control[0][2])
    print(n, into, flags, pid == os.getpid(), uid == os.getuid(), gid == os.getgid())
    pid, uid, gid = struct.unpack("3i", b.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    print(pid == os.getpid(), uid == os.getuid(), says(b.recvmsg, 10, 0, socket.MSG_DONTWAIT))
    b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    print(socket.send_fds(a, [b"f"], [0, 1]), len(socket.recv_fds(b, 10, 4)[1]))
    a.close(), b.close()


def truncated():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.send(b"0123456789")
    print(b.recv(4, socket.MSG_PEEK))
    buffer = bytearray(4)
    print(b.recv_into(buffer, 4, socket.MSG_TRUNC), buffer)
    a.send(b"0123456789")
    print(b.recvmsg(4), says(b.recv, 10, socket.MSG_DONTWAIT))
    a.send(b"")
    print(b.recvfrom(10))
    b.close()
    print(says(a.send, b"nobody"))
    a.close()


class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(iovec)), ("iovlen", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)]


class mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", msghdr), ("len", ctypes.c_uint)]


def many():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    texts = [b"one", b"two, longer", b"three"]
    keep = [ctypes.create_string_buffer(t, len(t)) for t in texts]
    out = (mmsghdr * 3)()
    for m, k in zip(out, keep):
        m.hdr.iov = ctypes.pointer(iovec(ctypes.addressof(k), len(k)))
        m.hdr.iovlen = 1
    print(libc.sendmmsg(a.fileno(), out, 3, 0), [m.len for m in out])
    room = [ctypes.create_string_buffer(8) for _ in range(5)]
    came = (mmsghdr * 5)()
    names = [ctypes.create_string_buffer(2) for _ in range(5)]
    for m, k, name in zip(came, room, names):
        m.hdr.iov = ctypes.pointer(iovec(ctypes.addressof(k), len(k)))
        m.hdr.iovlen = 1
        m.hdr.name, m.hdr.namelen = ctypes.addressof(name), 2
    left = (ctypes.c_long * 2)(30, 0)
    print(libc.recvmmsg(b.fileno(), came, 5, socket.MSG_DONTWAIT, left), [(m.len, k.raw, m.hdr.flags) for m, k in zip(came, room)])
    print(libc.recvmmsg(b.fileno(), came, 5, socket.MSG_DONTWAIT, None), errno.errorcode[ctypes.get_errno()])
    print(libc.sendmmsg(b.fileno(), None, 1, 0), errno.errorcode[ctypes.get_errno()])
    a.close(), b.close()


def options():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    peer, address = server.accept()
    print(len(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)), len(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 300)) > 100)
    print(client.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM, says(client.getsockopt, socket.SOL_SOCKET, 9999))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    print(struct.unpack("ii", client.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)), address == client.getsockname())
    client.send(b"urgent", socket.MSG_OOB)
    print(peer.recv(100), peer.recv(10, socket.MSG_OOB))
    client.send(b"unread")
    client.close()  # with SO_LINGER of 0: a reset
    print(says(peer.recv, 100), says(peer.recv, 100), says(peer.send, b"x"), says(peer.getpeername))
    peer.close(), server.close()


def errors():
    s = socket.socket()
    s.setblocking(False)
    print(says(s.recv, 10), says(s.accept), says(s.getpeername), says(s.connect, ("127.0.0.1", 1)) in ("EINPROGRESS", "ECONNREFUSED"))
    select.select([], [s], [], 5)
    print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED))
    s.close()
    print(says(os.read, 999, 1), says(os.close, 999), says(libc.read, 999, None, 1))
    r, w = os.pipe2(os.O_NONBLOCK)
    print(says(os.read, r, 1), libc.read(r, ctypes.c_void_p(1), 1), errno.errorcode[ctypes.get_errno()])
    sent = 0
    while (n := says(os.write, w, b"x" * 50000)) != "EAGAIN":
        sent += n
    print(sent, n, len(os.read(r, 100000)), says(os.writev, w, [b"y" * 3000, b"z" * 9000]))
    print(libc.write(w, ctypes.c_void_p(8), 4), errno.errorcode[ctypes.get_errno()])
    os.close(r)
    print(says(os.write, w, b"x"), signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN)
    os.close(w)


def moving():
    r, w = os.pipe()
    with open("from", "wb+") as f, open("to", "wb+") as g:
        f.write(b"0123456789" * 1000)
        f.flush()
        print(os.sendfile(g.fileno(), f.fileno(), 5, 100), os.sendfile(w, f.fileno(), 9990, 100), os.read(r, 100))
        print(os.copy_file_range(f.fileno(), g.fileno(), 1000, 0, 50), os.pread(g.fileno(), 12, 45))
        print(os.splice(f.fileno(), w, 20, offset_src=7), os.splice(r, g.fileno(), 20, offset_dst=0), os.pread(g.fileno(), 8, 0))
        r2, w2 = os.pipe()
        os.write(w, b"tee")
        print(libc.tee(r, w2, 100, 0), os.read(r, 10), os.read(r2, 10))
        print(os.preadv(f.fileno(), [bytearray(3), bytearray(4)], 9998), os.pwritev(g.fileno(), [b"ab", b"cd"], 1), os.pread(g.fileno(), 6, 0))


def waiting():
    a, b = socket.socketpair()
    poll = select.poll()
    poll.register(a, select.POLLIN | select.POLLOUT)
    poll.register(b, select.POLLIN)
    poll.register(999, select.POLLIN)
    print([(fd == a.fileno(), event) for fd, event in poll.poll(0)])
    b.send(b"x")
    poll.unregister(999)
    print([event for _, event in poll.poll(10)])
    epoll = select.epoll()
    epoll.register(a, select.EPOLLIN | select.EPOLLET)
    epoll.register(b, select.EPOLLOUT | select.EPOLLONESHOT)
    print(sorted(event for _, event in epoll.poll(1)), epoll.poll(0), says(epoll.register, a, 1), says(epoll.unregister, 999))
    b.close()
    print(sorted(event for _, event in epoll.poll(1)), a.recv(10), a.recv(10))
    epoll.close()
    for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        c, d = socket.socketpair()
        with kind() as s:
            s.register(c, selectors.EVENT_READ, "c")
            s.register(d, selectors.EVENT_READ | selectors.EVENT_WRITE, "d")
            c.send(b"to d")
            print([(key.data, mask) for key, mask in sorted(s.select(1), key=lambda k: k[0].data)])
            s.modify(d, selectors.EVENT_READ)
            d.recv(10)
            print(s.select(0.001))
        c.close(), d.close()
    left = (ctypes.c_long * 2)(0, 2000000)
    fds = struct.pack("ihh", a.fileno(), select.POLLOUT, 0)
    place = ctypes.create_string_buffer(fds, 8)
    print(libc.ppoll(place, 1, left, None), place.raw[6], libc.syscall(271, place, 1, left, ctypes.c_void_p(), 8), left[0] == 0 and 0 < left[1] <= 2000000)
    print(select.select([], [], [], 0.001), says(select.select, [60], [], [], 0))


def descriptors():
    total = 0
    for i in range(50000):
        r, w = os.pipe()
        os.write(w, b"%d" % i)
        total += int(os.read(r, 10))
        os.close(r), os.close(w)
    print(total)


for part in (ancillary, truncated, many, options, errors, moving, waiting, descriptors):
    print(part.__name__)
    part()
