#!/usr/bin/env python3
"""Name server queries are replayed: a server on 127.0.0.1 answers, says no, says nothing, or answers by TCP only.

    tests/resolver.py

The server needs port 53, and the program its address in /etc/resolv.conf: the test runs in name spaces of its own. Where it may not
have them, it is skipped.
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from lib import PROGRAMS, Folder, Tally, need_timefork, pythons, run, timefork

ADDRESSES = {"one.test": ["10.1.2.3"], "many.test": ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "large.test": [f"10.9.0.{i}" for i in range(60)]}
EXPECTED = """['10.1.2.3'] ['10.0.0.1', '10.0.0.2', '10.0.0.3'] ['fd00::7']
True Temporary failure in name resolution
['10.1.2.3'] ['10.9.0.0', '10.9.0.1'] 60
one.test one.test
"""


def answer(query, by_tcp):
    """The bytes of an answer; None: none."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    name, kind = ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0]
    question, records, code, truncated = query[12:at + 5], [], 0, False
    if name == "silent.test":
        return None
    if kind == 1 and name in ADDRESSES:
        records = [socket.inet_aton(a) for a in ADDRESSES[name]]
    elif kind == 28 and name == "six.test":
        records = [socket.inet_pton(socket.AF_INET6, "fd00::7")]
    elif kind == 12 and name == "3.2.1.10.in-addr.arpa":
        records = [b"\3one\4test\0"]
    elif name not in ADDRESSES:
        code = 3
    if len(records) > 20 and not by_tcp:
        records, truncated = [], True
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | truncated << 9 | code, 1, len(records), 0, 0)
    return head + question + b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(r)) + r for r in records)


def serve_udp(server):
    while True:
        query, client = server.recvfrom(2000)
        if (text := answer(query, False)) is not None:
            server.sendto(text, client)


def serve_tcp(server):
    while True:
        client, _ = server.accept()
        with client:
            while length := client.recv(2):
                text = answer(client.recv(struct.unpack(">H", length)[0]), True)
                client.sendall(struct.pack(">H", len(text)) + text)


def inside():
    tally = Tally()
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.create_server(("127.0.0.1", 53))
    udp.bind(("127.0.0.1", 53))
    for target, server in ((serve_udp, udp), (serve_tcp, tcp)):
        threading.Thread(target=target, args=(server,), daemon=True).start()
    for version, exe in pythons():
        with Folder() as top:
            plain = run([exe, PROGRAMS / "resolves.py"], cwd=top)
            tally.equal(f"{version}: the server", plain.text, EXPECTED, plain)
            recorded = timefork("record", "--quiet", "-o", top / "run.timefork", "--python", exe, PROGRAMS / "resolves.py", cwd=top)
            tally.equal(f"{version}: what is printed", recorded.text, EXPECTED, recorded)
            verified = timefork("verify", top / "run.timefork", cwd=top)
            tally.check(f"{version}: verify", verified.status == 0, verified)
    return tally.close()


def main():
    need_timefork()
    if sys.argv[1:] == ["inside"]:
        return inside()
    tally = Tally()
    with Folder() as top:
        (top / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        (top / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\nservices: files\n")
        prepare = (f"ip link set lo up && mount --bind '{top}/resolv.conf' \"$(realpath /etc/resolv.conf)\" && "
                   f"mount --bind '{top}/nsswitch.conf' /etc/nsswitch.conf && ")
        spaces = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]
        if not all(shutil.which(tool) for tool in ("unshare", "ip")) or not Path("/etc/resolv.conf").exists():
            tally.skip("resolver", "no unshare, no ip, or no /etc/resolv.conf")
            return tally.close()
        able = run([*spaces, prepare + "true"])
        if able.status != 0:
            tally.skip("resolver", f"no name spaces: {able.errtext.strip()[-200:]}")
            return tally.close()
        return subprocess.run([*spaces, prepare + f"exec '{sys.executable}' '{os.path.abspath(__file__)}' inside"]).returncode


if __name__ == "__main__":
    sys.exit(main())
