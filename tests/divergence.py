#!/usr/bin/env python3
"""Replays that part from their recording: timefork must notice, stop, say where, and report what is true of it, and nothing else.

Three ways to make one: a program that learns something from outside without a system call (it reads the processor's time stamp
counter by its own machine code); a recording that was changed; a machine or files that are not what they were.

    tests/divergence.py [CASE...]
"""
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time

from damage import MARK, Damage, digest, signed
from lib import Folder, Tally, json_lines, need_timefork, pythons, run, timefork, TIMEFORK

OPENAT, READ, WRITE = 257, 0, 1

# eax = bits 4.. of the counter: rdtsc; shr eax, 4; ret
COUNTER = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes([0x0f, 0x31, 0xc1, 0xe8, 0x04, 0xc3]))
counter = ctypes.CFUNCTYPE(ctypes.c_uint32)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
"""
WRITES = COUNTER + """
import os
def tell():
    os.write(1, b"%010d\\n" % counter())
tell()
"""
FINE = COUNTER + "counter()\n"
# The same in a C extension.
EXTENSION = """
#include <Python.h>
static PyObject *now(PyObject *m, PyObject *a) { (void)m; (void)a; return PyLong_FromLong((long)(READ & 0xffff)); }
static PyMethodDef methods[] = {{"now", now, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tsc", "", -1, methods, 0, 0, 0, 0};
PyMODINIT_FUNC PyInit_tsc(void) { return PyModule_Create(&module); }
"""
BRANCHES = """
import tsc
def odd(): return 1
def even(): return 0
odd(), even()
def choose():
    n = 0
    for i in range(500):
        n += odd() if tsc.now() & 1 else even()
    return n
choose()
"""
# Everything that the changes of a recording below need.
STEPS = """
import os
def first(): pass
def second(): pass
def other(): pass
def look():
    fd = os.open("data.txt", os.O_RDONLY)
    text = os.read(fd, 100)
    os.close(fd)
    return int(text)
def tell(n):
    os.write(1, b"the number is %d, and that is all there is to say about it here\\n" % n)
def keep():
    fd = os.open("out.bin", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"a" * 1000)
    os.close(fd)
first()
second()
first()
n = look()
if n == 1:
    other()
if n == 2:
    ctypes.memset(16, 0, 1)
if n == 3:
    raw(447)
tell(n)
keep()
first()
"""
MEMORY = """
def take(): return bytearray(300 << 20)
held = take()
"""


def compile_extension(folder, exe, read):
    include = subprocess.run([exe, "-c", "import sysconfig; print(sysconfig.get_path('include'))"], capture_output=True,
                             text=True, check=True).stdout.strip()
    source = folder / "tsc.c"
    source.write_text(EXTENSION.replace("READ", read))
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", f"-I{include}", source, "-o", folder / "tsc.so"], check=True)


def build_id(path):
    text = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    return re.search(r"Build ID: (\w+)", text).group(1)


class Case:
    """One Python, one folder."""

    def __init__(self, tally, version, exe, top):
        self.tally, self.version, self.exe, self.top = tally, version, exe, top

    def check(self, name, good, detail=""):
        return self.tally.check(f"{self.version} {name}", good, detail)

    def equal(self, name, got, expected, detail=""):
        return self.tally.equal(f"{self.version} {name}", got, expected, detail)

    def record(self, name, text, exe=None, status=0):
        script, recording = self.top / f"{name}.py", self.top / f"{name}.timefork"
        script.write_text(text)
        (self.top / "data.txt").write_text("00\n")  # not what files of the system have
        recorded = timefork("record", "--quiet", "-o", recording, "--python", exe or self.exe, script, cwd=self.top)
        self.check(f"{name} is recorded", recorded.status == status, recorded)
        return recording

    def verify(self, recording, *more):
        return timefork("verify", recording, *more, cwd=self.top)

    def report(self, name, recording, *more, kind, causes=()):
        """The full report of a verification; checks what is true of every one."""
        result = self.verify(recording, "--on-divergence", "explain", "--format", "json", *more)
        answers = json_lines(result)
        if not self.check(f"{name}: exit status 3 and a report", result.status == 3 and answers and
                          answers[0].get("result") == "divergence" and "divergence" in answers[0], result):
            return {}
        report = answers[0]["divergence"]
        self.equal(f"{name}: its kind", report["kind"], kind, report)
        said = [c["cause"] for c in report["causes"]]
        self.check(f"{name}: its causes, and no others: {list(causes)}",
                   len(said) == len(causes) and all(re.search(c, s) for c, s in zip(causes, said)), report["causes"])
        self.check(f"{name}: at most as many calls as asked for", len(report["calls"]) <= 5, report["calls"])
        frames = [c["frame"] for c in report["calls"]]
        self.check(f"{name}: the calls are in order, and before it",
                   frames == sorted(frames) and all(f <= report["frame"] for f in frames), report["calls"])
        self.check(f"{name}: it says up to where all is equal",
                   f"Everything is equal up to frame event {report['frame']:,} " in result.errtext, result)
        short = self.verify(recording)
        self.check(f"{name}: so does the short form", short.status == 3 and "Everything is equal up to frame event " in short.errtext,
                   short)
        return report

    def differences(self, report):
        return {d["what"]: (d["recorded"], d["did"]) for d in report.get("differences", [])}


def case_fine(c):
    result = c.verify(c.record("fine", FINE))
    c.check("reading the counter alone does no harm", result.status == 0, result)


def case_counter(c):
    """Another branch in each replay."""
    compile_extension(c.top, c.exe, "__builtin_ia32_rdtsc() >> 4")
    recording = c.record("branches", BRANCHES)
    report = c.report("branches", recording, kind="frame event", causes=["time stamp counter"])
    c.check("branches: it names the file that reads the counter", "tsc.so+0x" in report["causes"][0]["because"], report)
    event = report["events"][-1]
    c.check("branches: both functions are named",
            {re.search(r"of (\w+) \(.*branches\.py", event[k]).group(1) for k in ("recorded", "did")} == {"odd", "even"}, event)
    c.equal("branches: the event in front of it is the last that was equal", report["events"][-2]["frame"], report["frame"])
    c.equal("branches: it is the one behind it", event["frame"], report["frame"] + 1)
    c.check("branches: a second replay differed", report["second_replay"] in ("other", "equal"), report)
    text = c.verify(recording).errtext
    c.check("branches: the short form names the place", re.search(r"branches\.py(:9|:6)? in choose", text), text)
    c.check("branches: and claims no cause that it has not seen", "likely cause" not in text, text)
    end = timefork("replay", recording, "--goto-frame", "end", cwd=c.top)
    c.check("branches: nothing is shown behind it", end.status == 3 and not end.text, end)


def case_output(c):
    """Other output in each replay."""
    recording = c.record("writes", WRITES)
    report = c.report("writes", recording, kind="data", causes=["time stamp counter"])
    c.equal("writes: the place", report["where"], {"function": "tell", "file": str(c.top / "writes.py"), "line": 9})
    c.check("writes: both sides of the call, with their data", all(re.match(r'write\(1, "\d+\\n", \d+\)', report[k])
                                                                   for k in ("recorded", "did")), report)
    c.check("writes: memory without a file is named as that", "memory without a file" in report["causes"][0]["because"], report)
    text = c.verify(recording).errtext
    c.check("writes: the short form names the call and the place", "write(1" in text and "writes.py:9 in tell" in text, text)


def case_arguments(c):
    recording = c.record("arguments", STEPS)
    with Damage(recording) as d:
        event = d.outside[d.find(OPENAT, b"data.txt")]
        event.args = event.args.replace(b"data.txt", b"date.txt")
    report = c.report("another path", recording, kind="arguments")
    c.equal("another path: which argument", c.differences(report), {"argument 2 (text)": ('"date.txt"', '"data.txt"')})
    c.equal("another path: where", report["where"]["function"], "look", report)
    c.check("another path: what both have", 'date.txt' in report["recorded"] and 'data.txt' in report["did"], report)
    c.equal("another path: the same each time", report["second_replay"], "same")
    text = c.verify(recording, "--on-divergence", "explain").errtext
    c.check("another path: no cause is known, and it says so", "No cause is known" in text, text)
    c.equal("calls: as many as asked for", len(json_lines(c.verify(recording, "--divergence-calls", 2, "--format", "json"))[0]
                                               ["divergence"]["calls"]), 2)


def case_data(c):
    recording = c.record("data", STEPS)
    with Damage(recording) as d:
        event = d.outside[d.find(WRITE, b"the number")]
        at = event.data.index(b"say")
        event.data = event.data.replace(b"say", b"sae")
        event.args = event.args[:8] + struct.pack("<Q", digest(event.data)) + event.args[16:]
    report = c.report("other output", recording, kind="data")
    (what, (recorded, did)), = c.differences(report).items()
    c.equal("other output: the first byte", what, f"the data, from byte {at + 2} on")
    c.check("other output: both texts, and the bytes there", "sae about" in recorded and "say about" in did and
            "there: 65 " in recorded and "there: 79 " in did, report)

    recording = c.record("hashed", STEPS)
    with Damage(recording) as d:
        event = d.outside[d.find(WRITE, struct.pack("<Q", 1000))]
        event.args = event.args[:8] + struct.pack("<Q", 1) + event.args[16:]
    report = c.report("data that are not kept", recording, kind="data")
    c.check("data that are not kept: it says so", "only a hash" in report.get("note", ""), report)
    c.check("data that are not kept: and shows what there is", '"aaaa' in report["did"] and "<data>" in report["recorded"], report)


def case_order(c):
    recording = c.record("order", STEPS)
    with Damage(recording) as d:
        at = next(i for i in range(d.find(OPENAT, b"data.txt"), len(d.outside)) if d.outside[i + 1].frame > d.outside[i].frame)
        event = d.outside[at]
        event.frame += 1
        frame = event.frame
    report = c.report("another order", recording, kind="order")
    c.equal("another order: both frame events", c.differences(report), {"after frame event": (str(frame), str(frame - 1))})

    recording = c.record("removed", STEPS)
    with Damage(recording) as d:
        del d.outside[d.find(OPENAT, b"data.txt")]
    report = c.report("a call is missing", recording, kind="call")
    c.check("a call is missing: both sides", "read(" in report["recorded"] and "openat(" in report["did"], report)
    c.equal("a call is missing: the place", report["where"]["function"], "look")

    recording = c.record("swapped", STEPS)
    with Damage(recording) as d:
        at = d.find(READ, data=b"00\n")
        d.outside[at], d.outside[at + 1] = d.outside[at + 1], d.outside[at]
    report = c.report("two calls are swapped", recording, kind="call")
    c.check("two calls are swapped: both sides", "close(" in report["recorded"] and "read(" in report["did"], report)

    recording = c.record("endless", STEPS)
    with Damage(recording) as d:
        del d.outside[d.find(MARK)]
    report = c.report("the end is missing", recording, kind="end")
    c.check("the end is missing: it says so", "without the program's end" in report["text"], report)


def case_events(c):
    recording = c.record("events", STEPS)
    with Damage(recording) as d:
        frame = d.swap_event("first", "second", nth=2)
    report = c.report("another event", recording, kind="frame event")
    c.equal("another event: equal up to the one before", report["frame"], frame - 1)
    event = report["events"][-1]
    c.check("another event: both functions", event["frame"] == frame and "call of second" in event["recorded"] and
            "call of first" in event["did"], event)
    c.check("another event: the stack, with lines", report["stack"] and not report["stack_recorded"] and
            report["stack"][0]["line"] == 29, report["stack"])

    # The same, noticed at an outside call that differs, too: what comes first counts.
    recording = c.record("both", STEPS)
    with Damage(recording) as d:
        frame = d.swap_event("first", "second", nth=1)
        event = d.outside[d.find(OPENAT, b"data.txt")]
        event.args = event.args.replace(b"data.txt", b"date.txt")
    report = c.report("an event, then a call", recording, kind="frame event")
    c.equal("an event, then a call: the event", report["frame"], frame - 1)
    c.check("an event, then a call: the call is told as well", "date.txt" in report.get("then", ""), report)

    recording = c.record("digest", STEPS)
    with Damage(recording) as d:
        d.sql("UPDATE frames SET words_digest = words_digest + 1 WHERE run = ?", d.run)
    result = c.verify(recording)
    c.check("a wrong digest: the recording is what is wrong", result.status == 1 and "is damaged" in result.errtext, result)


def case_fault(c):
    """What the program reads is another number: it takes another way."""
    ways = STEPS.replace("import os\n", "import os, ctypes\nraw = ctypes.CDLL(None).syscall\n")
    for name, number, kind, line in (("function", 1, "function", 23), ("crash", 2, "fault", 25), ("stray", 3, "stray call", 27)):
        recording = c.record(name, ways)
        with Damage(recording) as d:
            d.outside[d.find(READ, data=b"00\n")].data = b"%02d\n" % number
        report = c.report(name, recording, kind=kind)
        c.check(f"{name}: the place", report["stack"][-1] ==
                {"file": str(c.top / f"{name}.py"), "function": "<module>", "line": line}, report)
        if name == "function":
            c.equal("function: which", c.differences(report), {"function": ("tell", "other")})
        elif name == "crash":
            c.check("crash: signal and address", "SIGSEGV (address 0x10, instruction /" in report["text"], report)
        else:
            c.equal("stray: the call, and what the recording has", (report["did"], report["recorded"]),
                    ("memfd_secret", f"the first run of tell ({c.top}/stray.py)"))


def case_killed(c):
    """The replaying process is killed by somebody."""
    recording = c.record("killed", "def f(): pass\nfor i in range(10_000_000): f()\n")
    replay = subprocess.Popen([TIMEFORK, "verify", recording], cwd=c.top, stderr=subprocess.PIPE, text=True)
    victim = None
    while victim is None and replay.poll() is None:  # the copy that runs: it has used a tenth of a second
        time.sleep(0.005)
        for child in open(f"/proc/{replay.pid}/task/{replay.pid}/children").read().split():
            try:
                ticks = open(f"/proc/{child}/stat").read().rpartition(")")[2].split()[11:13]
            except OSError:  # it has just ended
                continue
            if sum(map(int, ticks)) * 10 >= os.sysconf("SC_CLK_TCK"):
                victim = int(child)
    if victim:
        os.kill(victim, signal.SIGKILL)
    text = replay.communicate(timeout=60)[1]
    found = re.search(r"ended by signal 9 \(Killed\); it had come as far as frame event (\d+), or further", text)
    c.check("killed: the message names the signal and where it was", found and 0 < int(found[1]) < 20_000_000, text)
    c.equal("killed: exit status", replay.returncode, 1, text)


def case_layout(c):
    recording = c.record("layout", STEPS)
    with Damage(recording) as d:
        d.sql("UPDATE runs SET layout_digest = layout_digest + 1 WHERE run = ?", d.run)
    report = c.report("other addresses", recording, kind="layout")
    c.equal("other addresses: nothing had happened", report["frame"], 0)
    with Damage(recording) as d:
        d.sql("UPDATE mapped SET path = '/elsewhere/libtimefork-preload.so' WHERE run = ? AND path LIKE '%preload.so'", d.run)
    report = c.report("another timefork", recording, kind="layout", causes=["a timefork in another folder"])
    c.check("another timefork: both folders", report["causes"][0]["because"].startswith("/elsewhere/libtimefork-preload.so then, "),
            report)


def case_files(c):
    compile_extension(c.top, c.exe, "1 + 0 * __builtin_ia32_rdtsc()")
    recording = c.record("rebuilt", BRANCHES)
    then = build_id(c.top / "tsc.so")
    compile_extension(c.top, c.exe, "3 + 0 * __builtin_ia32_rdtsc()")
    result = c.verify(recording)
    c.check("an extension that was built again is refused", result.status == 1 and "tsc.so" in result.errtext, result)
    c.check("with both build-ids", then in result.errtext and build_id(c.top / "tsc.so") in result.errtext, result)
    shutil.copy(c.exe, c.top / "python")
    os.remove(c.top / "tsc.so")
    result = c.verify(recording)
    c.check("one that is gone, too", result.status == 1 and "cannot be found" in result.errtext, result)

    # A copy of the interpreter in which one byte is another one, its size and time being the same.
    recording = c.record("copy", STEPS, exe=c.top / "python")
    before = os.stat(c.top / "python")
    data = (c.top / "python").read_bytes()
    at = data.rindex(b".shstrtab")  # the name of a section that nobody loads
    (c.top / "python").write_bytes(data[:at] + b".SHSTRTAB" + data[at + 9:])
    os.utime(c.top / "python", ns=(before.st_atime_ns, before.st_mtime_ns))
    result = c.verify(recording)
    c.check("a change that shows in nothing is not looked for", result.status == 0, result)
    with Damage(recording) as d:
        event = d.outside[d.find(OPENAT, b"data.txt")]
        event.args = event.args.replace(b"data.txt", b"date.txt")
    report = c.report("a changed interpreter", recording, kind="arguments", causes=["the interpreter is not what it was"])
    os.utime(c.top / "python")
    result = c.verify(recording)
    c.check("with another time it is refused", result.status == 1 and "/python is not the file" in result.errtext, result)

    # timefork's own libraries, built again.
    recording = c.record("own", STEPS)
    with Damage(recording) as d:
        event = d.outside[d.find(OPENAT, b"data.txt")]
        event.args = event.args.replace(b"data.txt", b"date.txt")
        d.sql("UPDATE builds SET build_id = '00' WHERE run = ? AND path LIKE '%preload.so'", d.run)
        d.sql("UPDATE mapped SET digest = 1 WHERE run = ? AND path LIKE '%preload.so'", d.run)
    c.report("timefork built again", recording, kind="arguments", causes=["timefork itself has been built again"])


def case_machine(c):
    recording = c.record("machine", STEPS)
    with Damage(recording) as d:
        event = d.outside[d.find(OPENAT, b"data.txt")]
        event.args = event.args.replace(b"data.txt", b"date.txt")
        facts = dict(d.sql("SELECT key, value FROM machine WHERE run = ?", d.run))
        c.check("machine: the processor is recorded", facts.get("cpu model") and "sse2" in facts.get("cpu flags", ""), facts)
        d.sql("UPDATE machine SET value = value || ' tf_new' WHERE run = ? AND key = 'cpu flags'", d.run)
        d.sql("UPDATE machine SET value = 'Abacus' WHERE run = ? AND key = 'cpu model'", d.run)
        d.sql("UPDATE machine SET value = '9' WHERE run = ? AND key = 'vm/overcommit_memory'", d.run)
        d.sql("UPDATE runs SET kernel = '1.2.3' WHERE run = ?", d.run)
    # A setting of memory's is no cause of another argument.
    report = c.report("another machine", recording, kind="arguments", causes=["the processor is another", "the kernel is another"])
    c.check("another machine: both sides", "it lacks tf_new" in report["causes"][0]["because"] and
            "Abacus then" in report["causes"][0]["because"] and report["causes"][1]["because"].startswith("1.2.3 then"), report)
    short = c.verify(recording).errtext
    c.check("another machine: the short form has the first of them", "Most likely cause: the processor" in short and
            "kernel" not in short, short)
    with sqlite3.connect(recording) as db:  # as an older version recorded it
        db.execute("DROP TABLE machine")
        db.execute("DROP TABLE builds")
    c.report("an old recording", recording, kind="arguments", causes=["the kernel is another"])
    again = timefork("record", "--quiet", "-o", recording, "--python", c.exe, c.top / "machine.py", cwd=c.top)
    c.check("an old recording takes new runs", again.status == 0 and c.verify(recording).status == 0, again)


def case_limits(c):
    recording = c.record("memory", MEMORY)
    c.check("memory: equal", c.verify(recording).status == 0)
    result = run(["bash", "-c", 'ulimit -d 250000; exec "$@"', "-", TIMEFORK, "verify", recording, "--on-divergence", "explain",
                  "--format", "json"], cwd=c.top)
    answers = json_lines(result)
    if not c.check("less memory: a report", result.status == 3 and answers and "divergence" in answers[0], result):
        return
    report = answers[0]["divergence"]
    c.equal("less memory: its kind", report["kind"], "kernel", report)
    c.check("less memory: what the kernel answered", "ENOMEM" in report["text"] and report["recorded"].startswith("mmap("), report)
    c.equal("less memory: the place", report["where"]["function"], "take")
    c.check("less memory: the limit is the cause", len(report["causes"]) == 1 and "ulimit -d" in report["causes"][0]["cause"] and
            report["causes"][0]["because"] == "unlimited then, 256000000 bytes now", report["causes"])


def case_prompt(c):
    recording = c.record("prompt", STEPS)
    with Damage(recording) as d:
        frame = d.swap_event("first", "second", nth=2)
    result = timefork("replay", recording, "-c", f"goto {frame - 3}", "-c", "explain", "-c", "goto end", "-c", "when", "-c", "explain",
                      "-c", "step", cwd=c.top)
    c.check("prompt: there is nothing to explain at first", "no command has met a divergence" in result.errtext, result)
    c.check("prompt: the short form", f"frame event {frame}: the program did call of first" in result.errtext and
            "'explain' makes the full report" in result.errtext, result)
    c.check("prompt: the present stays", f"#{frame - 3} of" in result.text, result)
    c.check("prompt: explain", "Frame events:" in result.text and "Kind: frame event" in result.text, result)
    c.check("prompt: what lies before can be visited", result.status == 0, result)
    answers = json_lines(timefork("replay", recording, "--format", "json", "-c", "goto end", "-c", "explain", cwd=c.top))
    c.equal("prompt: JSON: both have the object", [a["divergence"]["frame"] for a in answers], [frame - 1] * 2)
    c.equal("prompt: JSON: explain has replayed again", [a["divergence"]["second_replay"] for a in answers], ["not tried", "same"])
    result = timefork("replay", recording, "--on-divergence", "explain", "-c", "goto end", cwd=c.top)
    c.check("prompt: all of it at once", result.status == 3 and "Kind: frame event" in result.errtext, result)
    result = timefork("replay", recording, "--goto-frame", "end", "--goto-frame", frame - 1, "--format", "json", cwd=c.top)
    answers = json_lines(result)
    c.check("positions: the one behind it has a report, the one before is shown", result.status == 3 and
            answers[0]["divergence"]["frame"] == frame - 1 and answers[1]["frame"] == frame - 1, result)

    recording = c.record("raises", STEPS + "raise ValueError\n", status=1)
    with Damage(recording) as d:
        frame = d.swap_event("first", "second", nth=2)
    result = timefork("replay", recording, "-c", "when", cwd=c.top)
    c.check("prompt: it opens before the divergence", f"opens at frame event {frame - 1}," in result.errtext and
            f"#{frame - 1} of" in result.text, result)
    result = timefork("replay", recording, cwd=c.top)
    c.check("prompt: the exit status says so when nothing was asked", result.status == 3, result)
    for wrong in (["--on-divergence", "perhaps"], ["--on-divergence"], ["--divergence-calls", "many"]):
        for command in ("verify", "replay"):
            result = timefork(command, c.top / "prompt.timefork", *wrong, cwd=c.top)
            c.check(f"{command} {' '.join(wrong)}: exit status 2", result.status == 2, result)


CASES = {name[5:]: function for name, function in list(globals().items()) if name.startswith("case_")}


def main():
    need_timefork()
    tally = Tally()
    chosen = sys.argv[1:] or list(CASES)
    for version, exe in pythons():
        for name in chosen:
            with Folder() as top:
                try:
                    CASES[name](Case(tally, version, exe, top))
                except (KeyError, IndexError, ValueError, AttributeError) as error:
                    tally.fail(f"{version} {name} could not be done", f"{type(error).__name__}: {error}")
    return tally.close()


if __name__ == "__main__":
    raise SystemExit(main())
