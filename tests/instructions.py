#!/usr/bin/env python3
"""What an event costs, in instructions that callgrind counts: in the engine, for each Python, and in the recorder. And that recorded
programs are mapped where they are fast, which no count shows.

    tests/instructions.py

Times say little on a machine that does other things; counts of instructions are the same in every run. Only timefork's own code is
counted, not Python's, zstd's or SQLite's, and of that only what more events add to a run: the difference between a long and a short one.
So what is left to differ is the compiler. The limits are what gcc 12 (Debian 12) makes, and a fifth more for other releases of it;
what makes the hook a third longer, as it was once, is seen. valgrind 3.19 cannot read what clang 14 writes for debuggers: such a build
fails here.
"""
import os
import re
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from lib import BUILD, Folder, Tally, need_timefork, pythons, timefork

SLACK = 1.2
# Of the engine: a call and its return; a yield and the resume behind it.
PROGRAM = """
import sys
calls, yields = map(int, sys.argv[1:])
def call(): pass
def count():
    for i in range(yields): yield i
for i in range(calls): call()
for i in count(): pass
"""
ENGINE = {"3.11": (38, 121), "3.12": (41, 147), "3.13": (41, 151)}
# Of the recorder: an event, of tests/unit/test_rate.c.
RECORDER = {"recursive": 70, "mixed": 80, "regular": 70}


class Failed(Exception):
    pass


def counted(folder, name, is_own, command, env=None):
    """The instructions of code for which is_own(object, file) is true."""
    out = folder / f"{name}.callgrind"
    argv = ["valgrind", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={out}", *command]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, errors="replace")
    if done.returncode != 0 or not out.exists():
        raise Failed(f"{' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    total, ob, file, inclusive = 0, "", "", False
    with open(out, errors="replace") as lines:
        for line in lines:
            if line.startswith("ob="):
                ob = line[3:].strip()
            elif line.startswith(("fl=", "fi=", "fe=")):
                file = line[3:].strip()
            elif line.startswith("calls="):
                inclusive = True  # the next line is what the callee took
            elif line[:1].isdigit():
                if not inclusive and is_own(ob, file):
                    total += int(line.split()[1])
                inclusive = False
    if total == 0:
        raise Failed(f"{name}: nothing of timefork's was seen: is it built without debugging information?")
    return total


def engine(folder, version, exe, number):
    """(instructions of a call, of a yield)"""
    library = f"timefork-engine-{version}.so"
    env = dict(os.environ, LD_PRELOAD=str(BUILD / "engine-harness.so"), HARNESS_WRAP="1", HARNESS_ENGINE=str(BUILD / library))
    n = 20000

    def one(calls, yields):
        return counted(folder, f"{number}-{calls}-{yields}", lambda ob, file: ob.endswith(library),
                       [exe, "-I", "-S", "-c", PROGRAM, str(calls), str(yields)], env)
    none = one(0, 0)
    return (one(n, 0) - none) / n, (one(0, n) - none) / n


def recorder(folder, sequence):
    few, many = 1 << 17, 3 << 17

    def one(n):
        return counted(folder, f"{sequence}-{n}", lambda ob, file: re.search(r"(^|/)store/\w+\.[ch]$", file) is not None,
                       [BUILD / "unit" / "test_rate", sequence, str(n)])
    return (one(many) - one(few)) / (many - few)


def maps_are_far(tally, folder, version, exe):
    """docs/performance.md: bit 31 tells maps and stack apart. The stack itself may not grow that much."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard != resource.RLIM_INFINITY and hard < 1 << 32:
        tally.skip(f"{version}: where the program is mapped", f"the hard limit of the stack is {hard}")
        return
    program = ("lines = list(open('/proc/self/maps')); "
               "print(*[next(l for l in lines if name in l).split('-')[0] for name in ('libc.so', '[stack]')]); "
               "print(*[l for l in open('/proc/self/limits') if 'stack' in l])")
    done = timefork("record", "--quiet", "-o", folder / "maps.timefork", "--python", exe, "-c", program, cwd=folder)
    try:
        (libc, stack), limit = (int(a, 16) for a in done.text.splitlines()[0].split()), int(done.text.splitlines()[1].split()[3])
    except (IndexError, ValueError):
        tally.fail(f"{version}: where the program is mapped", done)
        return
    tally.check(f"{version}: the maps are 2 GiB below the stack", stack - libc > 1 << 31, done)
    tally.check(f"{version}: the stack may grow to 1 GiB", limit == 1 << 30, done)


def main():
    need_timefork()
    tally = Tally()
    with Folder() as top:
        for version, exe in pythons():
            maps_are_far(tally, top, version, exe)
    if not shutil.which("valgrind"):
        tally.skip("instructions", "no valgrind")
        return tally.close()

    def check(name, measured, limit):
        tally.check(f"{name}: {measured:.1f} instructions", measured <= limit * SLACK,
                    f"{limit} are usual, {limit * SLACK:.0f} the most that pass; see docs/performance.md")

    with Folder() as top, ThreadPoolExecutor(os.cpu_count()) as pool:
        engines = [(version, pool.submit(engine, top, version, exe, number)) for number, (version, exe) in enumerate(pythons())]
        recorders = [(sequence, pool.submit(recorder, top, sequence)) for sequence in RECORDER]
        for version, job in engines:
            try:
                for what, measured, limit in zip(("a call and its return", "a yield and the resume"), job.result(), ENGINE[version]):
                    check(f"{version}: {what}", measured, limit)
            except Failed as why:
                tally.fail(f"{version}: the engine", why)
        for sequence, job in recorders:
            try:
                check(f"recorder, an event ({sequence})", job.result(), RECORDER[sequence])
            except Failed as why:
                tally.fail(f"recorder, {sequence}", why)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
