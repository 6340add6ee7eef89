"""An HTTP server in a forked child, and a client in its parent. Each prints what work() returns."""
import http.server
import os
import sys
import urllib.error
import urllib.request


def work(*values):
    return values


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        tell(work("GET", self.path))
        if self.path == "/missing":
            self.send_error(404)
        else:
            self.answer(self.path.encode() * 3)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        tell(work("POST", len(body)))
        self.answer(body[::-1])

    def log_message(self, *args):
        pass


def serve(server, requests):
    for _ in range(requests):
        server.handle_request()
    server.server_close()


def get(base, path, data=None):
    try:
        with urllib.request.urlopen(base + path, data, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def main():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    base = f"http://127.0.0.1:{server.server_port}"
    pid = os.fork()
    if pid == 0:
        serve(server, 6)
        os._exit(0)
    server.server_close()
    for i in range(4):
        tell(work("got", get(base, f"/page{i}")))
    status, body = get(base, "/post", b"x" * 100000 + b"y")
    tell(work("posted", status, len(body), body[:1]))
    tell(work("missing", get(base, "/missing")))
    tell(work("server", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


if __name__ == "__main__":
    main()
