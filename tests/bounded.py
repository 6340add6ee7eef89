#!/usr/bin/env python3
"""Bounded recordings: `record --max-size` and `--last`.
  - The file stops growing though the program goes on; what is left is the end of the run, and as much as was asked for.
  - A replay begins where the run begins now: values at random places are what the program printed there, what was dropped is
    refused by name, and verification says from where on it verified.
  - A run with a forked child that runs on keeps its past; one whose children have ended does not.
  - A copy of the file replays, too. Where CRIU does not work the options are refused, and the program is not run.

TIMEFORK_TEST_SEED repeats the choice of places."""
import os
import random
import shutil
import sys
import threading
import time

from lib import Folder, Tally, clean_env, json_lines, need_timefork, pythons, run, timefork

SEED = int(os.environ.get("TIMEFORK_TEST_SEED") or 7)
STEPS = """
import os, sys, time
def step(n):
    data = os.urandom(int(sys.argv[2]))
    print(n, data[n % 100], flush=True)
    return data
if len(sys.argv) > 3 and os.fork() == 0:
    end = time.monotonic() + float(sys.argv[3])
    while time.monotonic() < end and not os.path.exists("stop"):
        time.sleep(0.05)
    os._exit(0)
end = time.monotonic() + 30
n = 0
while time.monotonic() < end and not (os.path.exists("stop") and n >= int(sys.argv[1])):
    n += 1
    step(n)
    time.sleep(0.01)
"""


def record(folder, exe, *options, program=(), until=None):
    """The program ends when until(file) is true, which is asked while it is recorded."""
    file = f"{folder}/r.timefork"
    if not until:
        (folder / "stop").touch()
    watcher = threading.Thread(target=stop_when, args=(folder, file, until))
    watcher.start()
    result = timefork("record", "-o", file, *options, "--python", exe, "steps.py", *program, cwd=folder)
    (folder / "stop").touch()
    watcher.join()
    return file, result


def stop_when(folder, file, until):
    while not (folder / "stop").exists():
        time.sleep(0.1)
        if os.path.exists(file) and os.path.getsize(file) and until(file):
            (folder / "stop").touch()


def has_begun_later(file):
    runs = json_lines(timefork("query", file, "--list-runs", "--format", "json"))
    return bool(runs) and runs[-1]["first_frame"] > 1


def checkpoints(file):
    runs = json_lines(timefork("info", file, "--format", "json"))
    return len(runs[-1]["checkpoints"]) if runs else 0


def first_frame(file):
    return json_lines(timefork("query", file, "--list-runs", "--format", "json"))[-1]


def check_replay(tally, name, file):
    """What is there is what the program printed; what is not is refused."""
    run_ = first_frame(file)
    base = run_["first_frame"]
    if not tally.check(f"{name}: its oldest part was dropped", base > 1, run_):
        return
    result = timefork("verify", file)
    tally.check(f"{name}: verifies from there on", result.status == 0 and f"from frame event {base} on" in result.text, result)
    printed = [o for o in json_lines(timefork("query", file, "--output", "--format", "json")) if o["text"].strip()]
    tally.check(f"{name}: has output, and none from before", printed and all(o["frame"] + 1 >= base for o in printed), printed[:3])
    for o in random.sample(printed, min(3, len(printed))):
        n = o["text"].split()[0]
        if o["frame"] < base:
            continue
        result = timefork("replay", file, "--goto-frame", str(o["frame"]), "--eval", "n", "--format", "json")
        got = [e["value"] for e in (json_lines(result) or [{}])[0].get("eval", [])]
        tally.check(f"{name}: n at frame {o['frame']}", result.status == 0 and got == [n], f"{n}\n{result}")
    result = timefork("replay", file, "--goto-frame", str(base - 1))
    tally.check(f"{name}: what was dropped is refused", result.status != 0 and "was dropped" in result.errtext, result)
    result = timefork("replay", file, "-c", "goto start", "-c", "reverse-step")
    tally.check(f"{name}: the prompt begins there", f"#{base}" in result.text and "The run begins here" in result.text, result)


def check_size(tally, exe, version):
    with Folder() as folder:
        (folder / "steps.py").write_text(STEPS)
        file, result = record(folder, exe, "--max-size", "16M", program=("300", "100000"), until=has_begun_later)
        name = f"{version} --max-size"
        tally.check(f"{name}: is recorded", result.status == 0 and "kept from frame event" in result.errtext, result)
        came = 100000 * len(result.text.splitlines())
        size = os.path.getsize(file)
        # How soon the first checkpoint is there depends on the machine; what comes until then is in the file.
        tally.check(f"{name}: the file is smaller than what came", size < came, f"{size} of {came}")
        check_replay(tally, name, file)


def check_last(tally, exe, version):
    with Folder() as folder:
        (folder / "steps.py").write_text(STEPS)
        name = f"{version} --last"
        file, result = record(folder, exe, "--last", "1s", program=("1", "1000", "0.1"), until=has_begun_later)
        run_ = first_frame(file)
        kept = run_["duration_ns"] - run_["first_ns"]
        tally.check(f"{name}: keeps at least so much", result.status == 0 and kept >= 0.7e9, run_)
        tally.check(f"{name}: the child that had ended is gone", run_["processes"] == 1, run_)
        check_replay(tally, name, file)
        copy = f"{folder}/copy.timefork"
        shutil.copy(file, copy)
        os.unlink(file)
        result = timefork("verify", copy)
        tally.check(f"{name}: a copy of it verifies", result.status == 0, result)


def check_child(tally, exe, version):
    with Folder() as folder:
        (folder / "steps.py").write_text(STEPS)
        name = f"{version} a child that runs on"
        file, result = record(folder, exe, "--last", "1s", "--wait", program=("1", "1000", "30"), until=lambda f: checkpoints(f) >= 5)
        tally.check(f"{name}: is said", result.status == 0 and "still needs it" in result.errtext, result)
        run_ = first_frame(file)
        tally.check(f"{name}: keeps its past", run_["first_frame"] == 1 and run_["processes"] == 2, run_)


def check_refused(tally, exe):
    with Folder() as folder:
        (folder / "steps.py").write_text(STEPS)
        env = clean_env(TIMEFORK_CRIU="/nowhere/criu")
        for options in (["--max-size", "16M"], ["--last", "1m"]):
            result = timefork("record", *options, "--python", exe, "steps.py", "1", "10", cwd=folder, env=env)
            tally.check(f"without CRIU, {options[0]} is refused",
                        result.status == 125 and not result.text and "durable checkpoints are needed" in result.errtext, result)


def main():
    need_timefork()
    random.seed(SEED)
    tally = Tally()
    found = pythons()
    check_refused(tally, found[0][1])
    with Folder() as folder:
        (folder / "steps.py").write_text(STEPS)
        _, probe = record(folder, found[0][1], "--last", "1m", program=("1", "10"))
    if probe.status == 125:
        tally.skip("recordings that are bounded", probe.errtext.strip().splitlines()[-1])
        return tally.close()
    version, exe = found[SEED % len(found)]
    check_size(tally, exe, version)
    check_child(tally, exe, version)
    version, exe = found[(SEED + 1) % len(found)]
    check_last(tally, exe, version)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
