"""Datagrams with their senders, cut ones too; questions about a size; addresses of Unix sockets."""
import os
import socket
import tempfile

a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b"x" * 100)
print(b.recvfrom(10))
a.send(b"y" * 100)
print(b.recv(10, socket.MSG_TRUNC)[:10])
with tempfile.TemporaryDirectory() as folder:
    first = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    second = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    first.bind(os.path.join(folder, "first"))
    second.bind(os.path.join(folder, "second"))
    second.sendto(b"hello", first.getsockname())
    data, sender = first.recvfrom(100)
    print(data, os.path.basename(sender), first.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM)
    print(a.sendmsg([b"one", b"two"]), b.recvmsg(10, 100))
    try:
        second.sendto(b"to nobody", os.path.join(folder, "third"))
    except OSError as e:
        print(e.errno)
    for s in (a, b, first, second):
        s.close()
