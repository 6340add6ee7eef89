#!/usr/bin/env python3
"""Replays have no effect on the world: the program's files stay as they are, and strace sees nothing that would
change a file of the program or reach a network.

    tests/effects.py
"""
import hashlib
import os
import random
import re
import shutil
import sys
import time

from lib import PROGRAMS, TIMEFORK, Folder, Tally, json_lines, need_timefork, pythons, run, timefork

CASE = PROGRAMS / "cases" / "side_effects.py"
# System calls that change something outside of the process when they succeed.
CHANGES = ("unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir link linkat symlink symlinkat truncate ftruncate chmod fchmod "
           "fchmodat chown fchown fchownat utimensat utime utimes mknod mknodat setxattr connect bind sendto sendmsg").split()


def state(folder):
    """Everything about the files of a folder that a program could have changed."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(top, name)
            info = os.lstat(path)
            data = open(path, "rb").read() if os.path.isfile(path) else b""
            found[os.path.relpath(path, folder)] = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ino, hashlib.sha256(data).hexdigest())
    return found


def files_untouched(tally, version, exe, top, gotos=200):
    work, recording = top / "work", top / "r.timefork"
    work.mkdir()
    recorded = timefork("record", "--quiet", "-o", recording, "--python", exe, CASE, work, cwd=top)
    if not tally.check(f"{version} side_effects is recorded", recorded.status == 0, recorded):
        return None
    before = state(work)
    tally.check(f"{version} the program itself wrote its files", len(before) == 2, before)
    time.sleep(0.02)  # a write would show in the times
    events = json_lines(timefork("query", recording, "--frames", "--format", "json", "--limit", "1000000"))
    rng = random.Random(version)
    chosen = [str(rng.choice(events)["frame"]) for _ in range(gotos)]
    result = timefork("replay", recording, *[a for f in chosen for a in ("--goto-frame", f)], "--format", "json", cwd=top)
    answers = json_lines(result)
    tally.equal(f"{version} {gotos} gotos", [str(a["frame"]) for a in answers], chosen, result.errtext)
    # note(i) returns the size of the log as it was then, not as it is now.
    notes = [e["frame"] for e in events if e["function"] == "note" and e["event"] == "return"]
    answers = json_lines(timefork("replay", recording, "--goto-frame", str(notes[49]), "--goto-frame", str(notes[9]),
                                  "--eval", "i", "--eval", "os.path.getsize(log)", "--format", "json", cwd=top))
    got = [[e.get("value") for e in a["eval"]][:1] + [a["returned"]["repr"] if isinstance(a["returned"], dict) else a["returned"]] for a in answers]
    sizes = [sum(len(f"{k}\n") for k in range(n + 1)) for n in (49, 9)]
    tally.equal(f"{version} the past is answered from the log", got, [["49", str(sizes[0])], ["9", str(sizes[1])]])
    verified = timefork("verify", recording, cwd=top)
    tally.check(f"{version} verify", verified.status == 0, verified)
    tally.equal(f"{version} the files are as they were", state(work), before)
    # And without the files: nothing of them is needed.
    shutil.rmtree(work)
    verified = timefork("verify", recording, cwd=top)
    tally.check(f"{version} verify without the program's files", verified.status == 0, verified)
    tally.check(f"{version} and does not make them again", not work.exists())
    return chosen[:20]


def nothing_in_strace(tally, version, top, chosen):
    strace = shutil.which("strace")
    if not strace:
        tally.skip(f"{version} a replay under strace", "strace is not installed")
        return
    probe = run([strace, "-f", "-o", os.devnull, "/bin/true"])
    if probe.status != 0:
        tally.skip(f"{version} a replay under strace", f"strace does not work here: {probe.errtext.strip()[-100:]}")
        return
    log = top / "strace.log"
    result = run([strace, "-f", "-y", "-s", "200", "-o", log, TIMEFORK, "replay", top / "r.timefork",
                  *[a for f in chosen for a in ("--goto-frame", f)], "--format", "json"], cwd=top)
    if not tally.check(f"{version} a replay under strace", result.status == 0 and len(json_lines(result)) == len(chosen), result):
        return
    ours = [str(top / "r.timefork"), "/dev/shm/", "/dev/null", "memfd:"]
    work = str(top / "work")
    bad, calls = [], 0
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"\d+\s+(\w+)\((.*)", line)
        if not match:
            continue
        calls += 1
        call, rest = match.groups()
        if re.search(r"= -1 \w+", rest):
            continue  # it was refused
        if any(name in rest for name in ours) and work not in rest:
            continue
        if work in rest and call not in ("execve", "write", "read", "pwrite64", "pread64", "mmap", "sendmsg", "recvmsg"):
            bad.append(line)
        elif call in ("open", "openat", "openat2", "creat") and re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|creat", rest + call):
            bad.append(line)
        elif call in CHANGES and not (call in ("sendto", "sendmsg", "ftruncate") and re.search(r"socket:|UNIX|memfd:", rest)):
            bad.append(line)
    tally.check(f"{version} strace saw the replay", calls > 100, calls)
    tally.check(f"{version} nothing was opened for writing, removed, renamed or connected", not bad, "\n".join(bad[:20]))


def main():
    need_timefork()
    tally = Tally()
    for version, exe in pythons():
        with Folder() as top:
            try:
                chosen = files_untouched(tally, version, exe, top)
                if chosen:
                    nothing_in_strace(tally, version, top, chosen)
            except Exception as e:
                tally.fail(f"{version} effects: the test itself failed", f"{type(e).__name__}: {e}")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
