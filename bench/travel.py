"""How long moving through a recording takes: the part of bench/run that drives the prompt."""
import json
import random
import statistics
import subprocess
import time


class Prompt:
    """timefork replay, one JSON object a command; times each command."""

    def __init__(self, timefork, recording, environment):
        self.process = subprocess.Popen([str(timefork), "replay", str(recording), "--format", "json"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)

    def __call__(self, command):
        """Milliseconds, answer."""
        began = time.perf_counter()
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        took = (time.perf_counter() - began) * 1e3
        answer = json.loads(line)
        if "error" in answer:
            raise SystemExit(f"{command}: {answer['error']}")
        return took, answer

    def memory(self):
        """MB that timefork itself uses."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def travel(version, exe, options, folder, timed, timefork, programs, environment, long_recording):
    size = "50000" if options.quick else "500000"
    program, recording = programs / "accounts.py", folder / "accounts.timefork"
    recording.unlink(missing_ok=True)
    timed([timefork, "record", "--quiet", "-o", recording, "--python", exe, program, size])
    prompt = Prompt(timefork, recording, environment)
    _, end = prompt("goto end")
    frames = end["position"]["frame"]
    line = next(n for n, text in enumerate(program.read_text().splitlines(), 1) if "self.total += amount" in text)
    rng = random.Random(7)
    rows = []

    def row(what, text, goal):
        rows.append((what, text, goal))

    steps = []
    for _ in range(options.gotos // 4):
        prompt(f"goto-frame {rng.randint(frames // 20, frames - 10)}")
        steps += [prompt("reverse-step")[0] for _ in range(4)]
    row("reverse-step", f"p50 {percentile(steps, 0.5):.1f} ms, p95 {percentile(steps, 0.95):.1f} ms", "p95 50 ms")

    # A condition that never holds, through everything; beside it the program itself, and with its lines traced.
    ratios, traced = [], []
    for _ in range(options.rounds):
        plain = timed([exe, program, size])[0]
        lines = timed([exe, program, size, "--trace"])[0]
        prompt("goto end")
        prompt(f"break accounts.py:{line} if amount == -5")
        took = prompt("reverse-continue")[0] / 1e3
        prompt("delete")
        ratios.append(took / plain)
        traced.append(took / lines)
    row("reverse-continue, condition never true", f"{statistics.median(ratios):.2f}x plain, {statistics.median(traced):.2f}x with its "
        "lines traced", "3x the latter")

    # Hits: half a million against one.
    ratios = []
    before = prompt.memory()
    for _ in range(options.rounds):
        prompt("goto end")
        prompt(f"break accounts.py:{line} if amount == 1")
        one = prompt("reverse-continue")[0]
        prompt("delete")
        prompt("goto end")
        prompt(f"break accounts.py:{line} hits ==1")
        many = prompt("reverse-continue")[0]
        prompt("delete")
        ratios.append(many / one)
    row(f"reverse-continue over {size} hits to the first", f"{statistics.median(ratios):.2f}x of one hit, "
        f"memory {before:.0f} -> {prompt.memory():.0f} MB", "2x")

    took = []
    for _ in range(options.rounds):
        prompt("goto end")
        took.append(prompt("last account.marked")[0])
    row("last, of an attribute set 10 times", f"{statistics.median(took):.0f} ms", "10000 ms")
    prompt("goto end")
    took = [prompt("print account.total + 1")[0] for _ in range(50)]
    row("print of an expression", f"p50 {percentile(took, 0.5):.1f} ms, p95 {percentile(took, 0.95):.1f} ms", "20 ms")
    prompt.close()

    if long_recording:
        prompt = Prompt(timefork, long_recording, environment)
        prompt("goto end")
        prompt("break now")
        took = []
        for _ in range(options.rounds):
            prompt("reverse-continue")
            took.append(prompt("reverse-continue")[0])  # from behind the work to in front of it
            prompt("goto end")
        row("function breakpoint in reverse, over the long run", f"{statistics.median(took):.1f} ms", "100 ms")
        prompt.close()
    print(f"{version:6} {frames} frame events")
    for what, text, goal in rows:
        print(f"       {what:50} {text:50} goal {goal}", flush=True)
