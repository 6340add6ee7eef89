"""TLS over loopback in one thread: both sides non-blocking; again through memory; a certificate that nobody trusts."""
import select
import socket
import ssl

server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain("cert.pem", "key.pem")
client_side = ssl.create_default_context(cafile="cert.pem")


def step(call, *args):
    """What the call returns; None: it wants more."""
    try:
        return call(*args)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None


def over_sockets(context):
    a, b = socket.socketpair()
    a.setblocking(False), b.setblocking(False)
    client = context.wrap_socket(a, server_hostname="localhost", do_handshake_on_connect=False)
    server = server_side.wrap_socket(b, server_side=True, do_handshake_on_connect=False)
    done = [False, False]
    while not all(done):
        for i, side in enumerate((client, server)):
            if not done[i]:
                try:
                    side.do_handshake()
                    done[i] = True
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
        select.select([client, server], [], [], 0)
    print(client.version(), client.getpeercert()["subject"][0][0], client.send(b"secret " * 1000))
    got = b""
    while len(got) < 7000:
        got += step(server.recv, 4000) or b""
    print(len(got), got[:14], server.send(b"answer"))
    while not (answer := step(client.recv, 100)):
        pass
    print(answer, client.cipher() is not None)
    client.close(), server.close()


def through_memory():
    sides = []
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(incoming, outgoing, server_hostname="localhost")
    server = server_side.wrap_bio(outgoing, incoming, server_side=True)
    for _ in range(10):
        for side in (client, server):
            if side not in sides:
                try:
                    side.do_handshake()
                    sides.append(side)
                except ssl.SSLWantReadError:
                    pass
    client.write(b"through memory")
    return server.read(100), len(sides)


over_sockets(client_side)
print(through_memory())
try:
    over_sockets(ssl.create_default_context())
except ssl.SSLError as e:
    print(type(e).__name__, e.reason)
