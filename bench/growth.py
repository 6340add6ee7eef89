#!/usr/bin/env python3
"""How recording and replaying grow with the number of frame events, from 10^5 to 10^8. A part of bench/run; alone:

    bench/growth.py [--rounds N] [--python VERSION] [--largest EXPONENT] [--pictures FOLDER] [--quick]

Two programs: fib, which only calls, and richards, whose calls differ. Each size is recorded once, as record does by default, and asked --rounds times, each time by a new process:

record       seconds of the whole command; recorder MB: peak memory of timefork's own process
file, log    MB of the file, and of it without the durable checkpoints
stats        seconds of query --stats, which looks at every event
middle, end  seconds until replay --goto-frame has shown the middle, and the end; start: until the prompt has answered its first command at the start of the run (where)
replay MB    peak memory of the replay's own process, the largest of all these

Nothing is judged here; the goals are: memory of timefork's process the same for all sizes, size and time of stats linear, the first question after opening 10^8 events in 1 s. Pictures: growth-size.svg,
growth-memory.svg, growth-first.svg, and growth.json with all figures, in --pictures FOLDER (default: bench-output in the current folder)."""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import picture
from tools import PROGRAMS, Failed, Run, Watch, end_group, end_with_children, environment, python_of

ROUND_OF_RICHARDS = 17534  # its frame events


def calls(n):
    """How many calls fib(n) makes."""
    a, b = 1, 1
    for _ in range(n - 1):
        a, b = b, a + b + 1
    return b


def work(name, events):
    """The program that has about so many frame events."""
    if name == "richards":
        return [PROGRAMS / "richards.py", str(max(1, round(events / ROUND_OF_RICHARDS)))]
    numbers, left = [], events // 2
    while left > 0:
        n = 1
        while calls(n + 1) <= left:
            n += 1
        numbers.append(str(n))
        left -= calls(n)
    return [PROGRAMS / "fib.py", *numbers]


def asked(argv, limit):
    """Seconds, peak MB of the process itself, output."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, env=environment(), start_new_session=True)
        watch = Watch(process.pid, limit)
        watch.start()
        try:
            status = process.wait()
            seconds = time.perf_counter() - began
        finally:
            watch.ended.set()
            watch.join()
            end_group(process.pid)
        if status:
            raise Failed(f"over {limit:.0f} s" if watch.over else f"status {status}: {' '.join(map(str, argv[1:4]))}")
        out.seek(0)
        return seconds, watch.started, out.read()


def one_size(timefork, exe, folder, name, exponent, options):
    recording = folder / "growth.timefork"
    for path in folder.glob(recording.name + "*"):
        path.unlink()
    run = Run([timefork, "record", "--quiet", "-o", recording, "--python", exe, *work(name, 10**exponent)], folder, options.limit)
    info = json.loads(asked([timefork, "info", recording, "--format", "json"], options.limit)[2].splitlines()[-1])
    size = recording.stat().st_size
    row = {"program": name, "events": info["frames"], "record": run.whole, "inside": run.inside, "recorder": run.started, "recorder cpu": run.beside, "file": size / 1e6,
           "log": (size - sum(c.get("own_bytes", c["bytes"]) for c in info["checkpoints"])) / 1e6, "checkpoints": len(info["checkpoints"])}
    questions = {
        "stats": ["query", recording, "--stats", "--all"],
        "start": ["replay", recording, "-c", "where"],
        "middle": ["replay", recording, "--goto-frame", info["frames"] // 2],
        "end": ["replay", recording, "--goto-frame", "end"],
    }
    took, memory = {q: [] for q in questions}, []
    for _ in range(options.rounds):
        for question, argv in questions.items():
            seconds, megabytes, _ = asked([timefork, *argv], options.limit)
            took[question].append(seconds)
            memory.append(megabytes)
    row |= {question: statistics.median(seconds) for question, seconds in took.items()}
    row["replay"] = max(memory)
    return row


def growth(version, exe, options, folder, timefork):
    """The section of bench/run. Prints the table, writes the pictures."""
    rows = []
    print(f"Python {version}; seconds and MB")
    print(f"{'program':10} {'events':>11} {'record':>8} {'recorder MB':>11} {'CPU s':>6} {'file':>8} {'log':>8} {'bytes/ev':>8} {'checkpoints':>11} {'stats':>7} {'start':>7} {'middle':>7} {'end':>7} {'replay MB':>9}")
    for name in ("fib", "richards"):
        for exponent in range(4, 6) if options.quick else range(5, options.largest + 1):
            try:
                row = one_size(timefork, exe, folder, name, exponent, options)
            except Failed as e:
                print(f"{name:10} {10**exponent:>11} {e}", flush=True)
                continue
            rows.append(row)
            print(f"{name:10} {row['events']:>11} {row['record']:8.2f} {row['recorder']:11.1f} {row['recorder cpu']:6.2f} {row['file']:8.1f} {row['log']:8.2f} {row['log'] * 1e6 / row['events']:8.3f} "
                  f"{row['checkpoints']:>11} {row['stats']:7.2f} {row['start']:7.2f} {row['middle']:7.2f} {row['end']:7.2f} {row['replay']:9.1f}", flush=True)
    print("goals: memory the same for all sizes, log and stats linear, start, middle and end at most 1 s at 10^8 events")
    options.pictures.mkdir(parents=True, exist_ok=True)
    (options.pictures / "growth.json").write_text(json.dumps(rows, indent=1))
    draw(version, rows, options.pictures)
    print(f"pictures and growth.json in {options.pictures}")


def draw(version, rows, folder):
    def curves(*keys):
        return {f"{program}: {what}": [(r["events"], r[key]) for r in rows if r["program"] == program] for program in dict.fromkeys(r["program"] for r in rows) for key, what in keys}

    picture.lines(folder / "growth-size.svg", f"Size of the recording, Python {version}", "frame events", "MB", curves(("file", "file"), ("log", "without checkpoints")))
    picture.lines(folder / "growth-memory.svg", f"Peak memory of timefork's own process, Python {version}", "frame events", "MB", curves(("recorder", "record"), ("replay", "query and replay")))
    picture.lines(folder / "growth-first.svg", f"The first question of a new process, Python {version}", "frame events", "seconds",
                  curves(("start", "at the start"), ("middle", "goto the middle"), ("end", "goto the end"), ("stats", "query --stats")), [(1, "goal at 10^8: 1 s (start, middle, end)")])


def main():
    root = Path(__file__).resolve().parent.parent
    timefork = Path(os.environ.get("TIMEFORK", root / "build" / "timefork")).absolute()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default="3.12", help="a minor version")
    parser.add_argument("--largest", type=int, default=8, help="exponent of the largest number of events")
    parser.add_argument("--limit", type=float, default=300, help="seconds that one command may take")
    parser.add_argument("--pictures", type=Path, default=Path("bench-output"), help="folder for pictures and figures (default: bench-output)")
    parser.add_argument("--quick", action="store_true", help="10^4 and 10^5 events: to try the bench itself, not to measure")
    options = parser.parse_args()
    end_with_children()
    exe = python_of(timefork, options.python)
    print(f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.2f}; median of {options.rounds}")
    with tempfile.TemporaryDirectory(prefix="timefork-bench-") as folder:
        growth(options.python, exe, options, Path(folder), timefork)


if __name__ == "__main__":
    main()
