"""How bench/rivals.py runs a program under each tool, what it asks the tool's log, and how the tools get here."""
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from travel import Prompt

PROGRAMS = Path(__file__).resolve().parent / "programs"
MOVES, MOVES_LIMIT = 12, 8  # gotos and steps; seconds for all of them: what was not answered by then does not count


def end_with_children():
    """Ends the bench at SIGTERM as at Ctrl-C: with what it has started, which has sessions of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def python_of(timefork, version):
    """The interpreter of a minor version that timefork was built for; ends the bench if there is none."""
    if not timefork.exists():
        sys.exit(f"{timefork} is missing: run ./setup, or name the program in TIMEFORK")
    exe = next((line.split(";", 1)[1] for line in (timefork.parent / "pythons.txt").read_text().splitlines() if line.startswith(version)), None)
    if not exe:
        sys.exit(f"no Python {version} in {timefork.parent / 'pythons.txt'}")
    return exe


class Failed(Exception):
    """What a row says instead of figures."""


def environment():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_PRELOAD", "TIMEFORK", "COVERAGE"))}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def high_water(pid):
    """MB that a process had at most, so far."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0


def descendants(pid):
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            numbers = children.read_text().split()
        except OSError:
            continue
        for child in numbers:
            found += [int(child), *descendants(int(child))]
    return found


class Watch(threading.Thread):
    """Looks at the memory of a process and its descendants; ends them after so many seconds."""

    def __init__(self, pid, limit):
        super().__init__(daemon=True)
        self.pid, self.deadline, self.over, self.started, self.others = pid, time.monotonic() + limit, False, 0, 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.started = max(self.started, high_water(self.pid))
            self.others = max([self.others, *map(high_water, descendants(self.pid))])
            if time.monotonic() > self.deadline:
                self.over = True
                end_group(self.pid)
                return


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Run:
    """One run of a program: whole and inside (seconds), calls (as it counted them), cpu of the program and of the others, peak memory (MB) of the process that was started and
    of the largest other. error: what it said, if it failed after the program had done its work."""

    def __init__(self, argv, folder, limit, stack=False):
        def enlarge():
            import resource

            hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
            resource.setrlimit(resource.RLIMIT_STACK, (1 << 30 if hard == resource.RLIM_INFINITY else min(hard, 1 << 30), hard))

        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen([str(a) for a in argv], stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environment(), cwd=folder, start_new_session=True,
                                       preexec_fn=enlarge if stack else None)
            watch = Watch(process.pid, limit)
            watch.start()
            try:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                self.whole = time.perf_counter() - began
            finally:
                # Also what it left behind; and everything, when the bench is interrupted.
                watch.ended.set()
                watch.join()
                end_group(process.pid)
            out.seek(0)
            err.seek(0)
            said = (err.read().strip().splitlines() or [""])[-1]
            if watch.over:
                raise Failed(f"over {limit:.0f} s")
            # The program's last line is that with the figures; some tools print after it.
            printed = out.read().strip().splitlines()
            lines = [fields for line in printed if len(fields := line.split()) >= 3 and fields[0].isdigit() and "." in fields[1] and "." in fields[-1]]
            if not lines:
                raise Failed(f"status {process.returncode}, and the program did not come to its end: {said or (printed or ['nothing was printed'])[-1]}")
            self.error = f"status {process.returncode}: {said}" if process.returncode else None
            self.calls, self.inside, self.cpu = int(lines[-1][0]), float(lines[-1][1]), float(lines[-1][-1])
            self.beside = usage.ru_utime + usage.ru_stime - self.cpu
            self.started, self.others = watch.started, watch.others


def answer(argv, folder, limit):
    """Seconds, and what it printed."""
    began = time.perf_counter()
    try:
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=folder, timeout=limit, text=True,
                              errors="replace")
    except subprocess.TimeoutExpired:
        raise Failed(f"over {limit:.0f} s") from None
    if done.returncode:
        raise Failed(f"status {done.returncode}: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return time.perf_counter() - began, done.stdout


def moves(goto, back, stop, rcont, frames, end, close):
    """Milliseconds of gotos and steps back in turn, to random places of the second half, then of going backwards from the end to the last call; what there was time for."""
    rng, gotos, backs, rconts = random.Random(7), [], [], []
    timer = threading.Timer(MOVES_LIMIT, end)
    timer.start()
    try:
        for _ in range(MOVES):
            gotos.append(goto(rng.randint(frames // 2, frames - 1)))
            backs.append(back())
        stop()
        rconts.append(rcont())
    except (SystemExit, OSError, ValueError) as e:
        if timer.is_alive() or not gotos:
            raise Failed(f"none in {MOVES_LIMIT} s" if not timer.is_alive() else str(e)) from None
    finally:
        timer.cancel()
        with contextlib.suppress(OSError):  # what it was asked last may be on its way
            close()
    return gotos, backs, rconts


class Tool:
    """A way to run a program. argv: its command; calls: how many of a function are in its log (None: it holds no single calls); first: seconds until it has answered a question; moves:
    milliseconds of gotos, steps back, a reverse-continue. What it cannot do raises NotImplementedError."""

    small = False  # gets less work
    stack = False
    recorder = False  # the process that is started is not the program

    def __init__(self, name, bench, reason=None):
        self.name, self.bench, self.reason = name, bench, reason
        self.log = bench.folder / "log"

    def clear(self):
        for path in self.bench.folder.glob("log*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def size(self):
        return sum(p.stat().st_size for path in self.bench.folder.glob("log*") for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())

    def calls(self, program, function):
        raise NotImplementedError

    def first(self):
        raise NotImplementedError

    def moves(self, function):
        raise NotImplementedError

    def python(self, code, *args):
        return answer([self.bench.exe, "-c", code, *args], self.bench.folder, self.bench.limit)


class Plain(Tool):
    def argv(self, program):
        return [self.bench.exe, *program]


class Floor(Tool):
    stack = True

    def argv(self, program):
        return [self.bench.exe, PROGRAMS / "floor.py", self.bench.floor, *program]


class Timefork(Tool):
    recorder = True

    def __init__(self, name, bench, *options):
        super().__init__(name, bench)
        self.options, self.log = options, bench.folder / "log.timefork"

    def argv(self, program):
        return [self.bench.timefork, "record", "--quiet", *self.options, "-o", self.log, "--python", self.bench.exe, *program]

    def rows(self, *args):
        return [json.loads(line) for line in answer([self.bench.timefork, *args, "--format", "json"], self.bench.folder, self.bench.limit)[1].splitlines()]

    def frames(self):
        return self.rows("info", self.log)[-1]["frames"]

    def calls(self, program, function):
        return sum(row["calls"] for row in self.rows("query", self.log, "--stats") if row["function"] == function)

    def first(self):
        return answer([self.bench.timefork, "replay", self.log, "--goto-frame", self.frames() // 2], self.bench.folder, self.bench.limit)[0]

    def moves(self, function):
        prompt = Prompt(self.bench.timefork, self.log, environment())
        return moves(lambda n: prompt(f"goto-frame {n}")[0], lambda: prompt("reverse-step")[0], lambda: prompt("goto end") and prompt(f"break {function}"),
                     lambda: prompt("reverse-continue")[0], self.frames(), prompt.process.kill, prompt.close)


class CProfile(Tool):
    def argv(self, program):
        return [self.bench.exe, "-m", "cProfile", "-o", self.log, *program]

    def calls(self, program, function):
        code = "import pstats, sys; print(sum(v[1] for k, v in pstats.Stats(sys.argv[1]).stats.items() if k[2] == sys.argv[2]))"
        return int(self.python(code, self.log, function)[1])

    def first(self):
        return self.python("import pstats, sys; pstats.Stats(sys.argv[1]).sort_stats('time').print_stats(20)", self.log)[0]


class Coverage(Tool):
    def argv(self, program):
        return [self.bench.exe, "-m", "coverage", "run", f"--data-file={self.log}", *program]

    def calls(self, program, function):
        return None

    def first(self):
        return answer([self.bench.exe, "-m", "coverage", "report", f"--data-file={self.log}"], self.bench.folder, self.bench.limit)[0]


class VizTracer(Tool):
    def __init__(self, name, bench, reason):
        super().__init__(name, bench, reason)
        self.log = bench.folder / "log.json"

    def argv(self, program):
        return [self.bench.scripts / "viztracer", "--quiet", "-o", self.log, "--", *program]

    def calls(self, program, function):
        code = "import json, sys; print(sum(e['ph'] == 'X' and e['name'].startswith(sys.argv[2] + ' (') for e in json.load(open(sys.argv[1]))['traceEvents']))"
        return int(self.python(code, self.log, function)[1])

    def first(self):
        return self.python("import json, sys; json.load(open(sys.argv[1]))", self.log)[0]


class CodeTracer(Tool):
    small = True

    def argv(self, program, how="binary"):
        return [self.bench.scripts / "codetracer-python-recorder", "--trace-dir", self.log, "--format", how, *program]

    def calls(self, program, function):
        """Its own format is not read here; the same run is made again as JSON."""
        Run(self.argv(program, "json"), self.bench.folder, self.bench.limit)
        code = ("import json, sys; events = json.load(open(sys.argv[1])); functions = [e['Function']['name'] for e in events if 'Function' in e]; "
                "print(sum(functions[e['Call']['function_id']] == sys.argv[2] for e in events if 'Call' in e))")
        return int(self.python(code, self.log / "trace.json", function)[1])


class TimeCapsule(Tool):
    """Is called by the program: a copy of it, with a line in front and one at the end."""

    small = True

    def __init__(self, name, bench, reason):
        super().__init__(name, bench, reason)
        self.log = bench.folder / "log.tc"

    def argv(self, program):
        copy = self.bench.folder / program[0].name
        copy.write_text(f"import timecapsule as _recorder; _recorder.record(output={str(self.log)!r}, warn=False)\n{program[0].read_text()}\n_recorder.stop()\n")
        return [self.bench.exe, copy, *program[1:]]

    def calls(self, program, function):
        code = "import gzip, pickle, sys; print(pickle.load(gzip.open(sys.argv[1]))['fn_calls'].get(sys.argv[2], 0))"
        return int(self.python(code, self.log, function)[1])

    def first(self):
        return answer([self.bench.scripts / "timecapsule", self.log, "--summary"], self.bench.folder, self.bench.limit)[0]


class Pyttd(Tool):
    small = True

    def __init__(self, name, bench, scripts, reason):
        super().__init__(name, bench, reason)
        self.scripts, self.log = scripts, bench.folder / "log.db"

    def argv(self, program):
        return [self.scripts / "pyttd", "record", "--db-path", self.log, program[0], "--args", *program[1:]]

    def sql(self, *query):
        code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(*sys.argv[2:3], sys.argv[3:]).fetchone()[0])"
        return int(self.python(code, self.log, *query)[1])

    def frames(self):
        return self.sql("SELECT max(sequence_no) FROM executionframes")

    def calls(self, program, function):
        return self.sql("SELECT count(*) FROM executionframes WHERE frame_event = 'call' AND function_name = ?", function)

    def first(self):
        return answer([self.scripts / "pyttd", "replay", "--last-run", "--goto-frame", self.frames() // 2, "--db", self.log], self.bench.folder, self.bench.limit)[0]

    def moves(self, function):
        """By its server, which speaks JSON-RPC."""
        frames = self.frames()
        server = subprocess.Popen([str(self.scripts / "pyttd"), "serve", "--db", str(self.log)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
                                  env=environment(), start_new_session=True)
        try:
            with socket.create_connection(("127.0.0.1", int(server.stdout.readline().split(":")[1]))) as connection, connection.makefile("rb") as answers:
                ask = JsonRpc(connection, answers)
                ask("backend_init")
                ask("configuration_done")
                return moves(lambda n: ask("goto_frame", targetSeq=n), lambda: ask("step_back"),
                             lambda: ask("goto_frame", targetSeq=frames) and ask("set_function_breakpoints", breakpoints=[{"name": function}]), lambda: ask("reverse_continue"), frames,
                             lambda: end_group(server.pid), lambda: None)
        except (OSError, ValueError, IndexError) as e:
            raise Failed(str(e)) from None
        finally:
            end_group(server.pid)
            server.wait()


class JsonRpc:
    """One question at a time; milliseconds until its answer."""

    def __init__(self, connection, answers):
        self.connection, self.answers, self.number = connection, answers, 0

    def __call__(self, method, **params):
        self.number += 1
        body = json.dumps({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}).encode()
        began = time.perf_counter()
        self.connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while True:
            length = 0
            while line := self.answers.readline().strip():
                length = int(line.split(b":")[1])
            if not length:
                raise OSError("it went away")
            message = json.loads(self.answers.read(length))
            if message.get("id") == self.number:
                if "error" in message or "error" in message.get("result", {}):
                    raise OSError(f"{method}: {message.get('error') or message['result']['error']}")
                return (time.perf_counter() - began) * 1e3


def installed(version, exe, folder, package):
    """The environment with a package from PyPI, which is put there unless it is there; and why not."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bin" / "python").exists():
        made = subprocess.run([exe, "-m", "venv", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            return f"no environment: {made.stdout.strip().splitlines()[-1]}"
    done = folder / f"{package}.installed"
    if done.exists():
        return None
    pip = subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, env=environment())
    if pip.returncode:
        said = [line for line in pip.stdout.splitlines() if line.startswith("ERROR")] or pip.stdout.splitlines() or ["pip said nothing"]
        return f"not on Python {version}: {said[0].removeprefix('ERROR: ')}" if "Requires-Python" in said[0] else f"cannot be installed: {said[-1].removeprefix('ERROR: ')}"
    done.touch()
    return None


def of_package(folder, package):
    """Its version."""
    found = subprocess.run([str(folder / "bin" / "python"), "-c", "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))", package], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    return found.stdout.strip()
