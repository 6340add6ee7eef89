#!/usr/bin/env python3
"""Programs that die: of a fault, a signal, os._exit; with faulthandler and without. Recorded, they die as they would otherwise; the
recording says of what; the replay comes to the same line again, stands there, says that the run ends, and goes back from it.

    tests/crashes.py [WAY...]     (of tests/programs/crash.py)
"""
import concurrent.futures
import functools
import os
import re
import signal
import subprocess
import sys
import time

from lib import LIMIT, PROGRAMS, TIMEFORK, Folder, Tally, children, clean_env, in_turn, json_lines, need_timefork, pythons, run, timefork

SCRIPT = PROGRAMS / "crash.py"
SOURCE = SCRIPT.read_text().splitlines()
WAYS = {"segfault": signal.SIGSEGV, "abort": signal.SIGABRT, "heap": signal.SIGABRT, "stack": signal.SIGSEGV, "divide": signal.SIGFPE,
        "illegal": signal.SIGILL, "trap": signal.SIGTRAP, "bus": signal.SIGBUS, "fatal": signal.SIGABRT, "term": signal.SIGTERM,
        "kill": signal.SIGKILL, "group": signal.SIGHUP, "segv_sent": signal.SIGSEGV, "leave": None}
# Killed from outside: way, signal.
OUTSIDE = [("loop", signal.SIGKILL), ("loop", signal.SIGSEGV), ("sleep", signal.SIGKILL), ("sleep", signal.SIGTERM)]


def dies_at(way):
    """The number of the line that is marked in this function."""
    start = next(i for i, line in enumerate(SOURCE) if line.startswith(f"def {way}("))
    return next(i for i in range(start, len(SOURCE)) if SOURCE[i].endswith("# dies")) + 1


def commands(recording, *given, **how):
    """The answers to commands of the prompt, and the result."""
    result = timefork("replay", recording, "--format", "json", *[a for c in given for a in ("-c", c)], **how)
    return json_lines(result), result


def stable(text):
    """What faulthandler prints, without addresses."""
    return re.sub(r"0x[0-9a-f]+", "0x", text)


class Death:
    def __init__(self, tally, version, exe, way, more, top):
        self.tally, self.exe, self.way, self.top = tally, exe, way, top
        self.args = [way, "faulthandler"] if more else [way]
        self.label = f"{version} {' '.join(self.args)}"
        self.signal = WAYS[way]
        self.recording = top / "r.timefork"

    def check(self, what, good, detail=""):
        return self.tally.check(f"{self.label}: {what}", good, detail)

    def equal(self, what, got, expected, detail=""):
        return self.tally.equal(f"{self.label}: {what}", got, expected, detail)

    def go(self):
        plain = run([self.exe, SCRIPT, *self.args], cwd=self.top)
        recorded = timefork("record", "-o", self.recording, "--python", self.exe, SCRIPT, *self.args, cwd=self.top)
        summary = [line for line in recorded.errtext.splitlines() if line.startswith("timefork: ")]
        printed = [line for line in recorded.errtext.splitlines() if not line.startswith("timefork: ")]
        self.equal("status", recorded.status, plain.status, recorded)
        self.equal("output", recorded.out, plain.out)
        self.equal("what it says on standard error", stable("\n".join(printed)), stable("\n".join(plain.errtext.splitlines())))
        named = f"ended by signal {int(self.signal)} ({self.signal.name})" if self.signal else "file"
        self.check("the summary says of what", len(summary) == 1 and named in summary[0], recorded)
        listed = json_lines(timefork("query", self.recording, "--list-runs", "--format", "json"))[0]
        self.equal("query", (listed["exit_signal"], listed["exit_status"]), (int(self.signal), None) if self.signal else (None, 7))
        verified = timefork("verify", self.recording)
        self.check("verify: equal", verified.status == 0, verified)
        self.at_the_end(listed["frames"])

    def at_the_end(self, frames):
        line = dies_at(self.way)
        end = f"The run ends here: signal {int(self.signal)} ({self.signal.name})." if self.signal else "The run ends here: exit status 7."
        # Where a prompt opens, goto end, --goto-frame end, continue: all the line that it died at.
        answers, result = commands(self.recording, "when", "goto end", "where", "print n", "step", "print n", "next", "continue", "finish",
                                   "reverse-step", "print n", f"break crash.py:{line + 1}" if self.way not in ("sleep",) else "when", "continue",
                                   "goto start", f"break crash.py:{line}", "continue", "print n", "continue", "print n")
        if not self.equal("the commands were done", len(answers), 19, result):
            return
        answers = [{**a, **a["position"]} if isinstance(a.get("position"), dict) else a for a in answers]
        opened, went, where, n, stepped, n2, nexted, went_on, finished, back, n3, _, beyond, _, _, found, n4, last, n5 = answers
        if self.signal:
            self.equal("it opens there", (opened.get("frame"), opened.get("line")), (went.get("frame"), line), opened)
        self.equal("goto end: the line", (went.get("line"), went.get("function")), (line, self.way), went)
        self.equal("where", [(f["function"], f["line"]) for f in where.get("stack", [])][:1], [(self.way, line)], where)
        self.equal("n", [a.get("value") for a in (n, n2, n4, n5)], ["41"] * 4)
        for what, answer in (("step", stepped), ("next", nexted), ("continue", went_on), ("finish", finished), ("continue to a line behind it", beyond),
                             ("continue from there", last)):
            self.equal(f"{what} ends there", (answer.get("message"), answer.get("line"), answer.get("reason")), (end, line, "end"), answer)
            self.equal(f"{what}: exit_signal", answer.get("exit_signal"), int(self.signal) if self.signal else None)
        self.check("reverse-step goes back", back.get("line") is not None and back["line"] < line and "message" not in back, back)
        if back.get("function") == self.way:
            self.equal("n there", n3.get("value"), "40", back)
        self.equal("a breakpoint there is met", found.get("line"), line, found)
        shown = timefork("replay", self.recording, "--goto-frame", "end", "--eval", "n + 1", "--format", "json")
        answer = json_lines(shown)[0] if shown.text else {}
        self.equal("--goto-frame end", (answer.get("frame"), answer.get("line"), answer.get("function"), [e.get("value") for e in answer.get("eval", [])]),
                   (frames, line, self.way, ["42"]), shown)


def outside(tally, version, exe, way, number):
    label = f"{version} {way}, {number.name} from outside"
    with Folder() as top:
        recording = top / "r.timefork"
        recorder = subprocess.Popen([TIMEFORK, "record", "-o", recording, "--python", exe, SCRIPT, way], cwd=top, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, env=clean_env(), start_new_session=True)
        try:
            said = [recorder.stdout.readline(), recorder.stdout.readline()]
            tally.equal(f"{label}: is up", said, [b"so far\n", b"up\n"])
            time.sleep(0.1)
            os.kill(children(recorder.pid)[0], number)
            _, err = recorder.communicate(timeout=LIMIT)
        finally:
            if recorder.poll() is None:
                os.killpg(recorder.pid, signal.SIGKILL)
        tally.equal(f"{label}: status", recorder.returncode, 128 + int(number), err)
        tally.check(f"{label}: the summary says so", f"ended by signal {int(number)} ({number.name})" in err.decode(), err)
        listed = json_lines(timefork("query", recording, "--list-runs", "--format", "json"))[0]
        tally.equal(f"{label}: query", listed["exit_signal"], int(number))
        verified = timefork("verify", recording)
        tally.check(f"{label}: verify: equal", verified.status == 0 and f"equal: {listed['frames']} frame events" in verified.text, verified)
        answers, result = commands(recording, "when", "where", "print n", "reverse-step", "goto end")
        if tally.equal(f"{label}: the commands were done", len(answers), 5, result):
            functions = {"loop": ("loop", "before"), "sleep": ("sleep",)}[way]
            answers[4].update(answers[4].get("position", {}))
            tally.check(f"{label}: it opens at the last event", answers[4].get("frame") == listed["frames"] and answers[4].get("function") in functions, answers[4])


def watched(tally, version, exe):
    """faulthandler's watchdog is a thread that never takes the GIL, and that who has the GIL waits for."""
    with Folder() as top:
        recording = top / "r.timefork"
        recorded = timefork("record", "-o", recording, "--python", exe, SCRIPT, "later", cwd=top)
        tally.check(f"{version} dump_traceback_later: recorded", recorded.status == 0 and "stop there" not in recorded.errtext, recorded)
        dumped = re.findall(r'line (\d+) in later$', recorded.errtext, re.M)
        tally.equal(f"{version} dump_traceback_later: it dumped where the program slept", set(dumped), {str(next(i for i, line in enumerate(SOURCE, 1) if line.endswith("# watched")))})
        verified = timefork("verify", recording)
        tally.check(f"{version} dump_traceback_later: verify: equal", verified.status == 0, verified)


def handled(tally, version, exe):
    with Folder() as top:
        recording = top / "r.timefork"
        recorded = timefork("record", "-o", recording, "--python", exe, SCRIPT, "handled", cwd=top)
        tally.check(f"{version} a handler for SIGSEGV", recorded.status == 0 and "[11] 41" in recorded.text, recorded)
        verified = timefork("verify", recording)
        tally.check(f"{version} a handler for SIGSEGV: verify", verified.status == 0, verified)


def main():
    need_timefork()
    tally = Tally()
    names = sys.argv[1:]

    def one(label, test):
        try:
            test()
        except Exception as e:
            tally.fail(f"{label}: the test itself failed", f"{type(e).__name__}: {e}")

    def dies(version, exe, way, more):
        with Folder() as top:
            Death(tally, version, exe, way, more, top).go()

    tests = []
    for python, (version, exe) in enumerate(pythons()):
        # With faulthandler each way is gone by one Python, in turn.
        tests += [(version, way, functools.partial(dies, version, exe, way, more)) for n, way in enumerate(WAYS) for more in (False, True)
                  if not more or names or in_turn(n, python, len(pythons()))]
        tests += [(version, way, functools.partial(outside, tally, version, exe, way, number)) for way, number in OUTSIDE]
        tests += [(version, "later", functools.partial(watched, tally, version, exe)),
                  (version, "handled", functools.partial(handled, tally, version, exe))]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for version, what, test in tests:
            if not names or what in names:
                pool.submit(one, f"{version} {what}", test)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
