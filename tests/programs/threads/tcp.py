"""A server with a thread for each connection, clients in threads; the same with HTTP. On 127.0.0.1, port chosen by the kernel."""
import http.client
import http.server
import socket
import socketserver
import threading

from steps import finish, run, start, step


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            step(line.decode().strip())
            self.wfile.write(line.upper())


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        step(self.path)
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False


answers = []


def client(number, address):
    with socket.create_connection(address) as s, s.makefile("rw") as f:
        for i in range(4):
            f.write(f"client {number} line {i}\n")
            f.flush()
            answers.append(f.readline().strip())
            step(answers[-1])


def visitor(number, address):
    connection = http.client.HTTPConnection(*address)
    for i in range(3):
        connection.request("GET", f"/{number}/{i}")
        answers.append(connection.getresponse().read().decode())
        step(answers[-1])
    connection.close()


for kind, handler, who in (Server, Echo, client), (http.server.ThreadingHTTPServer, Pages, visitor):
    with kind(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name=f"serving-{who.__name__}")
        serving.start()
        run(4, who, server.server_address, names=who.__name__)
        server.shutdown()
        serving.join()
assert sorted(answers) == sorted([f"CLIENT {n} LINE {i}" for n in range(4) for i in range(4)] +
                                 [f"you asked for /{n}/{i}" for n in range(4) for i in range(3)])
finish(answers=answers)
