"""Servers and their clients in one process and one thread: asyncio, selectors, socketserver, http.server, urllib answered from a signal handler."""
import asyncio
import http.client
import http.server
import selectors
import signal
import socket
import socketserver
import urllib.request


async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for i in range(5):
        writer.write(f"client {n} says {i}\n".encode())
        answers.append((await reader.readline()).decode().strip())
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    return answers


async def many():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answers = await asyncio.gather(*[ask(port, n) for n in range(6)])
    print([a[-1] for a in answers], sum(map(len, answers)))
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.02)
    except asyncio.TimeoutError:
        print("timeout")
    loop = asyncio.get_running_loop()
    rang = loop.create_future()
    loop.add_signal_handler(signal.SIGALRM, lambda: rang.set_result("rang"))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    print(await rang)
    loop.remove_signal_handler(signal.SIGALRM)
    server.close()


def echo():
    with selectors.DefaultSelector() as selector:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        got = {}
        for n, client in enumerate(clients):
            client.setblocking(False)
            client.send(b"hello %d" % n)
            selector.register(client, selectors.EVENT_READ, n)
        while len(got) < 3:
            for key, _ in selector.select(5):
                if key.fileobj is listener:
                    peer, _ = listener.accept()
                    peer.setblocking(False)
                    selector.register(peer, selectors.EVENT_READ, "peer")
                elif key.data == "peer":
                    if data := key.fileobj.recv(100):
                        key.fileobj.send(data[::-1])
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                else:
                    got[key.data] = key.fileobj.recv(100)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
        listener.close()
    return sorted(got.items())


class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())


def requests():
    with socketserver.TCPServer(("127.0.0.1", 0), Upper) as server:
        with socket.create_connection(server.server_address) as client:
            client.sendall(b"through socketserver\n")
            server.handle_request()
            return client.recv(100)


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.path} for {self.headers['User-Agent'].split('/')[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def pages():
    with http.server.HTTPServer(("127.0.0.1", 0), Pages) as server:
        client = http.client.HTTPConnection(*server.server_address)
        client.putrequest("GET", "/page")
        client.putheader("User-Agent", "itself/1")
        client.endheaders()
        server.handle_request()
        answer = client.getresponse()
        print(answer.status, answer.read())
        client.close()
        # The client waits for the answer; a signal's handler gives it, once the request is there.
        server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        server.timeout = 0
        signal.signal(signal.SIGALRM, lambda number, frame: server.handle_request())
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{server.server_address[1]}/slow") as answer:
            print(answer.status, answer.read().decode().split(" for ")[0])
        signal.setitimer(signal.ITIMER_REAL, 0)


asyncio.run(many())
print(echo(), requests())
pages()
server = socketserver.UDPServer(("127.0.0.1", 0), type("Datagram", (socketserver.DatagramRequestHandler,), {"handle": lambda self: self.wfile.write(self.rfile.read()[::-1])}))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b"datagram", server.server_address)
server.handle_request()
print(client.recv(100))
server.server_close(), client.close()
