"""The section "threads" of bench/run: what recording programs with threads costs, and checkpoints of them."""
import json
import statistics
import subprocess

# name, arguments of threads.py, those for --quick
WORK = [
    ("4 threads, one lock, no calls", ["lock", "200000"], ["lock", "5000"]),
    ("4 threads, one lock, a call each", ["call", "100000"], ["call", "5000"]),
    ("queue ping-pong", ["queue", "20000"], ["queue", "500"]),
    ("ThreadPoolExecutor.map, small tasks", ["pool", "20000"], ["pool", "500"]),
    ("sha256 of 1 MB in 1 thread", ["hash", "400", "1"], ["hash", "10", "1"]),
    ("sha256 of 1 MB in 4 threads", ["hash", "100", "4"], ["hash", "5", "4"]),
]


def threads(version, exe, options, folder, timed, timefork, programs, spread):
    program = programs / "threads.py"
    recording = folder / "threads.timefork"
    for name, args, quick in WORK:
        args = quick if options.quick else args
        plain, record, inside, speed = [], [], [], []
        for _ in range(options.rounds):
            recording.unlink(missing_ok=True)
            seconds, alone = timed([exe, program, *args])
            plain.append(seconds)
            speed.append(float(alone.split()[1]))
            seconds, out = timed([timefork, "record", "--quiet", "-o", recording, "--python", exe, program, *args])
            record.append(seconds)
            inside.append(float(out.split()[1]) / speed[-1])
        size = recording.stat().st_size
        verify, said = timed([timefork, "verify", recording])
        print(f"{version:6} {name:36} {statistics.median(plain):6.2f} s  {spread([r / p for r, p in zip(record, plain)]):24} {min(record) / min(plain):7.2f}x "
              f"{statistics.median(inside):7.2f}x {size / 1e6:8.1f} {verify:8.2f} s{'' if 'equal' in said else '  NOT EQUAL'}", flush=True)
    recording.unlink(missing_ok=True)


def checkpoints(version, exe, options, folder, timefork, programs, environment):
    """Standing still for checkpoints while recording (timefork debug), and gotos: with threads that wait, and without."""
    recording = folder / "crowd.timefork"
    found = {0: [], 50: []}
    gotos = {0: [], 50: []}
    length = "300" if options.quick else "3000"
    for _ in range(max(1, options.rounds // 2)):
        for n in found:
            recording.unlink(missing_ok=True)
            done = subprocess.run([str(a) for a in (timefork, "debug", "--quiet", "-o", recording, "--python", exe, programs / "threads.py", "crowd", length, n,
                                                    "--goto-frame", "end", *["--goto-frame", "2000"] * 5, "--format", "json")],
                                  stdout=subprocess.PIPE, env=environment, text=True)
            lines = done.stdout.splitlines()
            found[n] += [float(g) for line in lines if line.startswith("gaps") for g in line.split()[1:]]
            gotos[n] += [json.loads(line)["elapsed_ms"] for line in lines if line.startswith('{"run"')][2:]
    for n, gaps in found.items():
        # Most gaps are the scheduler's. A fork of this much memory takes milliseconds: the longest tenth are those.
        gaps.sort()
        longest = gaps[len(gaps) * 9 // 10:] or [0]
        warm = f"{statistics.median(gotos[n]):.1f}" if gotos[n] else "none answered"
        print(f"{version:6} {n:3} threads that wait, 200 MB: {len(gaps):5} gaps above 0.5 ms, median {statistics.median(gaps or [0]):6.2f}, of the longest tenth "
              f"{statistics.median(longest):6.2f}, longest {longest[-1]:6.2f}; goto to the same place again: {warm}", flush=True)
    recording.unlink(missing_ok=True)
