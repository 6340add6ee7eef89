#!/usr/bin/env python3
"""`record --keep`: checkpoints that stay in the background, and `timefork sessions`.
  - The command returns with the program's output and status; the keeper has left terminal, session, folder and descriptors; the
    folder of the sockets is the user's alone.
  - With each Python, and with threads: places that are chosen at random look the same as in a replay without keeper, and the first
    one is served by exactly the kept checkpoint that is the nearest before it.
  - Several replays at once, one of them killed in an endless loop; a checkpoint killed; the keeper killed under a prompt.
  - It ends: when its time is over (not under a replay), by `sessions --end` and `--all`, by SIGTERM, when the recording is removed
    or replaced, when its folder is removed. No process and no zombie is left behind.
  - A keeper of another build, or that does not answer, is not used, and `sessions` says why.

TIMEFORK_TEST_SEED repeats the choice of places."""
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from lib import PROGRAMS, TIMEFORK, Folder, Tally, children, clean_env, json_lines, need_timefork, pythons, run

SEED = int(os.environ.get("TIMEFORK_TEST_SEED") or 7)
WORK = """
import sys
def f(n):
    return n * 3 % 7
def work(rounds):
    total = 0
    for i in range(rounds):
        total += f(i)
    return total
print(work(int(sys.argv[1])))
sys.exit(3)
"""
WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *a: sys.exit(5))
print("ready", flush=True)
time.sleep(60)
"""
TELLS = ("checkpoint", "replayed_frames", "elapsed_ms")  # how it was reached, not what is there


def wait_until(condition, seconds=20):
    """Polls; a limit that only a test that fails ever comes to."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def exists(pid):
    """Does it run? A zombie whose new parent has not looked yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def zombies(pid):
    found = []
    for child in children(pid):
        try:
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.append(child)
        except OSError:
            pass
    return found


class Prompt:
    """A replay with a prompt that stays open."""

    def __init__(self, bench, file):
        self.process = subprocess.Popen([TIMEFORK, "replay", file, "--format", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env=bench.env, cwd=bench.folder, text=True)
        self.pid = self.process.pid

    def send(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command):
        self.send(command)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(30)


class Bench:
    def __init__(self, folder, tally):
        self.folder, self.tally = folder, tally
        self.runtime = folder / "runtime"
        self.runtime.mkdir(0o700)
        self.env = clean_env(XDG_RUNTIME_DIR=str(self.runtime))
        (folder / "elsewhere").mkdir(0o700)
        self.without = clean_env(XDG_RUNTIME_DIR=str(folder / "elsewhere"))
        (folder / "work.py").write_text(WORK)

    def timefork(self, *args, env=None):
        return run([TIMEFORK, *args], cwd=self.folder, env=env or self.env, limit=60)

    def record(self, name, *args, keep="10m", script="work.py", rounds=100000, need=1):
        """Returns what came of it, and what is kept: as `sessions` says, with the pids of the checkpoints. On a busy machine a fork
        may seem to take so long that a short program gets too few: then it runs again, for longer."""
        file = self.folder / f"{name}.timefork"
        for attempt in range(6):
            result = self.timefork("record", f"--keep={keep}", "-o", file, *args, script, str(rounds << attempt))
            found = [s for s in self.sessions() if s.get("file") == str(file).encode("ascii", "replace").decode()]
            if found and len(found[-1]["checkpoints"]) >= need:
                break
            for s in found:
                self.timefork("sessions", "--end", s["run"])
            file.unlink(missing_ok=True)
        else:
            self.tally.fail(f"{name}: is kept", result)
            raise SystemExit(self.tally.close())
        found[-1]["pids"] = self.state(found[-1]["run"])
        self.rounds = rounds << attempt
        return file, result, found[-1]

    def sessions(self):
        return json_lines(self.timefork("sessions", "--format", "json"))

    def state(self, run_id):
        """The keeper asked directly: its parked processes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(str(self.runtime / "timefork" / run_id))
            s.send(b"state")
            return [c["pid"] for c in json.loads(s.recv(65536))["checkpoints"]]

    def places(self, file, places, env=None):
        args = [a for p in places for a in ("--goto-frame", str(p))]
        result = self.timefork("replay", file, "--format", "json", *args, "--eval", "sorted(locals().items())[:3]", env=env)
        return json_lines(result)

    def gone(self, name, kept, why):
        pids = [kept["pid"], *kept["pids"]]
        ended = wait_until(lambda: not any(exists(p) for p in pids))
        self.tally.check(f"{name}: {why}: all have ended", ended, [p for p in pids if exists(p)])
        self.tally.check(f"{name}: {why}: the list is empty", kept["run"] not in [s["run"] for s in self.sessions()])
        self.tally.check(f"{name}: {why}: no socket is left", not (self.runtime / "timefork" / kept["run"]).exists())


def strip(answers):
    return [{k: v for k, v in a.items() if k not in TELLS} for a in answers]


def frames_of(bench, file):
    return json_lines(bench.timefork("query", file, "--list-runs", "--format", "json"))[-1]["frames"]


def check_places(bench, name, file, kept, n=10):
    tally = bench.tally
    frames = frames_of(bench, file)
    chance = random.Random(SEED)
    places = [frames - 3] + sorted((chance.randrange(1, frames) for _ in range(n)), reverse=True)
    plain = bench.places(file, places, env=bench.without)
    with_keeper = bench.places(file, places)
    tally.equal(f"{name}: {n + 1} places are the same with and without", strip(with_keeper), strip(plain))
    nearest = max(c for c in kept["checkpoints"] if c < places[0])
    first = with_keeper[0]
    tally.equal(f"{name}: the nearest kept checkpoint serves", first["checkpoint"], {"kind": "fork", "frame": nearest})
    tally.check(f"{name}: and only what is behind it is executed again", first["replayed_frames"] <= places[0] - nearest, first)
    tally.equal(f"{name}: without, the start serves", plain[0]["checkpoint"], {"kind": "start", "frame": 0})


def test_record(bench):
    tally = bench.tally
    file, result, kept = bench.record("first", rounds=300000, need=2)
    plain = run([sys.executable, "work.py", str(bench.rounds)], cwd=bench.folder)
    tally.equal("record: the program's status and output", (result.status, result.out), (3, plain.out), result)
    tally.check("record: says what is kept", "kept for 10m" in result.errtext, result)
    pid = kept["pid"]
    shown = json_lines(bench.timefork("info", file, "--format", "json"))[-1]["checkpoints"]
    tally.check("info: shows them", [c["frame"] for c in shown if c["kind"] == "kept"] == kept["checkpoints"] and
                all(c["bytes"] > 0 for c in shown), shown)
    tally.check("record: checkpoints, memory and time", kept["checkpoints"] and kept["memory"] > 0 and
                0 < kept["left_ms"] <= 600000 and kept["usable"], kept)
    tally.equal("keeper: a session of its own", os.getsid(pid), pid)
    fds = sorted({os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")})
    tally.equal("keeper: no descriptor of ours", fds, ["/dev/null", "socket"])
    tally.equal("keeper: no folder of ours", os.readlink(f"/proc/{pid}/cwd"), "/")
    tally.check("keeper: ps shows what it is", b"keeps checkpoints of run " + kept["run"][:8].encode() in
                Path(f"/proc/{pid}/cmdline").read_bytes())
    tally.equal("keeper: its children are the checkpoints", sorted(kept["pids"]), children(pid))
    folder = bench.runtime / "timefork"
    for path, mode in (folder, 0o700), (folder / kept["run"], 0o600):
        st = path.stat()
        tally.equal(f"{path.name[:8]}: mode and owner", (stat.S_IMODE(st.st_mode), st.st_uid), (mode, os.geteuid()))
    folder.chmod(0o755)
    tally.equal("a folder that others can read is not looked into", bench.sessions(), [])
    folder.chmod(0o700)
    tally.equal("sessions: what it does not know", bench.timefork("sessions", "--end", "ffff0000").status, 1)
    tally.equal("sessions: a mistake", bench.timefork("sessions", "x").status, 2)
    tally.equal("record: --keep with --follow", bench.timefork("record", "--keep", "--follow", "work.py").status, 2)
    tally.equal("record: no time", bench.timefork("record", "--keep=10", "work.py").status, 2)
    odd = os.fsdecode(b"caf\xe9.py")  # not UTF-8
    (bench.folder / odd).write_text(WORK)
    name, _, odd_kept = bench.record(os.fsdecode(b"\xff"), script=odd)
    tally.equal("a name that is no UTF-8", bench.places(name, [frames_of(bench, name) - 9])[0]["checkpoint"]["kind"], "fork")
    bench.timefork("sessions", "--end", odd_kept["run"])
    return file, kept


def test_several(bench, file, kept):
    """Two replays at once, one of them killed in an endless loop, and a checkpoint killed under the other."""
    tally = bench.tally
    frames = frames_of(bench, file)
    a, b = Prompt(bench, file), Prompt(bench, file)
    a.ask(f"goto {frames - 9}")
    b.ask(f"goto {frames // 2}")
    tally.equal("two replays: both are listed", sorted(bench.sessions()[0]["used_by"]), sorted([a.pid, b.pid]))
    here = [a.ask("where")["position"]["frame"], b.ask("where")["position"]["frame"]]
    tally.equal("two replays: each stands where it went", here, [frames - 9, frames // 2])
    b.send("print [i for i in iter(int, 1)]")
    wait_until(lambda: len(children(kept["pid"])) > len(kept["pids"]) + 2)
    b.process.kill()
    b.close()
    rest = kept["pids"][:-1]
    os.kill(kept["pids"][-1], signal.SIGKILL)
    wait_until(lambda: len(bench.state(kept["run"])) == len(rest))
    tally.equal("a killed checkpoint is noticed", bench.state(kept["run"]), rest)
    tally.equal("a killed checkpoint: its neighbour serves", a.ask(f"goto {frames - 5}")["position"]["frame"], frames - 5)
    tally.check("a killed checkpoint: the prompt goes on", "error" not in a.ask("print dir()"))
    a.close()
    tally.check("after the last replay, none of their processes is left",
                wait_until(lambda: children(kept["pid"]) == sorted(rest)), (children(kept["pid"]), rest))
    tally.equal("no zombies", zombies(kept["pid"]), [])
    ended = bench.timefork("sessions", "--end", kept["run"][:6])
    tally.equal("sessions --end", ended.status, 0, ended)
    bench.gone("end", kept, "by sessions --end")
    tally.equal("the recording stays", bench.places(file, [10])[0]["checkpoint"]["kind"], "start")


def test_killed(bench):
    """kill -9 of the keeper under a prompt."""
    file, _, kept = bench.record("killed")
    tally, frames = bench.tally, frames_of(bench, file)
    prompt = Prompt(bench, file)
    prompt.ask(f"goto {frames - 9}")
    before = prompt.ask("where")["position"]
    os.kill(kept["pid"], signal.SIGKILL)
    wait_until(lambda: not any(exists(p) for p in kept["pids"]))
    tally.check("killed: the present can still be asked", "error" not in prompt.ask("print dir()"))
    tally.equal("killed: it is the same place", prompt.ask("where")["position"], before)
    tally.equal("killed: goto goes on", prompt.ask("goto 1000")["position"]["frame"], 1000)
    tally.equal("killed: the prompt ends as ever", prompt.close(), 0)
    bench.gone("killed", kept, "by kill -9")


def test_searched(bench):
    """kill -9 of the keeper in the middle of a search, or shortly before or after."""
    file, _, kept = bench.record("searched", rounds=200000)
    prompt = Prompt(bench, file)
    prompt.ask(f"goto {frames_of(bench, file) - 9}")
    prompt.ask("break work.py:4 if n == -1")
    prompt.send("reverse-continue")
    time.sleep(0.1)
    os.kill(kept["pid"], signal.SIGKILL)
    answer = json.loads(prompt.process.stdout.readline())
    bench.tally.equal("searched: the search goes on to the start", answer.get("position", answer).get("frame"), 1, answer)
    prompt.close()
    bench.gone("searched", kept, "by kill -9")


def test_ends(bench):
    tally = bench.tally
    file, _, kept = bench.record("expires", keep="1s")
    prompt = Prompt(bench, file)
    prompt.ask("goto 5000")
    used = bench.sessions()[0]["used_by"] if exists(kept["pid"]) else []
    if used:  # the machine was fast enough: then it outlives its time
        time.sleep(max(0, kept["left_ms"] / 1000 + 0.3))
        tally.check("time: not under a replay", exists(kept["pid"]))
        tally.equal("time: which goes on", prompt.ask("goto 6000")["position"]["frame"], 6000)
    else:
        tally.skip("time: not under a replay", "it took longer than a second to start one")
    prompt.close()
    bench.gone("time", kept, "after its time")

    endings = {
        "SIGTERM": lambda file, kept: os.kill(kept["pid"], signal.SIGTERM),
        "recording removed": lambda file, kept: file.unlink(),
        "recording replaced": lambda file, kept: (file.with_suffix(".other").write_bytes(file.read_bytes()),
                                                  file.with_suffix(".other").replace(file)),
    }
    kept = {why: bench.record(why.replace(" ", "-")) for why in endings}
    for why, end in endings.items():
        end(kept[why][0], kept[why][2])
    for why in endings:
        bench.gone(why, kept[why][2], why)

    several = [bench.record(f"all{i}")[2] for i in range(2)]
    os.kill(several[1]["pid"], signal.SIGSTOP)
    states = {s["run"]: s for s in bench.sessions()}
    tally.check("sessions: one that does not answer", not states[several[1]["run"]]["answers"] and states[several[0]["run"]]["usable"],
                states)
    os.kill(several[1]["pid"], signal.SIGCONT)
    ended = bench.timefork("sessions", "--all")
    tally.equal("sessions --all", ended.status, 0, ended)
    for kept in several:
        bench.gone("all", kept, "by sessions --all")

    file, _, kept = bench.record("few", "--max-checkpoints", "3")
    tally.check("record: --max-checkpoints", len(kept["checkpoints"]) <= 2, kept)
    bench.timefork("clean", "--all", file)
    bench.gone("clean", kept, "by clean")

    _, _, kept = bench.record("folder")
    (bench.runtime / "timefork" / kept["run"]).unlink()
    (bench.runtime / "timefork").rmdir()
    bench.gone("folder", kept, "its folder was removed")


def test_foreign(bench):
    """Somebody else's keeper, played here: it says that it is of another build."""
    tally = bench.tally
    file, _, kept = bench.record("foreign")
    path = bench.runtime / "timefork" / kept["run"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(str(path))
        s.send(b"state")
        state = json.loads(s.recv(65536))
    bench.timefork("sessions", "--all")
    asked = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while request := connection.recv(100):
                        asked.append(request)
                        connection.send(json.dumps({**state, "build": "0+0"}).encode())

        threading.Thread(target=serve, daemon=True).start()
        told = bench.sessions()
        tally.check("another build: sessions says so", told and not told[0]["usable"] and "build" in told[0]["reason"], told)
        answers = bench.places(file, [5000])
        tally.equal("another build: the start serves", answers[0]["checkpoint"]["kind"], "start", answers)
        tally.check("another build: nothing was asked of it", b"use" not in asked, asked)
    path.unlink()


def test_signals(bench):
    """What is for the program reaches it through the command in the foreground."""
    (bench.folder / "waits.py").write_text(WAITS)
    process = subprocess.Popen([TIMEFORK, "record", "--keep", "--quiet", "waits.py"], stdout=subprocess.PIPE, env=bench.env,
                               cwd=bench.folder)
    process.stdout.readline()
    process.terminate()
    bench.tally.equal("SIGTERM goes to the program", process.wait(30), 5)
    process.stdout.close()
    bench.timefork("sessions", "--all")


def main():
    need_timefork()
    tally = Tally()
    with Folder() as folder:
        bench = Bench(folder, tally)
        try:
            file, kept = test_record(bench)
            check_places(bench, "work", file, kept)
            test_several(bench, file, kept)
            test_killed(bench)
            test_searched(bench)
            for version, exe in pythons()[1:]:
                file, _, kept = bench.record(version, "--python", exe)
                check_places(bench, version, file, kept, n=4)
            file, _, kept = bench.record("threads", script=PROGRAMS / "threads" / "counter.py")
            check_places(bench, "threads", file, kept, n=4)
            bench.timefork("sessions", "--all")
            test_ends(bench)
            test_foreign(bench)
            test_signals(bench)
        finally:
            bench.timefork("sessions", "--all")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
