"""What the test scripts share: where things are, running a command with a limit, counting results."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "programs"
TIMEFORK = Path(os.environ.get("TIMEFORK", ROOT / "build" / "timefork")).absolute()
BUILD = TIMEFORK.parent
LONG = bool(os.environ.get("TIMEFORK_TEST_LONG"))
# Seconds for one command. What hangs costs this much, so it is not far above what the slowest takes on a busy machine.
LIMIT = float(os.environ.get("TIMEFORK_TEST_LIMIT") or (120 if LONG else 40))


def need_timefork():
    if not TIMEFORK.exists():
        print(f"{TIMEFORK} is missing: run ./setup, or name the program in TIMEFORK", file=sys.stderr)
        sys.exit(2)


def pythons(every=False):
    """[(version, exe)]: one for each minor version that has an engine, or every interpreter found.
    TIMEFORK_TEST_PYTHONS="3.12 3.13" narrows it."""
    only = os.environ.get("TIMEFORK_TEST_PYTHONS", "").split()
    found = []
    for line in (BUILD / "pythons.txt").read_text().splitlines():
        version, exe = line.split(";", 1)
        if only and version not in only:
            continue
        if every or version not in [v for v, _ in found]:
            found.append((version, exe))
    return found


def in_turn(number, python, of):
    """Does this one of the Pythons go to all random places of the test of this number? The others go to some of them.
    TIMEFORK_TEST_LONG: all Pythons go to all."""
    return LONG or number % of == python


class Result:
    def __init__(self, argv, status, out, err, timed_out):
        self.argv, self.status, self.out, self.err, self.timed_out = argv, status, out, err, timed_out

    @property
    def text(self):
        return self.out.decode("utf-8", "replace")

    @property
    def errtext(self):
        return self.err.decode("utf-8", "replace")

    def __str__(self):
        how = "timed out" if self.timed_out else f"exit status {self.status}"
        command = " ".join(str(a) for a in self.argv)
        return f"$ {command}\n{how}\n--- stdout\n{self.text[-2000:]}\n--- stderr\n{self.errtext[-2000:]}"


def clean_env(**more):
    """The environment without what would change a Python's behaviour or an outer recording's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TIMEFORK", "TF_", "LD_PRELOAD"))}
    env.update(more)
    return env


def run(argv, stdin=b"", cwd=None, env=None, limit=None):
    """Runs to the end, output captured; the status is as a shell has it (128+n for a signal)."""
    argv = [str(a) for a in argv]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
        env=clean_env() if env is None else env, start_new_session=True)
    timed_out = False
    try:
        out, err = process.communicate(stdin, timeout=limit or LIMIT)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return Result(argv, status, out, err, timed_out)


def timefork(*args, **how):
    return run([TIMEFORK, *args], **how)


def children(pid):
    """The processes whose parent it is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
            except OSError:
                pass
    return sorted(found)


def json_lines(result):
    """The JSON objects of an output with one object a line."""
    return [json.loads(line) for line in result.text.splitlines() if line.strip()]


class Tally:
    """Counts, prints what failed at once, and closes with the line that tests/run adds up."""

    def __init__(self, verbose=False):
        self.passed = self.failed = self.skipped = 0
        self.verbose = verbose or bool(os.environ.get("TIMEFORK_TEST_VERBOSE"))

    def ok(self, name):
        self.passed += 1
        if self.verbose:
            print(f"ok    {name}", flush=True)

    def fail(self, name, detail=""):
        self.failed += 1
        print(f"FAIL  {name}", flush=True)
        for line in str(detail).splitlines()[:60]:
            print(f"      {line}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip  {name}: {why}", flush=True)

    def check(self, name, good, detail=""):
        if good:
            self.ok(name)
        else:
            self.fail(name, detail() if callable(detail) else detail)
        return bool(good)

    def equal(self, name, got, expected, detail=""):
        return self.check(name, got == expected, lambda: f"{difference(got, expected)}\n{detail}")

    def close(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}", flush=True)
        return 1 if self.failed else 0


def difference(got, expected):
    """Where two texts, byte strings or lists part, with both sides of it."""
    if type(got) is type(expected) and isinstance(got, (str, bytes, list)):
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        return (f"lengths {len(got)} and {len(expected)}, first difference at {at}:\n"
                f"     got: {got[max(0, at - 40):at + 80]!r}\nexpected: {expected[max(0, at - 40):at + 80]!r}")
    return f"     got: {got!r}\nexpected: {expected!r}"


class Folder:
    """A folder to work in; removed afterwards unless TIMEFORK_TEST_KEEP is set."""

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="timefork-test-"))
        return self.path

    def __exit__(self, *exc):
        if os.environ.get("TIMEFORK_TEST_KEEP"):
            print(f"kept: {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)
