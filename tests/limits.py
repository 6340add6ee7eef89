#!/usr/bin/env python3
"""Limits: much data, many calls, large arguments, and a recording that cannot be written any more. The program goes on
with its own output and exit status; what was recorded can be replayed; memory stays bounded.

    tests/limits.py [NAME...]     (NAME: a function below without check_)

TIMEFORK_TEST_LONG=1 takes the full sizes (a gigabyte, 10^6 calls), which need some minutes and gigabytes of disk.
"""
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from lib import LIMIT, TIMEFORK, Folder, Result, Tally, clean_env, json_lines, need_timefork, pythons, run, timefork

LONG = bool(os.environ.get("TIMEFORK_TEST_LONG"))
MB = 1 << 20
# Much more than what the supervisor needs for its ring, its queue and SQLite, much less than what goes through it.
SUPERVISOR_MB, PROGRAM_MB = 160, 60

# Fills the recording at its own pace: argv is the number of pieces of 64 KiB that are read, and a pause.
READER = """
import os, sys, time
def step(i):
    data = b''
    while len(data) < 65536 and (more := os.read(0, 65536 - len(data))):  # a pipe gives what there is
        data += more
    print('piece', i, len(data), flush=True)
    time.sleep(float(sys.argv[2]))
for i in range(int(sys.argv[1])):
    step(i)
print('done')
sys.exit(3)
"""

# Makes the supervisor's writes fail with a certain error after so many bytes: quota, a broken disk, a file system that
# became read-only. The recorded program has it loaded, too, and is left alone.
FAILING_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>
extern char *program_invocation_short_name;
static long left = -1, error;
__attribute__((constructor)) static void begin(void)
{
    const char *spec = getenv("FAILING_DISK");
    if (spec && strcmp(program_invocation_short_name, "timefork") == 0) {
        error = atol(spec);
        left = atol(strchr(spec, ':') + 1);
    }
}
static ssize_t out(const char *name, int fd, const void *data, size_t len, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    if (left >= 0 && (left -= (long)len) < 0) {
        left = 0;
        errno = (int)error;
        return -1;
    }
    return real(fd, data, len, at);
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return out("pwrite", fd, data, len, at); }
ssize_t pwrite64(int fd, const void *data, size_t len, off_t at) { return out("pwrite64", fd, data, len, at); }
"""


def size(long, short):
    return long if LONG else short


class Check:
    def __init__(self, tally, version, exe, folder):
        self.tally, self.version, self.exe, self.folder = tally, version, exe, folder
        self.name = ""

    def label(self, what):
        return f"{self.version} {self.name}: {what}"

    def true(self, what, good, detail=""):
        return self.tally.check(self.label(what), good, detail)

    def skip(self, why):
        self.tally.skip(self.label(""), why)

    def script(self, text, name="program.py"):
        path = self.folder / name
        path.write_text(text)
        return path

    def record(self, *program, out=None, quiet=True, **how):
        how.setdefault("cwd", self.folder)
        return timefork("record", *(["--quiet"] if quiet else []), "-o", out or self.folder / "r.timefork", "--python", self.exe, *program, **how)

    def equal(self, recording, at_least=0):
        """It verifies, and its places can be reached. Returns the run."""
        verified = timefork("verify", recording, limit=600)
        self.true("verify finds it equal", verified.status == 0 and ": equal: " in verified.text, verified)
        runs = json_lines(timefork("query", recording, "--list-runs", "--format", "json"))
        last = runs[-1]
        self.true(f"it has more than {at_least} frame events", last["frames"] > at_least, last)
        result = timefork("replay", recording, "--goto-frame", "end", "--goto-frame", str(max(1, last["frames"] // 2)), "--format", "json", limit=600)
        answers = json_lines(result)
        self.true("goto reaches the middle and the end", result.status == 0 and len(answers) == 2 and not any("error" in a for a in answers), result)
        return last

    def same(self, text, *args, at_least=0, name="program.py", **how):
        """Recorded, the program does what it does plainly, and replays."""
        script = self.script(text, name)
        plain = run([self.exe, script, *args], cwd=self.folder, limit=600)
        recorded = self.record(script, *args, limit=600, **how)
        self.true("output and exit status are those of a plain run", (recorded.status, recorded.out) == (plain.status, plain.out), recorded)
        self.true("nothing is said", recorded.err == plain.err, recorded)
        return self.equal(self.folder / "r.timefork", at_least)


def noise(length):
    return os.urandom(MB) * (length // MB + 1)


# ---- much ----


def check_many_clock_calls(c):
    n = size(1000000, 200000)
    last = c.same("import sys, time\nlast = 0\ndef ask(n):\n    global last\n    for _ in range(n):\n        now = time.time()\n"
                  "        assert now >= last, (now, last)\n        last = now\nask(int(sys.argv[1]))\nprint('done')\n", n)
    c.true("each is an event", last["outside"] > n, last)
    # 16384: a page each for the tables of threads and of bases.
    c.true("few bytes for each", (c.folder / "r.timefork").stat().st_size < 400000 + 2 * 16384 + 4 * n, (c.folder / "r.timefork").stat().st_size)


def check_clock_calls_of_all_kinds(c):
    """Those that take the short way through the ring, and those that do not."""
    c.same("import ctypes, time\nlibc = ctypes.CDLL(None)\nfor clock in (-100, -1, *range(14)):\n"
           "    for ask in time.clock_gettime, time.clock_getres:\n        try:\n            ask(clock)\n"
           "        except OSError as e:\n            print(clock, ask.__name__, e.errno)\n"
           "print(libc.clock_gettime(0, None), libc.gettimeofday(None, None), libc.time(None) > 0)\n"
           "a, b = time.monotonic_ns(), time.perf_counter_ns()\nprint(b >= a)\n")


def check_many_descriptors(c):
    n = size(100000, 20000)
    last = c.same("import os, sys\nfor _ in range(int(sys.argv[1]) // 2):\n    a = os.open('/dev/null', 0)\n    b = os.dup(a)\n    os.close(a)\n    os.close(b)\n"
                  "print('done')\n", n)
    c.true("each is an event", last["outside"] > 2 * n, last)


def check_many_small_writes(c):
    n = size(1000000, 100000)
    c.same("import os, sys\nfd = os.open('small', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)\nfor _ in range(int(sys.argv[1])):\n    os.write(fd, b'x')\n"
           "print(os.fstat(fd).st_size)\n", n)


def check_a_large_read(c):
    n = size(256, 48) * MB
    (c.folder / "data").write_bytes(noise(n)[:n])
    c.same("import os\nfd = os.open('data', 0)\nb = os.read(fd, 1 << 30)\nprint(len(b), sum(b[::65537]))\n")


def check_a_large_file_written(c):
    c.same("import sys\nwith open('out', 'wb') as f:\n    for i in range(int(sys.argv[1])):\n        f.write(bytes([i & 255]) * (1 << 20))\n"
           "    print(f.tell())\n", size(1024, 64))
    c.true("what is written to files is not in the recording", (c.folder / "r.timefork").stat().st_size < 2 * MB)


def check_a_large_private_mapping(c):
    n = size(2048, 600) * MB  # more than a replay holds of the log
    with open(c.folder / "data", "wb") as f:
        f.write(noise(MB))
        f.truncate(n)
    c.same("import mmap\nwith open('data', 'rb') as f:\n    m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\n"
           "print(len(m), sum(m[:1 << 20:4097]), m[-1])\nm[5] = 7\nprint(m[5])\n")


def check_more_than_can_be_stored(c):
    if not LONG:
        return c.skip("needs 9 GB of memory and disk: set TIMEFORK_TEST_LONG")
    piece = noise(64 * MB)
    with open(c.folder / "data", "wb") as f:
        for _ in range(20):
            f.write(piece)
    script = c.script("import mmap\nwith open('data', 'rb') as f:\n    m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\nprint(len(m))\n")
    result = c.record(script, limit=600)
    c.true("the program goes on, and it is said", result.status == 0 and "a single event is larger" in result.errtext, result)
    c.equal(c.folder / "r.timefork", 10)


def check_large_arguments(c):
    args = ["x" * 120000] * 10 + ["", "é" * 1000] + ["short"] * 5000
    env = clean_env(**{f"LARGE_{i}": "y" * 100000 for i in range(3)})
    script = c.script("import hashlib, os, sys\nprint(len(sys.argv), hashlib.sha256('|'.join(sys.argv[1:]).encode()).hexdigest())\n"
                      "print(len(os.environ['LARGE_2']))\n")
    plain = run([c.exe, script, *args], env=env)
    recorded = c.record(script, *args, env=env)
    c.true("output and exit status are those of a plain run", (recorded.status, recorded.out) == (plain.status, plain.out) and plain.status == 0, (plain.status, recorded.status, recorded.errtext[:500]))
    c.equal(c.folder / "r.timefork")
    many = c.record(script, *["a"] * 70000)
    c.true("more entries than can be kept: refused before it runs", many.status == 125 and "65,000 entries" in many.errtext, many.errtext[:500])


# ---- a stream ----

COPY = """
import os, sys
total = 0
out = os.open(os.devnull, os.O_WRONLY)
def copy():
    while data := os.read(0, 65536):
        add(len(data))
        os.write(out, data)
def add(n):
    global total
    total += n
copy()
print(total)
"""


def peak_mb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0


def stream(c, data, megabytes, **how):
    """Records COPY reading so much from a pipe. Returns the result and the most memory that supervisor and program had."""
    recorder = subprocess.Popen([TIMEFORK, "record", "--quiet", "-o", c.folder / "r.timefork", "--python", c.exe, c.script(COPY)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), cwd=c.folder, **how)
    supervisor = program = 0
    for _ in range(megabytes):
        recorder.stdin.write(data)
        supervisor = peak_mb(recorder.pid)
        for child in Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split():
            program = max(program, peak_mb(child))
    out, err = recorder.communicate(timeout=LIMIT)
    return Result(["stream"], recorder.returncode, out, err, False), supervisor, program


def check_a_stream_in_bounded_memory(c):
    for kind, data in ("noise", os.urandom(MB)), ("text", (b"".join(b"%d, " % (i * 7919) for i in range(200000)))[:MB]):
        (c.folder / "r.timefork").unlink(missing_ok=True)
        megabytes = size(1024, 300)
        result, supervisor, program = stream(c, data, megabytes)
        c.true(f"{kind}: all of it arrives", result.status == 0 and result.out == b"%d\n" % (megabytes * MB), result)
        # The ring, 8 MiB, counts for both: it is in their shared memory.
        c.true(f"{kind}: {supervisor:.0f} MB in the supervisor", 0 < supervisor < SUPERVISOR_MB)
        c.true(f"{kind}: {program:.0f} MB in the program", 0 < program < PROGRAM_MB)
        c.equal(c.folder / "r.timefork", 100)


def check_a_reader_while_much_is_written(c):
    """Somebody who looks at the recording, and does not end looking, does not end the recording."""
    recording = c.folder / "r.timefork"
    script = c.script(READER)
    recorder = subprocess.Popen([TIMEFORK, "record", "--quiet", "-o", recording, "--python", c.exe, script, "1600", "0"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), cwd=c.folder)
    data = noise(MB)[:MB]
    db = None
    for i in range(100):
        recorder.stdin.write(data)
        if i == 30:  # by now it is written in large transactions
            db = sqlite3.connect(f"file:{recording}?mode=ro", uri=True, timeout=10)
            cursor = db.execute("SELECT rowid FROM outside")
            cursor.fetchone()  # a statement that is not done: a lock on the file
        if i == 80:
            cursor.close()
            db.close()
    out, err = recorder.communicate(timeout=LIMIT)
    result = Result(["record"], recorder.returncode, out, err, False)
    c.true("the recording is whole, and nothing is said", result.status == 3 and out.endswith(b"done\n") and not err, result)
    c.equal(recording, 1600)


# ---- a recording that cannot be written any more ----


def cut_off(c, result, recording, *words, pieces, at_least):
    """The program went on, it was said once, and what there was room for can be replayed."""
    lines = result.text.splitlines()
    c.true("the program's output and exit status are its own", result.status == 3 and len(lines) == pieces + 1 and lines[-1] == "done", result)
    c.true("it is said why", all(re.search(w, result.errtext) for w in ("recording stops here, the program goes on", *words)) and result.errtext.count("\n") <= 3, result)
    last = c.equal(recording, at_least)
    c.true("the run is incomplete", last["state"] == "incomplete", last)


def small_disk(c, megabytes):
    folder = c.folder / "small"
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], stderr=subprocess.DEVNULL).returncode:
        c.skip("no small disk can be mounted (that needs root)")
        return None
    return folder


def check_full_disk(c):
    disk = small_disk(c, 8)
    if not disk:
        return
    script = c.script(READER)
    try:
        # Fast: in large transactions, past the write-ahead log. Slow: through it.
        for pace, pieces, pause in ("fast", 400, "0"), ("slow", 300, "0.005"):
            recording = disk / "r.timefork"
            recording.unlink(missing_ok=True)
            result = c.record(script, str(pieces), pause, out=recording, stdin=noise(pieces * 65536)[:pieces * 65536])
            cut_off(c, result, recording, "no space left", pieces=pieces, at_least=10)
            c.true(f"{pace}: most of what had room is there", recording.stat().st_size > 3 * MB, recording.stat().st_size)
        # A run that was there before is not touched, and can be removed.
        recording.unlink()
        c.record("-c", "print('first')", out=recording)
        result = c.record(script, "400", "0", out=recording, stdin=noise(400 * 65536))
        cut_off(c, result, recording, "no space left", pieces=400, at_least=10)
        first = json_lines(timefork("query", recording, "--list-runs", "--format", "json"))[0]
        verified = timefork("verify", recording, "--run", first["run"])
        c.true("the run before it is whole", verified.status == 0, verified)
        # No room at all.
        recording.unlink()
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(filler, b"x" * 4096):
                pass
        except OSError:
            os.close(filler)
        result = c.record("-c", "print(5)", out=recording)
        c.true("a disk that is full from the start: said, and not run", result.status == 125 and "no space left" in result.errtext, result)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def check_file_size_limit(c):
    script = c.script(READER)
    recording = c.folder / "r.timefork"
    limited = lambda kb: run(["sh", "-c", f'ulimit -f {kb * 2}; exec "$@"', "sh", TIMEFORK, "record", "--quiet", "-o", recording, "--python", c.exe,
                              script, "800", "0"], cwd=c.folder, stdin=noise(800 * 65536))
    cut_off(c, limited(32 * 1024), recording, "File too large|no space left", pieces=800, at_least=200)
    recording.unlink()
    result = limited(4 * 1024)
    c.true("less than the ring: said, and not run", result.status == 125 and "File too large" in result.errtext, result)


def check_a_failing_disk(c):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return c.skip("no C compiler")
    (c.folder / "disk.c").write_text(FAILING_DISK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", c.folder / "disk.so", c.folder / "disk.c", "-ldl"], check=True)
    script = c.script(READER)
    for name, error, words in (("quota", 122, "quota"), ("I/O error", 5, "Input/output error"), ("read-only", 30, "Read-only")):
        for pace, pause in ("fast", "0"), ("slow", "0.001"):
            recording = c.folder / f"{error}{pace}.timefork"
            env = clean_env(LD_PRELOAD=str(c.folder / "disk.so"), FAILING_DISK=f"{error}:{20 * MB}")
            result = c.record(script, "640", pause, out=recording, stdin=noise(640 * 65536), env=env)
            c.name = f"a_failing_disk, {name}, {pace}"
            cut_off(c, result, recording, words, pieces=640, at_least=100)


def check_the_recorder_is_killed_while_much_is_written(c):
    """In the middle of a transaction, mostly: what was committed before is there."""
    script, data = c.script(READER), noise(MB)[:MB]
    for megabytes in 20, 33, 47, 60:
        recording = c.folder / f"{megabytes}.timefork"
        recorder = subprocess.Popen([TIMEFORK, "record", "--quiet", "-o", recording, "--python", c.exe, script, "1600", "0"],
                                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_env(), cwd=c.folder)
        for _ in range(megabytes):
            recorder.stdin.write(data)
        recorder.kill()
        recorder.stdin.close()
        recorder.wait()
        c.equal(recording, 10)


def check_the_folder_goes_away(c):
    script = c.script("import os, shutil, sys\nn = int(sys.argv[2])\nfor i in range(n):\n    os.read(0, 65536)\nshutil.rmtree(sys.argv[1])\n"
                      "for i in range(n):\n    os.read(0, 65536)\nprint('done')\nsys.exit(3)\n")
    for pieces in 2, 400:
        folder = c.folder / "goes"
        folder.mkdir()
        result = c.record(script, folder, str(pieces), out=folder / "r.timefork", stdin=noise(2 * pieces * 65536))
        c.true(f"{pieces} pieces: the program goes on, and it is said", result.status == 3 and result.out == b"done\n" and "removed or renamed" in result.errtext
               and "started no Python" not in result.errtext, result)
        c.true(f"{pieces} pieces: it is not made again", not folder.exists())


MOVES = """
import mmap, os, time
def step(n):
    return n + 1
n, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    n = step(n)
fd = os.memfd_create("mine")
os.ftruncate(fd, 65536)
m = mmap.mmap(fd, 4096)
others = [mmap.mmap(-1, 4096 * 3) for _ in range(3)]
for k in range(2, 6):
    m.resize(4096 * k)
    others[k % 3].resize(4096 * 10 * k)
    n = step(n)
print(len(m))
"""


def check_maps_that_move_after_a_durable_checkpoint(c):
    """A process that is restored has another place where the kernel looks for room first."""
    recording = c.folder / "r.timefork"
    result = timefork("record", "--checkpoints", "criu", "-o", recording, "--python", c.exe, c.script(MOVES), cwd=c.folder)
    if why := re.search("no (more )?durable checkpoints: (.*)", result.errtext):
        return c.skip(why[2])
    replayed = timefork("replay", recording, "--goto-frame", "end", cwd=c.folder)
    c.true("it is replayed from there", replayed.status == 0 and "from durable" in replayed.text, f"{result}\n{replayed}")


def main():
    need_timefork()
    tally = Tally()
    names = sys.argv[1:]
    checks = [(n[6:], f) for n, f in globals().items() if n.startswith("check_")]
    unknown = set(names) - {n for n, _ in checks}
    if unknown:
        sys.exit(f"no such check: {', '.join(sorted(unknown))} (there are: {', '.join(n for n, _ in checks)})")
    found = pythons()
    for number, (version, exe) in enumerate(found):
        for name, function in checks:
            # What the limits are does not depend on the version of Python.
            if (number and not name.startswith(("many_clock", "clock"))) or (names and name not in names):
                continue
            with Folder() as folder:
                check = Check(tally, version, exe, folder)
                check.name = name
                started = time.monotonic()
                function(check)
                if tally.verbose:
                    print(f"      {name}: {time.monotonic() - started:.1f} s")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
