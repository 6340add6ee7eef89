#!/usr/bin/env python3
"""A program that learns something from outside without a system call (it reads the processor's time stamp counter by its own
machine code) cannot be replayed. timefork must notice, stop, and say where: at the frame event that differs, or at the call.

    tests/divergence.py
"""
import re

from lib import Folder, Tally, json_lines, need_timefork, pythons, timefork

# eax = bits 4.. of the counter: rdtsc; shr eax, 4; ret
COUNTER = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes([0x0f, 0x31, 0xc1, 0xe8, 0x04, 0xc3]))
counter = ctypes.CFUNCTYPE(ctypes.c_uint32)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
"""
BRANCHES = COUNTER + """
def odd(): return 1
def even(): return 0
odd(), even()
def choose():
    n = 0
    for i in range(500):
        n += odd() if counter() & 1 else even()
    return n
choose()
"""
WRITES = COUNTER + """
import os
def tell():
    os.write(1, b"%d\\n" % counter())
tell()
"""
FINE = COUNTER + "counter()\n"


def main():
    need_timefork()
    tally = Tally()
    for version, exe in pythons():
        with Folder() as top:
            def verify(name, text):
                script, recording = top / f"{name}.py", top / f"{name}.timefork"
                script.write_text(text)
                recorded = timefork("record", "--quiet", "-o", recording, "--python", exe, script, cwd=top)
                tally.check(f"{version} {name} is recorded", recorded.status == 0, recorded)
                return timefork("verify", recording, cwd=top), recording

            result, _ = verify("fine", FINE)
            tally.check(f"{version} reading the counter alone does no harm", result.status == 0, result)

            result, recording = verify("branches", BRANCHES)
            text = result.errtext
            tally.check(f"{version} another branch: exit status 3", result.status == 3, result)
            tally.check(f"{version} it names both functions", "odd" in text and "even" in text, result)
            tally.check(f"{version} and the place", re.search(r"branches\.py(:1[03])? in choose", text), result)
            as_json = json_lines(timefork("verify", recording, "--format", "json", cwd=top))
            tally.check(f"{version} as JSON", as_json and as_json[0]["result"] == "divergence" and as_json[0]["at_frame"] > 0, as_json)
            end = timefork("replay", recording, "--goto-frame", "end", cwd=top)
            tally.check(f"{version} nothing is shown behind it", end.status == 3 and not end.text, end)

            result, _ = verify("writes", WRITES)
            text = result.errtext
            tally.check(f"{version} another output: exit status 3", result.status == 3, result)
            tally.check(f"{version} it names the call and the place", "write(1" in text and "writes.py:9 in tell" in text, result)
    return tally.close()


if __name__ == "__main__":
    raise SystemExit(main())
