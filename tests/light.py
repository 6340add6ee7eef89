#!/usr/bin/env python3
"""record --light: what the first look derives is what a recording in full would have had.

    tests/light.py [TEST...]     (same values killed interrupted together changed parted ends limits)

  - same: programs that do the same in every run, each with one Python in turn (TIMEFORK_TEST_LONG=1: with all), recorded light and in full: output and status of both, every frame event, the
    statistics, stack and variables at random places; verify;
  - values: a program that does something else in every run: what its functions return in replay is what it printed;
  - killed, ends: programs that end by SIGKILL, a fault, a signal, _exit, exec;
  - interrupted: the completion is killed at random moments; the recording stays light, and the next one completes it;
  - together: several commands that all complete the same run;
  - changed: the script is another one by then: the recorded one is executed and shown;
  - parted: a program that prints addresses: the completion says so, exit status 3, and the recording stays light;
  - limits: threads, forked children, signals in loops, options that contradict each other.
"""
import concurrent.futures
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time

from lib import LONG, PROGRAMS, TIMEFORK, Folder, Tally, clean_env, in_turn, json_lines, need_timefork, pythons, timefork

SHARED = PROGRAMS / "cases"
SAME = ["bignum", "chained", "constructs", "contexts", "coroutines", "deep", "descriptors", "exec_eval", "iterators", "ledger", "lifetimes", "memory",
        "objects", "raises", "recursion", "regex", "texts", "uncaught"]
CASES = ["call_free_loop", "exceptions", "history", "leaf_loop"]
PLACES = 12 if LONG else 4

VALUES = """\
import os, random, time
def value(n):
    return (n, time.time_ns(), random.random(), os.urandom(4).hex(), os.getpid())
for n in range(20):
    print(value(n), flush=True)
"""
LOOP = """\
import sys
def step(n):
    return n + 1
n = 0
for _ in range(int(sys.argv[1])):
    n = step(n)
print(n)
"""


class Light:
    def __init__(self, tally, number, version, exe, top):
        self.tally, self.number, self.version, self.exe, self.top = tally, number, version, exe, top
        self.random = random.Random(f"{os.environ.get('TIMEFORK_TEST_SEED', '1')} {version}")

    def check(self, what, good, detail=""):
        return self.tally.check(f"{self.version} {what}", good, detail)

    def equal(self, what, got, expected, detail=""):
        return self.tally.equal(f"{self.version} {what}", got, expected, detail)

    def record(self, name, *program, light=True, **how):
        """The recording, and how it went. Each in a folder of its own of the same length, where the program works."""
        folder = self.top / name
        folder.mkdir(exist_ok=True)
        recording = folder / "r.timefork"
        options = ["--env", "PYTHONHASHSEED=0", *(["--light"] if light else ["--checkpoints", "none"])]
        return recording, timefork("record", *options, "-o", recording, "--python", self.exe, *program, cwd=folder, **how)

    def script(self, name, text):
        path = self.top / name
        path.write_text(text)
        return path

    def state(self, recording):
        return json_lines(timefork("info", recording, "--format", "json"))[-1]

    def events(self, recording):
        """All frame events, without their times."""
        result = timefork("query", recording, "--frames", "--all", "--format", "json")
        result.out = result.out.replace(str(recording.parent).encode(), b"FOLDER")
        return [{k: v for k, v in o.items() if k not in ("run", "time_ns")} for o in json_lines(result)], result

    def stats(self, recording):
        found = json_lines(timefork("query", recording, "--stats", "--all", "--format", "json"))
        return sorted((o["function"], o["file"].replace(str(recording.parent), "FOLDER"), o["calls"], o["resumes"]) for o in found)

    def at(self, recording, frames):
        """Stack and variables at some places."""
        goto = [a for frame in frames for a in ("--goto-frame", str(frame))]
        found = json_lines(timefork("replay", recording, *goto, "--format", "json"))
        return [re.sub(r"0x[0-9a-f]+", "0x", str([o.get(k) for k in ("frame", "event", "function", "line", "stack", "locals", "returned")]))
                .replace(str(recording.parent), "FOLDER") for o in found]

    def verify(self, what, recording, status=0):
        result = timefork("verify", recording)
        return self.check(f"{what}: verify", result.status == status, result)

    # ----

    def same(self):
        for turn, path in enumerate([PROGRAMS / f"{name}.py" for name in SAME] + [SHARED / f"{name}.py" for name in CASES]):
            if not path.exists() or not in_turn(turn, self.number, len(pythons())):
                continue
            name = path.stem
            recording, light = self.record("1", path)
            full_recording, full = self.record("2", path, light=False)
            self.equal(f"{name}: output", (light.status, light.out), (full.status, full.out), light)
            before = self.state(recording)
            self.equal(f"{name}: has no frame events yet", (before["light"], before["frames"]), ("pending", 0))
            got, result = self.events(recording)
            expected, _ = self.events(full_recording)
            self.check(f"{name}: {len(expected)} frame events", got == expected and expected, result)
            after = self.state(recording)
            self.equal(f"{name}: is completed", (after["light"], after["frames"], after["duration_ns"], after["started_unix_ns"]),
                       ("completed", len(expected), before["duration_ns"], before["started_unix_ns"]))
            self.equal(f"{name}: statistics", self.stats(recording), self.stats(full_recording))
            self.verify(name, recording)
            # The import system's variables tell of the folder and of when its files were made.
            own = [o["frame"] for o in expected if not o["file"].startswith("<frozen")]
            if own:
                places = [self.random.choice(own) for _ in range(PLACES)]
                self.equal(f"{name}: at {places}", self.at(recording, places), self.at(full_recording, places))
            recording.unlink()
            full_recording.unlink()

    def values(self):
        script = self.script("values.py", VALUES)
        recording, result = self.record("1", script)
        returns = json_lines(timefork("query", recording, "--frames", "--function", "value", "--event", "return", "--format", "json"))
        goto = [a for o in returns for a in ("--goto-frame", str(o["frame"]))]
        found = json_lines(timefork("replay", recording, *goto, "--format", "json"))
        self.equal("values: what the functions return", [o["returned"]["repr"] for o in found], result.text.splitlines())
        times = [o["time_ns"] for o in found]
        self.check("values: times rise, within the run", times == sorted(times) and 0 < times[0] and
                   times[-1] <= self.state(recording)["duration_ns"], times)
        output = timefork("query", recording, "--output")
        self.check("values: query --output", all(line in output.text for line in result.text.splitlines()), output)

    def killed(self):
        script = self.script("killed.py", "import os, time\ndef f(n):\n    return n + 1\nn = 0\nwhile True:\n    n = f(n)\n"
                             "    if n % 1000 == 0:\n        os.write(1, b'.')\n")
        folder = self.top / "1"
        folder.mkdir()
        recording = folder / "r.timefork"
        child = subprocess.Popen([TIMEFORK, "record", "--light", "--quiet", "-o", recording, "--python", self.exe, script],
                                 stdout=subprocess.PIPE, cwd=folder, env=clean_env())
        child.stdout.read(50)
        found = subprocess.run(["pgrep", "-P", str(child.pid)], stdout=subprocess.PIPE, check=True).stdout.split()
        os.kill(int(found[0]), signal.SIGKILL)
        printed = 50 + len(child.stdout.read())
        self.equal("killed: status", child.wait(), 137)
        got, result = self.events(recording)
        calls = sum(1 for o in got if o["function"] == "f" and o["event"] == "call")
        # The signal may have come between its last write and the log's entry of that.
        self.check("killed: up to its last call", (printed - 1) * 1000 <= calls < (printed + 1) * 1000 + 2, f"{printed} {calls}\n{result.errtext}")
        self.verify("killed", recording)

    def ends(self):
        for name, code, status in [("exit", "import os; os._exit(7)", 7), ("signal", "import os; os.kill(os.getpid(), 15)", 143),
                                   ("fault", "import ctypes; ctypes.string_at(1)", 139),
                                   ("exec", "import os; os.execv('/bin/echo', ['echo', 'other'])", 0),
                                   ("raised", "1 / 0", 1), ("empty", "", 0)]:
            recording, result = self.record("1", "-c", code)
            self.equal(f"{name}: status", result.status, status, result)
            self.verify(name, recording)
            self.check(f"{name}: has frame events", self.state(recording)["frames"] > 0)
            recording.unlink()

    def hidden(self, recording):
        with sqlite3.connect(recording) as db:
            return db.execute("SELECT count(*) FROM runs WHERE process > 1000").fetchone()[0]

    def interrupted(self):
        script = self.script("loop.py", LOOP)
        recording, result = self.record("1", script, "600000")
        self.equal("interrupted: output", result.text, "600000\n", result)
        cut = 0
        for wait in (0.05, 0.3, 0.6, 0.9):
            child = subprocess.Popen([TIMEFORK, "query", recording, "--stats"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_env())
            time.sleep(wait * self.random.uniform(0.8, 1.2))
            child.kill()
            child.communicate()
            if self.state(recording)["light"] == "pending":
                cut += 1
        self.check("interrupted: it was, at least once", cut)
        self.verify("interrupted", recording)
        self.equal("interrupted: nothing is left of it", self.hidden(recording), 0)
        events = json_lines(timefork("query", recording, "--stats", "--function", "step", "--format", "json"))
        self.equal("interrupted: calls", [o["calls"] for o in events], [600000])

    def together(self):
        script = self.script("loop.py", LOOP)
        recording, _ = self.record("1", script, "300000")
        commands = [["query", recording, "--stats", "--format", "json"], ["verify", recording], ["query", recording, "--stats", "--format", "json"]]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda command: timefork(*command), commands))
        self.equal("together: all succeed", [r.status for r in results], [0, 0, 0], "\n".join(map(str, results)))
        self.equal("together: they see the same", results[0].out, results[2].out)
        self.check("together: some wait", sum("is being completed by another timefork" in r.errtext for r in results) <= 2, results[0])
        self.equal("together: nothing is left", self.hidden(recording), 0)

    def changed(self):
        script = self.script("changed.py", "def f():\n    return 'then'\nprint(f())\n")
        recording, _ = self.record("1", script)
        script.write_text("def f():\n    return 'now' + 'more'\nprint(f(), f())\n")
        verified = timefork("verify", recording)
        self.check("changed: what was recorded is executed", verified.status == 0, verified)
        self.check("changed: that is said", "has changed since the recording" in verified.errtext, verified)
        shown = timefork("replay", recording, "-c", "break f", "-c", "continue", "-c", "list")
        self.check("changed: the recorded source is shown", "'then'" in shown.text and "'now'" not in shown.text, shown)
        recording, _ = self.record("2", self.script("gone.py", "import sys\nprint(len(sys.argv))\n"))
        (self.top / "gone.py").unlink()
        shown = timefork("replay", recording, "--goto-frame", "1")
        self.check("changed: the script is gone", shown.status == 0, shown)

    def parted(self):
        recording, _ = self.record("1", PROGRAMS / "addresses.py")
        for command in (["verify", recording], ["query", recording, "--frames"], ["replay", recording, "--goto-frame", "1"]):
            result = timefork(*command)
            self.check(f"parted: {command[0]} says so", result.status == 3 and "is a light recording, and its frame events cannot be derived" in
                       result.errtext and "write" in result.errtext, result)
        self.equal("parted: it stays light", self.state(recording)["light"], "pending")
        # With a frame hook the caller still holds the argument, so its memory is not free yet. Nothing that is printed tells of that.
        script = self.script("held.py", "import os\ndef again(x):\n    was = id(x)\n    x = None\n    return id(object()) == was\n"
                             "def tell(n):\n    os.getppid()\ntell(int(again(object())))\n")
        recording, _ = self.record("2", script)
        result = timefork("verify", recording)
        self.check("parted: other values in variables", result.status == 3 and "other values in its variables" in result.errtext, result)

    def limits(self):
        thread = self.script("thread.py", "import threading\ndef f():\n    print('in a thread')\nf()\nt = threading.Thread(target=f)\nt.start()\nt.join()\n")
        recording, result = self.record("1", thread)
        self.check("limits: a thread runs, unrecorded", result.text.count("in a thread") == 2 and "a second thread" in result.errtext, result)
        verified = timefork("verify", recording)
        self.check("limits: replay stops in front of it", verified.status == 4 and "a second thread, which a light recording does not cover" in
                   verified.errtext and self.state(recording)["frames"] > 0, verified)
        recording, result = self.record("2", "-c", "import os\npid = os.fork()\nif pid == 0:\n    os._exit(3)\nprint(os.waitpid(pid, 0)[1] >> 8)")
        self.check("limits: a forked child", result.text == "3\n" and "a light recording is of the first process only" in result.errtext, result)
        self.verify("limits: its parent", recording)
        marks = sqlite3.connect(recording).execute("SELECT text FROM marks WHERE kind = 2").fetchall()
        self.check("limits: the note about it stays", any("first process only" in text for text, in marks), marks)
        recording, result = self.record("3", "-c", "import signal\nsignal.alarm(1)\nsignal.signal(14, lambda *a: exit(5))\nwhile True: pass")
        self.equal("limits: a signal in a loop: status", result.status, 5, result)
        verified = timefork("verify", recording)
        self.check("limits: a signal in a loop", verified.status == 4, verified)
        recording, result = self.record("4", "-c", "import subprocess\nprint(subprocess.run(['echo', 'a'], capture_output=True).stdout)")
        self.equal("limits: a subprocess", result.text, "b'a\\n'\n", result)
        self.verify("limits: a subprocess", recording)
        recording, result = self.record("5", "-c", "import signal, time\nsignal.signal(10, lambda *a: print('got it'))\n"
                                        "import os\nos.kill(os.getpid(), 10)\ntime.sleep(0.01)")
        self.equal("limits: a signal to itself", result.text, "got it\n", result)
        self.verify("limits: a signal to itself", recording)
        for options in (["--keep"], ["--follow"], ["--chaos", "1"], ["--max-size", "100M"], ["--last", "10s"], ["--checkpoints", "criu"]):
            result = timefork("record", "--light", *options, "-o", self.top / "n.timefork", "-c", "pass")
            self.check(f"limits: --light {options[0]}", result.status == 2 and "it cannot be with" in result.errtext and
                       not (self.top / "n.timefork").exists(), result)


TESTS = [name for name in vars(Light) if name in "same values killed ends interrupted together changed parted limits".split()]


def main():
    need_timefork()
    tally = Tally()
    names = sys.argv[1:] or TESTS

    def one(number, version, exe, name):
        try:
            with Folder() as top:
                getattr(Light(tally, number, version, exe, top), name)()
        except Exception as e:
            tally.fail(f"{version} {name}: the test itself failed", f"{type(e).__name__}: {e}")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, (version, exe) in enumerate(pythons()):
            for name in names:
                pool.submit(one, number, version, exe, name)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
