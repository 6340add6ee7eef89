#!/usr/bin/env python3
"""Nothing lost: the program or its recorder is killed, stopped, or has its file taken away at any moment. The program goes on as it
would have; what was committed opens, verifies and is reached to its last frame.

    tests/lost.py [NAME...]           (NAME: a function below without check_)
    tests/lost.py --kill program N    kills it N times at random moments, over all Pythons and ways to work; prints how many came back
    tests/lost.py --kill recorder N
"""
import ctypes
import os
import random
import signal
import subprocess
import sys
import time

from lib import LIMIT, PROGRAMS, TIMEFORK, Folder, Tally, children, clean_env, json_lines, need_timefork, pythons, run, timefork

STEADY = PROGRAMS / "steady.py"
# How many rounds take about the same time.
ROUNDS = {"plain": 300, "threads": 200, "children": 1600, "sockets": 8000, "signals": 250, "semaphores": 250, "pipes": 200, "busy": 60}
PR_SET_CHILD_SUBREAPER = 36


def seed():
    number = int(os.environ.get("TIMEFORK_TEST_SEED") or random.randrange(10**9))
    random.seed(number)
    return number


def adopt_orphans():
    """The programs whose recorders are killed become children of this process, which learns how they end."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("PR_SET_CHILD_SUBREAPER")


def start(recording, exe, *program, options=(), **how):
    how.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.Popen([TIMEFORK, "record", *options, "-o", recording, "--python", exe, *map(str, program)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, env=clean_env(), start_new_session=True, **how)


def tree(pid):
    """A process and its descendants."""
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


def is_program(pid):
    """Not a part of the recorder itself: the probe that asks an interpreter what it is, a child before its exec."""
    try:
        return b"steady.py" in open(f"/proc/{pid}/cmdline", "rb").read() and os.readlink(f"/proc/{pid}/exe") != str(TIMEFORK)
    except OSError:
        return False


def reap(pid, limit):
    """How an orphan ended, as a shell has it; None: it has not, and was killed."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.005)
    for p in tree(pid):
        os.kill(p, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def whole(recording, at_least=0, state=None):
    """What is wrong with the newest run of a recording; None: it opens, verifies, and the last frame of each process is reached."""
    listed = timefork("query", recording, "--list-runs", "--format", "json")
    if listed.status:
        return f"query: {listed}"
    runs = json_lines(listed)
    if not runs:
        return "no run in it" if at_least else None
    last = runs[-1]
    if state and last["state"] != state:
        return f"state {last['state']}, not {state}"
    if last["frames"] < at_least:
        return f"only {last['frames']} frames"
    checked = timefork("verify", recording)
    if checked.status or "equal" not in checked.text:
        return f"verify: {checked}"
    if last["frames"]:
        result = timefork("replay", recording, "-c", f"goto {last['frames']}", "-c", "when", "--format", "json")
        answers = json_lines(result)
        if result.status or len(answers) != 2 or answers[1].get("position", {}).get("frame") != last["frames"]:
            return f"goto {last['frames']}: {result}"
    return None


class Plain:
    """What the program does without timefork."""

    def __init__(self):
        self.known = {}

    def __call__(self, exe, way, rounds):
        key = exe, way, rounds
        if key not in self.known:
            result = run([exe, STEADY, way, str(rounds)])
            self.known[key] = result.status, result.out
        return self.known[key]


plain = Plain()


def kill_program(folder, exe, way, moment, everything):
    """The recording of a program that was killed after `moment` seconds. Returns what is wrong."""
    recording = folder / "r.timefork"
    recorder = start(recording, exe, STEADY, way, ROUNDS[way], stderr=subprocess.PIPE)
    program = None
    while not program and recorder.poll() is None:
        program = next((c for c in children(recorder.pid) if is_program(c)), None)
    time.sleep(moment)
    for pid in tree(program) if everything and program else [program] if program else []:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    _, err = recorder.communicate(timeout=LIMIT)
    text = err.decode()
    if "nothing was recorded" in text:
        return None if not recording.exists() else "an empty recording was left"
    wrong = whole(recording, state="complete")
    return wrong and f"{wrong}\n{text}"


def kill_recorder(folder, exe, way, moment):
    """The recorder was killed after so many seconds. Returns what is wrong."""
    recording = folder / "r.timefork"
    recorder = start(recording, exe, STEADY, way, ROUNDS[way])
    time.sleep(moment)
    found = [c for c in children(recorder.pid)]
    recorder.kill()
    out = recorder.stdout.read()
    # A zombie that nobody has waited for yet still has its number.
    recorder.wait()
    statuses = [reap(pid, LIMIT) for pid in found]
    expected = plain(exe, way, ROUNDS[way])
    if recorder.returncode == -signal.SIGKILL and statuses and any(s is None for s in statuses):
        return f"it does not end; printed {out!r}"
    if recorder.returncode != -signal.SIGKILL:
        statuses = [recorder.returncode]
    if not statuses: # it was killed before it started anything, or just after that had ended
        return whole(recording) if recording.exists() and recording.stat().st_size else None
    if out and (out, statuses[-1]) != (expected[1], expected[0]):
        return f"it ended with {statuses}, {out!r}; a plain run {expected}"
    if not recording.exists() or recording.stat().st_size == 0:
        return None
    return whole(recording)


def by_hand(what, count):
    number = seed()
    adopt_orphans()
    bad = 0
    found = pythons(every=True)
    ways = list(ROUNDS)
    for i in range(count):
        version, exe = found[i % len(found)]
        way = ways[(i // len(found) + i) % len(ways)]
        moment = random.random() ** 2 * 1.0
        with Folder() as folder:
            try:
                wrong = kill_program(folder, exe, way, moment, i % 3 == 0) if what == "program" else kill_recorder(folder, exe, way, moment)
            except Exception as e:
                wrong = f"{type(e).__name__}: {e}"
            if wrong:
                bad += 1
                print(f"{i} {version} {exe} {way} after {moment:.3f} s: {wrong}", flush=True)
    print(f"{count - bad} of {count} (seed {number})")
    return 1 if bad else 0


def main():
    need_timefork()
    if sys.argv[1:2] == ["--kill"]:
        return by_hand(sys.argv[2], int(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
