#!/usr/bin/env python3
"""timefork record against what else records Python programs, and against its floor. A part of bench/run; alone:

    bench/rivals.py [--rounds N] [--python VERSION] [--program NAME]... [--tool NAME]... [--limit SECONDS] [--pictures FOLDER]
                    [--rivals FOLDER] [--own] [--quick]

The programs are small ones of bench/programs. Each says how long its work took by its own clock, start-up left out, and how often it called one of its functions. In each
round every tool runs the same program once, after a plain run; a ratio is that of two runs of one round.

overhead     time of the work to that of the plain run, median (range). What a tool does before and after the work (start, saving a log) is "around": seconds of the whole command
             without the work
CPU          the same ratio of the program's CPU seconds, less those of a run without work, which other work on the machine disturbs least; where there are enough of them to say so
bytes/event  size of the log to the number of frame events (calls, returns, yields, resumes, unwinds) that timefork counts in the same program, both less what the
             same program has when it is told to do no work. The same denominator for all tools, whatever they call an event
lost         calls of the counted function that the log does not know of, of all. "-": it holds no single calls; "not readable": the tool made a log that cannot be opened
first        seconds until a new process has answered a question about the log: timefork and pyttd go to the middle, cProfile and coverage print their report,
             timecapsule its summary; of viztracer, which shows its log in a browser, loading the JSON only
goto         milliseconds, p50 and p95, to random events, in one process; back: one step back from there; rcont: backwards from the end to the last call of the counted function;
             what a tool has not answered after 8 s of that is not waited for
MB/plain     peak memory of the largest process, and of the plain run. recorder: of timefork's own process, which is another one than the program; s/1e7: CPU seconds of it (and of what it
             starts), less those of a run without work, for 10^7 frame events, where there are enough of them to say so

"empty hook" is a PEP 523 frame evaluator that calls the interpreter's own and does nothing else (bench/floor.c): no recorder of calls that replaces the evaluator can be faster. "timefork, no
checkpoints" is record --checkpoints none: its log is the log alone. Tools that are hundreds of times slower get less work ("small"); a run that takes longer than
--limit is ended, and its row says so; so does the row of a tool that could not be installed or failed. A tool whose first run takes more than 4 s has one round only.

The rivals come from PyPI, each into an environment of the bench's own for each Python: in bench-rivals beside the timefork program, or in --rivals FOLDER; they are installed once.
--own leaves them out: plain, empty hook and timefork only. --pictures names the folder for overhead.svg, bytes.svg and all figures as rivals.json (default: bench-output in the
current folder). --program and --tool take parts of names. Nothing is judged here; the goals are printed beside the figures."""
import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import picture
from tools import PROGRAMS, CodeTracer, Coverage, CProfile, Failed, Floor, Plain, Pyttd, Run, TimeCapsule, Timefork, Tool, VizTracer, end_with_children, installed, of_package, python_of
from travel import percentile

# name, program, function whose calls it counts, its argument for tools that cost little, for those that cost much, and for --quick
WORK = [
    ("fib", "fib.py", "fib", 32, 15, 14),
    ("hanoi", "hanoi.py", "hanoi", 21, 9, 8),
    ("qsort", "qsort.py", "quicksort", 150000, 300, 150),
    ("slow_fib", "slow_fib.py", "slow_fib", 19, 12, 10),
    ("n-body", "nbody.py", "advance", 60000, 100, 50),
    ("richards", "richards.py", "send", 300, 1, 1),
    ("deltablue", "deltablue.py", "step", 250, 1, 1),
    ("json", "json_step.py", "document", 10000, 40, 20),
    ("regex", "regex.py", "hide", 30, 1, 1),
    ("pickle", "pickle_step.py", "restore", 200, 2, 1),
    ("generators", "generators.py", "use", 1000000, 300, 100),
    ("dicts", "dicts.py", "add", 150, 1, 1),
    ("deep recursion", "deep.py", "down", 700, 1, 1),
    ("exceptions", "exceptions.py", "attempt", 200000, 200, 100),
    ("asyncio echo", "echo.py", "answer", 800, 10, 3),
    ("sqlite", "sqlite_step.py", "rebate", 120, 1, 1),
    ("numpy", "numpy_step.py", "diffuse", 700, 10, 3),
]
GOAL_MEAN, GOAL_FIB, GOAL_RECORDER = 1.2, 1.9, 0.3
GOALS = (f"goals: geometric mean of timefork's overheads {GOAL_MEAN}x, fib {GOAL_FIB}x; 2 bytes an event where calls are all there is, 1 in regular code; "
         f"the recorder {GOAL_RECORDER} CPU seconds for 10^7 events")
ENOUGH = 200000  # frame events, to say what the recorder's CPU time is for each
SLOW = 4  # seconds: a tool whose first run takes longer has no second


class Bench:
    def __init__(self, version, exe, folder, timefork, options):
        self.version, self.folder, self.timefork, self.options, self.limit = version, folder, timefork, options, options.limit
        home = options.rivals / version
        self.scripts, self.exe = home / "bin", exe
        self.reasons = {}
        if not options.own:
            for package in ("numpy", "viztracer", "coverage", "timecapsule", "codetracer-python-recorder", "codetracer-pure-python-recorder", "py-tt-debug"):
                self.reasons[package] = installed(version, exe, home, package)
        elif not (home / "bin" / "python").exists() or not (home / "numpy.installed").exists():
            self.reasons["numpy"] = installed(version, exe, home, "numpy")
        self.exe = home / "bin" / "python"
        self.floor, reason = self.build_floor(home)
        none = ("--checkpoints", "none")
        self.plain, self.bare = Plain("plain", self), Timefork("timefork, no checkpoints", self, *none)
        self.tools = [Floor("empty hook", self, reason), Timefork("timefork", self), self.bare]
        if options.own:
            return

        def named(name, package):
            return f"{name} {of_package(home, package)}".strip()

        older = options.rivals / f"{version}-pyttd-0.7"
        self.tools += [
            CProfile("cProfile", self),
            Coverage(named("coverage", "coverage"), self, self.reasons["coverage"]),
            VizTracer(named("viztracer", "viztracer"), self, self.reasons["viztracer"]),
            CodeTracer(named("codetracer-python-recorder", "codetracer-python-recorder"), self, self.reasons["codetracer-python-recorder"]),
            Tool("codetracer-pure-python-recorder", self, self.reasons["codetracer-pure-python-recorder"] or "installs by now, but the bench has no way to run it"),
            TimeCapsule(named("timecapsule", "timecapsule"), self, self.reasons["timecapsule"]),
            Pyttd(named("pyttd", "py-tt-debug"), self, self.scripts, self.reasons["py-tt-debug"]),
            # Where the newest cannot read its own recordings, this one can.
            Pyttd("pyttd 0.7.0", self, older / "bin", installed(version, exe, older, "py-tt-debug==0.7.0")),
        ]

    def build_floor(self, home):
        include = subprocess.run([str(self.exe), "-c", "import sysconfig; print(sysconfig.get_path('include'))"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        target = home / "floor"
        target.mkdir(exist_ok=True)
        built = subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-isystem", include, str(Path(__file__).resolve().parent / "floor.c"), "-o",
                                str(target / "timefork_floor.so")], stderr=subprocess.PIPE, text=True)
        return target, f"cannot be built: {built.stderr.strip().splitlines()[-1]}" if built.returncode else None

    def once(self, tool, program, limit=None):
        tool.clear()
        return Run(tool.argv(program), self.folder, limit or self.limit, tool.stack)

    def measure(self, work):
        """The rows of one program, as dictionaries."""
        name, file, function, large, small, quick = work
        file = PROGRAMS / file
        amounts = {False: quick if self.options.quick else large, True: quick if self.options.quick else small}
        tools = [t for t in self.tools if not self.options.tool or any(part in t.name for part in self.options.tool)]
        # What the same program costs when it is told to do nothing, and how many events the work has.
        self.once(self.bare, [file, "0"])
        frames, idle = self.bare.frames(), self.once(self.plain, [file, "0"]).cpu
        events, base = {}, {}
        for sort, amount in amounts.items():
            if not sort or any(t.small for t in tools):
                self.once(self.bare, [file, str(amount)])
                events[sort] = self.bare.frames() - frames
        found = {t: {"plain": [], "runs": [], "failed": t.reason} for t in tools}
        for tool in tools:
            try:
                if not tool.reason:
                    run = self.once(tool, [file, "0"])
                    base[tool] = tool.size(), run.beside, run.cpu
            except Failed as e:
                found[tool]["failed"] = f"fails without any work: {e}"
        for number in range(self.options.rounds):
            plain = {}
            for tool in tools:
                one = found[tool]
                if one["failed"] or (number and one["runs"][0].whole > SLOW):
                    continue
                try:
                    if tool.small not in plain:
                        plain[tool.small] = self.once(self.plain, [file, str(amounts[tool.small])])
                    run = self.once(tool, [file, str(amounts[tool.small])])
                    one["runs"].append(run)
                    one["plain"].append(plain[tool.small])
                    last = number == self.options.rounds - 1 or run.whole > SLOW
                    if last:
                        one["bytes"] = tool.size()
                        self.ask(tool, [file, str(amounts[tool.small])], function, run.calls, one)
                except Failed as e:
                    one["failed"] = str(e)
        return [self.row(name, tool, amounts[tool.small], events.get(tool.small), base.get(tool), idle, found[tool]) for tool in tools]

    def ask(self, tool, program, function, calls, one):
        """What the log that was just made can answer. calls comes last: it may make another log."""
        questions = {"first": tool.first, "moves": lambda: tool.moves(function), "known": lambda: tool.calls(program, function)}
        if tool is self.bare:
            del questions["moves"]  # without checkpoints each is a replay from the start: first says what that takes
        for key, question in questions.items():
            try:
                one[key] = question()
            except NotImplementedError:
                pass
            except Failed as e:
                one[key + " failed"] = str(e)
        if "known" in one:
            one["lost"] = "-" if one["known"] is None else {"calls": calls, "lost": calls - one["known"]}

    def row(self, name, tool, amount, events, base, idle, one):
        row = {"python": self.version, "program": name, "tool": tool.name, "argument": amount, "failed": one["failed"]}
        if one["failed"] or not one["runs"]:
            return row
        runs, plain = one["runs"], one["plain"]
        ratios = [r.inside / p.inside for r, p in zip(runs, plain)]
        row |= {"plain": statistics.median(p.inside for p in plain), "overhead": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "rounds": len(runs), "events": events,
                "fastest": min(r.inside for r in runs) / min(p.inside for p in plain),
                "cpu": statistics.median((r.cpu - base[2]) / (p.cpu - idle) for r, p in zip(runs, plain)) if min(p.cpu for p in plain) - idle > 0.05 else None,
                "around": statistics.median(r.whole - r.inside for r in runs), "error": runs[-1].error}
        if not isinstance(tool, (Plain, Floor)) and events:
            row["bytes"] = (one["bytes"] - base[0]) / events
            row["log"] = one["bytes"]
        for key in ("lost", "first", "first failed", "moves failed", "known failed"):
            row[key] = one.get(key)
        if "moves" in one:
            goto, back, rcont = one["moves"]
            row |= {key: [percentile(took, 0.5), percentile(took, 0.95)] if took else None for key, took in (("goto", goto), ("back", back))}
            row["moves"], row["rcont"] = len(goto), rcont[0] if rcont else None
        row["memory"] = statistics.median(r.others if tool.recorder else max(r.started, r.others) for r in runs)
        row["plain memory"] = statistics.median(p.started for p in plain)
        if tool.recorder:
            row["recorder"] = statistics.median(r.started for r in runs)
            row["recorder cpu"] = (statistics.median(r.beside for r in runs) - base[1]) / events * 1e7 if events >= ENOUGH else None
        return row


def pair(values):
    return f"{values[0]:.0f}/{values[1]:.0f}" if values else "-"


def lost(row):
    if row.get("lost") == "-":
        return "-"
    if not row.get("lost"):
        return "not readable" if row.get("known failed") else "not known"
    return "0" if not row["lost"]["lost"] else f"{row['lost']['lost']} of {row['lost']['calls']}"


HEAD = (f"{'program':14} {'tool':32} {'plain':>8} {'overhead':>26} {'n':>2} {'CPU':>7} {'around':>8} {'bytes/ev':>9} {'lost':>16} {'first':>7} {'goto':>11} {'back':>9} {'rcont':>7} "
        f"{'MB/plain':>8} {'recorder MB':>11} {'s/1e7':>6}")


def text(row):
    """A line of the table, and those with reasons under it."""
    start = f"{row['program']:14} {row['tool']:32}"
    if row["failed"]:
        return f"{start} {row['failed'][:200]}"
    digits = 0 if row["overhead"] >= 100 else 2
    spread = f"{row['overhead']:.{digits}f}x ({row['least']:.{digits}f}-{row['most']:.{digits}f})"
    number = lambda key, form: format(row[key], form) if row.get(key) is not None else "-"
    line = (f"{start} {row['plain'] * 1e3:6.1f}ms {spread:>26} {row['rounds']:2} {number('cpu', '.2f'):>7} {row['around']:7.2f}s {number('bytes', '.2f'):>9} "
            f"{lost(row) if 'bytes' in row else '-':>16} {number('first', '.2f'):>7} {pair(row.get('goto')):>11} {pair(row.get('back')):>9} {number('rcont', '.0f'):>7} {pair([row['memory'], row['plain memory']]):>8} "
            f"{number('recorder', '.1f'):>11} {number('recorder cpu', '.2f'):>6}")
    said = {}
    for key, what in (("error", "the command"), ("first failed", "first"), ("moves failed", "goto"), ("known failed", "lost")):
        if row.get(key):
            said.setdefault(row[key], []).append(what)
    return line + "".join(f"\n{'':14} {'':32} ({', '.join(what)}: {reason[:150]})" for reason, what in said.items())


def rivals(version, exe, options, folder, timefork):
    """The section of bench/run. Prints the table, writes the pictures, returns the rows."""
    bench = Bench(version, exe, folder, timefork, options)
    rows = []
    print(f"Python {version}; around and first in seconds, goto, back and rcont in milliseconds")
    print(HEAD)
    options.pictures.mkdir(parents=True, exist_ok=True)
    for work in WORK:
        if options.program and not any(part in work[0] for part in options.program):
            continue
        for row in bench.measure(work):
            rows.append(row)
            print(text(row), flush=True)
        (options.pictures / "rivals.json").write_text(json.dumps(rows, indent=1))
        draw(version, rows, options.pictures)
    print("\ngeometric mean of the overheads, and of the CPU ratios, over the programs that it ran")
    for tool in dict.fromkeys(row["tool"] for row in rows):
        mine = [row for row in rows if row["tool"] == tool and not row["failed"]]
        print(f"{tool:32} {mean([row['overhead'] for row in mine]):>10} {mean([row['cpu'] for row in mine if row['cpu']]):>10}  {len(mine)} of {len({row['program'] for row in rows})} programs")
    print(GOALS)
    print(f"pictures and rivals.json in {options.pictures}")
    return rows


def mean(ratios):
    return f"{math.exp(statistics.mean(map(math.log, ratios))):.2f}x" if ratios else "-"


def draw(version, rows, folder):
    measured = [row for row in rows if not row["failed"]]
    programs = list(dict.fromkeys(row["program"] for row in rows))
    tools = list(dict.fromkeys(row["tool"] for row in measured))
    overhead = {tool: {r["program"]: (r["overhead"], r["least"], r["most"]) for r in measured if r["tool"] == tool} for tool in tools}
    picture.dots(folder / "overhead.svg", f"Time of the work while it is recorded, Python {version}", "times as long as the plain run (logarithmic)", programs, overhead,
                 [(GOAL_MEAN, f"goal for timefork's mean: {GOAL_MEAN}x")])
    size = {tool: {r["program"]: (r["bytes"],) * 3 for r in measured if r["tool"] == tool and r.get("bytes", 0) > 0} for tool in tools}
    picture.dots(folder / "bytes.svg", f"Size of the log, Python {version}", "bytes for each frame event (logarithmic)", programs, {t: p for t, p in size.items() if p},
                 [(1, "goal, regular code: 1"), (2, "calls: 2")])


def arguments(parser, timefork):
    """Options that bench/run has, too."""
    parser.add_argument("--limit", type=float, default=60, help="seconds that a run of a rival may take")
    parser.add_argument("--pictures", type=Path, default=Path("bench-output"), help="folder for pictures and figures (default: bench-output)")
    parser.add_argument("--rivals", type=Path, default=timefork.parent / "bench-rivals", help="folder with the rivals' environments (default: bench-rivals beside the timefork program)")


def main():
    root = Path(__file__).resolve().parent.parent
    timefork = Path(os.environ.get("TIMEFORK", root / "build" / "timefork")).absolute()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default="3.12", help="a minor version")
    parser.add_argument("--program", action="append", default=[])
    parser.add_argument("--tool", action="append", default=[])
    parser.add_argument("--own", action="store_true", help="without the rivals")
    parser.add_argument("--quick", action="store_true", help="little work: to try the bench itself, not to measure")
    arguments(parser, timefork)
    options = parser.parse_args()
    end_with_children()
    options.rivals, options.pictures = options.rivals.absolute(), options.pictures.absolute()
    exe = python_of(timefork, options.python)
    print(f"{options.rounds} rounds, interleaved; {os.cpu_count()} processors; load {os.getloadavg()[0]:.2f}; median (range)")
    with tempfile.TemporaryDirectory(prefix="timefork-bench-") as folder:
        rivals(options.python, exe, options, Path(folder), timefork)


if __name__ == "__main__":
    main()
