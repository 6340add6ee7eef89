#!/usr/bin/env python3
"""Signals from outside: they come anywhere while recording, and at the same place in replay.

    tests/signals.py
"""
import os
import signal
import subprocess
import time
from pathlib import Path

from lib import LIMIT, TIMEFORK, Folder, Tally, clean_env, json_lines, need_timefork, pythons, timefork

INTERRUPTED = """
import os
def step(n): return n + 1
n = 0
os.write(1, b"up\\n")
try:
    while True: n = step(n)
except KeyboardInterrupt:
    print("interrupted after", n)
print("again", step(n))
"""
TERMINATED = """
import os, signal
def clean(number, frame):
    done.append(number)
done = []
signal.signal(signal.SIGTERM, clean)
os.write(1, b"up\\n")
while not done:
    signal.pause()
print(done)
"""
# read() is C's here: nobody looks at EINTR. SA_RESTART makes it again; the timer rings all the while.
RESTARTED = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
rang = []
signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
signal.siginterrupt(signal.SIGALRM, False)
os.write(1, b"up\\n")
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
def get():
    buffer = ctypes.create_string_buffer(8)
    return libc.read(0, buffer, 8), buffer.value, ctypes.get_errno()
print(get(), get())
signal.siginterrupt(signal.SIGALRM, True)
got = get()
while got[0] < 0:
    print(got)
    got = get()
signal.setitimer(signal.ITIMER_REAL, 0)
print(got, len(rang) > 1)
"""
ENDLESS = """
import os
def step(n): return n + 1
step(1)
try:
    os.write(1, b"up\\n")
    while True:
        pass
finally:
    step(2)
"""
# The signal comes while sum() runs in C; the next thing is a call that would wait for ever.
BEFORE = """
import os, signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
os.write(1, b"up\\n")
try:
    signal.setitimer(signal.ITIMER_REAL, 0.005); sum(range(4000000)); os.read(0, 1)
    print("read")
except KeyboardInterrupt:
    print("interrupted")
"""
# The signal comes while sum() runs in C, where there is no event; the next thing is a call that is not covered (capget): recording
# ends there, and the signal must not be lost with it.
KEPT = """
import ctypes, os, signal, time
call = ctypes.CDLL(None).syscall
rang = []
signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
os.write(1, b"up\\n")
signal.setitimer(signal.ITIMER_REAL, 0.01)
sum(range(2000000)); call(125, None, None)
for _ in range(100):
    if rang:
        break
    time.sleep(0.005)
print("rang", len(rang))
"""
# While the file is mapped, somebody else opens it: he does not wait for long, and what may have changed since is not replayed.
OPENED = """
import mmap, os, sys
def step(n): return n + m[0]
f = open("mapped", "wb+")
f.write(b"\\1" * 4096); f.flush()
m = mmap.mmap(f.fileno(), 4096)
n = step(1)
os.write(1, b"up\\n")
if sys.argv[1] == "waits": n = step(len(os.read(0, 3)))
if sys.argv[1] == "runs":
    while n < 100000000 and m[0] == 1: n = step(n)
if sys.argv[1] == "loops":
    while m[0] == 1: pass
print(n, m[0])
"""


class Session:
    """A program under the recorder that has said that it is up."""

    def __init__(self, top, exe, name, text, *args):
        self.script, self.recording = top / f"{name}.py", top / f"{name}.timefork"
        self.script.write_text(text)
        self.recorder = subprocess.Popen([TIMEFORK, "record", "--quiet", "-o", self.recording, "--python", exe, self.script, *args], cwd=top,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), start_new_session=True)
        self.first = self.recorder.stdout.readline()

    def program(self):
        """The recorded process: the recorder's child."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[1]) == self.recorder.pid:
                    return int(entry.name)
        raise LookupError("the program is gone")

    def end(self):
        out, err = self.recorder.communicate(timeout=LIMIT)
        return self.recorder.returncode, (self.first + out).decode(), err.decode()


def main():
    need_timefork()
    tally = Tally()
    for version, exe in pythons():
        with Folder() as top:
            def replayed(name, session, expected_status=0):
                status, out, err = session.end()
                tally.check(f"{version} {name}: the program", status == expected_status, f"{status}\n{out}\n{err}")
                result = timefork("verify", session.recording, cwd=top)
                tally.check(f"{version} {name}: verify", result.status == 0, result)
                written = "".join(o["text"] for o in json_lines(timefork("query", session.recording, "--output", "--format", "json")) if o["fd"] == 1)
                tally.equal(f"{version} {name}: its output", written, out)
                return out

            s = Session(top, exe, "interrupted", INTERRUPTED)
            time.sleep(0.3)
            os.kill(s.program(), signal.SIGINT)
            out = replayed("Ctrl-C in a busy loop", s)
            count = out.split("after ")[1].split()[0]
            answer = json_lines(timefork("replay", s.recording, "--goto-frame", "end", "--eval", "n", "--format", "json"))
            tally.equal(f"{version} the last value is the one that it printed", answer[0]["eval"][0].get("value"), count, answer)

            s = Session(top, exe, "terminated", TERMINATED)
            time.sleep(0.2)
            os.kill(s.program(), signal.SIGTERM)
            tally.check(f"{version} SIGTERM: its handler ran", "[15]" in replayed("SIGTERM while it waits", s))

            s = Session(top, exe, "restarted", RESTARTED)
            for data in (b"one", b"two", b"three"):
                time.sleep(0.08)
                s.recorder.stdin.write(data)
                s.recorder.stdin.flush()
            out = replayed("SA_RESTART", s)
            tally.check(f"{version} SA_RESTART: read() does not fail", "(3, b'one', 0) (3, b'two', 0)" in out, out)
            tally.check(f"{version} without it, it does", "(-1, b'', 4)" in out and "(5, b'three', 4) True" in out, out)

            s = Session(top, exe, "before", BEFORE)
            time.sleep(1.5)
            waits = s.recorder.poll() is None
            if waits:
                s.recorder.stdin.write(b"x")
                s.recorder.stdin.flush()
            out = replayed("a signal shortly before a call that waits", s)
            tally.check(f"{version} the call does not wait", not waits and "interrupted" in out, out)

            s = Session(top, exe, "kept", KEPT)
            status, out, err = s.end()
            tally.check(f"{version} a signal that is kept when recording ends is not lost", status == 0 and "rang 1" in out, (status, out, err))
            result = timefork("verify", s.recording, cwd=top)
            tally.check(f"{version} and replay stops at the call", result.status == 4 and "capget" in result.errtext, result)

            for how in ("waits", "runs", "loops"):
                s = Session(top, exe, how, OPENED, how)
                time.sleep(0.1)
                began = time.monotonic()
                with open(top / "mapped", "r+b") as f:
                    waited = time.monotonic() - began
                    f.write(b"\2")
                s.recorder.stdin.write(b"xyz")
                s.recorder.stdin.flush()
                status, out, err = s.end()
                tally.check(f"{version} who opens a file that the program has mapped does not wait long ({how})", waited < 5 and status == 0 and out.endswith(" 2\n"), (waited, status, out, err))
                result = timefork("verify", s.recording, cwd=top)
                tally.check(f"{version} and replay stops there ({how})", result.status == 4 and "another process opens" in result.errtext, result)

            s = Session(top, exe, "endless", ENDLESS)
            time.sleep(0.2)
            sent = time.monotonic()
            os.kill(s.program(), signal.SIGINT)
            status, out, err = s.end()
            tally.check(f"{version} a loop without calls can be interrupted", status == 130 and time.monotonic() - sent < 20, (status, err))
            result = timefork("verify", s.recording, cwd=top)
            tally.check(f"{version} and replay says that it stops there", result.status == 4 and "without calls" in result.errtext, result)
    return tally.close()


if __name__ == "__main__":
    raise SystemExit(main())
