"""Opens a socket: not covered yet, a replay must stop there and say so."""
import socket


def before(n):
    return n * 2


print(before(21), flush=True)
a = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
print(a.family)
a.close()
