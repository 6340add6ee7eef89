#!/usr/bin/env python3
"""What checkpoints cost while recording, what they save when replaying, and what they take. A part of bench/run; alone:

    bench/checkpoints.py [--rounds N] [--seconds N] [--long N] [--python VERSION] [--only cost,goto,pause,restore,storage,keep]
                         [--program NAME] [--how none,auto,keep] [--quick]

cost     each program is recorded with --checkpoints none, with the default and with --keep, in turns. A ratio is that of two runs
         of one round, to the one with none: "wall" of the whole command, "CPU" of the program's work by its own clock; "beside" is the CPU time
         of all other processes of the command (recorder, criu, copies), in seconds, without and with; of --keep it is not known, as the recorder stays.
goto     a run of --long seconds; gotos to random places, cold (each in a new process: the whole command is timed), after a goto to the end
         in one process, ten of them, and warm (back to the ten, in another order, in that process).
pause    the longest gaps between two looks at the clock of a program with 100 MB, by the wall clock and by the CPU's, in which other
         programs do not count: with n checkpoints, the median of the n longest, and the longest; beside it the same without any.
restore  of a process with 100 MB: from the start of the command to its end, and what the replay says that going there took.
storage  growth of the file by one dump of 100 MB, of which a quarter is noise, and by ten, between which a tenth of the pages at most is written to.
keep     the first goto after record --keep, and after one without.

It uses CRIU as timefork finds it (TIMEFORK_CRIU). Nothing is judged here; the goals are printed beside the figures."""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PARTS = ["cost", "goto", "pause", "restore", "storage", "keep"]


class Bench:
    def __init__(self, version, exe, options, folder, timefork, programs, environment):
        self.version, self.exe, self.options, self.folder, self.timefork, self.programs = version, str(exe), options, folder, str(timefork), programs
        self.environment = environment
        self.quick = options.quick

    def run(self, argv):
        """Wall seconds, CPU seconds of the process and what it waited for, output."""
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen([str(a) for a in argv], stdout=out, env=self.environment, cwd=self.folder)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - began
            out.seek(0)
            if process.returncode:
                sys.exit(f"failed with status {process.returncode}: {' '.join(str(a) for a in argv)}")
            return wall, usage.ru_utime + usage.ru_stime, out.read()

    def record(self, recording, how, program):
        for name in self.folder.glob(recording.name + "*"):
            name.unlink()
        return self.run([self.timefork, "record", "--quiet", *how, "-o", recording, "--python", self.exe, self.programs / program[0], *program[1:]])

    def rows(self, *args):
        return [json.loads(line) for line in self.run([self.timefork, *args, "--format", "json"])[2].splitlines()]

    def durable(self, recording):
        return [c for c in self.rows("info", recording)[-1]["checkpoints"] if c["kind"] == "durable"]

    def end_kept(self, recording):
        run = self.rows("info", recording)[-1]["run"]
        subprocess.run([self.timefork, "sessions", "--end", run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment)

    def line(self, what, text, goal=""):
        print(f"{self.version:6} {what:34} {text}{'  goal ' + goal if goal else ''}", flush=True)


def spread(values, unit="x"):
    return f"{statistics.median(values):.3f}{unit} ({min(values):.3f}-{max(values):.3f})"


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def fib_of(b, seconds):
    """Arguments for a recorded run of so many seconds."""
    if b.quick:
        return ["fib.py", "24"]
    took = min(b.record(b.folder / "fib.timefork", ["--checkpoints", "none"], ["fib.py", "31"])[0] for _ in range(2))
    return ["fib.py", *["31"] * max(1, round(seconds / took))]


def cost(b):
    seconds = 1 if b.quick else b.options.seconds
    programs = [("fib", fib_of(b, seconds) if b.options.program in "fib" else []), *((name, ["memory.py", kind, seconds, megabytes]) for name, kind, megabytes in (
        ("lists, 14 MB", "list", 14), ("100 MB written to", "write", 100), ("files", "io", 1), ("server, 100 MB", "server", 100)))]
    for name, program in programs:
        if b.options.program not in name:
            continue
        found = {how: [] for how in b.options.how.split(",")}
        made = []
        for n in range(b.options.rounds):
            turns = list(found)
            for how in turns if n % 2 == 0 else reversed(turns):
                recording = b.folder / f"{how}.timefork"
                wall, cpu, out = b.record(recording, ["--keep=20s"] if how == "keep" else ["--checkpoints", how], program)
                work = float(out.split()[2])
                found[how].append((wall, work, cpu - work))
                if how == "auto":
                    made.append(len(b.durable(recording)))
                elif how == "keep":
                    b.end_kept(recording)
        for how in list(found)[1:]:
            pairs = list(zip(found["none"], found[how]))
            beside = [statistics.median(m[2] for m in found[h]) for h in ("none", how)]
            b.line(f"{name}, {how}", f"wall {spread([m[0] / n[0] for n, m in pairs])}, CPU {spread([m[1] / n[1] for n, m in pairs])}"
                   + (f", beside {beside[0]:.2f} -> {beside[1]:.2f} s; {statistics.median(n[0] for n, _ in pairs):.1f} s, {statistics.median(made):.0f} checkpoints" if how == "auto" else ""),
                   "1.05x" if how == "auto" else "")


def goto(b):
    seconds = 2 if b.quick else b.options.long
    for name, program in (("server", ["memory.py", "server", seconds, 20]), ("fib", fib_of(b, seconds))):
        if b.options.program not in name:
            continue
        recording = b.folder / "long.timefork"
        b.record(recording, ["--checkpoints", "auto"], program)
        info = b.rows("info", recording)[-1]
        rng = random.Random(7)
        positions = [rng.randint(1, info["frames"]) for _ in range(4 if b.quick else b.options.gotos)]
        cold, kinds = [], {}
        for position in positions:
            wall, _, out = b.run([b.timefork, "replay", recording, "--goto-frame", position, "--format", "json"])
            cold.append(wall * 1e3)
            kind = json.loads(out)["checkpoint"]["kind"]
            kinds[kind] = kinds.get(kind, 0) + 1
        again, first = [], []
        for n in range(0, len(positions), 10):
            some = positions[n:n + 10]
            back = rng.sample(some, len(some))
            answers = b.rows("replay", recording, "--goto-frame", "end", *[a for p in some + back for a in ("--goto-frame", p)])
            took = [a["elapsed_ms"] for a in answers]
            first += took[1:len(some) + 1]
            again += took[len(some) + 1:]
        what = f"{info['duration_ns'] / 1e9:.0f} s, {info['frames'] / 1e6:.0f}M events, {len(info['checkpoints'])} checkpoints"
        b.line(f"goto, {name}: {what}", "")
        for kind, values, goal in (("cold", cold, "p95 1000 ms"), ("first, after the end", first, ""), ("warm", again, "p95 150 ms")):
            b.line(f"  {kind}", f"p50 {percentile(values, 0.5):.0f} ms, p95 {percentile(values, 0.95):.0f} ms, max {max(values):.0f} ms"
                   + (f"; from {kinds}" if kind == "cold" else ""), goal)
        b.line("  to the end", f"{took[0]:.0f} ms")
        recording.unlink()


def pause(b):
    seconds = 2 if b.quick else b.options.seconds
    found = {"none": ([], []), "criu": ([], [])}
    made = 0
    for _ in range(b.options.rounds):
        for how, (wall, cpu) in found.items():
            recording = b.folder / "still.timefork"
            out = b.record(recording, ["--checkpoints", how], ["memory.py", "still", seconds])[2].splitlines()
            wall += [float(g) for g in out[1].split()]
            cpu += [float(g) for g in out[2].split()]
            made += len(b.durable(recording))
    for what, at in (("wall", 0), ("CPU", 1)):
        longest = {how: sorted(gaps[at], reverse=True)[:max(1, made)] for how, gaps in found.items()}
        b.line(f"pause, 100 MB, {made} dumps, {what}", ", ".join(f"{how}: median {statistics.median(g):.2f} ms, longest {g[0]:.2f} ms" for how, g in longest.items()), "5 ms")


def recorded_100(b):
    recording = b.folder / "hundred.timefork"
    b.record(recording, ["--checkpoints", "none"], ["memory.py", "server", 1 if b.quick else 6, 100])
    return recording, b.rows("info", recording)[-1]["frames"]


def restore(b):
    recording, frames = recorded_100(b)
    at = frames * 9 // 10
    b.run([b.timefork, "checkpoint", recording, "--at", at])
    wall, said, start = [], [], []
    for _ in range(b.options.rounds * 2):
        took, _, out = b.run([b.timefork, "replay", recording, "--goto-frame", at + 1, "--format", "json"])
        answer = json.loads(out)
        if answer["checkpoint"]["frame"] != at:
            b.line("restore", f"NOT RESTORED: from {answer['checkpoint']}")
            return
        wall.append(took * 1e3)
        said.append(answer["elapsed_ms"])
        start.append(b.run([b.timefork, "replay", recording, "--goto-frame", 1, "--format", "json"])[0] * 1e3)
    b.line("restore, 100 MB", f"first answer {spread(said, ' ms')}, whole command {spread(wall, ' ms')} (one to frame 1: {spread(start, ' ms')})", "200 ms")


def storage(b):
    recording, frames = recorded_100(b)
    before, one = recording.stat().st_size, 0
    took = []
    for n in range(10):
        took.append(b.run([b.timefork, "checkpoint", recording, "--at", frames // 2 + n * frames // 25])[0])
        one = one or recording.stat().st_size - before
    ten = recording.stat().st_size - before
    b.line("storage, 100 MB", f"one dump {one / 1e6:.1f} MB, ten {ten / 1e6:.1f} MB: {ten / one:.2f}x; the command took {spread(took, ' s')}", "1.5x")


def keep(b):
    program = ["memory.py", "server", 1 if b.quick else b.options.seconds, 20]
    kept, plain, recording = [], [], b.folder / "kept.timefork"
    kinds = set()
    for n in range(b.options.rounds):
        for how, times in ((["--checkpoints", "none"], plain), (["--keep=30s"], kept)):
            b.record(recording, how, program)
            at = b.rows("info", recording)[-1]["frames"] * 3 // 4
            wall, _, out = b.run([b.timefork, "replay", recording, "--goto-frame", at, "--format", "json"])
            times.append(wall * 1e3)
            if times is kept:
                kinds.add(json.loads(out)["checkpoint"]["kind"])
        b.end_kept(recording)
    b.line("first goto after --keep", f"{spread(kept, ' ms')} from {sorted(kinds)}; without: {spread(plain, ' ms')}; {spread([k / p for k, p in zip(kept, plain)])}")


def lasting(version, exe, options, folder, timefork, programs, environment, parts=PARTS):
    """The section of bench/run. options: rounds, seconds, long, gotos, quick."""
    b = Bench(version, exe, options, folder, timefork, programs, environment)
    for part in parts:
        {"cost": cost, "goto": goto, "pause": pause, "restore": restore, "storage": storage, "keep": keep}[part](b)


def main():
    root = Path(__file__).resolve().parent.parent
    timefork = Path(os.environ.get("TIMEFORK", root / "build" / "timefork")).absolute()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=8, help="of each run of cost, pause and keep")
    parser.add_argument("--long", type=int, default=60, help="seconds of the run of goto")
    parser.add_argument("--gotos", type=int, default=40)
    parser.add_argument("--python", default="3.12", help="a minor version")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--program", default="", help="of cost and goto: only those whose name has this in it")
    parser.add_argument("--how", default="none,auto,keep", help="of cost: what is compared with the first")
    parser.add_argument("--quick", action="store_true", help="small programs: to try the bench itself, not to measure")
    options = parser.parse_args()
    if not timefork.exists():
        sys.exit(f"{timefork} is missing: run ./setup, or name the program in TIMEFORK")
    exe = next((line.split(";", 1)[1] for line in (timefork.parent / "pythons.txt").read_text().splitlines() if line.startswith(options.python)), None)
    if not exe:
        sys.exit(f"no Python {options.python} in {timefork.parent / 'pythons.txt'}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_PRELOAD")) and k != "TIMEFORK"}
    print(f"{options.rounds} rounds, interleaved; {os.cpu_count()} processors; load {os.getloadavg()[0]:.2f}; median (range)")
    with tempfile.TemporaryDirectory(prefix="timefork-bench-") as folder:
        lasting(options.python, exe, options, Path(folder), timefork, Path(__file__).resolve().parent / "programs", environment, options.only.split(","))


if __name__ == "__main__":
    main()
