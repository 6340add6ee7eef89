#!/usr/bin/env python3
"""Programs of several processes. Each process prints "PID PARENT VALUE" for each value that its work() returns, and nothing
else: that is the oracle. For each Python and each program, and for each process:
  - `verify` re-executes it without a difference;
  - it is listed with its pid and its parent;
  - it has as many returns of work() as it printed values, and at each the value is the printed one;
  - positions before its fork are what they are in its parent.
One Python, in turn, goes to all of these, the others to one or two of each process (TIMEFORK_TEST_LONG=1: all of them).

    tests/children.py [NAME...]
"""
import concurrent.futures
import random
import sys

from lib import PROGRAMS, Folder, Tally, in_turn, json_lines, need_timefork, pythons, run, timefork

# (name, what is recorded, options of record, where a replay of the first process stops)
PROGRAMS_OF_SEVERAL = [
    ("forks", ["forks.py"], []),
    ("pools", ["pools.py", "fork"], []),
    ("pools-spawn", ["pools.py", "spawn"], ["--follow"]),
    ("served", ["served.py"], []),
    ("locked", ["locked.py"], []),
    ("pooled", ["pooled.py", "fork"], []),
    ("pooled-spawn", ["pooled.py", "spawn"], ["--follow"]),
    ("narrow", ["narrow.py"], ["--follow"]),
    ("reaper", ["reaper.py"], []),
    ("droppable", ["droppable.py"], []),
    ("follows", ["follows.py"], ["--follow"]),
]


class Case:
    def __init__(self, tally, top, whole, version, exe, name, argv, options, stops=""):
        self.tally, self.top, self.exe, self.whole = tally, top, exe, whole
        self.label = f"{version} {name}"
        self.argv, self.options, self.stops = argv, options, stops
        self.recording = top / f"{name}.timefork"
        self.rng = random.Random(self.label)

    def check(self, what, good, detail=""):
        return self.tally.check(f"{self.label}: {what}", good, detail)

    def equal(self, what, got, expected, detail=""):
        return self.tally.equal(f"{self.label}: {what}", got, expected, detail)

    def query(self, *what):
        result = timefork("query", self.recording, *what, "--format", "json", cwd=self.top)
        return json_lines(result) if self.check(f"query {' '.join(what)}", result.status == 0, result) else []

    def goto(self, process, frames, all_there=True):
        args = [a for f in frames for a in ("--goto-frame", str(f))]
        result = timefork("replay", self.recording, "--process", process, *args, "--format", "json", cwd=self.top)
        answers = json_lines(result) if result.status == 0 or not all_there else []
        return answers if self.check(f"process {process}: goto", len(answers) == len(frames), result) else []

    def go(self):
        command = [str(PROGRAMS / self.argv[0]), *self.argv[1:]]
        plain = run([self.exe, *command], cwd=self.top)
        recorded = timefork("record", *self.options, "-o", self.recording, "--python", self.exe, *command, cwd=self.top)
        self.equal("exit status", recorded.status, plain.status, recorded)
        if not self.check("is recorded", self.recording.exists(), recorded):
            return
        self.check("nothing is left out", ("will be exact up to" in recorded.errtext) == bool(self.stops), recorded)
        self.equal("as many values as without", len(recorded.text.splitlines()), len(plain.text.splitlines()), recorded)
        printed = {}
        parents = {}
        for line in recorded.text.splitlines():
            pid, parent, value = line.split(" ", 2)
            printed.setdefault(int(pid), []).append(value)
            parents[int(pid)] = int(parent)

        verified = timefork("verify", self.recording, cwd=self.top)
        self.check("verify", verified.status == (4 if self.stops else 0) and self.stops in verified.errtext, verified)
        processes = self.query("--list-processes")
        by_pid = {p["pid"]: p for p in reversed(processes)}  # the first that had it: exec keeps the pid
        self.check("every process is there", set(printed) <= set(by_pid), (sorted(printed), sorted(by_pid)))
        self.equal("processes that verify names", len(verified.text.splitlines()) + bool(self.stops), len(processes), verified)
        for p in processes:
            pid = p["pid"]
            became = p["process"] > 1 and processes[p["parent"] - 1]["pid"] == pid
            if pid in parents and p["process"] > 1 and parents[pid] in by_pid and not became:
                self.equal(f"parent of process {p['process']}", by_pid[parents[pid]]["process"], p["parent"], p)
            self.values(p, printed.get(pid, []), last=all(q["pid"] != pid for q in processes[p["process"]:]))
        self.equal("values that no process returned", sum(map(len, printed.values())), 0)
        self.shared_past(processes)
        self.random_places(processes)

    def random_places(self, processes):
        """The frame that is asked for is the frame that is answered, with the function and kind that query tells."""
        for p in processes[bool(self.stops):]:
            number = str(p["process"])
            events = self.query("--process", number, "--frames", "--all", "--limit", "1000000")
            chosen = self.rng.sample(events, min(len(events), max(2, 50 // len(processes)) if self.whole else 2))
            keys = ("frame", "event", "function", "file")
            for event, answer in zip(chosen, self.goto(number, [e["frame"] for e in chosen]) if chosen else []):
                self.equal(f"process {number}: goto {event['frame']}", [answer.get(k) for k in keys], [event[k] for k in keys])

    def values(self, p, printed, last):
        """Takes from printed what this process printed: all that is left, unless another one had the same pid after it."""
        number = str(p["process"])
        events = self.query("--process", number, "--frames", "--event", "return", "--limit", "1000000")
        events = [e for e in events if e["function"] == "work"]
        leaves = [e["frame"] for e in events if p["origin"] != "forked" or e["frame"] > p["began_frame"]]
        if not self.check(f"process {number}: returns of work()", len(leaves) == len(printed) if last else len(leaves) < len(printed),
                          (len(leaves), printed)):
            return
        mine = [printed.pop(0) for _ in leaves]
        order = list(range(len(leaves)))
        self.rng.shuffle(order)
        if not self.whole:
            del order[2:]
        for i, answer in zip(order, self.goto(number, [leaves[i] for i in order]) if order else []):
            self.equal(f"process {number}: value {i}", answer["returned"]["repr"], mine[i], answer)

    def shared_past(self, processes):
        forked = [p for p in processes if p["origin"] == "forked" and p["began_frame"] > 0]
        for p in self.rng.sample(forked, min(len(forked), 4 if self.whole else 1)):
            frames = [self.rng.randint(1, p["began_frame"]) for _ in range(3)] + [p["began_frame"]]
            keep = ("frame", "event", "function", "file", "line", "locals", "error")
            mine, parents = ([{k: a.get(k) for k in keep} for a in self.goto(str(n), frames, all_there=False)]
                             for n in (p["process"], p["parent"]))
            self.equal(f"process {p['process']}: the past before its fork", mine, parents)


def begins_late(tally, version, exe):
    """--follow: for a while there is no process that asks to be recorded."""
    with Folder() as top:
        done = timefork("record", "--quiet", "--follow", "-o", top / "late.timefork", "--", "sh", "-c",
                        f"sleep 0.2; exec '{exe}' -c 'print(6 * 7)'", cwd=top)
        tally.check(f"{version}: a shell that becomes Python later", done.status == 0 and done.text == "42\n", done)
        verified = timefork("verify", top / "late.timefork", cwd=top)
        tally.check(f"{version}: verify of that", verified.status == 0, verified)


def main():
    need_timefork()
    tally = Tally()
    if len(sys.argv) == 1:
        begins_late(tally, *pythons()[0])

    def one(whole, version, exe, name, *what):
        try:
            with Folder() as top:
                Case(tally, top, whole, version, exe, name, *what).go()
        except Exception as e:
            tally.fail(f"{version} {name}: the test itself failed", f"{type(e).__name__}: {e}")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for python, (version, exe) in enumerate(pythons()):
            for number, (name, *what) in enumerate(PROGRAMS_OF_SEVERAL):
                if len(sys.argv) == 1 or name in sys.argv[1:]:
                    pool.submit(one, in_turn(number, python, len(pythons())), version, exe, name, *what)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
