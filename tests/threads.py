#!/usr/bin/env python3
"""Programs with threads. Each step that a thread of a program takes is in a history, which the program prints at its end
(tests/programs/threads/steps.py): that is the oracle. For each Python and each program:
  - it ends as it should, and its own checks hold while it is recorded;
  - `verify` re-executes it without a difference;
  - as many calls of step() return as there are entries in what was printed, of each thread;
  - at random places: step() returns what it returned, and has the variables that go with it; the history is a beginning of
    the printed one, at least as long as the calls that have returned, at most as long as those that have begun; the thread and its
    stack are those which follow from the frame events alone;
  - so it is where one thread goes on instead of another;
  - a place looks the same in another replay, which came there from the start, as in one that has been at many others;
  - a replaying process starts no thread, as strace sees it.
And `record --chaos`, `timefork race`, `timefork debug`, and builds of Python without a GIL.

    tests/threads.py [NAME...]        programs below, or: race, strace, debug
    tests/threads.py --soak N         N recordings of random programs and Pythons, each verified; prints how many differ

TIMEFORK_TEST_GOTOS=N: places in each program (5; with TIMEFORK_TEST_LONG=1: 200), and 2 with all Pythons but one, in turn. TIMEFORK_TEST_SEED repeats the choice of places.
"""
import argparse
import ast
import bisect
import concurrent.futures
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import corpus
from lib import LONG, PROGRAMS, TIMEFORK, Folder, Tally, clean_env, difference, in_turn, json_lines, need_timefork, pythons, run, timefork

GOTOS = int(os.environ.get("TIMEFORK_TEST_GOTOS") or (200 if LONG else 5))
SEED = int(os.environ.get("TIMEFORK_TEST_SEED") or (time.time_ns() % 1000000 if LONG else 7))
THREADS = PROGRAMS / "threads"
HISTORY = "(lambda m: getattr(m, 'HISTORY', None))(__import__('sys').modules.get('steps'))"
FRAMES_MOST = 1000000 if LONG else 60000  # of which the stacks of all threads are worked out


class Program:
    def __init__(self, name, *args, status=0, numpy=False, tls=False, chaos=False):
        self.script, self.args, self.status, self.numpy, self.tls = f"{name}.py", args, status, numpy, tls
        self.chaos = ["--chaos", str(SEED)] if chaos else []
        self.name = "-".join([name, *args] + ["chaos"] * chaos)


ALL = [
    Program("counter"), Program("queues"), Program("executor"), Program("tcp"), Program("daemons"), Program("timer"), Program("own"),
    Program("deadlock", "resolved"), Program("deadlock", "alarm", status=128 + signal.SIGALRM), Program("deadlock", "dump", status=1),
    Program("primitives"), Program("joins"), Program("hooks"), Program("watching"), Program("logging_"), Program("interval"), Program("alarms"),
    Program("interrupt"), Program("hashes"), Program("databases"), Program("tls", tls=True), Program("matmul", "1", numpy=True), Program("spin"),
    Program("loops"), Program("lockloops"), Program("forking"), Program("pool"), Program("asyncs"), Program("generators"), Program("many"),
    Program("crowd"), Program("stacks"), Program("finalizers"), Program("ids"), Program("writers"), Program("names"),
    Program("counter", chaos=True), Program("queues", chaos=True), Program("own", chaos=True), Program("generators", chaos=True),
]
# docs/limitations.md: only when it is named.
NOT_COVERED = [Program("matmul", "2", numpy=True)]
BY_NAME = {p.name: p for p in ALL + NOT_COVERED}


def certificate(folder):
    made = run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj",
                "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], cwd=folder)
    return made.status == 0


def prepare(program, version, exe, work):
    """(environment, why it cannot run here)"""
    work.mkdir(exist_ok=True)
    env = clean_env()
    if program.tls and not (shutil.which("openssl") and certificate(work)):
        return env, "no openssl"
    if program.numpy:
        folder, why = corpus.packages(version.split()[0], exe)
        if not folder:
            return env, f"no numpy from PyPI: {why}"
        env["PYTHONPATH"] = str(folder)
    return env, ""


def printed(result):
    """What steps.finish() printed; None if it did not."""
    lines = [line for line in result.text.splitlines() if line.startswith('{"history": ')]
    return json.loads(lines[-1]) if len(lines) == 1 else None


def seen(answer):
    """Of an answer, what does not depend on the way there."""
    return {k: v for k, v in answer.items() if k not in ("elapsed_ms", "checkpoint", "replayed_frames")}


class Case:
    def __init__(self, tally, top, version, exe, program, whole=True):
        self.tally, self.top, self.version, self.exe, self.program = tally, top, version, exe, program
        self.whole = whole  # or fewer places, and those in one replay
        self.gotos = GOTOS if whole else min(GOTOS, 2)
        self.label = f"{version} {program.name}"
        self.recording = top / "run.timefork"
        self.work = top / "work"
        self.rng = random.Random(f"{SEED} {self.label}")

    def check(self, what, good, detail=""):
        return self.tally.check(f"{self.label}: {what}", good, detail)

    def equal(self, what, got, expected, detail=""):
        return self.tally.equal(f"{self.label}: {what}", got, expected, detail)

    def record(self, *options, command="record", after=()):
        """Records it once more, if it can run here."""
        env, why = prepare(self.program, self.version, self.exe, self.work)
        if why:
            self.tally.skip(self.label, why)
            return None
        return timefork(command, *self.program.chaos, *options, "-o", self.recording, "--python", self.exe, THREADS / self.program.script, *self.program.args, *after,
                        cwd=self.work, env=env)

    def frames(self, *what):
        result = timefork("query", self.recording, "--frames", *what, "--limit", "100000000", "--format", "json")
        return json_lines(result) if self.check("query --frames", result.status == 0, result) else []

    def goto(self, positions, all_there=True):
        """The answers; lines that a function does not have are errors."""
        args = [a for p in positions for a in ("--goto-frame", str(p))]
        result = timefork("replay", self.recording, *args, "--eval", HISTORY, "--format", "json")
        answers = json_lines(result)
        if not self.check(f"goto {len(positions)} places", result.status in (0, not all_there) and len(answers) == len(positions), result):
            return []
        return answers

    def go(self):
        recorded = self.record()
        if not recorded:
            return
        if not self.equal("exit status", recorded.status, self.program.status, recorded) or not self.check("is recorded", self.recording.exists()):
            return
        self.check("nothing is left out", not any(text in recorded.errtext for text in ("will be exact up to", "(incomplete)", "recording stops")), recorded)
        self.told = printed(recorded)
        if not self.check("prints what it did", self.told, recorded):
            return
        if self.program.name == "writers":
            self.whole_lines(recorded)
        verified = timefork("verify", self.recording)
        if not self.check("verify", verified.status == 0 and "equal" in verified.text, verified):
            return
        self.places()

    def whole_lines(self, recorded):
        expected = [f"{how} {n} {i}" for how in ("print", "write", "os.write") for n in range(8) for i in range(10)]
        # What sys.stdout buffers comes out in pieces that end anywhere: os.write may fall in between.
        text = recorded.text
        for n in range(8):
            for i in range(10):
                self.check(f"os.write {n} {i} is there, once and whole", text.count(f"os.write {n} {i}\n") == 1)
                text = text.replace(f"os.write {n} {i}\n", "", 1)
        got = [line for line in text.splitlines() if not line.startswith("{")]
        self.equal("lines of standard output", sorted(got), sorted(e for e in expected if not e.startswith("os")))
        errors = [f"error {n} {i}" for n in range(8) for i in range(10)]
        self.equal("lines of standard error", sorted(line for line in recorded.errtext.splitlines() if line.startswith("error")), sorted(errors))

    def places(self):
        history, returned = self.told["history"], self.told["returned"]
        steps = self.frames("--function", "step", "--file", "steps.py")
        self.calls = [e["frame"] for e in steps if e["event"] == "call"]
        self.leaves = [e for e in steps if e["event"] == "return"]
        self.returns = [e["frame"] for e in self.leaves]
        if self.program.name == "daemons":  # they go on while it is printed
            self.check("steps that returned", len(self.returns) >= sum(map(len, returned.values())), (len(self.returns), returned))
        else:
            self.equal("steps that returned", len(self.returns), sum(map(len, returned.values())))
        if self.program.name not in ("daemons", "names"):  # there names change
            of = {}
            for e in self.leaves:
                of[e["thread"]] = of.get(e["thread"], 0) + 1
            self.equal("steps of each thread", sorted(of.values()), sorted(map(len, returned.values())), of)

        runs = json_lines(timefork("query", self.recording, "--list-runs", "--format", "json"))
        total = runs[-1]["frames"]
        chosen = {e["frame"]: e for e in self.rng.sample(self.leaves, min(len(self.leaves), max(2, self.gotos // 2)))}
        if total <= FRAMES_MOST:
            everything = self.frames("--all")
            chosen |= {e["frame"]: e for e in self.rng.sample(everything, min(len(everything), max(2, self.gotos - len(chosen))))}
            self.switched = self.switches(everything)
            chosen |= self.switched
            stacks = self.stacks(everything, set(chosen))
        else:
            everything, stacks = None, {}
        frames = list(chosen)
        self.rng.shuffle(frames)
        lines = [f"{self.rng.choice(frames)}+{self.rng.randint(1, 3)}" for _ in range(max(1, self.gotos // 5))]
        # The last ones are a second time at places where the same process has been.
        order = frames + frames[:max(1, self.gotos // 5)]
        # docs/limitations.md: a return of which a program's own trace function is told cannot be visited.
        answers = self.goto(order, all_there=self.program.name != "watching")
        wrong, lengths, first = [], [], {}
        for frame, answer in zip(order, answers):
            wrong += self.look(frame, answer, chosen.get(frame), stacks.get(frame), history, lengths)
            if frame in first and seen(answer) != first[frame]:
                wrong.append(f"{frame} looks different the second time:\n{difference(json.dumps(seen(answer)), json.dumps(first[frame]))}")
            first.setdefault(frame, seen(answer))
        lengths.sort()
        grows = [n for _, n in lengths]
        if grows != sorted(grows):
            wrong.append(f"the history does not grow: {lengths}")
        self.check(f"{len(order)} places (TIMEFORK_TEST_SEED={SEED})", not wrong, "\n".join(wrong[:8]))
        if first and self.whole:
            self.others(first, lines)

    def switches(self, events):
        """Some of the numbers that are no event of a function: there another thread goes on, the one whose event is the next."""
        found = {}
        for before, after in zip(events, events[1:]):
            if after["frame"] == before["frame"] + 2:
                found[before["frame"] + 1] = {"frame": before["frame"] + 1, "event": "switch", "thread": after["thread"]}
        return {n: found[n] for n in self.rng.sample(sorted(found), min(len(found), max(2, self.gotos // 5)))}

    def stacks(self, events, wanted):
        """{frame: [thread, [[function, file], ...] innermost first]}, from the events alone."""
        threads, found = {}, {}
        for e in sorted([*events, *self.switched.values()], key=lambda e: e["frame"]):
            stack = threads.setdefault(e["thread"], [])
            if e["event"] in ("call", "resume"):
                stack.append([e["function"], e["file"]])
            if e["frame"] in wanted:
                found[e["frame"]] = [e["thread"], stack[::-1]]
            if e["event"] in ("return", "yield", "unwind") and stack:
                stack.pop()
        return found

    def look(self, frame, answer, event, stack, history, lengths):
        if "error" in answer:
            if "without stopping there" in answer["error"] and self.program.name == "watching":
                return []
            return [f"{frame}: {answer['error']}"]
        wrong = []
        keys = ("frame", "event", "function", "file", "thread") if event["event"] != "switch" else ("frame", "event", "thread")
        if [answer[k] for k in keys] != [event[k] for k in keys]:
            wrong.append(f"{frame}: stands at {[answer[k] for k in keys]}, query says {[event[k] for k in keys]}")
        if stack and [answer["thread"], [[f["function"], f["file"]] for f in answer["stack"]]] != stack:
            wrong.append(f"{frame}: stack of thread {answer['thread']}: {[f['function'] for f in answer['stack']]}, "
                         f"by the events, thread {stack[0]}: {[f for f, _ in stack[1]]}")
        value = answer["eval"][0].get("value")
        past = ast.literal_eval(value) if value else None
        if past is None:
            if self.calls and frame >= self.calls[0]:
                wrong.append(f"{frame}: no history: {answer['eval'][0]}")
        else:
            least, most = bisect.bisect_right(self.returns, frame), bisect.bisect_right(self.calls, frame)
            if self.program.name == "finalizers":
                past = past[:most]  # looking allocates, and what is collected then takes steps of its own
            n = len(past)
            lengths.append((frame, n))
            if not least <= n <= most:
                wrong.append(f"{frame}: the history has {n} steps; {most} have begun, {least} have returned")
            common = min(n, len(history))
            if past[:common] != history[:common]:
                wrong.append(f"{frame}: the history is not the beginning of the printed one:\n{difference(past[:common], history[:common])}")
        if event["event"] == "return" and event["function"] == "step" and event["file"].endswith("steps.py"):
            wrong += self.look_at_step(frame, answer, history)
        return wrong

    def look_at_step(self, frame, answer, history):
        here = {v["name"]: v["repr"] for v in answer["locals"]}
        length, me, mine, value = (ast.literal_eval(here[name]) for name in ("length", "me", "mine", "value"))
        lengths = self.told["returned"].get(me, [])
        if mine > len(lengths) and self.program.name == "daemons":
            return []
        if not 1 <= mine <= len(lengths):
            return [f"{frame}: {me} has {len(lengths)} steps, this is number {mine}"]
        wrong = []
        if length != lengths[mine - 1]:
            wrong.append(f"{frame}: step {mine} of {me}: the history had {length} steps, printed: {lengths[mine - 1]}")
        if [me, mine, value] not in history[:length]:
            wrong.append(f"{frame}: {[me, mine, value]} is not in the first {length} steps that were printed")
        if answer["returned"]["repr"] != repr([length, me, mine, value]):
            wrong.append(f"{frame}: returns {answer['returned']['repr']}, expected {[length, me, mine, value]}")
        return wrong

    def others(self, first, lines):
        """The same places in other replays: one for each of a few, and one for all lines in another order."""
        wrong = []
        for frame in self.rng.sample(sorted(first), min(len(first), 10 if LONG else 1)):
            for answer in self.goto([frame]):
                if seen(answer) != first[frame]:
                    wrong.append(f"{frame} looks different from the start:\n{difference(json.dumps(seen(answer)), json.dumps(first[frame]))}")
        one = dict(zip(lines, map(seen, self.goto(lines, all_there=False))))
        other = lines[::-1]
        for position, answer in zip(other, self.goto([*self.rng.sample(sorted(first), 1), *other], all_there=False)[1:]):
            if seen(answer) != one.get(position):
                wrong.append(f"{position} looks different in another replay:\n{difference(json.dumps(seen(answer)), json.dumps(one.get(position)))}")
        self.check("the same places in other replays", not wrong, "\n".join(wrong[:5]))

    def debugged(self):
        """What is seen from the checkpoints that were taken while it ran is what a replay from the start sees."""
        recorded = self.record("--quiet")
        if not recorded or not self.recording.exists():
            return
        total = json_lines(timefork("query", self.recording, "--list-runs", "--format", "json"))[-1]["frames"]
        self.recording.unlink()
        places = [str(self.rng.randint(total // 3, total)) for _ in range(GOTOS)]
        args = [a for p in places for a in ("--goto-frame", p)] + ["--eval", HISTORY, "--format", "json"]
        debugged = self.record("--quiet", command="debug", after=args)
        lines = [json.loads(line) for line in debugged.text.splitlines() if line.startswith(('{"run":', '{"position":'))]
        if not self.check("debug", debugged.status in (0, 1) and len(lines) == len(places), debugged):
            return
        replayed = json_lines(timefork("replay", self.recording, *args))
        wrong = [f"{p}: {difference(json.dumps(seen(a)), json.dumps(seen(b)))}" for p, a, b in zip(places, lines, replayed) if seen(a) != seen(b)]
        there = sum("error" not in a for a in lines)
        kinds = [a["checkpoint"]["kind"] for a in lines if "checkpoint" in a]
        self.check(f"debug sees what replay sees, at {there} places, checkpoints: {sorted(set(kinds))}", not wrong and there and len(replayed) == len(places),
                   "\n".join(wrong[:5]) or replayed)

    def traced(self):
        """No thread is started by a replay; while recording, they are."""
        probe = run(["strace", "-f", "-o", os.devnull, "/bin/true"]) if shutil.which("strace") else None
        if not probe or probe.status != 0:
            self.tally.skip(f"{self.label} under strace", "strace does not work here")
            return
        env, why = prepare(self.program, self.version, self.exe, self.work)
        if why:
            self.tally.skip(self.label, why)
            return
        logs = {}
        commands = {
            "record": ["record", "--quiet", "-o", self.recording, "--python", self.exe, THREADS / self.program.script, *self.program.args],
            "verify": ["verify", self.recording],
            "replay": ["replay", self.recording, "--goto-frame", "end", "--goto-frame", "100", "--goto-frame", "end", "--eval", HISTORY],
        }
        for name, command in commands.items():
            log = self.top / f"{name}.log"
            done = run(["strace", "-f", "-e", "trace=clone,clone3,fork,vfork,seccomp", "-o", log, TIMEFORK, *command], cwd=self.work, env=env)
            if not self.check(f"{name} under strace", done.status == 0, done):
                return
            logs[name] = log.read_text(errors="replace").splitlines()
        self.check("recording it starts threads", any("CLONE_THREAD" in line for line in logs["record"]))
        for name in "verify", "replay":
            starts = [line for line in logs[name] if re.search(r"\b(clone3?|v?fork)\(", line)]
            threads = [line for line in starts if "CLONE_THREAD" in line]
            self.check(f"{name} starts processes, as strace sees", starts)
            self.equal(f"{name}: threads that are started", threads, [])


# ---- chaos and race ----

LOSES = """
import sys, threading
n, both = 0, threading.Barrier(2)
def get(): return n
def work():
    global n
    both.wait()
    for _ in range(3):
        n = get() + 1
threads = [threading.Thread(target=work) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
print("n is", n)
sys.exit(0 if n == 6 else 3)
"""
LOCKS = """
import threading, time
a, b = threading.Lock(), threading.Lock()
def work(x, y):
    with x:
        time.sleep(0.01)
        with y: pass
threads = [threading.Thread(target=work, args=p) for p in ((a, b), (b, a))]
for t in threads: t.start()
for t in threads: t.join()
"""
DIES = """
import threading
def work(): raise ValueError("in a thread")
t = threading.Thread(target=work)
t.start()
t.join()
"""
FREE_THREADED = """
const char *Py_GetVersion(void) { return "3.13.0 experimental free-threading build (main, Oct  7 2024, 00:00:00) [GCC 12.2.0]"; }
int main(void) { return 0; }
"""


class Race:
    def __init__(self, tally, top, version, exe):
        self.tally, self.top, self.version, self.exe = tally, top, version, exe
        self.file = top / "race.timefork"

    def check(self, what, good, detail=""):
        return self.tally.check(f"{self.version} race: {what}", good, detail)

    def race(self, *args):
        result = timefork("race", "--format", "json", "--python", self.exe, "-o", self.file, *args, cwd=self.top)
        return result, [row for row in map(json.loads, filter(None, result.text.splitlines()))]

    def runs(self):
        return json_lines(timefork("query", self.file, "--list-runs", "--format", "json")) if self.file.exists() else []

    def finds(self, what, failure, *args, status=None, sig=None):
        """One more failing run is kept, and no other."""
        before = self.runs()
        result, rows = self.race(*args)
        if not self.check(f"{what}: found", result.status == 0 and rows and rows[-1].get("found"), result):
            return
        end, runs = rows[-1], self.runs()
        self.tally.equal(f"{self.version} race: {what}: how it failed", end["failure"], failure, result)
        self.tally.equal(f"{self.version} race: {what}: the runs that are kept", runs[:-1], before)
        self.check(f"{what}: the last run is the one that failed",
                   len(runs) == len(before) + 1 and (runs[-1]["run"], runs[-1]["chaos"]) == (end["run"], end["seed"]) == (end["run"], rows[-2]["seed"]), (runs[-1:], end))
        self.check(f"{what}: no other run failed", all(r["failure"] is None for r in rows[:-2]) and len(rows) == end["runs"] + 1, rows)
        self.check(f"{what}: its exit", (runs[-1]["exit_status"], runs[-1]["exit_signal"]) == (status, sig), runs[-1])
        verified = timefork("verify", self.file)
        self.check(f"{what}: verify", verified.status == 0, verified)

    def go(self):
        self.finds("an update is lost", "exit", "-c", LOSES, status=3)
        self.finds("dead-lock", "timeout", "--timeout", "1", "-c", LOCKS, sig=9)
        self.finds("a thread that dies", "thread", "-c", DIES, status=0)
        self.finds("a signal", "crash", "-c", "import os, threading; threading.Thread(target=os.abort).start()", sig=6)
        self.finds("a text in pieces", "output", "--until", "output=ab\ncd", "-c", "import os; os.write(1, b'a'); os.write(2, b'x'); os.write(1, b'b\\ncd')",
                   status=0)
        self.finds("another status is expected", "exit", "--expect", "3", "-c", "pass", "--runs", "1", status=0)
        self.nothing()
        self.interrupted()
        self.chaos()
        self.refused()

    def nothing(self):
        before = self.runs()
        for what, args in (("no failure", ["-c", "pass", "--runs", "2"]), ("not this failure", ["--runs", "2", "--until", "crash", "-c", "raise SystemExit(1)"])):
            result, rows = self.race(*args)
            self.check(f"{what}: says so", result.status == 1 and rows[-1]["found"] is False and rows[-1]["runs"] == 2, result)
        self.tally.equal(f"{self.version} race: runs of before are left alone", self.runs(), before)
        fresh = self.top / "fresh.timefork"
        result = timefork("race", "--python", self.exe, "-o", fresh, "--runs", "2", "-c", "pass")
        self.check("no failure: no file", result.status == 1 and not list(self.top.glob("fresh*")) and "none of 2 runs failed" in result.text, result)

    def interrupted(self):
        """Ctrl-C, to a program that ends by it and to one that does not."""
        file = self.top / "interrupted.timefork"
        for what, code in (("ends", "import time; print(1, flush=True); time.sleep(60)"),
                           ("does not", "import signal, time; signal.signal(2, signal.SIG_IGN); print(1, flush=True); time.sleep(60)")):
            process = subprocess.Popen([TIMEFORK, "race", "--show", "--python", self.exe, "-o", file, "-c", code], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, env=clean_env(), start_new_session=True)
            process.stdout.read(1)
            os.killpg(process.pid, signal.SIGINT)
            began = time.monotonic()
            try:
                err = process.communicate(timeout=30)[1]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                err = b"it did not end"
            self.check(f"Ctrl-C, the program {what}", process.returncode == 130 and not file.exists() and time.monotonic() - began < 15,
                       (process.returncode, err, file.exists()))

    def chaos(self):
        file = self.top / "chaos.timefork"
        given = timefork("record", "--chaos", "9223372036854775807", "--python", self.exe, "-o", file, "-c", "pass")
        chosen = timefork("record", "--chaos", "--python", self.exe, "-o", file, "-c", "pass")
        plain = timefork("record", "--python", self.exe, "-o", file, "-c", "pass")
        seeds = [r.get("chaos") for r in json_lines(timefork("query", file, "--list-runs", "--format", "json"))]
        self.check("seeds are kept", seeds[0] == 2**63 - 1 and isinstance(seeds[1], int) and seeds[2:] == [None], seeds)
        self.check("seeds are told", f"--chaos {seeds[0]}" in given.errtext and f"--chaos {seeds[1]}" in chosen.errtext and "--chaos" not in plain.errtext,
                   f"{given}\n{chosen}\n{plain}")
        for wrong in (["record", "--chaos=x", "-c", "pass"], ["record", "--chaos", "9223372036854775808", "-c", "pass"], ["race", "--chaos", "-c", "pass"],
                      ["race", "--runs", "0", "-c", "pass"], ["race", "--until", "never", "-c", "pass"], ["race", "--seed", "-1", "-c", "pass"],
                      ["race", "--timeout", "0", "-c", "pass"], ["race", "--expect", "256", "-c", "pass"], ["race"], ["race", "-c", "pass", "--runs", "2", "--nix"]):
            result = timefork(*wrong, cwd=self.top)
            self.check(f"{' '.join(wrong)}: a mistake", result.status == 2 and result.errtext.startswith("timefork: "), result)

    def refused(self):
        """A build without a GIL is refused by what it says of itself."""
        if not shutil.which("cc"):
            self.tally.skip(f"{self.version} race: a free-threaded Python", "no C compiler")
            return
        fake, file = self.top / "python3.13t", self.top / "none.timefork"
        (self.top / "fake.c").write_text(FREE_THREADED)
        made = run(["cc", "-rdynamic", "-o", fake, self.top / "fake.c"])
        if not self.check("a Python that says it is free-threaded", made.status == 0, made):
            return
        for args in ["record", "-o", file, "--python", fake, "-c", "pass"], ["race", "-o", file, "--python", fake, "-c", "pass"], ["record", "-o", file, "--", fake], ["doctor", "--python", fake]:
            result = timefork(*args, cwd=self.top)
            self.check(f"{args[0]} refuses a free-threaded Python", result.status == (1 if args[0] == "doctor" else 125) and
                       "free-threaded" in result.text + result.errtext and not file.exists(), result)


# ---- many ----

def soak(count, jobs, names, keep):
    """Records at random, verifies each. Every other run is one of chaos."""
    rng = random.Random(SEED)
    work = [(v, exe, p) for v, exe in pythons(every=True) for p in (ALL if not names else BY_NAME.values()) if not names or p.name in names]
    plan = []
    while len(plan) < count:
        rng.shuffle(work)
        plan += work
    results, bad = {}, []

    def one(number, version, exe, program):
        with Folder() as top:
            env, why = prepare(program, version, exe, top / "work")
            if why:
                return "skipped", why
            options = ["--chaos", str(rng.randrange(2**53))] if number % 2 or program.chaos else []
            file = top / "run.timefork"
            recorded = timefork("record", "--quiet", *options, "-o", file, "--python", exe, THREADS / program.script, *program.args, cwd=top / "work", env=env)
            verified = timefork("verify", "--on-divergence", "explain", file) if file.exists() else recorded
            outcome = ("not recorded" if not file.exists() else "divergences" if verified.status == 3 else "stopped early" if verified.status == 4 else
                       "not verified" if verified.status != 0 else "wrong ends" if recorded.status != program.status else "equal")
            if outcome != "equal" and file.exists() and keep:
                keep.mkdir(exist_ok=True)
                shutil.copy(file, keep / f"{number}-{version}-{program.name}.timefork")
            return outcome, f"{options}\n{recorded}\n{verified}"

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(one, n, *what): (n, *what) for n, what in enumerate(plan[:count])}
        for done, job in enumerate(concurrent.futures.as_completed(running), 1):
            number, version, exe, program = running[job]
            outcome, detail = job.result()
            results[outcome] = results.get(outcome, 0) + 1
            if outcome not in ("equal", "skipped"):
                bad.append(program.name)
                print(f"{number}: {version} ({exe}) {program.name}: {outcome}\n{detail[:3000]}", flush=True)
            if done % 50 == 0 or done == count:
                print(f"{done} recordings in {time.monotonic() - began:.0f} s: {results.get('divergences', 0)} divergences; {results}", flush=True)
    if bad:
        print("bad ones:", {name: bad.count(name) for name in sorted(set(bad))})
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=int, metavar="N")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="with --soak: where recordings that differ are copied to")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    need_timefork()
    unknown = [n for n in options.names if n not in BY_NAME and n not in ("race", "strace", "debug")]
    if unknown:
        parser.error(f"no such test: {unknown}")
    if options.soak:
        return soak(options.soak, options.jobs, options.names, options.keep)
    tally = Tally()

    def one(what, make, *args):
        try:
            with Folder() as top:
                what(make(tally, top, *args))
        except Exception as e:
            at = e.__traceback__
            while at.tb_next:
                at = at.tb_next
            tally.fail(f"{args[0]} {getattr(args[-1], 'name', '')}: the test itself failed (line {at.tb_lineno})", f"{type(e).__name__}: {e}")

    def wanted(name):
        return not options.names or name in options.names

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for n, (version, exe) in enumerate(pythons()):
            for number, program in enumerate(ALL if not options.names else BY_NAME.values()):
                if wanted(program.name):
                    pool.submit(one, Case.go, functools.partial(Case, whole=bool(options.names) or in_turn(number, n, len(pythons()))), version, exe, program)
            if wanted("strace"):
                for name in ["executor", "daemons"] if LONG else [["executor", "daemons", "crowd"][n % 3]]:
                    pool.submit(one, Case.traced, Case, version, exe, BY_NAME[name])
            if wanted("debug"):
                for program in ALL if LONG else [BY_NAME[name] for name in ("queues", "interval", "tcp", "hashes")]:
                    pool.submit(one, Case.debugged, Case, version, exe, program)
            if wanted("race"):
                pool.submit(one, Race.go, Race, version, exe)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
