#!/usr/bin/env python3
"""Searches that let several processes run at a time: the answers are those of one after the other, and what the program says.

    tests/parallel.py

The program tells what it did: which values it gave to an attribute, when it raised what. From that follows where searches
have to come to, forward and backward; the same searches are made with --jobs 1, 2 and 5 and must say the same, word by word.
Then: that processes really run beside each other, by the time that the kernel says they had, and only as many as may; that
nothing is left of a search that was interrupted, or whose processes were killed, and that the next one is right.
"""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib import LIMIT, TIMEFORK, Folder, Tally, children, clean_env, in_turn, json_lines, need_timefork, pythons, timefork
from prompt import PROMPT as READY, Terminal

COUNT, CHANGE, RAISE = 45000, 7001, 14009
PROGRAM = """\
import json
import sys


class Box:
    def __init__(self):
        self.value = 0


class Odd(Exception):
    pass


changes, raised = [], []


def step(i, box):
    if i % CHANGE == 5:
        box.value = i * 3
        changes.append(i * 3)
    if i % RAISE == 7:
        raise Odd(i)
    return i & len(range(sum(range(120)) & 7))


def numbers(n):
    for i in range(n):
        yield i


def work(n, box):
    total = 0
    for i in numbers(n):
        try:
            total += step(i, box)
        except Odd as e:
            raised.append(e.args[0])
    return total


box = Box()
total = work(COUNT, box)
print(json.dumps({"changes": changes, "raised": raised, "total": total}))
""".replace("COUNT", str(COUNT)).replace("CHANGE", str(CHANGE)).replace("RAISE", str(RAISE))


def line_of(text):
    return next(n for n, line in enumerate(PROGRAM.splitlines(), 1) if text in line)


RETURNS = line_of("return i &")
# Checkpoints close to each other: between them are the windows of a search.
MANY = ("--checkpoint-budget", "50")
# Where moves began, and how long they took, is different in every session.
TIMES = ("elapsed_ms", "checkpoint", "replayed_frames", "served", "replayed")


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def replay(recording, commands, jobs):
    script = [part for command in commands for part in ("-c", command)]
    return timefork("replay", recording, "--format", "json", "--jobs", jobs, *MANY, *script)


def searches(facts):
    """Name, commands, and what `print` says of the places, in order."""
    changes, raised = facts["changes"], facts["raised"]
    every = [i for i in range(COUNT) if i % 11003 == 17]
    at_end = ["goto end"]
    again = ["goto end", "goto start"]  # with the checkpoints of a way to the end
    rare = f"break searched.py:{RETURNS} if i % 11003 == 17"
    backward = [c for _ in every for c in ("reverse-continue", "print i")]
    forward = [c for _ in every for c in ("continue", "print i")]
    yield "condition, backward", [*at_end, rare, *backward, "reverse-continue"], every[::-1]
    yield "condition, forward", [*again, rare, *forward, "continue"], every
    yield "condition in a fork, backward", [*at_end, "break step if i % 7919 == 3 and len(str(i)) == 5 and i < 20000", "reverse-continue",
                                             "print i"], [15841]
    yield "condition that never holds", [*at_end, "break step if i == -1", "reverse-continue", *again, "continue"], []
    yield "function called long ago", [*at_end, "break work", "reverse-continue", "print n"], [COUNT]
    yield "the 1000th hit", [*at_end, "break step hits ==1000", "reverse-continue", "print i"], [999]
    yield "watch, backward", [*at_end, "watch box.value", *[c for _ in range(4) for c in ("reverse-continue", "print box.value")]], \
        changes[:-5:-1]
    yield "watch, forward", [*again, "goto work", "watch box.value", *[c for _ in changes for c in ("continue", "print box.value")]], \
        changes
    yield "last", [*at_end, "last box.value", "step", "print box.value"], changes[-1:]
    yield "raises, backward", [*at_end, "catch raise Odd", *[c for _ in raised for c in ("reverse-continue", "print i")]], raised[::-1]
    yield "raises, forward", [*again, "catch raise Odd", *[c for _ in raised for c in ("continue", "print i")]], raised
    yield "over a call", [*again, "goto searched.py:%d" % line_of("total = work("), "next", "print total", "reverse-next"], [facts["total"]]


def check_searches(tally, name, recording, facts):
    every = [(what, [*commands, "delete"], values) for what, commands, values in searches(facts)]
    sessions = {jobs: replay(recording, [c for _, commands, _ in every for c in commands], jobs) for jobs in (1, 2, 5)}
    answers = {jobs: without_times(json_lines(r)) for jobs, r in sessions.items()}
    at = 0
    for what, commands, values in every:
        one, two, five = (answers[jobs][at:at + len(commands)] for jobs in (1, 2, 5))
        at += len(commands)
        printed = [a["value"] for a in one if a["command"] == "print" and "value" in a]
        tally.equal(f"{name}: {what}", printed, [repr(v) for v in values], one)
        tally.equal(f"{name}: {what}, 2 jobs", two, one)
        tally.equal(f"{name}: {what}, 5 jobs", five, one)
    tally.check(f"{name}: the same messages", sessions[1].err == sessions[2].err == sessions[5].err, sessions[5])


def check_history(tally, name, recording, facts):
    commands = ["goto end", "history box.value 1000"]
    logs = ["goto end", "goto start", f"log searched.py:{RETURNS} i", "condition 1 i % 7919 == 3", "continue"]
    for what, script in (("history", commands), ("log", logs), ("log, reversed", ["goto end", *logs[2:4], "reverse-continue"])):
        one, many = replay(recording, script, 1), replay(recording, script, 4)
        tally.check(f"{name}: {what}, 4 jobs", without_times(json_lines(one)) == without_times(json_lines(many)),
                    lambda: f"{many}\n--- one job\n{one}")
        if what == "history":
            found = [c["new"]["value"] for c in json_lines(many)[-1]["changes"]]
            tally.equal(f"{name}: history has all changes", found, [repr(v) for v in [0, *facts["changes"]]], many)
        else:
            said = [a["log"] for a in json_lines(many) if "frame" in a]
            expected = [str(i) for i in range(COUNT) if i % 7919 == 3 and i % RAISE != 7]
            tally.equal(f"{name}: {what} has all lines", said, expected if what == "log" else expected[::-1], many)


# ---- what the kernel says of the processes ----

def runs(pid):
    """Is it on a processor, or waits for one, and has it run for two milliseconds so far?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "R" and int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) >= 2000000
    except (OSError, IndexError):
        return False


def running(pid, parked):
    """Those of a replay's processes that run right now, without checkpoints: these are copied now and then."""
    return [child for child in children(pid) if child not in parked and runs(child)]


class Session:
    """timefork replay, a command at a time."""

    def __init__(self, recording, *options, before=None):
        self.process = subprocess.Popen([TIMEFORK, "replay", recording, "--format", "json", *MANY, *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), preexec_fn=before)

    def say(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self):
        return json.loads(self.process.stdout.readline() or b"{}")

    def __call__(self, command):
        self.say(command)
        return self.hear()

    def most(self, command):
        """A command that takes long: how many processes ran at a time, at most, and its answer."""
        most, ends, parked = 0, time.monotonic() + LIMIT, children(self.process.pid)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.say(command)
        line = b""
        while not line.endswith(b"\n") and time.monotonic() < ends:
            most = max(most, len(running(self.process.pid, parked)))
            time.sleep(0.005)
            line += self.process.stdout.read() or b""
        os.set_blocking(self.process.stdout.fileno(), True)
        return most, json.loads(line or b"{}")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check_processes(tally, name, recording):
    cpus = len(os.sched_getaffinity(0))
    if cpus < 2:
        tally.skip(f"{name}: processes side by side", "there is one processor")
        return
    one = next(iter(os.sched_getaffinity(0)))
    for what, options, before, most in (("as many as processors", (), None, cpus), ("--jobs 1", ("--jobs", "1"), None, 1),
                                        ("one processor", (), lambda: os.sched_setaffinity(0, {one}), 1),
                                        ("little memory", ("--checkpoint-memory", "1M"), None, 1)):
        s = Session(recording, *options, before=before)
        s("goto end")
        ran, answer = s.most("history box.value 1")
        tally.check(f"{name}: processes that run at a time, {what}", (ran > 1) == (most > 1) and ran <= most and "changes" in answer,
                    f"{ran} ran, {most} may; {str(answer)[:300]}")
        s.close()


def until_two_run(pid, parked):
    """The processes that run when there are two or more; fewer when that takes too long."""
    ran, ends = [], time.monotonic() + LIMIT
    while len(ran) < 2 and time.monotonic() < ends:
        ran = running(pid, parked)
    return ran


def check_killed(tally, name, recording, facts):
    changes = [repr(v) for v in [0, *facts["changes"]]]
    for what in ("killed", "all killed"):
        s = Session(recording, "--jobs", "4")
        s("goto end")
        parked = set(children(s.process.pid))
        s.say("history box.value 1")
        ran = until_two_run(s.process.pid, parked)
        for pid in ran[:1] if what == "killed" else ran:
            os.kill(pid, signal.SIGKILL)
        answer = s.hear()
        # One that had said all that it had to say is not missed.
        told = "signal 9" in answer.get("error", "")
        good = told or (what == "killed" and answer.get("total") == len(changes))
        tally.check(f"{name}: a search that is {what}", len(ran) >= 2 and good, f"{len(ran)} ran; {str(answer)[:300]}")
        if told:
            tally.equal(f"{name}: {what}: nothing is left of it", sorted(set(children(s.process.pid)) - parked), [])
        answer = s("history box.value 1000")
        tally.equal(f"{name}: {what}: the next search", [c["new"]["value"] for c in answer.get("changes", [])], changes, str(answer)[:300])
        s.close()


def check_interrupted(tally, name, recording, facts, folder):
    t = Terminal([TIMEFORK, "replay", recording, "--jobs", "4", *MANY], folder, XDG_STATE_HOME=str(folder / "state"))
    t.until(READY)
    t.command("goto end")
    parked = set(children(t.pid))
    t.send("history box.value 1\r")
    ran = until_two_run(t.pid, parked)
    t.send("\x03")
    answer = t.until("\n" + READY) or ""
    tally.check(f"{name}: Ctrl-C", len(ran) >= 2 and "interrupted" in answer, f"{len(ran)} ran; {answer}")
    tally.equal(f"{name}: Ctrl-C: nothing is left of the search", sorted(set(children(t.pid)) - parked), [])
    answer = t.command("history box.value 1000") or ""
    found = [line.split()[-1] for line in answer.splitlines() if line.startswith("#")]
    tally.equal(f"{name}: Ctrl-C: the next search", found, [repr(v) for v in [0, *facts["changes"]]], answer)
    t.send("quit\r")
    t.ends()


def main():
    need_timefork()
    tally = Tally()
    found = pythons()
    for number, (version, exe) in enumerate(found):
        name = f"Python {version}"
        with Folder() as folder:
            program, recording = folder / "searched.py", folder / "searched.timefork"
            program.write_text(PROGRAM)
            made = timefork("record", "--quiet", "--checkpoints", "none", "-o", recording, "--python", exe, program, cwd=folder)
            if not tally.check(f"{name}: recorded", made.status == 0, made):
                continue
            facts = json.loads(made.text)
            have = json_lines(replay(recording, ["goto end", "info checkpoints"], 1))[-1]["checkpoints"]
            tally.check(f"{name}: there are windows to be cut", len(have) >= 5, f"{len(have)} checkpoints")
            checks = [lambda: check_searches(tally, name, recording, facts), lambda: check_history(tally, name, recording, facts),
                      lambda: check_processes(tally, name, recording), lambda: check_killed(tally, name, recording, facts),
                      lambda: check_interrupted(tally, name, recording, facts, folder)]
            for turn, check in enumerate(checks):  # each with one Python; TIMEFORK_TEST_LONG=1: with all
                if in_turn(turn, number, len(found)):
                    check()
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
