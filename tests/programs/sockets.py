"""Talks to itself through a pair of sockets, a pipe and the loopback interface, in one thread."""
import os
import select
import socket


def exchange(a, b, text):
    a.sendall(text)
    return b.recv(100)


a, b = socket.socketpair()
print([exchange(a, b, bytes([65 + i]) * i) for i in range(1, 5)], exchange(b, a, b"back"))
print([r is b for r in select.select([a, b], [], [], 0)[0]])
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.sendto(b"datagram", receiver.getsockname())
print(receiver.recvfrom(100)[0], socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)[0][4])
r, w = os.pipe()
os.write(w, b"through a pipe")
print(os.read(r, 100))
for s in (a, b, receiver, sender):
    s.close()
