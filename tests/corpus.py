#!/usr/bin/env python3
"""Records every program of tests/programs with every Python found, verifies it, and compares it with a plain run
and with an oracle (oracle.py) that shares no code with the engine.

    tests/corpus.py [--positions N] [--jobs N] [--every] [NAME...]

For each Python and each program:
  - standard output, standard error and exit status are those of a plain run, where a plain run is repeatable;
  - `verify` re-executes everything without a difference;
  - `query --output` gives back standard output and error byte for byte;
  - the user's frame events, counted and one by one, are those that sys.setprofile and sys.settrace see;
  - at random positions (200 for the shared cases, 40 for the others) function, line, stack and locals are the oracle's;
    each program has so many with one Python, in turn, and a quarter of them with the others (TIMEFORK_TEST_LONG=1: with all);
  - where every run prints something else, the values that functions return in replay are those that were printed;
  - where something happens that a replay does not cover, verify says what, and positions before it still work.
"""
import argparse
import concurrent.futures
import json
import os
import random
import re
import shutil
import sys
import threading
import time
from dataclasses import dataclass

import lib
from lib import BUILD, LONG, PROGRAMS, Folder, Tally, clean_env, difference, in_turn, json_lines, need_timefork, pythons, run, timefork

# The line events that a position counts: FRAME+1 is the first line that runs after event FRAME.
FIRST_LINE = 1


@dataclass
class Program:
    script: str
    args: tuple = ()           # {work}: the folder that the run works in; {programs}: that of the programs
    stdin: bytes = b""
    varies: bool = False       # two plain runs print different things
    oracle: bool = True        # what happens is the same in every run, and when something watches
    printed: str = ""          # a function whose returned values are what is printed, one a line
    uncovered: str = ""        # a regular expression for what the replay must name when it stops
    how: str = "script"        # script, module, code, venv
    name: str = ""
    needs: str = ""            # modules; without them the program is skipped
    packages: bool = False     # needs come from PyPI
    places: int = 10           # random positions, where there is no oracle
    before: tuple = ()         # a command that makes what the program needs in its folder; without it, it is skipped

    def __post_init__(self):
        if not self.name:
            self.name = self.script.removesuffix(".py") + ("-" + "-".join(self.args) if self.args and "{" not in self.args[0] else "")

    @property
    def case(self):
        return self.script.startswith("cases/")


STDIN = b"first line\nsecond  line here\na b\nc\nd e f\nrest of it\nand more\n"
CODE = "import sys\ndef f(n):\n    return n * 2\nprint(sys.argv, [f(i) for i in range(50)])\n"
LEAVING = ["0", "3", "none", "text", "true", "large", "os", "raise", "finally", "thrown", "-1"]

ALL = [
    Program("cases/call_free_loop.py"),
    Program("cases/exceptions.py"),
    Program("cases/generators.py"),
    Program("cases/history.py"),
    Program("cases/identity.py", varies=True, oracle=False, printed="go"),
    Program("cases/leaf_loop.py"),
    Program("cases/observer.py"),
    Program("cases/outside.py", varies=True, oracle=False, printed="step"),
    Program("cases/side_effects.py", args=("{work}",)),
    Program("stdin.py", stdin=STDIN),
    Program("stdin.py", stdin=b"only", name="stdin-short"),
    Program("argv.py", args=("-x", "--", "a b", "", "ünï"), name="argv", oracle=False),
    Program("argv.py", args=("in a venv",), how="venv", name="venv", oracle=False),
    Program("shop", args=("bolt", "nut"), how="module", oracle=False, name="module"),
    Program(CODE, args=("one", "two"), how="code", oracle=False, name="code"),
    Program("texts.py"),
    Program("walk.py"),
    Program("journey.py"),
    Program("objects.py"),
    Program("contexts.py"),
    Program("coroutines.py"),
    Program("deep.py", oracle=False),
    Program("bignum.py"),
    Program("regex.py"),
    Program("packing.py"),
    Program("logs.py"),
    Program("temp.py"),
    Program("clocks.py", varies=True, oracle=False),
    Program("chance.py", varies=True, oracle=False),
    Program("lifetimes.py", oracle=False),
    Program("addresses.py", varies=True, oracle=False),
    Program("tracer.py", oracle=False),
    Program("uncaught.py"),
    Program("syntax_error.py", oracle=False),
    Program("large.py"),
    Program("attributes.py", varies=True, oracle=False),
    Program("machine.py", varies=True, oracle=False),
    Program("scheduling.py"),
    Program("exec_eval.py"),
    Program("iterators.py"),
    *[Program("status.py", args=(how,), oracle=how not in ("os",)) for how in LEAVING],
    Program("child.py", oracle=False),
    Program("subprocesses.py", printed="shown", oracle=False, places=50),
    Program("threads.py", oracle=False),
    Program("sockets.py"),
    Program("datagrams.py"),
    Program("memory.py", oracle=False),
    Program("descriptors.py", oracle=False),
    Program("own_signals.py"),
    Program("own_signals.py", args=("killed",), oracle=False),
    Program("own_signals.py", args=("opened",), oracle=False),
    Program("database.py", oracle=False, places=50),
    Program("chained.py", oracle=False),
    Program("affinity.py", oracle=False),
    Program("alarm.py", oracle=False, places=50),
    Program("timers.py", varies=True, oracle=False, places=50),
    Program("messages.py"),
    Program("notices.py", oracle=False),
    Program("semaphores.py", oracle=False),
    Program("maps.py"),
    Program("seldom.py", oracle=False),
    Program("servers.py", varies=True, oracle=False, places=50),
    Program("secure.py", oracle=False, places=50, needs="ssl", before=(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost")),
    Program("lookups.py", oracle=False, needs="curses, readline"),
    Program("stored.py", oracle=False, places=50, needs="lzma, bz2, sqlite3, dbm"),
    Program("arrays.py", needs="numpy", packages=True),
    Program("tables.py", needs="pandas", packages=True, oracle=False, places=50),
    Program("markup.py", needs="lxml.etree", packages=True),
    Program("foreign.py", needs="cffi", packages=True, oracle=False),
    Program("pytest", args=("-q", "-p", "no:cacheprovider", "--rootdir={work}", "{programs}/project"), how="module", name="pytest", needs="pytest",
            packages=True, varies=True, oracle=False, places=50),
    Program("black", args=("--check", "--quiet", "{programs}/../travel.py"), how="module", name="black", needs="black", packages=True, oracle=False,
            places=50),
    Program("pyflakes", args=("{programs}/..",), how="module", name="pyflakes", needs="pyflakes", packages=True, oracle=False, places=50),
    Program("openblas.py", needs="numpy", packages=True, oracle=False, uncovered="a library starts a thread of its own"),
    Program("subinterpreters.py", args=("shared",), oracle=False),
    *[Program("subinterpreters.py", args=("own",), uncovered="GIL of its own", oracle=False, needs=new, name=f"subinterpreters-own{new}")
      for new in ("_xxinterpchannels", "_interpchannels")],
    *[Program("barriers.py", args=(how,), uncovered=says, oracle=False) for how, says in (
        ("alias", "mapped already"), ("written", "pwrite64 changes a file that is mapped"), ("cut", "ftruncate changes"),
        ("read_only", "write changes a file"), ("named", "others have it open"), ("again", "openat of a file that is mapped"), ("passed", "passes a file on"), ("got", "may have a descriptor of it"))],
]


# Parts of the standard library's own tests: whole programs that nobody here wrote. They print how long they took.
STDLIB = "textwrap bisect string csv configparser shlex ipaddress difflib copy fractions pprint contextlib deque fileio getopt" + LONG * " heapq collections"
ALL += [Program("unittest", args=("-q", f"test.test_{name}"), how="module", varies=True, oracle=False, places=20, name=f"stdlib-{name}",
                needs=f"test.test_{name}") for name in STDLIB.split()]


PACKAGES = "numpy pandas lxml cffi pytest black pyflakes"
asked_for = {}
asking = threading.Lock()


def packages(version, exe):
    """(folder, why not): what PyPI has of PACKAGES for this Python, fetched once into the build folder."""
    with asking:
        if version not in asked_for:
            asked_for[version] = fetch(version, exe)
        return asked_for[version]


def fetch(version, exe):
    folder = BUILD / "packages" / version
    if (folder / "complete").exists():
        return folder, ""
    with Folder() as top:
        made = run([exe, "-m", "venv", top / "venv"])
        if made.status != 0:
            return None, f"no virtual environment: {made.errtext.strip()[-100:]}"
        shutil.rmtree(folder, ignore_errors=True)
        got = run([top / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
                   "--retries", "1", "--timeout", "15", "--target", folder, *PACKAGES.split()], limit=300)
        if got.status != 0 or got.timed_out:
            return None, got.errtext.strip()[-200:] or "it took too long"
    (folder / "complete").touch()
    return folder, ""


class Case:
    """One program with one Python."""

    def __init__(self, tally, version, exe, program, top, positions=0, whole=True):
        self.tally, self.exe, self.program, self.positions = tally, exe, program, positions
        self.whole = whole  # or a part of the random positions
        self.label = f"{version} {program.name}"
        self.version = version
        self.top = top
        self.packages = None
        self.work = top / "work"
        self.recording = top / "run.timefork"
        self.rng = random.Random(self.label)

    def many(self, n):
        return self.positions or (n if self.whole else max(n // 4, min(n, 10)))

    def check(self, what, good, detail=""):
        return self.tally.check(f"{self.label}: {what}", good, detail)

    def equal(self, what, got, expected, detail=""):
        return self.tally.equal(f"{self.label}: {what}", got, expected, detail)

    def command(self):
        """(interpreter, what follows it)"""
        p = self.program
        args = [a.format(work=self.work, programs=PROGRAMS) for a in p.args]
        if p.how == "module":
            return self.exe, ["-m", p.script, *args]
        if p.how == "code":
            return self.exe, ["-c", p.script, *args]
        exe = self.exe
        if p.how == "venv":
            exe = str(self.top / "venv" / "bin" / "python")
        return exe, [str(PROGRAMS / p.script), *args]

    def fresh(self):
        """Each run starts in an empty folder of the same name."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        if self.program.how == "module" and (PROGRAMS / self.program.script).is_dir():
            shutil.copytree(PROGRAMS / self.program.script, self.work / self.program.script,
                            ignore=shutil.ignore_patterns("__pycache__"))
        if self.program.before:
            made = run(self.program.before, cwd=self.work)
            if made.status != 0:
                raise RuntimeError(str(made))
        return {"cwd": self.work, "stdin": self.program.stdin, "env": self.environment()}

    def environment(self):
        return clean_env(PYTHONPATH=str(self.packages)) if self.packages else clean_env()

    def go(self):
        if self.program.needs:
            if self.program.packages:
                self.packages, why = packages(self.version.split()[0], self.exe)
                if not self.packages:
                    self.tally.skip(self.label, f"no {self.program.needs} from PyPI: {why}")
                    return
            found = run([self.exe, "-c", f"import {self.program.needs}"], env=self.environment())
            if found.status != 0:
                self.tally.skip(self.label, f"{self.exe} has no {self.program.needs}")
                return
        if self.program.before and not shutil.which(self.program.before[0]):
            self.tally.skip(self.label, f"no {self.program.before[0]}")
            return
        if self.program.how == "venv":
            made = run([self.exe, "-m", "venv", "--without-pip", self.top / "venv"])
            if made.status != 0:
                self.tally.skip(self.label, f"no virtual environment: {made.errtext.strip()[-100:]}")
                return
        exe, rest = self.command()
        self.plain = run([exe, *rest], **self.fresh())
        recorded = timefork("record", "--quiet", "-o", self.recording, "--python", exe, *rest, **self.fresh())
        if not self.check("is recorded", self.recording.exists() and not recorded.timed_out, recorded):
            return
        self.recorded = recorded
        self.equal("exit status", recorded.status, self.plain.status, recorded)
        if not self.program.varies:
            self.equal("standard output", recorded.out, self.plain.out, recorded.errtext)
            self.equal("standard error", recorded.err, self.plain.err)
        if self.program.uncovered:
            self.stops_there()
            return
        verified = timefork("verify", self.recording)
        self.check("verify", verified.status == 0, verified)
        self.output()
        if self.program.printed:
            self.values_as_printed()
        if self.program.oracle:
            self.as_the_oracle_says()
        elif not self.program.printed:
            self.every_kind_of_position()

    def output(self):
        result = timefork("query", self.recording, "--output", "--format", "json")
        rows = json_lines(result) if result.status == 0 else []
        for fd, expected in ((1, self.recorded.out), (2, self.recorded.err)):
            got = "".join(row["text"] for row in rows if row["fd"] == fd).encode("utf-8", "surrogateescape")
            self.equal(f"query --output, fd {fd}", got, expected, result)
        frames = [row["frame"] for row in rows]
        self.check("query --output is in order", frames == sorted(frames), frames[:50])

    def frames(self, *more):
        result = timefork("query", self.recording, "--frames", "--format", "json", "--limit", "1000000000", *more)
        if not self.check("query --frames", result.status == 0, result):
            return []
        return json_lines(result)

    def goto(self, positions, *more):
        args = [a for p in positions for a in ("--goto-frame", str(p))]
        result = timefork("replay", self.recording, *args, *more, "--format", "json")
        answers = json_lines(result) if result.status == 0 else []
        if not self.check("replay --goto-frame", len(answers) == len(positions), result):
            return []
        return answers

    def values_as_printed(self):
        name = self.program.printed
        leaves = [e["frame"] for e in self.frames("--function", name) if e["event"] == "return"]
        lines = self.recorded.text.splitlines()
        if not self.equal(f"returns of {name}", len(leaves), len(lines)):
            return
        order = list(range(len(lines)))
        self.rng.shuffle(order)
        wrong = []
        for i, answer in zip(order, self.goto([leaves[i] for i in order])):
            value = answer.get("returned")
            value = value["repr"] if isinstance(value, dict) else value
            # A line may have a number in front of the value.
            if not value or not (same_repr(value, lines[i]) or same_repr(value, lines[i].partition(" ")[2])):
                wrong.append(f"call {i}:\n{difference(value, lines[i])}")
        self.check(f"{len(order)} values returned by {name}, against what was printed", not wrong, "\n".join(wrong[:5]))

    def every_kind_of_position(self):
        """No oracle: the frame asked for is the frame answered, with the function and kind that query tells."""
        events = [e for e in self.frames("--all")]
        if not events:
            return
        chosen = self.rng.sample(events, min(len(events), self.many(self.program.places))) + [events[0], events[-1]]
        for event, answer in zip(chosen, self.goto([e["frame"] for e in chosen])):
            keys = ("frame", "event", "function", "file")
            self.equal(f"goto {event['frame']}", [answer.get(k) for k in keys], [event[k] for k in keys])

    def stops_there(self):
        verified = timefork("verify", self.recording)
        said = verified.text + verified.errtext
        self.check("verify stops and names what is not covered",
                   verified.status not in (0, 134, 139) and not verified.timed_out and re.search(self.program.uncovered, said), verified)
        leaves = [e["frame"] for e in self.frames("--function", "before") if e["event"] == "return"]
        if self.check("events before it are there", leaves):
            for answer in self.goto(leaves[:1]):
                self.equal("a position before it", answer.get("function"), "before")

    # ---- the oracle ----

    def ask_oracle(self, mode, *more):
        out = self.top / "oracle.json"
        exe, rest = self.command()
        oracle = PROGRAMS.parent / "oracle.py"
        result = run([exe, oracle, mode, out, PROGRAMS, *more, *rest], **self.fresh())
        # The oracle must see the program that was recorded: if it printed something else, it is no oracle for it.
        if not self.equal(f"oracle ({mode}) output", result.out, self.plain.out, result.errtext):
            return None
        return json.loads(out.read_text())

    def as_the_oracle_says(self):
        count = self.ask_oracle("count")
        (self.top / "positions.json").write_text("[]")
        trace = self.ask_oracle("trace", self.top / "positions.json")
        if not count or not trace:
            return
        inside = str(PROGRAMS) + "/"
        user = [e for e in self.frames() if e["file"].startswith(inside)]
        # The oracle does not see what the interpreter's end runs: __del__, generators that are closed.
        done = next((i for i, e in enumerate(user) if e["function"] == "<module>" and e["depth"] == user[0]["depth"]
                     and e["event"] in ("return", "unwind")), None)
        if not self.check("the program's own module is left", done is not None, user[-1:]):
            return
        user = user[:done + 1]
        enters = sum(e["event"] in ("call", "resume") for e in user)
        self.equal("calls and resumes, against sys.setprofile", enters, count["enter"])
        self.equal("returns, yields and unwinds, against sys.setprofile", len(user) - enters, count["leave"])

        codes = trace["codes"]
        expected = [(kind, codes[code][1], codes[code][0]) for kind, code, _ in trace["events"]]
        got = [(e["event"], e["function"], e["file"]) for e in user]
        if not self.equal("every event, against sys.settrace", got, expected):
            return
        self.positions_against_oracle(user, trace["events"])

    def positions_against_oracle(self, user, events):
        n = self.many(200 if self.program.case else 40)
        wanted = []
        for _ in range(n):
            k = self.rng.randrange(len(events))
            lines = events[k][2]
            wanted.append((k, self.rng.randint(1, lines) if lines and self.rng.random() < 0.6 else 0))
        (self.top / "positions.json").write_text(json.dumps(wanted))
        first = self.ask_oracle("trace", self.top / "positions.json")
        second = self.ask_oracle("trace", self.top / "positions.json")
        if not first or not second:
            return
        texts = [f"{user[k]['frame']}+{m - 1 + FIRST_LINE}" if m else str(user[k]["frame"]) for k, m in wanted]
        wrong = []
        for text, (k, m), answer in zip(texts, wanted, self.goto(texts)):
            key = f"{k}+{m}"
            problems = compare(answer, repeatable(first["details"][key], second["details"][key]))
            if problems:
                wrong.append(f"at {text}:\n  " + "\n  ".join(problems))
        self.check(f"{len(wanted)} positions, against sys.settrace", not wrong,
                   f"{len(wrong)} are wrong\n" + "\n".join(wrong[:8]))


def repeatable(detail, other):
    """A detail without the locals that are different in every run (times, names of temporary files)."""
    same = {name: text for name, text in detail["locals"].items() if other["locals"].get(name) == text}
    return {**detail, "locals": same}


def same_repr(got, expected):
    """A long repr may be cut, visibly."""
    if got == expected:
        return True
    cut = re.split(r"\.\.\.|…", got)[0]
    return cut != got and len(cut) >= 60 and expected.startswith(cut)


def compare(answer, detail):
    """What is wrong with the answer of a replay, as a list of texts."""
    problems = []

    def differ(what, got, expected):
        problems.append(f"{what}: got {got!r}, expected {expected!r}")

    entering = detail["kind"] in ("call", "resume")
    lines = {detail["line"]}
    if entering:
        lines |= {detail["first_line"], detail["next_line"]}
    if answer["function"] != detail["function"]:
        differ("function", answer["function"], detail["function"])
    if answer["file"] != detail["file"]:
        differ("file", answer["file"], detail["file"])
    if answer["line"] not in lines:
        differ("line", answer["line"], sorted(x for x in lines if x is not None))
    inside = str(PROGRAMS) + "/"
    stack = [[f["function"], f["file"], f["line"]] for f in answer["stack"] if f["file"].startswith(inside)]
    expected = detail["stack"]
    if stack[1:] != expected[1:] or [f[:2] for f in stack[:1]] != [f[:2] for f in expected[:1]]:
        differ("stack", stack, expected)
    elif stack and stack[0][2] not in lines:
        differ("line of the innermost frame", stack[0][2], lines)
    local = {v["name"]: v["repr"] for v in answer["locals"]}
    for name, text in detail["locals"].items():
        if name not in local:
            differ(f"local {name}", "nothing", text)
        elif not same_repr(local[name], text):
            differ(f"local {name}", local[name], text)
    extra = [name for name in local if name not in detail["names"]]
    if extra:
        differ("more locals", extra, [])
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=0, help="how many random positions for each program")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="how many programs at once: they wait a good deal")
    parser.add_argument("--every", action="store_true", help="every interpreter, not one for each minor version")
    parser.add_argument("names", nargs="*", help="only these programs")
    options = parser.parse_args()
    need_timefork()
    tally = Tally()
    programs = [p for p in ALL if not options.names or p.name in options.names]
    if not programs:
        parser.error("no such program; there are: " + " ".join(p.name for p in ALL))

    def one(python, version, exe, program):
        with Folder() as top:
            try:
                whole = not spread or in_turn(ALL.index(program), python, len(found))
                began = time.monotonic()
                Case(tally, version, exe, program, top, options.positions, whole).go()
                if tally.verbose:
                    print(f"{version} {program.name}: {time.monotonic() - began:.1f} s", flush=True)
            except Exception as e:
                tally.fail(f"{version} {program.name}", f"the test itself failed: {type(e).__name__}: {e}")

    lib.LIMIT = max(lib.LIMIT, 120)  # other people's programs take long
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        # What takes long, other people's programs, is run by one Python each, in turn; by all if it is named, or with --every.
        long = [p.name for p in programs if p.name.startswith("stdlib-") or p.name in ("black", "pyflakes", "pytest")]
        found = pythons(options.every)
        spread = not options.names and not options.every and not LONG
        jobs = [pool.submit(one, i, v, exe, p) for i, (v, exe) in enumerate(found)
                for p in sorted(programs, key=lambda p: p.packages) if not spread or p.name not in long or long.index(p.name) % len(found) == i]
        # Another patch release of a minor version has the same engine: the shared cases are enough for it.
        if not options.every:
            main_ones = pythons()
            jobs += [pool.submit(one, -1, f"{v} ({exe})", exe, p) for v, exe in pythons(True) if (v, exe) not in main_ones
                     for p in programs if p.case]
        if any(p.packages for p in programs):
            for v, exe in found:  # beside what is run first
                packages(v, exe)
        for job in jobs:
            job.result()
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
