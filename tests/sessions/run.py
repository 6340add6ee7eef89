#!/usr/bin/env python3
"""Runs the session scripts: commands and the transcript that is expected of them.

    tests/sessions/run.py [--show] [NAME...]

A .session file holds
    # a remark
    $ a command (a line for bash; standard output and error together)
    what it prints, where {{...}} holds a regular expression and a line of three dots stands for any lines
    [3]  the exit status, when it is not 0

Each session runs in an empty folder that holds copies of examples/ and tests/programs/ files it can change, with these
on its PATH: `timefork`, `python` (the one under test), and `frame-of FILE FUNCTION EVENT [N]`, which prints the frame
number of the N-th (from 1; negative: from the end) such event. --show prints what the commands printed.
"""
import argparse
import re
import shlex
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lib import BUILD, PROGRAMS, ROOT, TIMEFORK, Folder, Tally, clean_env, need_timefork, pythons, run  # noqa: E402

FRAME_OF = """#!{python}
import json, subprocess, sys
file, function, event = sys.argv[1:4]
n = int(sys.argv[4]) if len(sys.argv) > 4 else 1
out = subprocess.run(["timefork", "query", file, "--frames", "--function", function, "--event", event, "--format", "json",
                      "--limit", "1000000000"], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
print(json.loads(out[n - 1 if n > 0 else n])["frame"])
"""


class Step:
    def __init__(self, line, command):
        self.line, self.command, self.expected, self.status = line, command, [], 0


def parse(path):
    steps = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        if line.startswith("$ "):
            steps.append(Step(number, line[2:]))
        elif not steps:
            if line.strip():
                raise ValueError(f"{path}:{number}: text in front of the first command")
        elif match := re.fullmatch(r"\[(\d+)\]", line):
            steps[-1].status = int(match[1])
        else:
            steps[-1].expected.append(line)
    for step in steps:
        while step.expected and not step.expected[-1].strip():
            step.expected.pop()
    return steps


def pattern(lines):
    """One regular expression for the whole of an output."""
    parts = []
    for line in lines:
        if line == "...":
            parts.append(r"(?:[^\n]*\n)*?")
            continue
        pieces = re.split(r"\{\{(.*?)\}\}", line)
        parts.append("".join(p if i % 2 else re.escape(p) for i, p in enumerate(pieces)) + r"\n")
    return "".join(parts)


def play(tally, path, version, exe, show):
    with Folder() as top:
        folder, tools = top / "here", top / "bin"
        shutil.copytree(PROGRAMS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        tools.mkdir()
        # Small scripts, not links: both find their own files by where they stand.
        for name, target in (("timefork", TIMEFORK), ("python", exe)):
            (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(target))} "$@"\n')
        (tools / "frame-of").write_text(FRAME_OF.format(python=sys.executable))
        for tool in tools.iterdir():
            tool.chmod(0o755)
        env = clean_env(PYTHON=exe)
        env["PATH"] = f"{tools}:{env['PATH']}"
        env["BUILD"] = str(BUILD)
        for step in parse(path):
            result = run(["bash", "-c", f"exec 2>&1\n{step.command}"], cwd=folder, env=env)
            if show:
                print(f"$ {step.command}\n{result.text}" + (f"[{result.status}]\n" if result.status else ""), end="")
            text = result.text if not result.text or result.text.endswith("\n") else result.text + "\n"
            expected = "\n".join(step.expected)
            good = result.status == step.status and re.fullmatch(pattern(step.expected), text)
            tally.check(f"{version} {path.name}:{step.line}: {step.command}", good,
                        f"expected (status {step.status}):\n{expected}\ngot (status {result.status}):\n{text[-3000:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("names", nargs="*", help="sessions, without .session")
    options = parser.parse_args()
    need_timefork()
    tally = Tally()
    for version, exe in pythons():
        for path in sorted(HERE.glob("*.session")):
            if not options.names or path.stem in options.names:
                play(tally, path, version, exe, options.show)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
