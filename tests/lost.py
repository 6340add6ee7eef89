#!/usr/bin/env python3
"""Nothing lost: the program or its recorder is killed, stopped, or has its file taken away at any moment. The program goes on as it
would have; what was committed opens, verifies and is reached to its last frame.

    tests/lost.py [NAME...]           (NAME: a function below without check_)
    tests/lost.py --kill program N    kills it N times at random moments, over all Pythons and ways to work; prints how many came back
    tests/lost.py --kill recorder N
"""
import ctypes
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import powercut
from lib import LIMIT, PROGRAMS, TIMEFORK, Folder, Tally, children, clean_env, json_lines, need_timefork, pythons, run, timefork

STEADY = PROGRAMS / "steady.py"
# How many rounds take about the same time.
ROUNDS = {"plain": 200, "threads": 150, "children": 800, "sockets": 4000, "signals": 160, "semaphores": 160, "pipes": 150, "busy": 50}
PR_SET_CHILD_SUBREAPER = 36
STOPPED_FOR = float(os.environ.get("TIMEFORK_TEST_STOP", "0.8"))  # seconds


def seed():
    number = int(os.environ.get("TIMEFORK_TEST_SEED") or random.randrange(10**9))
    random.seed(number)
    return number


def adopt_orphans():
    """The programs whose recorders are killed become children of this process, which learns how they end."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("PR_SET_CHILD_SUBREAPER")


def start(recording, exe, *program, options=(), **how):
    how.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.Popen([TIMEFORK, "record", *options, "-o", recording, "--python", exe, *map(str, program)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, env=clean_env(), start_new_session=True, **how)


def tree(pid):
    """A process and its descendants."""
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


def is_program(pid):
    """Not a part of the recorder itself: the probe that asks an interpreter what it is, a child before its exec."""
    try:
        return b"steady.py" in open(f"/proc/{pid}/cmdline", "rb").read() and os.readlink(f"/proc/{pid}/exe") != str(TIMEFORK)
    except OSError:
        return False


def reap(pid, limit):
    """How an orphan ended, as a shell has it; None: it has not, and was killed."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.005)
    for p in tree(pid):
        os.kill(p, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def whole(recording, at_least=0, state=None):
    """What is wrong with the newest run of a recording; None: it opens, verifies, and the last frame of each process is reached."""
    listed = timefork("query", recording, "--list-runs", "--format", "json")
    if listed.status:
        return f"query: {listed}"
    runs = json_lines(listed)
    if not runs:
        return "no run in it" if at_least else None
    last = runs[-1]
    if state and last["state"] != state:
        return f"state {last['state']}, not {state}"
    if last["frames"] < at_least:
        return f"only {last['frames']} frames"
    checked = timefork("verify", recording)
    if checked.status or "equal" not in checked.text:
        return f"verify: {checked}"
    if last["frames"]:
        result = timefork("replay", recording, "-c", f"goto {last['frames']}", "-c", "when", "--format", "json")
        answers = json_lines(result)
        if result.status or len(answers) != 2 or answers[1].get("position", {}).get("frame") != last["frames"]:
            return f"goto {last['frames']}: {result}"
    return None


def rest(recorder, programs):
    """What else these programs print; they are killed if they do not end."""
    timer = threading.Timer(LIMIT, lambda: [send(p, signal.SIGKILL) for program in programs for p in tree(program)])
    timer.start()
    try:
        return recorder.stdout.read()
    finally:
        timer.cancel()


class Plain:
    """What the program prints without timefork; it always exits with 7."""

    def __init__(self):
        self.known = {}

    def __call__(self, exe, way, rounds=None):
        key = exe, way, rounds or ROUNDS[way]
        if key not in self.known:
            result = run([exe, STEADY, way, str(key[2])])
            if result.status != 7:
                raise RuntimeError(result)
            self.known[key] = result.out
        return self.known[key]


plain = Plain()


def kill_program(folder, exe, way, moment, everything):
    """The program (or all its processes) was killed after so many seconds. Returns what is wrong."""
    recording = folder / "r.timefork"
    recorder = start(recording, exe, STEADY, way, ROUNDS[way], stderr=subprocess.PIPE)
    program = None
    while not program and recorder.poll() is None:
        program = next((c for c in children(recorder.pid) if is_program(c)), None)
    time.sleep(moment)
    for pid in tree(program) if everything and program else [program] if program else []:
        send(pid, signal.SIGKILL)
    recorder.wait(LIMIT)
    send(-recorder.pid, signal.SIGKILL)  # its children may wait for it without end, as they do plainly
    text = recorder.communicate()[1].decode()
    if "nothing was recorded" in text:
        return "an empty recording was left" if recording.exists() else None
    wrong = whole(recording, state="complete")
    return wrong and f"{wrong}\n{text}"


def kill_recorder(folder, exe, way, moment, options=()):
    """The recorder was killed after so many seconds. Returns what is wrong."""
    recording = folder / "r.timefork"
    recorder = start(recording, exe, STEADY, way, ROUNDS[way], options=options)
    time.sleep(moment)
    found = [c for c in children(recorder.pid) if is_program(c)]
    recorder.kill()
    out = rest(recorder, found)  # nobody has waited for it yet: it still has its number
    recorder.wait()
    left = children(os.getpid())
    statuses = [reap(pid, LIMIT) for pid in left if pid in found]
    for pid in left:
        if pid not in found:
            reap(pid, LIMIT)
    if recorder.returncode == 7:
        statuses = [7]  # too late
    if (found or recorder.returncode == 7) and (statuses, out) != ([7], plain(exe, way)):
        return f"it ended with {statuses} and {out!r}; plainly it prints {plain(exe, way)!r}"
    if not recording.exists() or recording.stat().st_size == 0:
        return None if moment < 1 else "no recording is left"
    listed = timefork("query", recording, "--list-runs", "--format", "json")
    # Killed while it made the file: there is none of it, or nothing in it.
    if not listed.status and not json_lines(listed):
        return None
    if listed.status and moment < 0.3 and "no such table" not in listed.errtext and "is not a timefork recording" in listed.errtext:
        return None
    return whole(recording, state="complete" if recorder.returncode == 7 else "incomplete")


def send(pid, number):
    try:
        os.killpg(-pid, number) if pid < 0 else os.kill(pid, number)
    except ProcessLookupError:
        pass


def moments(n):
    """When: some of them while it starts, most of them while it runs."""
    return [random.random() * (0.1 if i % 4 == 0 else 0.4) for i in range(n)]


def by_hand(what, count):
    number = seed()
    adopt_orphans()
    bad = 0
    found = pythons(every=True)
    ways = list(ROUNDS)
    for i, moment in enumerate(moments(count)):
        version, exe = found[i % len(found)]
        way = ways[(i // len(found) + i) % len(ways)]
        with Folder() as folder:
            try:
                wrong = kill_program(folder, exe, way, moment, i % 3 == 0) if what == "program" else kill_recorder(folder, exe, way, moment, ["--follow"] if i % 5 == 0 else [])
            except Exception as e:
                wrong = f"{type(e).__name__}: {e}"
            if wrong:
                bad += 1
                print(f"{i} {version} {exe} {way} after {moment:.3f} s: {wrong}", flush=True)
    print(f"{count - bad} of {count} (seed {number})")
    return 1 if bad else 0


class Check:
    def __init__(self, tally, name, found, number):
        self.tally, self.name, self.found, self.number = tally, name, found, number

    def true(self, what, good, detail=""):
        return self.tally.check(f"{self.name}: {what}", good, lambda: f"TIMEFORK_TEST_SEED={self.number}\n{detail}")

    def skip(self, why):
        self.tally.skip(self.name, why)

    def python(self, i=0):
        return self.found[i % len(self.found)][1]

    def whole(self, what, recording, **how):
        wrong = whole(recording, **how)
        return self.true(f"{what}: opens, verifies, the last frame is reached", not wrong, wrong)


def check_the_program_is_killed(c):
    ways = random.sample(list(ROUNDS), 6)
    for i, moment in enumerate(moments(6)):
        way = ways[i]
        with Folder() as folder:
            wrong = kill_program(folder, c.python(i), way, moment, i % 2 == 0)
            c.true(f"{way} after {moment:.3f} s", not wrong, wrong)


def check_the_recorder_is_killed(c):
    ways = random.sample(list(ROUNDS), 6)
    for i, moment in enumerate(moments(6)):
        way = ways[i]
        with Folder() as folder:
            wrong = kill_recorder(folder, c.python(i), way, moment, ["--follow"] if i % 3 == 0 else [])
            c.true(f"{way} after {moment:.3f} s", not wrong, wrong)


LEAF = "def leaf(): pass\ndef work():\n for i in range(1500000): leaf()\n"
LATER = "import os, subprocess, sys, time\nprint(flush=True)\ntime.sleep(0.2)\n"
# What a program does after its recorder was killed: name, program, signal that it gets, exit status; options of the recorder, which is first stopped
# until the program waits for its answer.
AFTER = [("a loop without calls hears a signal", "import signal, sys\nsignal.signal(10, lambda *a: sys.exit(3))\nprint(flush=True)\nwhile True: pass", signal.SIGUSR1, 3),
         ("a forked child is not held up by its ring", f"import os\n{LEAF}print(flush=True)\npid = os.fork()\nif not pid:\n work(); os._exit(4)\nos._exit(os.waitpid(pid, 0)[1] >> 8)", None, 4),
         ("it forks later", f"{LATER}pid = os.fork()\nif not pid: os._exit(5)\nos._exit(os.waitpid(pid, 0)[1] >> 8)", None, 5),
         ("it waits for leave to fork", f"{LATER}pid = os.fork()\nif not pid: os._exit(6)\nos._exit(os.waitpid(pid, 0)[1] >> 8)", None, 6, []),
         ("what it executes waits for a session", f"{LATER}sys.exit(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(9)']).returncode)", None, 9, ["--follow"])]


def check_after_the_recorder(c):
    for i, (what, program, number, status, *stopped) in enumerate(AFTER):
        with Folder() as folder:
            recorder = start(folder / "r.timefork", c.python(i), "-c", program, options=stopped[0] if stopped else ())
            recorder.stdout.readline()
            pid = children(recorder.pid)[0]
            if stopped:
                os.kill(recorder.pid, signal.SIGSTOP)
            time.sleep(0.5 if stopped else 0.1)
            recorder.kill()
            time.sleep(0.1)
            if number:
                os.kill(pid, number)
            if not number:
                rest(recorder, [pid])
            ended = None
            for _ in range(2000):  # the recorder is a zombie meanwhile, and the program is still its child's child
                done, how = os.waitpid(pid, os.WNOHANG)
                if done:
                    ended = os.waitstatus_to_exitcode(how)
                    break
                time.sleep(0.005)
            else:
                reap(pid, 0)
            recorder.wait()
            c.true(what, ended == status, ended)


def check_stopped(c):
    with Folder() as folder:
        expected = plain(c.python(), "busy", 300)
        recording = folder / "r.timefork"
        recorder = start(recording, c.python(), STEADY, "busy", 300)
        recorder.stdout.readline()
        os.kill(recorder.pid, signal.SIGSTOP)
        time.sleep(STOPPED_FOR)
        program = children(recorder.pid)[0]
        state = open(f"/proc/{program}/stat").read().rpartition(")")[2].split()[0]
        c.true("the recorder: the program waits when the ring is full", state in "SD", state)
        os.kill(recorder.pid, signal.SIGCONT)
        time.sleep(0.05)
        os.kill(program, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(program, signal.SIGCONT)
        out = recorder.stdout.read()
        c.true("nothing is lost of what it prints", (recorder.wait(), b"up\n" + out) == (7, expected), out)
        c.whole("nothing is dropped", recording, at_least=300 * 20000, state="complete")


def check_two_recorders(c):
    """Two begin at the same time, and make the file."""
    with Folder() as folder:
        recording = folder / "r.timefork"
        both = [start(recording, c.python(i), STEADY, way, 100, stderr=subprocess.PIPE) for i, way in enumerate(("plain", "children"))]
        said = [r.communicate(timeout=LIMIT) for r in both]
        c.true("both programs end as they would", [r.returncode for r in both] == [7, 7], said)
        runs = json_lines(timefork("query", recording, "--list-runs", "--format", "json"))
        c.true("both runs are complete", [r["state"] for r in runs] == ["complete"] * 2, (runs, said))
        for r in runs:
            result = timefork("verify", recording, "--run", r["run"])
            c.true("verify", result.status == 0, result)


def check_still_being_written(c):
    with Folder() as folder:
        recording = folder / "r.timefork"
        recorder = start(recording, c.python(2), STEADY, "plain", 100000)
        try:
            recorder.stdout.readline()
            for _ in range(100):
                time.sleep(0.05)
                live = json_lines(timefork("query", recording, "--list-runs", "--format", "json"))
                if live and live[0]["frames"] > 1000:
                    break
            c.true("query says so", live[0]["state"] == "recording", live)
            c.whole("while it is written", recording, at_least=1000, state="recording")
            verified = timefork("verify", recording)
            c.true("verify says so", "still being recorded" in verified.text, verified)
            cleaned = timefork("clean", recording, "--all")
            c.true("clean leaves it alone, and says so", cleaned.status == 0 and "is still being recorded and stays" in cleaned.errtext, cleaned)
        finally:
            program = children(recorder.pid)[0]
            recorder.kill()
            recorder.wait()
            send(program, signal.SIGKILL)
            reap(program, 0)
        c.whole("its recorder was killed", recording, at_least=live[0]["frames"], state="incomplete")
        cleaned = timefork("clean", recording, "--all")
        c.true("then it can be removed", "removed 1 of 1" in cleaned.text, cleaned)


# Says when it begins; then much comes, until the pipe is closed.
READS = "import os, sys\nprint(flush=True)\nn = 0\nwhile data := os.read(0, 65536): n += len(data)\nprint(n)\nsys.exit(3)\n"


def fed(recording, exe, meanwhile, **how):
    """Records READS; something is done when the first megabytes have been read. Returns exit status, output, errors."""
    recorder = subprocess.Popen([TIMEFORK, "record", "-o", recording, "--python", exe, "-c", READS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=clean_env(), **how)
    recorder.stdout.readline()
    data = os.urandom(1 << 20)
    for i in range(24):
        recorder.stdin.write(data)
        if i == 8 and meanwhile:
            time.sleep(0.1)
            meanwhile()
    out, err = recorder.communicate(timeout=LIMIT)
    return recorder.returncode, out, err.decode()


def check_the_file_is_taken_away(c):
    for i, (what, do) in enumerate((("deleted", os.unlink), ("renamed", lambda path: os.rename(path, str(path) + ".other")))):
        with Folder() as folder:
            recording = folder / "r.timefork"
            status, out, err = fed(recording, c.python(i), lambda: do(recording))
            c.true(f"{what}: the program ends as it would", (status, out) == (3, b"%d\n" % (24 << 20)), (status, out))
            c.true(f"{what}: it is said", "removed or renamed" in err, err)
            c.true(f"{what}: it is not made again", not recording.exists())
            if what == "renamed":
                wrong = whole(folder / "r.timefork.other")
                c.true("what was renamed still opens", not wrong, wrong)


def mounted(folder, options):
    folder.mkdir()
    return os.geteuid() == 0 and not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], stderr=subprocess.DEVNULL).returncode


def check_remounted_read_only(c):
    with Folder() as top:
        disk = top / "disk"
        if not mounted(disk, "size=100m"):
            return c.skip("no file system can be mounted (that needs root)")
        try:
            # Who writes keeps the file system from becoming read-only, so it is made so by force: as after an error of a disk.
            done = []
            status, out, err = fed(disk / "r.timefork", c.python(1),
                                   lambda: done.append(subprocess.run(["mount", "-o", "remount,ro", disk], stderr=subprocess.DEVNULL).returncode))
            c.true("the program ends as it would", (status, out) == (3, b"%d\n" % (24 << 20)), (status, out))
            if done[0]:
                c.true("refused by the kernel while it is written: nothing is lost", not whole(disk / "r.timefork", state="complete"), err)
            else:
                c.true("it is said", "the program goes on" in err, err)
                c.true("what was written opens", not whole(disk / "r.timefork"), err)
        finally:
            subprocess.run(["umount", "-l", disk], check=False)


def check_quota(c):
    exe = next((e for _, e in pythons(every=True) if e.startswith("/usr/")), None)
    with Folder() as top:
        disk = top / "disk"
        if not mounted(disk, "size=100m,usrquota_block_hardlimit=6m,mode=1777"):
            return c.skip("no file system with a quota can be mounted: that needs root, and CONFIG_TMPFS_QUOTA of Linux 6.6 (tests/limits.py has the error by injection)")
        try:
            top.chmod(0o755)
            if not exe or subprocess.run([TIMEFORK, "--version"], user=65534, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                return c.skip("another user cannot run timefork here, or no Python")
            status, out, err = fed(disk / "r.timefork", exe, None, user=65534, group=65534, cwd=disk)
            c.true("the program ends as it would", (status, out) == (3, b"%d\n" % (24 << 20)), (status, out, err))
            c.true("it is said", "quota" in err and "the program goes on" in err, err)
            c.true("what there was room for opens", not whole(disk / "r.timefork", at_least=2, state="incomplete"), err)
        finally:
            subprocess.run(["umount", "-l", disk], check=False)


def contents(path, ids):
    """What the file has of these runs; a text: it is damaged."""
    db = sqlite3.connect(path)
    try:
        if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            return "PRAGMA integrity_check finds errors"
        found = []
        for run_id in ids:
            rows = ",".join(str(r) for r, in db.execute("SELECT run FROM runs WHERE id = ?", (run_id,))) or "0"
            found.append([db.execute(f"SELECT * FROM {t} WHERE run IN ({rows}) ORDER BY 1, 2").fetchall() for t in ("runs", "frames", "outside", "codes", "marks")])
        return found
    except sqlite3.DatabaseError as e:
        return str(e)
    finally:
        db.close()


def run_ids(path):
    db = sqlite3.connect(path)
    try:
        return [i for i, in db.execute("SELECT id FROM runs WHERE process = 1 ORDER BY run")]
    finally:
        db.close()


def cut_power(c, name, exe, before, program, data, states):
    """A run is recorded, to a file with one or to a new one; the power goes at random moments. A new file opens or says what is wrong with it."""
    chance = random.Random(c.number)
    with Folder() as top:
        library = powercut.build(top)
        if not library:
            return c.skip("no C compiler")
        folder, cut = top / "files", top / "cut"
        folder.mkdir()
        recording = folder / "r.timefork"
        if before:
            timefork("record", "--quiet", "-o", recording, "--python", exe, STEADY, "children", "100")
        disk = powercut.Disk(folder, top / "log")
        recorded = timefork("record", "-o", recording, "--python", exe, *program, stdin=data,
                            env=clean_env(LD_PRELOAD=str(library), POWERCUT_LOG=str(top / "log"), POWERCUT_FOLDER=str(folder)))
        ids = run_ids(recording)
        earlier, last = contents(recording, ids[:-1]), contents(recording, ids[-1:])
        moments = sorted(chance.sample(range(sum(1 for _ in disk.operations())), states))
        wrong = []
        for number in disk.play():
            if number not in moments:
                continue
            disk.cut(cut, chance)
            listed = timefork("query", cut / "r.timefork", "--list-runs", "--format", "json", limit=20)
            if listed.status and (before or listed.status != 1 or not re.search(r"^timefork: .*(damaged|truncated|not a (timefork )?recording|No such file)", listed.errtext)):
                wrong.append(f"operation {number}: {listed}")
            elif before and contents(cut / "r.timefork", ids[:-1]) != earlier:
                wrong.append(f"operation {number}: an earlier run is not what it was")
            elif before and number in moments[::len(moments) // 2] and json_lines(listed)[-1]["frames"] and (why := whole(cut / "r.timefork")):
                wrong.append(f"operation {number}: {why}")
        c.true(f"{name}: {states} states of the disk", recorded.status in (0, 7) and not wrong, "\n".join(wrong[:5]) or recorded)
        if before:
            ends = []
            for _ in range(5):
                disk.cut(cut, chance)
                ends.append(contents(cut / "r.timefork", ids[-1:]) == last)
            c.true(f"{name}: when record has ended, the run is on the disk", all(ends), ends)


def check_the_power_goes(c):
    cut_power(c, "a run is added", c.python(), True, (STEADY, "children", "60"), b"", 20)
    cut_power(c, "much is added", c.python(1), True, ("-c", "import os\nwhile os.read(0, 65536): pass"), os.urandom(1 << 20) * 12, 12)
    cut_power(c, "a new file", c.python(2), False, (STEADY, "children", "60"), b"", 10)


# docs/format.md: what a file of an older format lacks.
OLD = {2: "DROP TABLE threads; PRAGMA user_version=2",
       1: "CREATE TABLE old(run INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, started_unix_ns INTEGER NOT NULL,"
          " duration_ns INTEGER NOT NULL, frames INTEGER NOT NULL, outside INTEGER NOT NULL, outside_bytes INTEGER NOT NULL, exit_status INTEGER NOT NULL,"
          " exit_signal INTEGER NOT NULL, pid INTEGER NOT NULL, stack_limit INTEGER NOT NULL, layout_digest INTEGER NOT NULL, cal_tsc INTEGER NOT NULL,"
          " cal_ns INTEGER NOT NULL, python_version TEXT NOT NULL, exe TEXT NOT NULL, execfn TEXT NOT NULL, cwd TEXT NOT NULL, stdlib TEXT NOT NULL,"
          " kernel TEXT NOT NULL, host TEXT NOT NULL, python_file_digest TEXT NOT NULL, command TEXT NOT NULL, title TEXT NOT NULL, argv BLOB NOT NULL,"
          " envp BLOB NOT NULL); INSERT INTO old SELECT run, id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes, exit_status,"
          " exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe, execfn, cwd, stdlib, kernel, host, python_file_digest,"
          " command, title, argv, envp FROM runs; DROP TABLE runs; ALTER TABLE old RENAME TO runs; DROP TABLE threads; DROP TABLE builds; DROP TABLE machine;"
          " PRAGMA user_version=1"}


def check_other_formats(c):
    with Folder() as folder:
        recording = folder / "r.timefork"
        timefork("record", "--quiet", "-o", recording, "--python", c.python(), STEADY, "plain", "20")
        made = recording.read_bytes()
        for number, sql in OLD.items():
            recording.write_bytes(made)
            db = sqlite3.connect(recording)
            db.executescript(sql)
            db.close()
            before = recording.read_bytes()
            c.whole(f"format {number}", recording, at_least=100, state="complete")
            c.true(f"format {number}: looking does not change it", recording.read_bytes() == before)
            timefork("record", "--quiet", "-o", recording, "--python", c.python(), "-c", "print(5)")
            states = [r["state"] for r in json_lines(timefork("query", recording, "--list-runs", "--format", "json"))]
            verified = timefork("verify", recording, "--run", run_ids(recording)[0])
            c.true(f"format {number}: a run is added, and the old one is whole", states == ["complete"] * 2 and verified.status == 0, (states, verified))
        recording.write_bytes(made[:60] + (99).to_bytes(4, "big") + made[64:])
        for command in (["query", recording, "--list-runs"], ["replay", recording, "-c", "when"], ["verify", recording], ["clean", recording, "--all"],
                        ["record", "-o", recording, "--python", c.python(), "-c", "print(5)"]):
            result = timefork(*command)
            c.true(f"format 99: {command[0]} says what to do", result.status in (1, 125) and "newer timefork" in result.errtext and "open it with" in result.errtext and not result.out, result)
        c.true("format 99: it is left alone", recording.read_bytes()[64:] == made[64:])


def main():
    need_timefork()
    if sys.argv[1:2] == ["--kill"]:
        return by_hand(sys.argv[2], int(sys.argv[3]))
    tally, number = Tally(), seed()
    adopt_orphans()
    names = sys.argv[1:]
    for name, function in [(n[6:], f) for n, f in globals().items() if n.startswith("check_")]:
        if names and name not in names:
            continue
        started = time.monotonic()
        try:
            function(Check(tally, name, pythons(), number))
        except Exception as e:
            tally.fail(f"{name}: the test itself failed", f"{type(e).__name__}: {e}\nTIMEFORK_TEST_SEED={number}")
        if tally.verbose:
            print(f"      {name}: {time.monotonic() - started:.1f} s")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
