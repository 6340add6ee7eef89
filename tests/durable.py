#!/usr/bin/env python3
"""Durable checkpoints (CRIU): that a replay from one says exactly what a replay from the start says, that what is wrong is noticed and
survived, and that nothing is left behind.
  - places: random places in programs of all kinds, on every Python, in a recording with durable checkpoints and in a copy made before
    they were; moves back across them; `verify`; all of it in a copy of the file under another name.
  - several: two replays of one file at once; restored processes and their namespaces killed while a prompt stands, or searches; the
    replay, and `record` in the middle of a dump, killed and interrupted.
  - user: the same as an ordinary user.
  - refused: no criu, one that fails, damaged images, a digest that does not match, another library: one message, the right answer.
  - bounded: `record --last` and `--max-size`.
  - harmless: programs that do what a checkpoint could not stand: they print what they print without timefork.

TIMEFORK_TEST_LONG=1 makes more of each. TIMEFORK_TEST_SEED repeats the choice of places; names of these sections as arguments: only those."""
import ctypes
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib import BUILD, PROGRAMS, TIMEFORK, Folder, Tally, clean_env, json_lines, need_timefork, pythons, run

SEED = int(os.environ.get("TIMEFORK_TEST_SEED") or 7)
LONG = bool(os.environ.get("TIMEFORK_TEST_LONG"))
TELLS = ("checkpoint", "replayed_frames", "elapsed_ms")  # how it was reached, not what is there
SHM = Path("/dev/shm")
PR_SET_CHILD_SUBREAPER = 36
WORK = """
import sys, time
def f(n):
    return n * 3 % 7
def work(seconds):
    total, rounds, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for i in range(200):
            total += f(i)
        rounds += 1
    return rounds
seen = []
for part in range(10):
    work(float(sys.argv[1]) / 10)
    seen.append(part)
    print(part, flush=True)
"""


def wait_until(condition, seconds=20, every=0.01):
    """Polls; a limit that only a test that fails ever comes to."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def below(pid):
    """{pid: what it is} of all processes that descend from it; zombies too."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue
            state, parent = rest.split()[:2]
            parents[int(entry.name)] = (int(parent), f"{name}) {state}")
    found, todo = {}, [pid]
    while todo:
        at = todo.pop()
        for child, (parent, what) in parents.items():
            if parent == at and child not in found:
                found[child] = what
                todo.append(child)
    return found


def keepers(pid):
    """The first processes of the namespaces that a replay has made, and what runs in them: [(keeper, [pid])]."""
    return [(k, sorted(below(k))) for k, what in below(pid).items() if "(timefork-restor" in what]


def strip(answers):
    return [{k: v for k, v in a.items() if k not in TELLS} for a in answers]


class Prompt:
    """A replay with a prompt that stays open."""

    def __init__(self, bench, file, *args, **env):
        self.errors = open(bench.folder / "prompt.err", "w+")
        self.process = subprocess.Popen([TIMEFORK, "replay", file, "--format", "json", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, env={**bench.env, **env}, cwd=bench.folder, text=True)
        self.pid = self.process.pid

    def send(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "it has ended"}

    def ask(self, command):
        self.send(command)
        return self.read()

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
        return self.process.wait(30)


class Bench:
    def __init__(self, folder, tally):
        self.folder, self.tally = folder, tally
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        given = {k: os.environ[k] for k in ("TIMEFORK_CRIU",) if k in os.environ}
        self.env = clean_env(TMPDIR=str(self.tmp), **given)
        (folder / "work.py").write_text(WORK)
        # What loses its parent becomes ours, so that it can be found.
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError("no subreaper")
        self.shm = set(self.images())

    def timefork(self, *args, limit=60, **env):
        return run([TIMEFORK, *args], cwd=self.folder, env={**self.env, **env}, limit=limit)

    def record(self, name, *args, need=True, **env):
        file = self.folder / f"{name}.timefork"
        result = self.timefork("record", "-o", file, *args, **env)
        if need and not file.exists():
            self.tally.fail(f"{name}: is recorded", result)
        return file, result

    def frames(self, file):
        return json_lines(self.timefork("query", file, "--list-runs", "--format", "json"))[-1]["frames"]

    def checkpoints(self, file):
        return [c["frame"] for c in json_lines(self.timefork("info", file, "--format", "json"))[-1]["checkpoints"] if c["kind"] == "durable"]

    def places(self, file, places, *args, evals=("sorted(locals().items())[:3]",), **env):
        argv = [a for p in places for a in ("--goto-frame", str(p))] + [a for e in evals for a in ("--eval", e)]
        result = self.timefork("replay", file, "--format", "json", *argv, *args, **env)
        return result, json_lines(result)

    def copy(self, file, name):
        to = self.folder / f"{name}.timefork"
        shutil.copy(file, to)
        return to

    def images(self):
        return [e for place in (SHM, self.tmp) if place.is_dir() for e in place.iterdir() if e.name.startswith("timefork-criu-")]

    def dumps(self, pid):
        """Is a process dumping? Then it has a folder for the images."""
        return any(e.name.split("-")[3] == str(pid) for e in self.images())

    def left(self):
        """Processes below us (zombies that came to us are reaped), and folders of images that nobody uses."""
        for pid, what in below(os.getpid()).items():
            if what.endswith(" Z"):
                try:
                    os.waitpid(pid, os.WNOHANG)
                except OSError:
                    pass
        folders = [str(e) for e in self.images() if e not in self.shm and not Path(f"/proc/{e.name.split('-')[3]}").exists()]
        return list(below(os.getpid()).items()) + folders + [str(e) for e in self.tmp.iterdir() if "criu" not in e.name]

    def nothing_left(self, name):
        wait_until(lambda: not self.left(), 5)
        self.tally.equal(f"{name}: nothing is left behind", self.left(), [])


def restores_everywhere(file):
    """A replay restores a checkpoint if executing again would take longer. So the run says that it has taken long."""
    db = sqlite3.connect(file)
    db.execute("UPDATE runs SET duration_ns = 1000000000000000 WHERE duration_ns < 1000000000000000")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone():
        for row, state in db.execute("SELECT rowid, state FROM images").fetchall():  # the CPU time, which would count, is its third word
            db.execute("UPDATE images SET state = ? WHERE rowid = ?", (state[:16] + bytes(8) + state[24:], row))
    db.commit()
    db.close()


# ---- places ----

def check_places(bench, name, exe, argv, n=6, checkpoints=2, verify=False):
    """The same with and without durable checkpoints."""
    tally = bench.tally
    file, result = bench.record(name, "--checkpoints", "none", "--python", exe, *argv)
    if not file.exists():
        return None
    restores_everywhere(file)
    plain = bench.copy(file, f"{name}-plain")
    frames = bench.frames(file)
    chance = random.Random(f"{SEED} {name}")
    at = sorted({1 + chance.randrange(frames - 2) for _ in range(checkpoints)})
    made = bench.timefork("checkpoint", file, *[a for p in at for a in ("--at", str(p))], "--format", "json")
    restores_everywhere(file)
    if not tally.equal(f"{name}: checkpoints are made", [a.get("frame") for a in json_lines(made)], at, made):
        return None
    tally.equal(f"{name}: and shown", bench.checkpoints(file), at)
    # From the end, so that nothing that is on the way is there yet.
    places = sorted({chance.randrange(at[0], frames + 1) for _ in range(n)} | {at[-1], chance.randrange(at[-1] + 1, frames + 1)}, reverse=True)
    places = [f"{p}+{chance.randrange(1, 4)}" if i % 3 == 2 else p for i, p in enumerate(places)]
    first, wanted = bench.places(plain, places)
    second, got = bench.places(file, places)
    if tally.equal(f"{name}: {len(places)} places are the same", strip(got), strip(wanted), f"{first}\n{second}"):
        ways = [next((a["checkpoint"] for a in answers if "checkpoint" in a), None) for answers in (wanted, got)]
        tally.equal(f"{name}: without, from the start; with, from the nearest", ways,
                    [{"kind": "start", "frame": 0}, {"kind": "durable", "frame": at[-1]}], second)
    tally.equal(f"{name}: and what is said", (second.status, second.err), (first.status, first.err))
    if verify:
        result = bench.timefork("verify", file)
        tally.check(f"{name}: verify", result.status == 0 and "equal" in result.text, result)
    return file, plain, at


MOVES = """
def numbers(n):
    for i in range(n):
        yield i * i
class Box:
    def __init__(self):
        self.total = 0
        self.names = {}
def fill(box, n):
    for i, value in enumerate(numbers(n)):
        box.total += value
        box.names[str(value)] = i
        if i % 40 == 39:
            try:
                int("x")
            except ValueError:
                box.total -= 1
    return box
box = Box()
for n in range(0, 200, 20):
    box = fill(box, n)
print(box.total)
"""


def check_moves(bench, exe):
    """Back and forth over durable checkpoints."""
    tally = bench.tally
    (bench.folder / "moves.py").write_text(MOVES)
    file, _ = bench.record("moves", "--checkpoints", "none", "--python", exe, "moves.py")
    restores_everywhere(file)
    plain = bench.copy(file, "moves-plain")
    frames = bench.frames(file)
    at = [frames * part // 10 for part in (6, 7, 8, 9)]
    bench.timefork("checkpoint", file, *[a for p in at for a in ("--at", str(p))])
    elsewhere = bench.folder / "another folder"
    elsewhere.mkdir()
    file = file.rename(elsewhere / "ünder another näme")
    commands = [f"goto {at[2] + 9}", "where", *["reverse-step"] * 12, "locals", "watch box.total", "reverse-continue", "reverse-continue", "continue",
                "info breakpoints", "delete 1", "break fill", *["reverse-continue"] * 3, "print sorted(box.names)[-3:]", "delete 2", "catch ValueError",
                f"goto {at[3] + 1}", *["reverse-continue"] * 3, "continue", "reverse-next", "reverse-finish", "finish", "up", "locals",
                f"goto {at[0] - 2}", *["step"] * 6, "goto end", "history box.total", "last box.total", "back", "goto fill #3", "goto exception #2", "where"]
    said = [bench.timefork("replay", f, "--format", "json", *[a for c in commands for a in ("-c", c)]) for f in (plain, file)]
    answers = [[{**a, "bytes": 0} for a in json_lines(s)] for s in said]
    tally.equal("moves: the answers are the same", answers[1], answers[0], f"{said[0]}\n{said[1]}")
    tally.check("moves: each has one", len(answers[0]) == len(commands), f"{len(answers[0])} of {len(commands)}\n{said[0]}")


def test_places(bench):
    programs = ["cases/generators.py", "database.py", "sockets.py", "subprocesses.py", "threads/asyncs.py", "threads/pool.py"]
    found = pythons()
    for i, script in enumerate(programs):
        for version, exe in found if LONG else [found[(i + SEED) % len(found)]]:
            check_places(bench, f"{version}-{Path(script).stem}", exe, [PROGRAMS / script], n=12 if LONG else 6, verify=LONG or i == 0)
    packages = BUILD / "packages" / found[0][0]
    if (packages / "numpy").is_dir():
        check_places(bench, "numpy", found[0][1], ["--env", f"PYTHONPATH={packages}", PROGRAMS / "arrays.py"])
    else:
        bench.tally.skip("numpy", f"it is not in {packages}")
    check_places(bench, "moved", found[0][1], [PROGRAMS / "moved.py"])
    for version, exe in found if LONG else found[-1:]:
        check_moves(bench, exe)


# ---- several, and what is killed ----

def work_with_checkpoints(bench, name, seconds="0.4", parts=(2, 3)):
    """A recording of work.py with durable checkpoints, of which replays make use; and one without."""
    file, _ = bench.record(name, "--checkpoints", "none", "work.py", seconds)
    restores_everywhere(file)
    plain = bench.copy(file, f"{name}-plain")
    frames = bench.frames(file)
    at = [frames * part // 4 for part in parts]
    bench.timefork("checkpoint", file, *[a for p in at for a in ("--at", str(p))])
    restores_everywhere(file)
    return file, plain, frames, at


def test_several(bench, kept=None):
    tally = bench.tally
    file, plain, frames, at = work_with_checkpoints(bench, "several")
    places = [at[1] + 40, at[0] + 41, at[1] + 700, at[0] - 9]
    wanted = {p: a["position"] if "position" in a else a for p, a in zip(places, ask_all(bench, plain, places))}
    a, b = Prompt(bench, file), Prompt(bench, file)
    for p in places[:2]:
        got = [prompt.ask(f"goto {p}").get("position") for prompt in (a, b)]
        tally.equal(f"several: place {p}", got, [wanted[p]] * 2)
    tally.equal("several: two of each image at once", [len(keepers(p.pid)) for p in (a, b)], [2, 2])
    for keeper, inside in keepers(b.pid):
        for pid in inside:
            os.kill(pid, signal.SIGKILL)
    tally.check("several: keepers end with the last process", wait_until(lambda: all(w.endswith("Z") for p, w in below(b.pid).items() if "restor" in w)))
    tally.equal("several: the other replay does not mind", a.ask(f"goto {places[2]}").get("position"), wanted[places[2]])
    tally.equal("several: restored processes killed: it goes on", b.ask(f"goto {places[2]}").get("position"), wanted[places[2]])
    tally.check("several: no zombies", wait_until(lambda: not any(w.endswith("Z") for w in below(b.pid).values()), 5), lambda: below(b.pid))
    for keeper, _ in keepers(a.pid):
        os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: all(w.endswith("Z") for w in below(a.pid).values() if "restor" in w))
    tally.equal("several: keepers killed: it goes on", a.ask(f"goto {places[0]}").get("position"), wanted[places[0]])
    tally.check("several: no zombies of keepers", wait_until(lambda: not any(w.endswith("Z") for w in below(a.pid).values()), 5), lambda: below(a.pid))
    tally.equal("several: nothing is said of it", (a.said(), b.said()), ("", ""))
    # In the middle of a search: whatever it was doing, it comes to the start.
    a.ask("break work.py:4 if n == -1")
    a.send("reverse-continue")
    wait_until(lambda: len(keepers(a.pid)) > 1, 3)
    for keeper, _ in keepers(a.pid):
        os.kill(keeper, signal.SIGKILL)
    answer = a.read()
    tally.equal("several: killed under a search: it comes to the start", answer.get("position", {}).get("frame"), 1, answer)
    # Again and again: then without.
    for _ in range(4):
        for keeper, _ in keepers(b.pid):
            os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: all(w.endswith("Z") for p, w in below(b.pid).items() if "restor" in w))
        got = b.ask(f"goto {places[0]}").get("position")
        if not tally.equal("several: killed again and again", got, wanted[places[0]]):
            break
    tally.equal("several: a replay ends as ever", (a.close(), b.close()), (0, 0))
    bench.nothing_left("several")
    # The replay is killed: at a prompt, in a search, and while it restores.
    for i, ask in enumerate((f"goto {places[0]}", "reverse-continue", None)):
        prompt = Prompt(bench, file)
        prompt.ask(f"goto {places[0] if i == 0 else places[1]}") if ask else prompt.send(f"goto {places[0]}")
        if ask:
            prompt.ask("break work.py:4 if n == -1")
            prompt.send(ask)
        wait_until(lambda: below(prompt.pid), 3)
        time.sleep(0.05 * i)
        prompt.process.kill()
        prompt.close()
        wait_until(lambda: not below(os.getpid()), 5)
        bench.places(file, [at[0] + 1])  # who comes next clears up
        bench.nothing_left(f"replay killed ({i})")


def ask_all(bench, file, places):
    prompt = Prompt(bench, file)
    answers = [prompt.ask(f"goto {p}") for p in places]
    prompt.close()
    return answers


def test_dumps(bench):
    """`record` is killed, or interrupted, while a dump goes on; and `checkpoint`."""
    tally = bench.tally
    for how in (signal.SIGKILL, signal.SIGINT):
        file = bench.folder / f"dump-{how.name}.timefork"
        process = subprocess.Popen([TIMEFORK, "record", "--checkpoints", "criu", "-o", file, "work.py", "2.5"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=bench.env, cwd=bench.folder, start_new_session=True)
        process.stdout.readline()  # the probe is over
        seen = wait_until(lambda: bench.dumps(process.pid) or process.poll() is not None, 5) and process.poll() is None
        if not seen:
            tally.skip(f"record: {how.name} in a dump", "none was seen")
        if how == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, how)
        out, err = process.communicate(timeout=30)
        if how == signal.SIGKILL:  # the program goes on
            wait_until(lambda: not below(os.getpid()), 10)
            file_ok = bench.timefork("query", file, "--list-runs", "--format", "json")
            tally.equal("record killed: it opens", file_ok.status, 0, file_ok)
        else:
            tally.check("record interrupted: the program's traceback", not seen or process.returncode == 130 and b"KeyboardInterrupt" in err, (process.returncode, err))
            result = bench.timefork("verify", file)
            tally.equal("record interrupted: verify", result.status, 0, result)
        bench.nothing_left(f"record: {how.name}")
    file, _ = bench.record("dumped", "--checkpoints", "none", "work.py", "0.2")
    process = subprocess.Popen([TIMEFORK, "checkpoint", file, "--at", str(bench.frames(file) // 2)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=bench.env, cwd=bench.folder)
    wait_until(lambda: bench.dumps(process.pid) or process.poll() is not None, 10)
    process.kill()
    seen = process.wait() != 0
    process.communicate()
    wait_until(lambda: not below(os.getpid()), 5)
    result = bench.timefork("verify", file)
    tally.equal("checkpoint killed: verify", result.status, 0, result)
    if seen:
        tally.equal("checkpoint killed: there is none", bench.checkpoints(file), [])
    else:
        tally.skip("checkpoint killed", "it was faster")
    bench.nothing_left("checkpoint killed")


# ---- an ordinary user ----

def test_user(bench):
    tally = bench.tally
    if os.geteuid() != 0:
        tally.skip("user", "everything here is done as an ordinary user")
        return
    home = bench.folder / "home"
    home.mkdir()
    (home / "tmp").mkdir()
    shutil.copy(bench.folder / "work.py", home)
    for path in (home, home / "tmp", home / "work.py"):
        os.chown(path, 65534, 65534)
    bench.tmp.chmod(0o711)
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    env = {**bench.env, "HOME": str(home), "TMPDIR": str(home / "tmp"), "USER": "nobody"}
    exe = next((e for _, e in pythons(every=True) if run([*become, e, "-c", "pass"], env=env, cwd=home).status == 0), None)
    if not exe or run([*become, TIMEFORK, "--version"], env=env, cwd=home).status != 0:
        tally.skip("user", f"user 65534 can start no Python, or not {TIMEFORK}")
        return

    def timefork(*args):
        return run([*become, TIMEFORK, *args], env=env, cwd=home, limit=60)

    recorded = timefork("record", "--checkpoints", "criu", "-o", "u.timefork", "--python", exe, "work.py", "1.2")
    tally.equal("user: record", recorded.status, 0, recorded)
    frames = json_lines(timefork("query", "u.timefork", "--list-runs", "--format", "json"))[-1]["frames"]
    restores_everywhere(home / "u.timefork")
    os.chown(home / "u.timefork", 65534, 65534)
    shutil.copy(home / "u.timefork", home / "plain.timefork")
    os.chown(home / "plain.timefork", 65534, 65534)
    db = sqlite3.connect(home / "plain.timefork")
    if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'images'").fetchone() != (0,):
        db.execute("DELETE FROM images")
    db.commit()
    db.close()
    made = timefork("checkpoint", "u.timefork", "--at", str(frames // 3))
    places = [frames - 9, frames // 2, frames // 3 + 5]
    said = [timefork("replay", f, "--format", "json", *[a for p in places for a in ("--goto-frame", str(p))]) for f in ("u.timefork", "plain.timefork")]
    tally.equal("user: places are the same", strip(json_lines(said[0])), strip(json_lines(said[1])), said[0])
    if made.status != 0:
        tally.check("user: why there are none is one line", len(made.errtext.splitlines()) == 1, made)
        tally.check("user: and record says it", "no durable checkpoints" in recorded.errtext, recorded)
        tally.skip("user: checkpoints", made.errtext.strip())
    else:
        tally.check("user: record makes some", "no durable" not in recorded.errtext, recorded)
        tally.equal("user: they are used", [json_lines(said[0])[i]["checkpoint"]["kind"] for i in (0, 2)], ["durable"] * 2, said[0])
    result = timefork("verify", "u.timefork")
    tally.equal("user: verify", result.status, 0, result)
    tally.equal("user: TMPDIR is empty", os.listdir(home / "tmp"), [])
    bench.nothing_left("user")


# ---- what makes it impossible ----

def test_refused(bench):
    tally = bench.tally
    file, plain, frames, at = work_with_checkpoints(bench, "refused", "0.2", parts=(2,))
    places = [at[0] + 300, at[0] + 200]
    _, wanted = bench.places(plain, places)

    def fails(name, file, having, script=None):
        """One line, and the right answer from elsewhere."""
        env = {"TIMEFORK_CRIU": str(script)} if script is not None else {}
        result, got = bench.places(file, places, **env)
        tally.equal(f"refused: {name}: the answers are right", strip(got), strip(wanted), result)
        tally.check(f"refused: {name}: not from there", all(a["checkpoint"]["kind"] != "durable" for a in got), result)
        lines = result.errtext.splitlines()
        tally.check(f"refused: {name}: one message", len(lines) == 1 and f"frame event {at[0]} cannot be used" in lines[0] and having in lines[0], result)

    result, got = bench.places(file, places)
    tally.equal("refused: at first it is used", (got[0]["checkpoint"]["kind"], result.err, strip(got)), ("durable", b"", strip(wanted)), result)
    scripts = {}
    for name, text in ("fails", "exit 1"), ("does-nothing", "exit 0"), ("is-killed", "kill -9 $$"):
        scripts[name] = bench.folder / name
        scripts[name].write_text(f'#!/bin/sh\ncase $* in *--version*) echo "Version: 4.1.1"; exit 0;; esac\n{text}\n')
        scripts[name].chmod(0o755)
    fails("no criu", file, "is empty", "")
    fails("no such criu", file, "neither the program", bench.folder / "nothing")
    for name, script in scripts.items():
        fails(f"a criu that {name}", file, "", script)

    two, plain, frames, at_two = work_with_checkpoints(bench, "refused-two", "0.2", parts=(1, 2))
    result, got = bench.places(two, [at_two[1] + 100], TIMEFORK_CRIU=str(scripts["fails"]))
    tally.equal("refused: two for one reason: the answer is right", strip(got), strip(bench.places(plain, [at_two[1] + 100])[1]), result)
    tally.check("refused: two for one reason: one message", len(result.errtext.splitlines()) == 1, result)

    def change(name, having, *statements):
        changed = bench.copy(file, f"refused-{name}")
        db = sqlite3.connect(changed)
        db.create_function("flip", 2, lambda blob, at: blob[:at % len(blob)] + bytes([blob[at % len(blob)] ^ 0x40]) + blob[at % len(blob) + 1:])
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()
        fails(name, changed, having)

    change("digest", "it is not used", "UPDATE images SET digest = digest + 1")
    if LONG:
        change("state", "", "UPDATE images SET state = flip(state, 9)")
        change("page-head", "", "UPDATE page_groups SET data = flip(data, 1)")
        change("no-file", "", "DELETE FROM image_files WHERE name LIKE 'mm%'")
    change("page", "", "UPDATE page_groups SET data = flip(data, length(data) / 2)")
    change("digests", "", "UPDATE page_groups SET digests = flip(digests, 77)")
    change("group", "", "DELETE FROM page_groups WHERE number = (SELECT max(number) FROM page_groups)")
    change("file", "", "UPDATE image_files SET data = flip(data, length(data) / 2) WHERE name LIKE 'core%'")
    result = bench.timefork("checkpoint", file, "--at", str(at[0] + 5), TIMEFORK_CRIU="")
    tally.check("refused: checkpoint without criu", result.status == 1 and len(result.errtext.splitlines()) == 1, result)
    result = bench.timefork("checkpoint", file, "--at", str(at[0] + 5), TIMEFORK_CRIU=str(scripts["fails"]))
    tally.check("refused: checkpoint with one that fails", result.status == 1 and len(result.errtext.splitlines()) == 1, result)
    tally.equal("refused: no checkpoint more", bench.checkpoints(file), at)
    for name in "", str(scripts["fails"]):
        other, result = bench.record("without", "--checkpoints", "criu", "--quiet", "work.py", "0.1", TIMEFORK_CRIU=name)
        tally.check("refused: record says it, and records", result.status == 0 and len(result.errtext.splitlines()) == 1 and
                    "no durable checkpoints" in result.errtext and other.exists(), result)
        other.unlink(missing_ok=True)
    # A library of the program has changed since.
    if (library := build_library(bench)) is None:
        tally.skip("refused: a library that has changed", "there is no C compiler")
    else:
        (bench.folder / "loads.py").write_text(f"import ctypes\nlib = ctypes.CDLL({str(library)!r})\n" + WORK)
        file, _ = bench.record("library", "--checkpoints", "none", "loads.py", "0.1")
        at[:] = [bench.frames(file) * 9 // 10]
        restores_everywhere(file)
        places[:] = [at[0] + 20]
        wanted = bench.places(file, places)[1]
        made = bench.timefork("checkpoint", file, "--at", str(at[0]))
        tally.equal("refused: a checkpoint with a library of one's own", made.status, 0, made)
        os.utime(library)
        result, got = bench.places(file, places)
        tally.check("refused: a library that was touched", strip(got) == strip(wanted), result)
        build_library(bench, more="int more(void) { return 9; } char room[9999] = {1};")
        result, got = bench.places(file, places)
        tally.check("refused: a library that has changed is noticed", "cannot be used" in result.errtext or result.status == 3 or result.status == 1, result)
        tally.check("refused: and nothing wrong is said", not got or strip(got) == strip(wanted) or "error" in got[0], result)
    bench.nothing_left("refused")


def build_library(bench, more=""):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return None
    source, library = bench.folder / "own.c", bench.folder / "own.so"
    source.write_text("int own(void) { return 1; }\n" + more)
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,--build-id", "-o", f"{library}.new", source], check=True)
    os.replace(f"{library}.new", library)
    return library


# ---- bounded ----

PACED = """
import os, sys, time, threading
mode, size, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def part():
    with open("/dev/urandom", "rb", buffering=0) as f:
        return len(f.read(size))
def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(5):
            part()
        time.sleep(0.01)
def until_stop():
    began = time.monotonic()
    while not os.path.exists(stop) and time.monotonic() < began + 60:
        busy(0.2)
        if mode == "children":
            pid = os.fork()
            if pid == 0:
                busy(0.02)
                os._exit(3)
            if os.WEXITSTATUS(os.waitpid(pid, 0)[1]) != 3:
                print("a child failed")
others = [threading.Thread(target=until_stop) for _ in range(2 * (mode == "threads"))]
[t.start() for t in others]
until_stop()
[t.join() for t in others]
print("end")
"""


def start_bounded(bench):
    (bench.folder / "paced.py").write_text(PACED)
    found = {}
    for i, (name, limits, size) in enumerate((("size", ["--max-size", "16M"], 30000), ("threads", ["--last", "1s"], 100),
                                              ("children", ["--last", "1s"], 100))):
        version, exe = pythons()[i % len(pythons())]
        file = bench.folder / f"bounded-{name}.timefork"
        log = open(bench.folder / f"bounded-{name}.log", "w+")
        argv = [TIMEFORK, "record", "--checkpoints", "criu", *limits, "-o", file, "--python", exe, "paced.py", name, str(size), f"stop-{name}"]
        found[name] = (file, log, subprocess.Popen(argv, env=bench.env, cwd=bench.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    return found


def first_of(bench, file):
    runs = json_lines(bench.timefork("query", file, "--list-runs", "--format", "json"))
    return runs[-1]["first_frame"] if runs else 0


def test_bounded(bench, started):
    tally = bench.tally
    ran = bench.folder / "ran"
    result = bench.timefork("record", "--last", "1s", "--checkpoints", "criu", "-o", "never.timefork", "-c", f"open({str(ran)!r}, 'w')", TIMEFORK_CRIU="")
    tally.check("bounded: refused without criu", result.status != 0 and not ran.exists() and len(result.errtext.splitlines()) == 1, result)
    result = bench.timefork("record", "--last", "1s", "-o", "never.timefork", "-c", f"open({str(ran)!r}, 'w')", TIMEFORK_CRIU="")
    tally.check("bounded: refused without criu, by default", result.status != 0 and not ran.exists() and len(result.errtext.splitlines()) == 1, result)
    for name, (file, log, process) in started.items():
        wait_until(lambda: first_of(bench, file) > 1 or process.poll() is not None, 60, every=0.3)
        (bench.folder / f"stop-{name}").touch()
        status = process.wait(60)
        log.seek(0)
        said = log.read()
        log.close()
        tally.equal(f"bounded {name}: status", status, 0, said)
        tally.equal(f"bounded {name}: output", "end" in said.splitlines() and "failed" not in said, True, said)
        info = json_lines(bench.timefork("info", file, "--format", "json"))[-1]
        first, frames = info["first_frame"], info["frames"]
        tally.check(f"bounded {name}: its oldest part was dropped", first > 1, f"{info}\n{said}")
        if name == "size":
            whole = sum(p["outside"] for p in json_lines(bench.timefork("query", file, "--list-processes", "--format", "json"))) // 3 * 30000
            tally.check("bounded size: in the file there is less than was recorded", info["bytes"] < whole, (whole, info))
        else:
            left = info["duration_ns"] - info["first_ns"]
            tally.check(f"bounded {name}: what is left", 10**9 <= left, info)
        result = bench.timefork("verify", file)
        tally.check(f"bounded {name}: verify", result.status == 0, result)
        last = json_lines(bench.timefork("query", file, "--list-processes", "--format", "json"))[0]["frames"]
        result, got = bench.places(file, [first, last, (first + last) // 2], evals=())
        tally.equal(f"bounded {name}: first, last and middle", [a.get("frame") for a in got], [first, last, (first + last) // 2], result)
        result, got = bench.places(file, [first - 1])
        tally.check(f"bounded {name}: nothing before", result.status == 1 and "error" in got[0], result)


# ---- programs that it must not harm ----

LOOP = """
import os, sys, time, signal, resource, ctypes, struct, threading
def step(i):
    return i * i % 7
def go(seconds=0.8):
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for i in range(50):
            total += step(i)
        time.sleep(0.002)
    return total > 0
libc = ctypes.CDLL(None, use_errno=True)
"""
HARMLESS = {
    "forks": "pid = os.fork()\nr = go()\nif pid == 0: os._exit(7)\nprint(r, os.waitpid(pid, 0)[1])\n",
    "execs": "go()\nsys.stdout.flush()\nos.execv('/bin/echo', ['echo', 'executed'])\n",
    "shares": "import multiprocessing as m\nv = m.Value('i', 3)\nimport mmap\nb = mmap.mmap(-1, 4096)\nb[0] = 9\nprint(go(), v.value, b[0])\n",
    "fifty": "ts = [threading.Thread(target=go) for _ in range(50)]\n[t.start() for t in ts]\n[t.join() for t in ts]\nprint(len(ts))\n",
    "moves": "os.makedirs('d/e', exist_ok=True)\nos.chdir('d/e')\nprint(go(), os.path.basename(os.getcwd()))\n",
    "deletes": "os.makedirs('gone', exist_ok=True)\nos.chdir('gone')\nos.rmdir(os.getcwd())\nprint(go(), os.path.exists('/proc/self/cwd/x'))\n",
    "huge": "a, b = resource.getrlimit(resource.RLIMIT_NOFILE)\nresource.setrlimit(resource.RLIMIT_NOFILE, (b, b))\n"
            "os.dup2(1, b - 9)\nprint(go())\nos.write(b - 9, b'there\\n')\n",
    "closes": "os.closerange(3, 1 << 16)\nos.close(0)\nprint(go(), os.open('/dev/null', 0))\n",
    "closes-all": "r = go(0.3)\nos.closerange(0, 1 << 16)\nr = go()\nos._exit(5)\n",
    "nofile": "resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))\nprint(go())\n",
    "data": "resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))\nprint(go(), len(bytearray(1 << 20)))\n",
    "as": "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\nprint(go(), len(bytearray(1 << 20)))\n",
    "nproc": "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\nprint(go())\n",
    "user": "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\nprint(go(), os.getuid() > 0)\n",
    "timer": "got = []\nsignal.signal(signal.SIGALRM, lambda *a: got.append(1))\nsignal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)\n"
             "r = go()\nsignal.setitimer(signal.ITIMER_REAL, 0)\nprint(r, len(got) > 1)\n",
    "alarm": "signal.alarm(1)\ngo(9)\n",
    "undumpable": "print(libc.prctl(4, 0, 0, 0, 0), go(), libc.prctl(3, 0, 0, 0, 0))\n",
    "no-new-privs": "print(libc.prctl(38, 1, 0, 0, 0), go())\n",
    "seccomp": "libc.prctl(38, 1, 0, 0, 0)\nallow = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))\n"
               "prog = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 1, ctypes.addressof(allow)))\n"
               "print(libc.prctl(22, 2, ctypes.byref(prog), 0, 0), go())\n",
    "unshares": "print(libc.unshare(0x10000000), go(), os.getuid())\n",
    "subreaper": "print(libc.prctl(36, 1, 0, 0, 0), go())\nprint(os.system('(sleep 0.01 &) ; true'))\ntime.sleep(0.1)\n"
                 "print(os.waitpid(-1, 0)[1])\ntry: os.waitpid(-1, 0)\nexcept ChildProcessError: print('none')\n",
    "waits": "try: os.wait()\nexcept ChildProcessError: print('none')\nprint(go())\ntry: os.wait()\nexcept ChildProcessError: print('none')\n"
             "n = []\nsignal.signal(signal.SIGCHLD, lambda *a: n.append(1))\nprint(go(), n)\n",
    "session": "pid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])\nelse: os.setsid(); print(go()); sys.stdout.flush(); os._exit(0)\n",
    "locked": "libc.mlockall(3)\nprint(go())\n",
    "fresh-stack": "import sys\nsys.setrecursionlimit(50000)\ndef deep(n): return go() if n == 0 else deep(n - 1)\nprint(deep(2000))\n",
    "umask": "print(os.umask(0o777), go(), oct(os.umask(0)))\n",
}


LOOKED_AT = ("forks", "fifty", "execs")
# With TIMEFORK_TEST_LONG, all of them, and all are looked at.
USUAL = ("forks", "execs", "shares", "fifty", "deletes", "huge", "closes-all", "as", "user", "timer", "undumpable", "seccomp", "unshares", "waits", "locked")


def harmless_one(bench, name, version, exe):
    """Returns what is to be checked."""
    folder = bench.folder / f"harmless-{name}"
    for kind in "plain", "recorded":
        (folder / kind).mkdir(parents=True)
    script = folder / "it.py"
    script.write_text(LOOP + HARMLESS[name])
    file = folder / "it.timefork"
    quick = folder / "plain.py"  # the same, in no time
    quick.write_text(LOOP.replace("seconds=0.8", "seconds=0.1") + HARMLESS[name])
    how = {"env": bench.env, "limit": 60}
    recorded = run([TIMEFORK, "record", "--quiet", "--python", exe, "-o", file, script], cwd=folder / "recorded", **how)
    plain = run([exe, quick], cwd=folder / "plain", **how)
    checks = [("output and status", (recorded.status, recorded.out, recorded.err.replace(b"it.py", b"plain.py")),
               (plain.status, plain.out, plain.err), recorded)]
    return checks, file


def test_harmless(bench, only=()):
    found = pythons()
    names = [n for n in HARMLESS if n in (only or (HARMLESS if LONG else USUAL))]
    with ThreadPoolExecutor(6) as pool:
        results = {name: pool.submit(harmless_one, bench, name, *found[(i + SEED) % len(found)]) for i, name in enumerate(names)}
    for name, future in results.items():
        checks, file = future.result()
        for what, got, expected, detail in checks:
            bench.tally.equal(f"harmless {name}: {what}", got, expected, detail)
        if not file.exists():
            bench.tally.fail(f"harmless {name}: is recorded", checks[0][3])
            continue
        if LONG or only or name in LOOKED_AT:
            check_recorded(bench, f"harmless {name}", file)


def check_recorded(bench, name, file):
    """What was recorded with checkpoints looks the same from them and from the start."""
    made = bench.checkpoints(file)
    if os.environ.get("TIMEFORK_TEST_VERBOSE"):
        print(f"      {name}: durable checkpoints at {made}")
    if not made:
        return
    restores_everywhere(file)
    plain = file.with_suffix(".plain")
    shutil.copy(file, plain)
    db = sqlite3.connect(plain)
    db.execute("DELETE FROM images")
    db.commit()
    db.close()
    last = json_lines(bench.timefork("query", file, "--list-processes", "--format", "json"))[0]["frames"]
    places = [last, made[-1] + 1, f"{made[-1] + 7}+1"]
    first, wanted = bench.places(plain, places)
    second, got = bench.places(file, places)
    bench.tally.equal(f"{name}: places are the same", (strip(got), second.err), (strip(wanted), first.err), f"{first}\n{second}")
    bench.tally.check(f"{name}: from a durable checkpoint", any(a.get("checkpoint", {}).get("kind") == "durable" for a in got), second)


# ---- memory that a copy would share with the program ----

SHARED = """
import mmap, os, sys, tempfile, time
size, advice = int(sys.argv[2]), sys.argv[3:]
fd, path = tempfile.mkstemp(dir=".")
os.unlink(path)
os.ftruncate(fd, 8192)
nameless, of_file = mmap.mmap(-1, size), mmap.mmap(fd, 8192)
if advice:
    nameless.madvise(mmap.MADV_DONTFORK)
should = bytearray(8192)
def change(n):
    at = n * 31 % 8192
    nameless[at] = of_file[at] = should[at] = n % 251
def same():
    return nameless[:8192] == should and of_file[:] == should and any(should)
n, end = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for _ in range(200):
        n += 1
        change(n)
    assert same()
print("done")
"""


def test_shared(bench):
    """A checkpoint has the memory as it was there, whatever the program writes to it later."""
    tally = bench.tally
    (bench.folder / "shared.py").write_text(SHARED)
    found = pythons()
    for i, (version, exe) in enumerate(found if LONG else [found[SEED % len(found)]]):
        name = f"shared {version}"
        file, result = bench.record(f"shared{version}", "--checkpoints", "criu", "--python", exe, "shared.py", "2.5", "65536")
        made = bench.checkpoints(file)
        if not tally.check(f"{name}: durable checkpoints", len(made) >= 2 and "no more" not in result.errtext, result):
            continue
        restores_everywhere(file)
        result, answers = bench.places(file, [made[-1] + 5000, made[-2] + 400], evals=("same()",))
        tally.equal(f"{name}: memory is what it was", [e["value"] for a in answers for e in a["eval"]], ["True"] * 2, result)
        tally.equal(f"{name}: from durable checkpoints", {a["checkpoint"]["kind"] for a in answers}, {"durable"}, result)
        file, _ = bench.record(f"kept{version}", "--keep", "--checkpoints", "fork", "--python", exe, "shared.py", "1", "65536")
        frames = bench.frames(file)
        result, answers = bench.places(file, [frames - 100, frames // 2], evals=("same()",))
        tally.equal(f"{name}: and in those that are kept", [e["value"] for a in answers for e in a["eval"]], ["True"] * 2, result)
        tally.check(f"{name}: from those", any(a["checkpoint"]["kind"] == "fork" for a in answers), result)
        bench.timefork("sessions", "--end", answers[0]["run"])
    for why, args, text in (("too much", [str(65 << 20)], "more than 64 MiB of memory that a copy would share"),
                            ("not copied", ["65536", "DONTFORK"], "memory that a copy of it would not have")):
        file, result = bench.record(why.replace(" ", "-"), "--checkpoints", "criu", "--python", found[0][1], "shared.py", "1.5", *args)
        tally.check(f"shared, {why}: said", result.status == 0 and result.errtext.count(text) == 1, result)
        tally.equal(f"shared, {why}: none", bench.checkpoints(file), [], result)
        tally.equal(f"shared, {why}: replays from the start", bench.timefork("replay", file, "--goto-frame", "end").status, 0)
    bench.nothing_left("shared")


def sweep(bench, *scripts):
    """By hand: places in these programs, with every Python."""
    for version, exe in pythons():
        for script in scripts:
            name = f"{version}-{Path(script).stem}"
            check_places(bench, name, exe, [PROGRAMS / script], n=8, checkpoints=3)
            bench.nothing_left(name)


def works(bench):
    """Does CRIU work here, for this user? Else why not."""
    file, _ = bench.record("first", "--checkpoints", "none", "work.py", "0.05")
    made = bench.timefork("checkpoint", file, "--at", str(bench.frames(file) // 2))
    if made.status == 0:
        return ""
    # Whether it has to is what doctor says, which tries it on a process of its own.
    said = next((line for line in bench.timefork("doctor").text.splitlines() if "lasting checkpoints" in line), "")
    bench.tally.check("checkpoint works where doctor says that CRIU does", not said.startswith("ok"), f"{said}\n{made}")
    return made.errtext.strip()


SECTIONS = ("harmless", "places", "bounded", "shared", "several", "dumps", "user", "refused")


def timed(bench, name, test):
    began = time.monotonic()
    test(bench)
    if bench.tally.verbose:
        print(f"({name}: {time.monotonic() - began:.1f} s)", flush=True)


def main():
    need_timefork()
    tally = Tally()
    only = sys.argv[1:]
    with Folder() as folder:
        folder.chmod(0o755)
        bench = Bench(folder, tally)
        if only[:1] == ["sweep"]:
            sweep(bench, *only[1:])
            return tally.close()
        why = works(bench)
        wanted = {name for name in SECTIONS if not only or name in only}
        for name in sorted(wanted - {"harmless"} if why else ()):
            tally.skip(name, why)
            wanted.discard(name)
        bounded = start_bounded(bench) if "bounded" in wanted else None
        # These mostly wait.
        together = {"harmless": lambda b: test_harmless(b, only[1:] if only[:1] == ["harmless"] else ()), "places": test_places,
                    "bounded": lambda b: test_bounded(b, bounded)}
        with ThreadPoolExecutor(len(together)) as pool:
            for future in [pool.submit(timed, bench, name, test) for name, test in together.items() if name in wanted]:
                future.result()
        bench.nothing_left(", ".join(together))
        for name, test in {"shared": test_shared, "several": test_several, "dumps": test_dumps, "user": test_user, "refused": test_refused}.items():
            if name in wanted:
                timed(bench, name, test)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
