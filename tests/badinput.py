#!/usr/bin/env python3
"""Bad input, broken recordings, programs that die: a clear message and a sensible exit status, never a crash.

    tests/badinput.py [NAME...]     (NAME: a function below without check_)
"""
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from lib import BUILD, LIMIT, PROGRAMS, TIMEFORK, Folder, Tally, clean_env, json_lines, need_timefork, pythons, run, timefork

LEAF = PROGRAMS / "cases" / "leaf_loop.py"
# What has nothing to do with the version of Python is done with the first one only.
ONCE = {"no_program", "not_a_recording", "missing_recording", "truncated", "newer_format", "without_runs", "run_ids",
        "unwritable_folder", "full_disk", "wrong_pythons", "old_pythons"}
CRASHED = {128 + s for s in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)}


class Check:
    def __init__(self, tally, version, exe, folder):
        self.tally, self.version, self.exe, self.folder = tally, version, exe, folder
        self.name = ""

    def label(self, what):
        return f"{self.version} {self.name}: {what}"

    def says(self, what, result, *words, status=None):
        """It failed, in a controlled way, with a message of few lines on standard error that has these words."""
        good = result.status not in CRASHED and result.status < 128 and not result.timed_out
        good = good and (result.status == status if status is not None else result.status != 0)
        good = good and all(re.search(w, result.errtext, re.I) for w in words) and result.errtext.count("\n") <= 12
        return self.tally.check(self.label(what), good, f"expected status {status or 'not 0'} and {words}\n{result}")

    def fine(self, what, result):
        return self.tally.check(self.label(what), result.status == 0 and not result.timed_out, result)

    def true(self, what, good, detail=""):
        return self.tally.check(self.label(what), good, detail)

    def skip(self, why):
        self.tally.skip(self.label(""), why)

    def record(self, *program, out="r.timefork", quiet=True, **how):
        how.setdefault("cwd", self.folder)
        return timefork("record", *(["--quiet"] if quiet else []), "-o", self.folder / out, "--python", self.exe, *program, **how)

    def recorded(self, *program, **how):
        self.record(*(program or (LEAF,)), **how)
        return self.folder / "r.timefork"

    def script(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def opens_to_the_end(self, recording, function=None):
        """The recording of a program that died: it opens, has its events, and its last frame can be reached."""
        runs = timefork("query", recording, "--list-runs", "--format", "json")
        if not self.fine("query opens the recording", runs):
            return
        frames = json_lines(runs)[-1]["frames"]
        events = timefork("query", recording, "--frames", "--all", "--format", "json", "--offset", str(frames - 3), "--limit", "10")
        if self.fine("query shows its last events", events):
            self.true("the last three are there", [e["frame"] for e in json_lines(events)] == [frames - 2, frames - 1, frames], events)
        result = timefork("replay", recording, "--goto-frame", "end", "--format", "json")
        if self.fine("replay goes to its last frame", result):
            answer = json_lines(result)[0]
            self.true("it is the last one", answer["frame"] == frames, answer)
            if function:
                self.true(f"it stands in {function}", function in [f["function"] for f in answer["stack"]], answer["stack"])


# ---- the program ----

def check_no_such_script(c):
    result = c.record("missing.py")
    plain = run([c.exe, "missing.py"], cwd=c.folder)
    c.says("a message that names it", result, r"missing\.py", status=plain.status)


def check_directory(c):
    (c.folder / "empty").mkdir()
    result = c.record("empty")
    c.says("a message that says what is missing in it", result, "empty", "__main__")


def check_no_program(c):
    c.says("usage", timefork("record"), "usage|script", status=2)
    c.says("-m without a module", timefork("record", "-m"), "-m|module", status=2)
    c.says("an unknown option", timefork("record", "--sideways", LEAF), "--sideways", status=2)
    c.says("a bad --env", c.record("--env", "NOVALUE", LEAF), "NOVALUE", status=2)


def check_syntax_error(c):
    plain = run([c.exe, PROGRAMS / "syntax_error.py"])
    result = c.record(PROGRAMS / "syntax_error.py")
    c.true("as Python reports it", (result.status, result.out, result.err) == (plain.status, plain.out, plain.err), result)
    c.fine("recorded all the same", timefork("verify", c.folder / "r.timefork"))


def check_killed(c):
    for name in ("SIGTERM", "SIGKILL", "SIGINT"):
        number = getattr(signal, name)
        script = c.script("dies.py", f"import os\ndef last(n):\n    os.kill(os.getpid(), {int(number)})\n    while True: pass\n"
                                     "def f(n):\n    return n\nfor i in range(2000): f(i)\nprint('so far', flush=True)\nlast(7)\n")
        if name == "SIGINT":
            script.write_text("import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n" + script.read_text())
        out = f"{name}.timefork"
        result = c.record(script, out=out)
        c.true(f"{name}: status 128+n", result.status == 128 + number and result.text == "so far\n", result)
        c.opens_to_the_end(c.folder / out, "last")
    # From outside, while it runs.
    script = c.script("runs.py", "def f(n):\n    return n\nprint('up', flush=True)\nwhile True: f(1)\n")
    recorder = subprocess.Popen([TIMEFORK, "record", "--quiet", "-o", c.folder / "outside.timefork", "--python", c.exe, script],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), start_new_session=True)
    try:
        if c.true("it starts", says_up(recorder)):
            time.sleep(0.1)
            child = next((int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and parent(p) == recorder.pid), None)
            if c.true("the program is a child of timefork", child):
                os.kill(child, signal.SIGKILL)
                c.true("killed from outside: status 137", recorder.wait(LIMIT) in (137, -9), recorder.returncode)
                c.opens_to_the_end(c.folder / "outside.timefork")
    finally:
        if recorder.poll() is None:
            os.killpg(recorder.pid, signal.SIGKILL)
        recorder.stdout.close()
        recorder.stderr.close()


def says_up(process):
    """Has it printed its first line, within the limit?"""
    ready, _, _ = select.select([process.stdout], [], [], min(LIMIT, 30))
    return bool(ready) and process.stdout.readline() == b"up\n"


def parent(process):
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def check_recorder_killed(c):
    """The supervisor dies: the program runs on, unrecorded, and what was recorded opens."""
    script = c.script("long.py", "import time, sys\ndef f(n):\n    return n\nprint('up', flush=True)\nend = time.time() + 3\n"
                                 "while time.time() < end: f(1)\nopen(sys.argv[1], 'w').write('done')\n")
    done = c.folder / "done"
    recorder = subprocess.Popen([TIMEFORK, "record", "--quiet", "-o", c.folder / "r.timefork", "--python", c.exe, script, done],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_env(), start_new_session=True)
    try:
        c.true("it starts", says_up(recorder))
        time.sleep(1.5)
        recorder.kill()
        recorder.wait()
        limit = time.time() + 30
        while not done.exists() and time.time() < limit:
            time.sleep(0.1)
        c.true("the program runs on to its end", done.exists())
        result = timefork("query", c.folder / "r.timefork", "--list-runs")
        c.fine("what was recorded opens", result)
        c.true("and is said to be incomplete", "incomplete" in result.text, result)
    finally:
        try:
            os.killpg(recorder.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        recorder.stdout.close()


def check_os_exit(c):
    script = c.script("leaves.py", "import os\ndef last():\n    os._exit(7)\nprint('so far', flush=True)\nlast()\n")
    result = c.record(script)
    c.true("status and output", result.status == 7 and result.text == "so far\n", result)
    c.opens_to_the_end(c.folder / "r.timefork", "last")
    c.fine("verify", timefork("verify", c.folder / "r.timefork"))


def check_segfault(c):
    script = c.script("crash.py", "import ctypes\ndef last(address):\n    return ctypes.string_at(address)\nprint('so far', flush=True)\nlast(8)\n")
    result = c.record(script)
    c.true("status 139", result.status == 139 and result.text == "so far\n", result)
    c.opens_to_the_end(c.folder / "r.timefork", "last")


def check_edited_source(c):
    script = c.script("edited.py", LEAF.read_text())
    recording = c.recorded(script)
    script.write_text("import nothing_of_the_kind\n")
    result = timefork("replay", recording, "--goto-frame", "end")
    c.fine("replay works", result)
    c.true("and says that the file changed", re.search(r"edited\.py.*(chang|differ|edited)|(chang|differ|edited).*edited\.py",
                                                       result.text + result.errtext, re.I), result)
    c.true("and does not touch it", script.read_text() == "import nothing_of_the_kind\n")
    c.fine("verify works", timefork("verify", recording))


# ---- the recording ----

def check_not_a_recording(c):
    other = c.script("text.timefork", "This is no recording.\n" * 100)
    before = other.read_bytes()
    for command in (["query", other, "--frames"], ["replay", other, "--goto-frame", "1"], ["verify", other], ["clean", other]):
        c.says(command[0], timefork(*command), "not a (timefork )?recording|not a database|no recording")
    c.says("record does not overwrite it", c.record(LEAF, out="text.timefork"), "not a")
    database = c.folder / "other.timefork"
    with sqlite3.connect(database) as db:
        db.execute("create table t (x)")
    c.says("another SQLite file", timefork("query", database, "--frames"), "not a (timefork )?recording|no recording")
    c.says("record does not write into it", c.record(LEAF, out="other.timefork"), "not a")
    c.true("both as they were", other.read_bytes() == before and sqlite3.connect(database).execute("select count(*) from t").fetchone() == (0,))
    (c.folder / "zero.timefork").write_bytes(b"")
    c.says("an empty file", timefork("query", c.folder / "zero.timefork", "--frames"), "empty|not a|no run")


def check_missing_recording(c):
    c.says("named", timefork("query", c.folder / "none.timefork", "--frames"), r"none\.timefork")
    empty = c.folder / "empty"
    empty.mkdir()
    for command in (["query", "--frames"], ["replay", "--goto-frame", "1"], ["verify"]):
        c.says(f"{command[0]} in a folder without any", timefork(*command, cwd=empty), "no recording")
    c.says("a directory", timefork("verify", empty), "directory|not a")


def check_truncated(c):
    whole = c.recorded().read_bytes()
    assert not (c.folder / "r.timefork-wal").exists() or (c.folder / "r.timefork-wal").stat().st_size == 0
    short = c.folder / "short.timefork"
    offsets = sorted({0, 1, 15, 16, 17, 50, 99, 100, 101, len(whole) - 1, *range(512, len(whole), max(1, len(whole) // 25))})
    bad = []
    for offset in offsets:
        for command in (["query", short, "--stats"], ["replay", short, "--goto-frame", "end"], ["verify", short]):
            short.write_bytes(whole[:offset])
            for name in ("-wal", "-shm"):
                Path(str(short) + name).unlink(missing_ok=True)
            result = timefork(*command, limit=30)
            # What is damaged further on than the question looks may be answered; verify reads all of it.
            may_work = command[0] != "verify"
            if result.status in CRASHED or result.timed_out or (result.status == 0 and not may_work) or (result.status and not result.err):
                bad.append(f"at {offset} of {len(whole)}: {result}")
    c.true(f"{len(offsets)} lengths: an error, no crash", not bad, "\n".join(bad[:4]))
    bad = []
    for offset in offsets[8:-1]:
        short.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xff]) * 64 + whole[offset + 64:])
        result = timefork("verify", short, limit=30)
        if result.status in CRASHED or result.timed_out or (result.status and not result.err):
            bad.append(f"at {offset} of {len(whole)}: {result}")
    c.true("damaged in the middle: no crash", not bad, "\n".join(bad[:4]))


def check_newer_format(c):
    recording = c.recorded()
    with sqlite3.connect(recording) as db:
        version = db.execute("pragma user_version").fetchone()[0]
        db.execute(f"pragma user_version = {version + 100}")
    db.close()
    c.says("query", timefork("query", recording, "--frames"), "newer|format")
    c.says("verify", timefork("verify", recording), "newer|format")
    c.says("record does not append", c.record(LEAF), "newer|format")


def check_without_runs(c):
    recording = c.recorded()
    result = timefork("clean", recording, "--all")
    if not c.fine("clean --all", result):
        return
    for command in (["query", recording, "--frames"], ["replay", recording, "--goto-frame", "1"], ["verify", recording]):
        c.says(command[0], timefork(*command), "no run")
    result = timefork("query", recording, "--list-runs")
    c.true("--list-runs lists none", result.status == 0, result)


def check_positions(c):
    recording = c.recorded()
    last = json_lines(timefork("replay", recording, "--goto-frame", "end", "--format", "json"))[0]["frame"]
    for position in ("-1", "abc", "", "1+", "+3", "1+-2", "1.5", "99999999999999999999999", "7x", "0x10", "end+1", 'a"b'):
        c.says(f"--goto-frame {position!r}", timefork("replay", recording, "--goto-frame", position), f"'{re.escape(position)}' is not a position", status=2)
    for position in ("0", str(last + 1), str(last * 10), "18446744073709551615"):
        c.says(f"--goto-frame {position}, which no run has", timefork("replay", recording, "--goto-frame", position),
               f"no frame event {position}.*{last}", status=1)
    result = timefork("replay", recording, "--goto-frame", "0", "--goto-frame", str(last), "--goto-frame", str(last + 1), "--format", "json")
    answers = json_lines(result)
    c.true("in JSON, an error in its place", result.status == 1 and [a.get("position") for a in answers] == ["0", None, str(last + 1)]
           and [("error" in a) for a in answers] == [True, False, True] and answers[1]["frame"] == last, result)
    c.says("--goto-frame alone", timefork("replay", recording, "--goto-frame"), "--goto-frame", status=2)
    c.says("more lines than there are", timefork("replay", recording, "--goto-frame", f"{last}+1000000"), "line", status=1)
    c.fine("the first", timefork("replay", recording, "--goto-frame", "1"))
    c.fine("the last", timefork("replay", recording, "--goto-frame", str(last)))


def check_run_ids(c):
    recording = c.recorded()
    ids = []
    for _ in range(20):
        c.record(LEAF)
        ids = [row["run"] for row in json_lines(timefork("query", recording, "--list-runs", "--format", "json"))]
        ambiguous = next((d for d in "0123456789abcdef" if sum(i.startswith(d) for i in ids) > 1), None)
        if ambiguous:
            break
    if c.true("two ids begin alike", ambiguous, ids):
        several = [i for i in ids if i.startswith(ambiguous)]
        result = timefork("query", recording, "--run", ambiguous, "--frames")
        c.says("an ambiguous id lists the candidates", result, r"the ids of \d+ runs", *(i[:8] for i in several))
    c.says("an unknown id", timefork("verify", recording, "--run", "xyz"), "xyz")
    c.fine("a whole id", timefork("query", recording, "--run", ids[0], "--frames"))


def check_expressions(c):
    recording = c.recorded()
    frame = next(e["frame"] for e in json_lines(timefork("query", recording, "--frames", "--function", "leaf", "--format", "json", "--limit", "1")))

    def evaluate(*expressions):
        args = [a for e in expressions for a in ("--eval", e)]
        result = timefork("replay", recording, "--goto-frame", str(frame), *args, "--format", "json", limit=60)
        if not c.fine(f"replay answers {expressions[0][:40]!r}", result):
            return [{} for _ in expressions], result
        return json_lines(result)[0]["eval"], result

    for expression, words in (("1 +", "SyntaxError"), ("x = 3", "SyntaxError"), ("nobody", "NameError.*nobody"), ("1 // 0", "ZeroDivisionError"),
                              ("[][5]", "IndexError"), ("(_ for _ in ()).throw(KeyboardInterrupt)", "KeyboardInterrupt"), ("", "empty|SyntaxError"),
                              ("exit(3)", "SystemExit"), ("__import__('sys').exit('x')", "SystemExit")):
        answers, result = evaluate(expression, "x + 1")
        c.true(f"{expression!r} is an error", re.search(words, answers[0].get("error", "")), answers)
        c.true(f"{expression!r}: the next one is answered", answers[1].get("value") == "1", answers)
    for expression in ("[None for _ in iter(int, 1) if 0]", "__import__('os')._exit(4)",
                       "__import__('ctypes').string_at(8)", "__import__('os').kill(__import__('os').getpid(), 9)"):
        started = time.monotonic()
        answers, result = evaluate(expression, "x + 1")
        c.true(f"{expression!r} is an error", answers[0].get("error"), answers)
        c.true(f"{expression!r}: the next one is answered", answers[1].get("value") == "1", answers)
        c.true(f"{expression!r} ends in time", time.monotonic() - started < 40)
    # The clocks stand still: a sleep is over at once.
    started = time.monotonic()
    answers, _ = evaluate("__import__('time').sleep(1000)", "x + 1")
    c.true("one that sleeps does not take the time", [a.get("value") for a in answers] == ["None", "1"] and time.monotonic() - started < 4, answers)
    answers, result = evaluate("print('said by eval') or 5", "__import__('os').system('echo outside')")
    c.true("one that prints has its value", answers[0].get("value") == "5", answers)
    c.true("and does not spoil the JSON", len(result.text.splitlines()) == 1, result)
    marker = c.folder / "marker"
    evaluate(f"open({str(marker)!r}, 'w').write('x')", f"__import__('os').mkdir({str(marker)!r})")
    c.true("one that writes a file writes none", not marker.exists())
    answers, _ = evaluate("'x' * 50_000_000", "list(range(10**6))")
    c.true("huge values", all("value" in a for a in answers), str(answers)[:500])


def check_reprs(c):
    """A repr that does not end, or ends the process: its variable is named, the others are shown."""
    script = c.script("reprs.py", """import os
class Hangs:
    def __repr__(self):
        while True: pass
class Exits:
    def __repr__(self):
        os._exit(3)
class Crashes:
    def __repr__(self):
        import ctypes
        return ctypes.string_at(8)
class Raises:
    def __repr__(self):
        raise ValueError("no repr")
def f(a, b, c):
    d, e, g, z = Exits(), Crashes(), Raises(), 26
    return b
f(1, Hangs(), 3)
""")
    recording = c.recorded(script)
    frame = next(e["frame"] for e in json_lines(timefork("query", recording, "--frames", "--function", "f", "--event", "return", "--format", "json")))
    result = timefork("replay", recording, "--goto-frame", str(frame), "--timeout", "1", "--eval", "z", "--format", "json")
    if not c.fine("replay", result):
        return
    answer = json_lines(result)[0]
    expected = [["a", "int", "1"], ["b", "__main__.Hangs", "<its repr did not end in time>"], ["c", "int", "3"],
                ["d", "__main__.Exits", "<its repr ended the process>"], ["e", "__main__.Crashes", "<its repr ended the process>"],
                ["g", "__main__.Raises", "<repr raised ValueError: no repr>"], ["z", "int", "26"]]
    c.tally.equal(c.label("locals"), [[v["name"], v["type"], v["repr"]] for v in answer["locals"]], expected)
    c.true("what the function returns", answer["returned"]["repr"] == "<its repr did not end in time>", answer)
    c.true("expressions", answer["eval"] == [{"expr": "z", "type": "int", "value": "26"}], answer)


# ---- the machine ----

def check_unwritable_folder(c):
    shut = c.folder / "shut"
    shut.mkdir()
    shut.chmod(0o555)
    if os.geteuid() == 0:
        # Root writes anywhere: /proc is a folder that even root cannot write to.
        c.says("a folder that nobody can write to", timefork("record", "-o", "/proc/x.timefork", "--python", c.exe, LEAF), "/proc/x")
        drop = shutil.which("setpriv")
        if not drop:
            c.skip("no setpriv to become an ordinary user")
            return
        c.folder.chmod(0o755)
        user = [drop, "--reuid=65534", "--regid=65534", "--clear-groups"]
        result = run([*user, TIMEFORK, "record", "--python", c.exe, LEAF], cwd=shut)
        # Newer releases of setpriv start what the user cannot even read.
        if result.status in (126, 127) or run([*user, "test", "-r", LEAF]).status != 0:
            c.skip("an ordinary user cannot run this build")
            return
        c.says("as an ordinary user", result, r"leaf_loop\.timefork", "-o|denied|permission")
    else:
        c.says("a message that names the file", timefork("record", "--python", c.exe, LEAF, cwd=shut), r"leaf_loop\.timefork")
    c.says("-o in a folder that is missing", c.record(LEAF, out="none/r.timefork"), r"none/r\.timefork")


def check_full_disk(c):
    if os.geteuid() != 0:
        c.skip("mounting a small tmpfs needs root")
        return
    disk = c.folder / "disk"
    disk.mkdir()
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk])
    if mounted.status != 0:
        c.skip(f"no tmpfs: {mounted.errtext.strip()}")
        return
    try:
        script = c.script("busy.py", "import os\ndef f(n):\n    return os.urandom(200)\nfor i in range(60000): f(i)\nprint('done')\n")
        result = timefork("record", "-o", disk / "r.timefork", "--python", c.exe, script)
        c.true("the program runs on to its end", result.text == "done\n", result)
        c.true("and the message says why the recording ended", re.search("full|no space", result.errtext, re.I) and result.status not in CRASHED, result)
        result = timefork("query", disk / "r.timefork", "--list-runs")
        c.true("what is there opens, or says what is wrong", result.status not in CRASHED and (result.status == 0 or result.err), result)
    finally:
        run(["umount", "-l", disk])


def check_wrong_pythons(c):
    def refuses(what, exe, *words):
        c.says(what, timefork("record", "-o", c.folder / "w.timefork", "--python", exe, LEAF, limit=30), *words)

    refuses("a file that is missing", c.folder / "no-python", "no-python")
    refuses("a file that cannot be run", c.script("data.txt", "x"), r"data\.txt")
    refuses("a folder", c.folder, re.escape(c.folder.name))
    pypy = c.script("pypy3", "#!/bin/sh\necho 'Python 3.11.9 (0000, PyPy 7.3.17 with GCC)'\n")
    pypy.chmod(0o755)
    refuses("a script that says it is PyPy", pypy, "pypy3")
    refuses("a program that is not Python", shutil.which("true"), "true|python")
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler:
        source = c.script("static.c", '#include <stdio.h>\nint main(void) { puts("Python 3.11.2"); return 0; }\n')
        made = run([compiler, "-static", "-o", c.folder / "static-python", source])
        if made.status == 0:
            refuses("a static program", c.folder / "static-python", "static")
        else:
            c.skip("no static C library")
    if os.geteuid() == 0:
        setuid = c.folder / "setuid-python"
        shutil.copy(os.path.realpath(c.exe), setuid)
        os.chown(setuid, 65534, 65534)
        setuid.chmod(0o4755)
        refuses("a setuid Python", setuid, "setuid|set-user")
    else:
        c.skip("a setuid Python needs root")


def check_old_pythons(c):
    """Real ones, where the machine has them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = {p.name: p for folder in [Path("/usr/bin"), *pyenv.glob("*/bin")] for p in folder.glob("python[23].[0-9]*")
                  if re.fullmatch(r"python\d\.\d+", p.name)}
    have = {line.split(";")[0] for line in (BUILD / "pythons.txt").read_text().splitlines()}
    without = {name: p for name, p in candidates.items() if name.removeprefix("python") not in have}
    if not without:
        c.skip("no Python without an engine on this machine")
    for name, exe in sorted(without.items()):
        result = timefork("record", "-o", c.folder / "old.timefork", "--python", exe, LEAF, limit=30)
        c.says(f"{name}: names the version, those there are, and how to build one", result, re.escape(name.removeprefix("python")),
               re.escape(c.version), "setup|build|cmake")


def main():
    need_timefork()
    tally = Tally()
    checks = {name.removeprefix("check_"): f for name, f in globals().items() if name.startswith("check_")}
    chosen = sys.argv[1:] or list(checks)
    if unknown := [name for name in chosen if name not in checks]:
        sys.exit(f"no such check: {' '.join(unknown)}; there are: {' '.join(checks)}")
    for number, (version, exe) in enumerate(pythons()):
        for name in chosen:
            if number > 0 and name in ONCE:
                continue
            with Folder() as folder:
                # What a command leaves where it runs is left in there.
                os.chdir(folder)
                c = Check(tally, version, exe, folder)
                c.name = name
                try:
                    checks[name](c)
                except Exception as e:
                    tally.fail(c.label("the test itself failed"), f"{type(e).__name__}: {e}")
                os.chdir("/")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
