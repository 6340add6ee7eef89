#!/usr/bin/env python3
"""The prompt in a real terminal: completion, history across sessions, Ctrl-C, colours, and checkpoints that are killed.

    tests/prompt.py

Other things that the prompt does are in tests/sessions/prompt*.session: these are what a script cannot show.
"""
import fcntl
import os
import pty
import re
import select
import signal
import stat
import struct
import termios
import time
from pathlib import Path

from lib import LIMIT, TIMEFORK, Folder, Tally, children, clean_env, need_timefork, pythons, timefork

PROGRAM = """\
class Order:
    def __init__(self, amount):
        self.amount = amount
        self.customer = "Jo"


def settle(order):
    share = order.amount // 2
    return share


orders = [Order(n) for n in (10, 20)]
for order in orders:
    settle(order)
"""
LONG = """\
def count(n):
    return n + 1


n = 0
for _ in range(400000):
    n = count(n)
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07")
PROMPT = "(timefork) "


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, argv, cwd, **env):
        self.seen = ""
        self.raw = ""
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.chdir(cwd)
                os.execve(argv[0], [str(a) for a in argv], clean_env(TERM="xterm", **env))
            finally:
                os._exit(127)
        self.pid, self.fd, self.status = pid, fd, None
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def send(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536).decode("utf-8", "replace")
        except OSError:
            data = ""
        if not data:
            return False
        self.raw += data
        self.seen = ESCAPES.sub("", self.raw)
        return True

    def until(self, text, limit=LIMIT):
        """Waits until this was printed, behind what was waited for before; gives what was in between, or None."""
        end = time.monotonic() + limit
        while (at := self.seen.find(text)) < 0:
            left = end - time.monotonic()
            if left <= 0 or (not self.read(left) and text not in self.seen):
                return None
        before = self.seen[:at]
        self.seen = self.raw = self.seen[at + len(text):]
        return before

    def command(self, line):
        """Types a line, gives what is printed up to the next prompt."""
        self.send(line + "\r")
        return self.until("\n" + PROMPT)

    def ends(self):
        """Waits for the end; the exit status, or None if there is none."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        return None


def first_call(folder):
    """The event of the first call of settle()."""
    out = timefork("query", "p.timefork", "--frames", "--function", "settle", "--event", "call", "--limit", "1",
                   "--format", "json", cwd=folder)
    return re.search(r'"frame": (\d+)', out.text)[1]


def session(tally, version, exe, folder):
    name = f"{version} terminal"
    state = folder / "state"
    env = {"XDG_STATE_HOME": str(state)}
    frame = first_call(folder)
    t = Terminal([TIMEFORK, "replay", "p.timefork"], folder, **env)
    greeting = t.until(PROMPT)
    tally.check(f"{name}: greeting", greeting and "frame events" in greeting and "help" in greeting, t.seen)
    answer = t.command(f"goto-frame {frame}+1")
    tally.check(f"{name}: a move", answer and "share = order.amount // 2" in answer, answer)

    # Completion: a command, names of the function, attributes.
    t.send("wher\t\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: a command is completed", answer and "#0" in answer and "settle at p.py:8" in answer, answer)
    t.send("print orde\t\t")
    shown = t.until("orders")
    tally.check(f"{name}: candidates are listed", shown is not None, t.seen)
    t.send(".am\t\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: an attribute is completed", answer and answer.endswith("\n10\r"), repr(answer))
    t.send("break settl\t\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: a function is completed", answer and "Breakpoint 1 at settle" in answer, answer)
    t.send("tbreak p.py:9 if order.cu\t == 1\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: a condition is completed", answer and "if order.customer == 1" in answer, answer)
    t.send("info lo\t\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: a second word is completed", answer and "order = <" in answer, answer)

    # Ctrl-C clears the line and does nothing else.
    t.send("print 1 +\x03")
    answer = t.until("^C")
    answer = t.until("\n" + PROMPT)
    t.send("print 6 * 7\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: Ctrl-C clears the line", answer and "42" in answer and "1 +" not in answer, answer)

    # Ctrl-C while an expression runs: the limit ends it, and everything is still there.
    t.command("set timeout 1")
    t.send("print [0 for _ in iter(int, 1)]\r")
    time.sleep(0.3)
    t.send("\x03")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: Ctrl-C while an expression runs", answer and "did not end" in answer, answer)
    answer = t.command("print order.amount")
    tally.check(f"{name}: the present is still there", answer and "10" in answer, answer)
    answer = t.command(f"goto-frame {int(frame) + 1}")
    tally.check(f"{name}: the checkpoints are still there", answer and "Returns: 5" in answer, answer)
    # What was typed meanwhile is not lost.
    t.send("print __import__('time').sleep(0.5)\r")
    time.sleep(0.1)
    t.send("print 'later' * 2\r")
    answer = t.until("'laterlater'")
    tally.check(f"{name}: typed ahead", answer is not None, t.seen)
    t.until(PROMPT)
    t.send("\x04")
    tally.equal(f"{name}: Ctrl-D ends it", t.ends(), 0)

    history = state / "timefork" / "history"
    tally.check(f"{name}: the history is kept", history.exists())
    if history.exists():
        tally.equal(f"{name}: the history is the user's only", stat.S_IMODE(history.stat().st_mode), 0o600)
    t = Terminal([TIMEFORK, "replay", "p.timefork"], folder, **env)
    t.until(PROMPT)
    t.send("\x1b[A\x1b[A\x1b[A")  # up: later, sleep, goto-frame
    t.send("\r")
    answer = t.until("\n" + PROMPT)
    tally.check(f"{name}: the history of the last session", answer and "Returns: 5" in answer, answer)
    t.send("quit\r")
    tally.equal(f"{name}: quit", t.ends(), 0)


def searching(tally, version, exe, folder):
    """A search that takes long: progress is shown, Ctrl-C ends it, and it was as if it had not been."""
    name = f"{version} search"
    (folder / "long.py").write_text(LONG)
    made = timefork("record", "--quiet", "--python", exe, "-o", "long.timefork", "long.py", cwd=folder)
    if not tally.check(f"{name}: record", made.status == 0, made):
        return
    t = Terminal([TIMEFORK, "replay", "long.timefork"], folder, XDG_STATE_HOME=str(folder / "state"))
    t.until(PROMPT)
    before = t.command("when")
    # A condition that calls something is evaluated in forks: that takes minutes.
    answer = t.command("break count if str(n) == 'x'")
    tally.check(f"{name}: the breakpoint", answer and "Breakpoint 1" in answer, answer)
    t.send("continue\r")
    shown = t.until("(Ctrl-C stops it)")
    tally.check(f"{name}: progress is shown", shown is not None and "%" in shown, t.seen)
    t.send("\x03")
    answer = t.until(PROMPT)
    tally.check(f"{name}: Ctrl-C ends it", answer and "interrupted" in answer, answer)
    tally.check(f"{name}: the progress is erased", answer and answer.rstrip().splitlines()[-1].strip() == "interrupted",
                repr(answer))

    def place(text):
        return re.search(r"#\d+(\+\d+)?", text or "")

    after = t.command("when")
    tally.check(f"{name}: the present is where it was", place(before) and place(before)[0] == place(after)[0],
                f"{before}\n{after}")
    answer = t.command("print 6 * 7")
    tally.check(f"{name}: and serves", answer and "42" in answer, answer)
    t.send("quit\r")
    tally.equal(f"{name}: quit", t.ends(), 0)


def colours(tally, version, exe, folder):
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        t = Terminal(["/usr/bin/env", *(f"{k}={v}" for k, v in env.items()), TIMEFORK, "replay", "p.timefork"], folder,
                     XDG_STATE_HOME="/nowhere/at/all")
        raw = []
        read = t.read
        t.read = lambda seconds: read(seconds) and (raw.append(t.raw) or True)
        t.until(PROMPT)
        tally.equal(f"{version} colours with {env or 'nothing'}", "\x1b[33m" in "".join(raw) or "\x1b[1m" in "".join(raw),
                    coloured)
        t.send("quit\r")
        tally.equal(f"{version} a history that cannot be kept is no failure ({env or 'nothing'})", t.ends(), 0)


def plain_locale(tally, version, exe, folder):
    t = Terminal(["/usr/bin/env", "LC_ALL=C", TIMEFORK, "replay", "p.timefork"], folder, XDG_STATE_HOME="/nowhere/at/all")
    t.until(PROMPT)
    answer = t.command("print len('\u00e9\u20ac'), ord('\u20ac')")
    tally.check(f"{version} what is typed is not lost in the C locale", answer and "(2, 8364)" in answer, answer)
    t.send("quit\r")
    tally.equal(f"{version} quit in the C locale", t.ends(), 0)


def debugging(tally, version, exe, folder):
    t = Terminal([TIMEFORK, "debug", "--quiet", "--python", exe, "-o", "d.timefork", "p.py"], folder,
                 XDG_STATE_HOME=str(folder / "state"))
    tally.check(f"{version} debug opens a prompt", t.until(PROMPT) is not None, t.seen)
    answer = t.command("when")
    tally.check(f"{version} debug: when", answer and "frame events" in answer, answer)
    t.send("q\r")
    tally.equal(f"{version} debug: quit", t.ends(), 0)


def kill(pids):
    """Kills them and waits until they have ended."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + LIMIT
    for pid in pids:
        while time.monotonic() < end:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    break
            except OSError:
                break
            time.sleep(0.002)


def killed(tally, version, exe, folder):
    """Checkpoints that somebody kills: those of the recording and those of replays, some and then all of them, with the
    process that stands at the present."""
    (folder / "k.py").write_text(LONG)
    ways = {"debug": ["debug", "--quiet", "--python", exe, "-o", "k.timefork", "k.py"], "replay": ["replay", "k.timefork"]}
    for way, argv in ways.items():
        name = f"{version} {way} with killed checkpoints"
        t = Terminal([TIMEFORK, *argv], folder, XDG_STATE_HOME=str(folder / "state"))
        t.until(PROMPT)
        t.command("goto count #300000")
        listed = t.command("info checkpoints") or ""
        tally.check(f"{name}: they are listed", " start " in listed and "of at most" in listed, listed)
        for what, part, turn in (("every other", slice(None, None, 2), 200000), ("all", slice(None), 250000)):
            kill(children(t.pid)[part])
            if what == "all":
                answer = t.command("print n + 0.5")
                tally.check(f"{name}: {what}: the present is there", answer and "199999.5" in answer and "timefork:" not in answer, answer)
                kill(children(t.pid))
                answer = t.command("info checkpoints")
                tally.check(f"{name}: {what}: they are not listed", answer and answer.count(" fork ") == 0, answer)
            answer = t.command(f"goto count #{turn}")
            tally.check(f"{name}: {what}: goto", answer and "timefork:" not in answer and "count at k.py" in answer, answer)
            answer = t.command("print n + 0.25")
            tally.check(f"{name}: {what}: the value there", answer and f"{turn - 1}.25" in answer, answer)
        t.send("q\r")
        tally.equal(f"{name}: quit", t.ends(), 0)


def main():
    need_timefork()
    tally = Tally()
    for version, exe in pythons():
        with Folder() as folder:
            (folder / "p.py").write_text(PROGRAM)
            made = timefork("record", "--quiet", "--python", exe, "-o", "p.timefork", "p.py", cwd=folder)
            if not tally.check(f"{version} record", made.status == 0, made):
                continue
            session(tally, version, exe, folder)
            searching(tally, version, exe, folder)
            colours(tally, version, exe, folder)
            plain_locale(tally, version, exe, folder)
            debugging(tally, version, exe, folder)
            killed(tally, version, exe, folder)
    return tally.close()


if __name__ == "__main__":
    raise SystemExit(main())
