#!/usr/bin/env python3
"""A replay touches nothing: what replaying processes ask of the kernel, as strace sees it, call by call, against a list written here
(not made from the table in checkpoint/filter.c); and what happens when one of them is made to ask for more: with the trapping
switched off from outside, and in the mode in which calls of timefork's own are let through.

    tests/filter.py [NAME...]     (NAME: a program below, or injected, without)
"""
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lib import BUILD, PROGRAMS, TIMEFORK, Folder, Tally, children, clean_env, json_lines, need_timefork, pythons, run, timefork

# ---- strace ----

LIBRARY = re.compile(r"/[^\"]*\.so(\.\d+)*(\.\d+)*$")
SOCKET = re.compile(r"(\d+)<(socket|UNIX)[^,]*>, ")
# What the interpreter's own start may read before the filter is there: the loader's files.
LOADERS = re.compile(r"/etc/ld\.so\.(cache|preload)$|/proc/|/dev/null$|.*glibc-hwcaps.*")
NOTHING = ("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "brk", "munmap", "mprotect", "mremap", "madvise", "mincore", "mlock",
           "mlock2", "munlock", "membarrier", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "set_tid_address",
           "set_robust_list", "rseq", "rt_sigtimedwait", "arch_prctl", "sched_yield", "restart_syscall", "exit_group", "poll", "close", "uname", "sysinfo",
           "getrusage", "sched_getaffinity", "clock_getres", "getcwd", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
           "faccessat2", "readlink", "readlinkat")


class Trace:
    """The calls of one run of timefork: strace -ff, a file for each process."""

    def __init__(self, prefix):
        self.calls, self.problems, self.sockets, self.seen = {}, [], set(), 0
        for file in prefix.parent.glob(prefix.name + ".*"):
            lines = [re.match(r"(\w+)\((.*)", line) for line in file.read_text(errors="replace").splitlines()]
            self.calls[int(file.name.rsplit(".", 1)[1])] = [m.groups() for m in lines if m]
        killed = {rest for calls in self.calls.values() for name, rest in calls if name == "kill" and rest.endswith(" = 0")}
        for pid, calls in self.calls.items():
            # When a process is killed as it enters a call, strace shows the killer's call as the last of the victim's: its registers
            # were the last that it could read.
            if calls and calls[-1][0] == "kill" and re.match(rf"{pid}, SIGKILL(\)\s+= \?| <unfinished)", calls[-1][1]) and any(k.startswith(f"{pid}, SIGKILL)") for k in killed):
                calls.pop()
        self.replaying = {}  # pid: index of its first call as a replaying process
        for pid, calls in self.calls.items():
            at = next((i for i, (name, rest) in enumerate(calls) if name == "seccomp" and "SECCOMP_SET_MODE_FILTER" in rest and "= 0" in rest), None)
            if at is not None:
                self.replaying[pid] = at + 1
        self.first = sorted(self.replaying)
        todo = list(self.replaying)
        while todo:
            parent = todo.pop()
            for name, rest in self.calls[parent][self.replaying[parent]:]:
                child = re.search(r"= (\d+)(<.*)?$", rest) if name == "clone" else None
                if child and int(child[1]) in self.calls and int(child[1]) not in self.replaying:
                    self.replaying[int(child[1])] = 0
                    todo.append(int(child[1]))

    def check(self, files):
        """files: what expressions may have opened, besides libraries."""
        for pid, at in self.replaying.items():
            for name, rest in self.calls[pid][at:]:
                self.seen += 1
                if not self.may(pid, name, rest, files):
                    self.problems.append(f"{pid}: {name}({rest}"[:300])
        if len(self.sockets) != 1:
            self.problems.append(f"messages went over descriptors {sorted(self.sockets)}")

    def may(self, pid, name, rest, files):
        if name in NOTHING:
            return True
        if name in ("sendmsg", "recvmsg"):
            match = SOCKET.match(rest)
            self.sockets.add(match[1] if match else rest[:20])
            return bool(match)
        if name == "clone":
            return bool(re.search(r"flags=CLONE_PARENT\|SIGCHLD\)|flags=CLONE_PIDFD[,)]", rest))
        if name == "prctl":
            return bool(re.match(r"PR_SET_PDEATHSIG, SIGKILL|PR_SET_SYSCALL_USER_DISPATCH, |0x3b |PR_SET_NAME|PR_SET_TSC|PR_SET_VMA|0x53564d41", rest))
        if name == "dup3":
            self.sockets.add(rest.split(", ")[1].split("<")[0])  # to the number that all messages go over
            return rest.split(", ")[2].startswith("O_CLOEXEC)")
        if name == "socketpair":
            return rest.startswith("AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0")
        if name == "wait4":
            return "__WALL" in rest
        if name == "pidfd_send_signal":
            return ", SIGKILL, NULL, 0)" in rest
        if name == "rt_tgsigqueueinfo":  # to itself, for one thread means: twice its own number
            return rest.startswith(f"{pid}, {pid}, ")
        if name in ("open", "openat"):
            flags = re.search(r'", ([A-Z_|]+)', rest)
            path = re.search(r'"([^"]*)"', rest)[1]
            good = flags and set(flags[1].split("|")) <= {"O_RDONLY", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK"}
            return bool(good and (LIBRARY.match(path) or path in files))
        if name == "mmap":
            return "MAP_PRIVATE" in rest or "MAP_SHARED|MAP_ANONYMOUS" in rest or ("MAP_SHARED" in rest and "PROT_WRITE" not in rest)
        if name in ("read", "pread64", "lseek", "fstat", "getdents64", "ioctl", "fcntl"):
            number, _, path = rest.partition("<")
            if name == "fcntl" and "F_DUPFD_CLOEXEC, 700" in rest:
                return True
            if name == "ioctl" and not re.search(r"TCGETS|FIOCLEX", rest):
                return False
            if name == "fcntl" and not re.search(r"F_GETFD|F_SETFD|F_GETFL", rest):
                return False
            return number.isdigit() and int(number) >= 700 and path.split(">")[0] in files
        return False

    def before(self):
        """What the processes that were started for a replay did before the filter was there: nothing but loading."""
        wrong = []
        for pid in self.first:
            calls = self.calls[pid][:self.replaying[pid]]
            execs = [i for i, (name, _) in enumerate(calls) if name == "execve"]
            for name, rest in calls[execs[-1] + 1 if execs else 0:]:
                path = re.search(r'"([^"]*)"', rest)
                if name in ("open", "openat") and not (path and "O_RDONLY" in rest and (LIBRARY.match(path[1]) or LOADERS.match(path[1]) or "ENOENT" in rest)):
                    wrong.append(f"{pid}: {name}({rest}"[:200])
                elif name in ("write", "sendto", "connect", "unlink", "mkdir", "kill", "tgkill", "fork", "vfork", "clone3"):
                    wrong.append(f"{pid}: {name}({rest}"[:200])
        return wrong


def works(tally, version):
    """Is there a strace, and does it work here?"""
    if not shutil.which("strace"):
        tally.skip(f"{version} replays under strace", "strace is not installed")
        return False
    probe = run(["strace", "-f", "-o", os.devnull, "/bin/true"])
    if probe.status != 0:
        tally.skip(f"{version} replays under strace", f"strace does not work here: {probe.errtext.strip()[-100:]}")
        return False
    return True


# Something of everything: moves both ways, a search with a condition that needs a fork, watches, what reads a file, loads a module,
# and what is refused.
LOOKED = "/etc/hostname"
COMMANDS = ["goto start", "next", "step", "print 1 + 1", "locals", "where", "goto end", "reverse-step", "reverse-next", "args",
            f"print open('{LOOKED}').read()", f"print __import__('os').stat('{LOOKED}').st_size", "print __import__('os').listdir('/etc')[:0]",
            "print open('/tmp/timefork-test-must-not-be', 'w')", "print __import__('os').getpid()", "print __import__('os').system('true')",
            "print __import__('subprocess').run(['true'])", "print __import__('os').kill(1, 0)", "print __import__('socket').socket()",
            "print __import__('time').time()", "print __import__('threading').Thread(target=print).start()",
            "print __import__('mmap').mmap(-1, 4096)[:2]", "print hash('x')", "reverse-continue", "print __import__('ctypes')"]


def traced(tally, label, top, name, args, files, expected=0):
    prefix = top / f"{name}.strace"
    result = run(["strace", "-ff", "-y", "-s", "300", "-qq", "-o", prefix, TIMEFORK, *args], cwd=top)
    if not tally.check(f"{label}: {name} under strace", result.status in (expected if isinstance(expected, tuple) else (expected,)), result):
        return
    trace = Trace(prefix)
    tally.check(f"{label}: {name}: the filter was installed", len(trace.first) >= 1, trace.first)
    trace.check(files)
    tally.check(f"{label}: {name}: strace saw the replay", len(trace.replaying) >= 2 and trace.seen > 20, f"{trace.replaying}, {trace.seen} calls")
    tally.check(f"{label}: {name}: {trace.seen} calls of {len(trace.replaying)} processes, nothing else", not trace.problems,
                "\n".join(trace.problems[:20]))
    before = trace.before()
    tally.check(f"{label}: {name}: and nothing but loading before it", not before, "\n".join(before[:20]))


def stdlib_files(exe):
    """What an expression may read when it imports something: the standard library."""
    return run([exe, "-S", "-c", "import os; print(os.path.dirname(os.__file__))"]).text.strip()


class Looked:
    """The files that expressions may read: those that are named, and the standard library's."""

    def __init__(self, exe):
        self.stdlib = os.path.realpath(stdlib_files(exe)) + "/"

    def __contains__(self, path):
        return path in (LOOKED, "/etc", "/dev/urandom") or path == str(PROGRAMS) or path.startswith(f"{PROGRAMS}/") or path.startswith(self.stdlib) or os.path.realpath(path).startswith(self.stdlib) \
            or bool(re.search(r"/(site|dist)-packages(/|$)|^/usr/lib/python3|\.so[.\d]*$|^/etc/ld\.so\.cache$", path))


# name: arguments, position-dependent commands
TRACED = {
    "cases/side_effects.py": ["{work}"], "sockets.py": [], "datagrams.py": [], "own_signals.py": [], "alarm.py": [], "database.py": [], "temp.py": [],
    "logs.py": [], "journey.py": [], "memory.py": [], "descriptors.py": [], "stdin.py": [], "cases/generators.py": [], "uncaught.py": [],
}
FEW = ("cases/side_effects.py", "sockets.py", "own_signals.py", "alarm.py", "cases/generators.py")


def program(tally, version, exe, name):
    label = f"{version} {name}"
    with Folder() as top:
        work, recording = top / "work", top / "r.timefork"
        work.mkdir()
        args = [a.format(work=work) for a in TRACED[name]]
        recorded = timefork("record", "--quiet", "-o", recording, "--python", exe, PROGRAMS / name, *args, cwd=top, stdin=b"a line\n" * 5)
        if not tally.check(f"{label} is recorded", recording.exists(), recorded):
            return
        before = {p: p.stat().st_mtime_ns for p in work.rglob("*")}
        files = Looked(exe)
        traced(tally, label, top, "verify", ["verify", recording], files, (0, 4))
        traced(tally, label, top, "goto", ["replay", recording, "--goto-frame", "start", "--goto-frame", "end", "--eval", "1 + 1"], files)
        traced(tally, label, top, "prompt", ["replay", recording, *[a for c in COMMANDS for a in ("-c", c)]], files, (0, 1))
        tally.equal(f"{label}: its files", {p: p.stat().st_mtime_ns for p in work.rglob("*")}, before)
        tally.check(f"{label}: no file of an expression", not Path("/tmp/timefork-test-must-not-be").exists())


# An expression that takes a fork at each line (f() is Python code), a watch, a break with a condition; checkpoints on the way.
SEARCHED = """
import os
class Box:
    n = 0
    @property
    def size(self):
        return self.n
box = Box()
def add(i):
    box.n += i
    os.getppid()
    return box.n
for i in range(3000):
    add(i)
"""


def searches(tally, version, exe):
    label = f"{version} searches"
    with Folder() as top:
        script, recording = top / "searched.py", top / "r.timefork"
        script.write_text(SEARCHED)
        timefork("record", "--quiet", "-o", recording, "--python", exe, script, cwd=top)
        commands = ["goto add #40", "break add if box.size > 2000", "continue", "print i", "delete 1", "goto add #30", "watch box.n", "continue", "continue",
                    "reverse-continue", "print box.size", "last box.n", "finish", "next"]
        traced(tally, label, top, "prompt", ["replay", recording, *[a for c in commands for a in ("-c", c)]], Looked(exe))
        # Checkpoints that are taken while the program runs get the filter when their copies begin to replay.
        prefix = top / "debug.strace"
        slow = top / "slow.py"
        slow.write_text("import time\ndef f(n):\n    time.sleep(0.001)\n    return n\nfor i in range(400): f(i)\n")
        result = run(["strace", "-ff", "-y", "-s", "300", "-qq", "-o", prefix, TIMEFORK, "debug", "--quiet", "-o", top / "d.timefork", "--python", exe,
                      "--goto-frame", "end", "--eval", "n", "--format", "json", slow], cwd=top)
        answer = json_lines(result) if result.status == 0 else None
        if tally.check(f"{label}: debug under strace", answer, result):
            trace = Trace(prefix)
            trace.check(Looked(exe))
            kind = answer[0].get("served_by") or answer[0]
            tally.check(f"{label}: debug: copies of recorded checkpoints have it, too", len(trace.first) >= 2, f"{trace.first} {kind}")
            tally.check(f"{label}: debug: {trace.seen} calls of {len(trace.replaying)} processes, nothing else", not trace.problems,
                        "\n".join(trace.problems[:20]))


# ---- injected: processes that are made to ask for more, by writing to the memory of parked checkpoints ----

STEADY = """
import os
def step(i):
    return os.getppid() + i
for i in range(60000):
    step(i)
"""


def state_address(pid, symbol):
    """Where a variable of a replaying process is: its symbol, and where the library is mapped."""
    library = str(BUILD / "libtimefork-preload.so")
    symbols = run(["nm", library]).text
    offset = int(re.search(rf"^(\w+) [bBdD] {symbol}$", symbols, re.M)[1], 16)
    base = min(int(line.split("-")[0], 16) for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith(library))
    return base + offset


MODE = "tf", 0, 4  # struct tf_process: enum tf_mode mode
SELECTOR = "first_thread", 4, 1  # struct tf_thread of the main thread: char selector
REPLAYS, ARMS = 2, 4


def injected(tally, version, exe):
    with Folder() as top:
        script, recording = top / "steady.py", top / "r.timefork"
        script.write_text(STEADY)
        recorded = timefork("record", "--quiet", "-o", recording, "--python", exe, script, cwd=top)
        tally.check(f"{version} injected: recorded", recorded.status == 0, recorded)
        inject(tally, f"{version} trapping is off", top, recording, SELECTOR, 1, 0, r"the system call getppid\(.{1,80} past timefork, while the program")
        inject(tally, f"{version} calls are let through", top, recording, MODE, REPLAYS, ARMS, r"the system call getppid\(.{1,80} by timefork, while a stop")


def inject(tally, label, top, recording, field, is_now, becomes, expected):
    symbol, at, size = field
    session = subprocess.Popen([TIMEFORK, "replay", recording], cwd=top, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=clean_env(), text=True)
    try:
        def ask(command):
            session.stdin.write(f"{command}\nprint 'done' + 'so'\n")
            session.stdin.flush()
            said = []
            while line := session.stdout.readline():
                said.append(line)
                if "doneso" in line or len(said) > 200:
                    break
            return "".join(said)

        ask("goto end")
        changed = 0
        for pid in children(session.pid):
            with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
                address = state_address(pid, symbol)
                memory.seek(address + at)
                if int.from_bytes(memory.read(size), "little") != is_now:
                    continue  # checkpoint 0, which has not begun to trap
                memory.seek(address + at)
                memory.write(becomes.to_bytes(size, "little"))
                changed += 1
        if not tally.check(f"{label}: checkpoints were changed", changed >= 2, changed):
            return
        said = ask("goto step #30000")
        tally.check(f"{label}: it is reported, with the call", re.search(expected, said.replace("\n", " ")), said[-1500:])
        tally.check(f"{label}: and the line", re.search(r"steady\.py:\d+ in step", said), said[-1500:])
        tally.check(f"{label}: and the frame event", re.search(r"after frame event \d+", said), said[-1500:])
    except PermissionError as e:
        tally.skip(label, f"the memory of another process cannot be written to here: {e}")
    finally:
        session.stdin.close()
        session.stdout.read()
        session.stdout.close()
        session.wait(60)


# ---- without ----

REFUSE = """
import ctypes, os, sys
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
ctx = ctypes.c_void_p(lib.seccomp_init(0x7fff0000))
call = lib.seccomp_syscall_resolve_name(b"seccomp")
assert lib.seccomp_rule_add(ctx, 0x00050000 | 1, call, 0) == 0  # fails with EPERM
assert lib.seccomp_load(ctx) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def without(tally, version, exe):
    """A machine whose kernel (or container) does not let a process filter its calls."""
    label = f"{version} without the filter"
    with Folder() as top:
        recording = top / "r.timefork"
        timefork("record", "--quiet", "-o", recording, "--python", exe, PROGRAMS / "cases" / "leaf_loop.py", cwd=top)

        def refused(*args):
            return run([sys.executable, "-c", REFUSE, TIMEFORK, *args], cwd=top)
        result = refused("verify", recording)
        if "libseccomp" in result.errtext and "Traceback" in result.errtext:
            return tally.skip(label, result.errtext.splitlines()[-1])
        warned = r"warning: the kernel does not let the replaying processes filter"
        tally.check(f"{label}: verify works", result.status == 0, result)
        tally.check(f"{label}: and says so, once", len(re.findall(warned, result.errtext)) == 1, result)
        result = refused("replay", recording, "--goto-frame", "start", "--goto-frame", "end", "--eval", "1 + 1", "--format", "json")
        tally.check(f"{label}: replay works", result.status == 0 and len(json_lines(result)) == 2, result)
        tally.check(f"{label}: and says so, once, on standard error", len(re.findall(warned, result.errtext)) == 1, result)
        for command in (["verify", recording], ["replay", recording, "--goto-frame", "end"]):
            result = refused(*command, "--require-filter")
            tally.check(f"{label}: {command[0]} --require-filter does nothing", result.status == 1 and not result.text and "--require-filter" in result.errtext, result)
            result = timefork(*command, "--require-filter", cwd=top)
            tally.check(f"{label}: {command[0]} --require-filter, where there is one", result.status == 0, result)
        result = refused("debug", "--quiet", "-o", top / "d.timefork", "--python", exe, "--goto-frame", "end", "-c", "import time\ndef f(): time.sleep(0.3)\nf()")
        tally.check(f"{label}: debug works, and says so", result.status == 0 and len(re.findall(warned, result.errtext)) == 1, result)
        result = refused("doctor", "--python", exe)
        tally.check(f"{label}: doctor says so", re.search(r"^NO +system call filter", result.text, re.M), result)


def main():
    need_timefork()
    tally = Tally()
    names = sys.argv[1:]
    for i, (version, exe) in enumerate(pythons()):
        todo = [(n, lambda n=n: program(tally, version, exe, n)) for n in TRACED if i == 0 or n in FEW] + [("searches", lambda: searches(tally, version, exe))]
        if not works(tally, version):
            todo = []
        todo += [("injected", lambda: injected(tally, version, exe)), ("without", lambda: without(tally, version, exe))]
        for name, test in todo:
            if names and name not in names:
                continue
            began = time.time()
            try:
                test()
            except Exception as e:
                tally.fail(f"{version} {name}: the test itself failed", f"{type(e).__name__}: {e}")
            if tally.verbose:
                print(f"      {time.time() - began:.1f} s", flush=True)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
