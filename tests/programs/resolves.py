"""Asks a name server that tests/resolver.py plays, and one that nobody plays."""
import socket


def ask(name, family=socket.AF_INET):
    try:
        return sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)})
    except socket.gaierror as e:
        return socket.EAI_NONAME == e.errno or socket.EAI_NODATA == e.errno or e.strerror


print(ask("one.test"), ask("many.test"), ask("six.test", socket.AF_INET6))
print(ask("missing.test"), ask("silent.test"))
print(socket.gethostbyname_ex("one.test")[2], ask("large.test")[:2], len(ask("large.test")))
print(socket.getfqdn("one.test"), socket.gethostbyaddr("10.1.2.3")[0])
