"""Tests of the engine alone: run.py BUILD_FOLDER PYTHON... [-- unittest arguments].

harness.c plays the core. What the engine says is compared with Python's own tracing (oracle.py), which shares nothing with it.
"""
import collections
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(os.path.dirname(HERE), "programs")
AT, SHORT = 0, 1
FRAME, LOCAL, VALUE, ERROR, RETURNED, RAISED, OUTPUT, DONE, TRIES, CHILD, COUNT, NAME, PROGRAM = range(1, 14)
ARGS, PRETTY, EXPAND, NAMES, PREPARE, PURE = range(4, 10)
BUILD = None


def program(name):
    return os.path.join(PROGRAMS, name)


def without_addresses(text):
    return re.sub(r"0x[0-9a-f]+", "0x", text)


class Event:
    def __init__(self, number, kind, file, name, line, thread):
        self.number, self.kind, self.file, self.name, self.line, self.thread = number, kind, file, name, line, thread

    def __repr__(self):
        return f"{self.number}{self.kind}:{self.name}"


class EngineTest(unittest.TestCase):
    python = None
    version = None

    def setUp(self):
        # The program's folder stands in sys.path and is listed by imports: nothing may change in it between two runs.
        self.folder, self.results = tempfile.mkdtemp(), tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(shutil.rmtree, self.results)

    def harness(self, *args, fixed=True, **env):
        """Runs Python with args under the harness."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HARNESS_", "LD_PRELOAD"))}
        environment.update(env, LD_PRELOAD=os.path.join(BUILD, "engine-harness.so"), PYTHONHASHSEED="0",
                           HARNESS_ENGINE=os.path.join(BUILD, f"timefork-engine-{self.version}.so"))
        command = ["setarch", "-R"] if fixed else []
        return subprocess.run(["sh", "-c", 'ulimit -s 1048576; exec "$@"', "sh", *command, self.python, *args], env=environment,
                              capture_output=True, text=True, errors="surrogateescape", timeout=300, cwd=self.folder)

    def plain(self, *args):
        return subprocess.run(["sh", "-c", 'ulimit -s 1048576; exec "$@"', "sh", self.python, *args],
                              env=dict(os.environ, PYTHONHASHSEED="0"), capture_output=True, text=True, errors="surrogateescape",
                              timeout=300, cwd=self.folder)

    def events(self, *args, **env):
        """All frame events of a run, each with the frame that it is about; and the run."""
        dump = os.path.join(self.results, "dump")
        run = self.harness(*args, HARNESS_DUMP=dump, **env)
        codes, stacks, thread, out, number = {}, {}, 0, [], 0
        self.places, self.thread_names = [], {}
        self.assertTrue(os.path.exists(dump), f"no dump: status {run.returncode}, {run.stderr[-2000:]}")
        with open(dump, errors="surrogateescape") as f:
            for text in f:
                tag, *rest = text.rstrip("\n").split(" ", 1)
                if tag == "D":
                    head, name = rest[0].split("\t")
                    id_, line, hash_, flags, file = head.split(" ", 4)
                    codes[id_] = file, name, int(line)
                elif tag == "T":
                    thread = int(rest[0])
                    number += 1
                elif tag == "N":
                    which, name = rest[0].split(" ", 1)
                    self.thread_names[int(which)] = name
                elif tag == "P":
                    self.places.append(tuple(rest[0].split()))
                else:
                    number += 1
                    stack = stacks.setdefault(thread, [])
                    if tag in "CS":
                        stack.append(codes[rest[0]])
                        about = stack[-1]
                    else:
                        about = stack.pop() if stack else (None, None, None)
                    out.append(Event(number, tag, *about, thread))
        return out, run

    def oracle(self, mode, path):
        out = subprocess.run([self.python, os.path.join(HERE, "oracle.py"), mode, path], capture_output=True, text=True,
                             env=dict(os.environ, PYTHONHASHSEED="0"), timeout=300)
        self.assertEqual(out.returncode, 0, out.stderr)
        return [json.loads(line) for line in out.stdout.splitlines()]

    def stops(self, path, requests, evaluate=None, where=None, ask=None):
        """Answers by position: {(frame, lines, kind): (why, lines seen, items)}, and texts of where()."""
        out = os.path.join(self.results, "out")
        if os.path.exists(out):
            os.remove(out)
        env = {"HARNESS_OUT": out}
        requests = sorted(requests)
        if requests:
            env["HARNESS_STOP"] = ",".join("%d:%d:%d:%d" % r for r in requests)
        if evaluate:
            env["HARNESS_EVAL"] = "\x1e".join(evaluate)
        if ask:
            env["HARNESS_ASK"] = os.path.join(self.results, "ask")
            with open(env["HARNESS_ASK"], "w") as f:
                f.write("\x1e".join("%d:%d:%d:%d:%s" % a for a in ask))
        if where:
            env["HARNESS_WHERE"] = str(where)
        self.harness(path, **env)
        answers, texts, queue = {}, [], list(requests)
        with open(out, "rb") as f:
            data, at = f.read(), 0
        while at < len(data):
            kind, size = struct.unpack_from("=iQ", data, at)
            body = data[at + 12:at + 12 + size]
            at += 12 + size
            if kind == 100:
                frame, lines, why, seen = struct.unpack("=4q", body)
                request = queue.pop(0)
                self.assertEqual(request[:2], (frame, lines))
                items = []
                answers[request[:3]] = why, seen, items
            elif kind == 101:
                texts.append(body.decode())
            elif kind in (98, 99):
                self.fail(f"crash: {struct.unpack('=%di' % (len(body) // 4), body)}, after {items[-1:]}")
            else:
                items.append((kind, body))
        self.assertEqual(queue, [], "not every stop was answered")
        return answers, texts

    # ---- Events.

    def compare_sequence(self, name):
        path = program(name)
        events, run = self.events(path)
        got = [("call" if e.kind in "CS" else "return", e.name, e.line) for e in events if e.file == path]
        want = [tuple(e) for e in self.oracle("calls", path)]
        # Generators that are closed when the interpreter ends are not the oracle's.
        end = [i for i, e in enumerate(got) if e[:2] == ("return", "<module>")][-1]
        del got[end + 1:]
        for i, (a, b) in enumerate(zip(got, want)):
            self.assertEqual(a, b, f"event {i} of {name}: {got[max(0, i - 4):i + 3]} / {want[max(0, i - 4):i + 3]}")
        self.assertEqual(len(got), len(want))
        self.assertGreater(len(got), 10)
        self.assertEqual(run.stdout, self.plain(path).stdout)

    def test_sequence_of_constructs(self):
        self.compare_sequence("constructs.py")

    def test_sequence_of_generators(self):
        self.compare_sequence("cases/generators.py")

    def test_sequence_of_exceptions(self):
        self.compare_sequence("cases/exceptions.py")

    def test_sequence_of_stops(self):
        self.compare_sequence("stops.py")

    def test_kinds_of_generator_events(self):
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("def g():\n    yield 1\n    yield 2\n\n"
                    "list(g())\nx = g()\nnext(x)\nx.close()\n"
                    "x = g()\ntry: x.throw(KeyError)\nexcept KeyError: pass\nx = g()\ndel x\n")
        events, _ = self.events(path)
        kinds = "".join(e.kind for e in events if e.name == "g")
        closing = "" if self.version == "3.13" else "SU"  # 3.13 closes a generator outside try without running it
        never_run = "CU" if self.version == "3.11" else ""  # 3.11 throws GeneratorExit even into one that was never run
        self.assertEqual(kinds, "CYSYSR" + "CY" + closing + "CU" + never_run)

    def test_threads(self):
        """Events belong to the thread that runs; threading's name of it is known at its first event."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("import threading\ndef f(n):\n    for i in range(100): h()\ndef h(): pass\n"
                    "ts = [threading.Thread(target=f, args=(i,), name=f'nämé {i}') for i in range(3)]\n"
                    "for t in ts: t.start()\nfor t in ts: t.join()\n")
        events, _ = self.events(path, HARNESS_THREADS="1")
        self.assertEqual({e.thread for e in events if e.name == "f"}, {1, 2, 3})
        self.assertEqual({e.thread for e in events if e.name == "<module>"}, {0})
        self.assertEqual(self.thread_names, {1: "nämé 0", 2: "nämé 1", 3: "nämé 2"})
        self.assertEqual(sum(e.name == "h" for e in events), 600)

    def test_threads_without_names(self):
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("import _thread, time\ndef f(): pass\n"
                    "for i in range(5):\n    _thread.start_new_thread(f, ())\n    time.sleep(0.05)\n")
        events, _ = self.events(path, HARNESS_THREADS="1")
        self.assertEqual([e.thread for e in events if e.name == "f" and e.kind == "C"], [1, 2, 3, 4, 5])
        self.assertEqual(self.thread_names, {})

    SWITCHING = """
import sys, threading
sys.setswitchinterval(1000)  # nobody asks but the harness
lock, total, order = threading.Lock(), [], []
def squares(n):
    for i in range(n): yield i * i
class Fails(Exception): pass
def fails(i): raise Fails(i)
def work(n):
    values = squares(80)
    for i, v in enumerate(values):
        try: fails(i)
        except Fails as e: assert e.args == (i,), e.args
        order.append(n)
    total.append(v)
    with lock: shared.append(n)
shared = []
ts = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in ts: t.start()
for t in ts: t.join()
print(total, sorted(shared), sum(a != b for a, b in zip(order, order[1:])) > 3)
"""

    def test_yield(self):
        """The GIL can be given away at events: what is raised, returned and held survives."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(self.SWITCHING)
        for every in "1", "2":
            _, run = self.events(path, HARNESS_YIELD=every)
            self.assertEqual((run.stdout, run.stderr), ("[6241, 6241, 6241, 6241] [0, 1, 2, 3] True\n", ""))

    def test_yield_keeps_generators_whole(self):
        """Two threads fight for one generator: no other may enter it between its exit and who resumed it."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("import threading\ndef g():\n    for i in range(300): yield i\n"
                    "it, got = g(), []\ndef work():\n    while True:\n        try: got.append(next(it))\n"
                    "        except ValueError as e: assert 'already executing' in str(e)\n"
                    "        except StopIteration: return\n"
                    "ts = [threading.Thread(target=work) for i in range(3)]\nfor t in ts: t.start()\nfor t in ts: t.join()\n"
                    "print(sorted(got) == list(range(300)))\n")
        for every in "1", "2", "3":
            _, run = self.events(path, HARNESS_YIELD=every)
            self.assertEqual((run.stdout, run.stderr), ("True\n", ""))

    def test_asked_to_drop(self):
        """A thread that keeps the GIL gives it away when it is asked, and not otherwise."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("import sys, threading, time\nsys.setswitchinterval(1000)\ndone = False\ndef work():\n    global done\n"
                    "    time.sleep(0.3)\n    done = True\nthreading.Thread(target=work).start()\n"
                    "end = time.monotonic() + float(sys.argv[1])\n"
                    "while not done and time.monotonic() < end: pass\nprint(done)\n")
        _, run = self.events(path, "20", HARNESS_DROP="1")
        self.assertEqual((run.stdout, run.stderr), ("True\n", ""))
        _, run = self.events(path, "0.8")
        self.assertEqual((run.stdout, run.stderr), ("False\n", ""))

    LOOPS = [
        "for i in range(200): pass",
        "for _ in itertools.repeat(None, 200): pass",
        "for _ in zip(itertools.repeat(1, 200), itertools.count()): pass",
        "for _ in map(abs, itertools.repeat(3, 200)): pass",
        "for _ in [0] * 200: pass",
        "for _ in dict.fromkeys(range(1000, 1200)): pass",
        "for _ in set(range(1000, 1200)): pass",
        "for _ in enumerate([5] * 200): pass",
        "i = 0\n    while i < 200: i += 1",
        "x = 1.5\n    while x < 200: x += 1.0",
        "x = 2 ** 100\n    while x < 2 ** 100 + 200: x += 1",
        "s = ''\n    while len(s) < 200: s += 'x'",
        "a = [0]\n    while a[0] < 200: a[0] += 1",
        "a = {'n': 1000}\n    while a['n'] < 1200: a['n'] += 1",
        "b = Box()\n    while b.n < 200: b.n += 1",
        "b = Slots()\n    while b.n < 200: b.n += 1",
        "while box.n < 200: box.n += 1",
        "while module.n < 200: module.n += 1",
        "while nested.inner.n < 200: nested.inner.n += 1",
        "q = collections.deque(range(200))\n    while q: q.popleft()",
        "n = iter(range(200)).__next__\n    try:\n        while True: n()\n    except StopIteration: pass",
        "global counter\n    while counter < 200: counter += 1",
        "m = [1] * 200\n    while m: m.pop()",
        "f = io.BytesIO(bytes(200))\n    while f.read(1): pass",
        "f = io.StringIO('x\\n' * 200)\n    while f.readline(): pass",
        "while random.random() >= 0:\n        if next(limit) == 200: break",
    ]

    def test_places(self):
        """The fingerprints of a loop's turns are different where anything is, and the same in another run. Half of the loops for each
        Python, unless TIMEFORK_TEST_LONG=1: those that are left out are tested with the minor versions beside it."""
        half = self.LOOPS if os.environ.get("TIMEFORK_TEST_LONG") else self.LOOPS[int(self.version[2:]) % 2::2]
        for loop in half:
            with self.subTest(loop=loop):
                path = os.path.join(self.folder, "p.py")
                with open(path, "w") as f:
                    f.write("import collections, io, itertools, random, types\n"
                            "class Box: n = 0\nclass Slots:\n    __slots__ = 'n',\n    def __init__(self): self.n = 0\n"
                            "box, module, nested, counter = Box(), types.ModuleType('m'), Box(), 0\n"
                            "module.n, nested.inner, limit = 0, Slots(), itertools.count()\nrandom.seed(1)\n"
                            f"def loop():\n    {loop}\n    return\n"
                            "Slots()\nloop()\n")
                events, _ = self.events(path)
                call = [e for e in events if e.name == "loop" and e.file == path][0]
                start = next((e for e in events if e.number > call.number and e.kind in "CS"), None)
                if start and start.number < [e for e in events if e.name == "loop" and e.kind == "R"][0].number:
                    call = start  # the last event before the loop: an object that is made first
                    call = next(e for e in events if e.number > start.number)
                seen = []
                for _ in range(2):
                    _, run = self.events(path, HARNESS_PLACE=str(call.number))
                    self.assertEqual(run.stderr, "")
                    seen.append(self.places)
                self.assertEqual(seen[0], seen[1])
                self.assertGreater(len(seen[0]), 190)
                turns = collections.Counter(seen[0])
                self.assertEqual([t for t, n in turns.items() if n > 1], [])

    def test_every_constructor(self):
        """__init__ is seen in classes of every origin, also where a call has been specialised for other classes."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("import abc, dataclasses, enum, typing, types\n"
                    "class A:\n    def __init__(self, x): pass\n"
                    "class B(abc.ABC):\n    def __init__(self, x): pass\n"
                    "class Early(type): pass\nclass C(metaclass=Early):\n    def __init__(self, x): pass\n"
                    "T = typing.TypeVar('T')\nclass D(typing.Generic[T]):\n    def __init__(self, x): pass\n"
                    "@dataclasses.dataclass\nclass E:\n    x: int\n    def __post_init__(self): count(self)\n"
                    "F = type('F', (), {'__init__': A.__init__})\n"
                    "G = types.new_class('G', (A,))\n"
                    "class H(A):\n    def __getitem__(self, i): return i\n"
                    "def count(v): pass\n"
                    "def make(cls): return cls(1)\n"
                    "def item(v): return v[0]\n"
                    "for round in range(30):\n    for cls in (A, B, C, D, E, F, G, H): make(cls)\n"
                    "for cls in (A, B, C, D, E, F, G, H):\n    for i in range(30): make(cls)\n"
                    "for i in range(100): item([1])\n"
                    "for i in range(100): item(H(1))\n")
        events, _ = self.events(path)
        calls = {}
        for e in events:
            if e.kind == "C":
                calls[e.name] = calls.get(e.name, 0) + 1
        self.assertEqual([calls[n] for n in ("A.__init__", "B.__init__", "C.__init__", "D.__init__", "count", "H.__getitem__")],
                         [340, 60, 60, 60, 60, 100])

    # ---- As without timefork.

    def same_as_plain(self, *args):
        plain, ours = self.plain(*args), self.harness(*args, fixed=False)
        self.assertEqual((ours.returncode, ours.stdout, ours.stderr), (plain.returncode, plain.stdout, plain.stderr))

    def test_same_as_plain(self):
        with open(os.path.join(self.folder, "mod.py"), "w") as f:
            f.write("import sys; print(sys.argv[1:], __name__, sys.path[0], sys._getframe(0).f_back is None)")
        for args in (["--version"], ["-c", "import sys; print(sys.argv, sys.flags)", "a", "b"], ["-m", "mod", "x"], ["mod.py", "y"],
                     ["-c", "raise SystemExit(3)"], ["-c", "1/0"], ["nothing.py"], ["--bad-option"], ["-c", "import os; os._exit(4)"],
                     ["-c", "raise KeyboardInterrupt"], ["-X", "importtime", "-c", "exit('text')"][2:],
                     [program("cases/exceptions.py")], [program("traced.py")], [program("cases/generators.py")]):
            with self.subTest(args=args):
                self.same_as_plain(*args)

    def test_recursion_limits(self):
        self.same_as_plain(program("recursion.py"))

    def test_recursion_by_constructors(self):
        """Not exact on 3.13: plain Python counts the first few constructors in another way."""
        text = ("import sys\nclass N:\n    def __init__(self):\n        global d\n        d += 1\n        N()\n"
                "for limit in 1000, 8000:\n    sys.setrecursionlimit(limit)\n    d = 0\n"
                "    try: N()\n    except RecursionError: print(d)\n")
        plain, ours = self.plain("-c", text).stdout.split(), self.harness("-c", text).stdout.split()
        for p, o in zip(plain, ours, strict=True):
            self.assertAlmostEqual(int(o) / int(p), 1, delta=0.01 if self.version == "3.13" else 0)

    def test_addresses(self):
        """Two runs at fixed addresses agree in ids, in set order and in every event."""
        text = open(program("cases/identity.py")).read() + "\nprint([id(object()) for _ in range(50)], id(go), id(Thing))\n"
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(text.replace("random.choice(things)", "things[len(things) // 3]"))
        one, two = self.events(path), self.events(path)
        self.assertEqual(one[1].stdout, two[1].stdout)
        self.assertEqual(repr(one[0]), repr(two[0]))

    # ---- Stops.

    def positions(self, path):
        """What Python's tracing says of every position: {(frame, lines, kind, exit event): (line, name, locals, value)}."""
        events, _ = self.events(path)
        ours = [e for e in events if e.file == path]
        want, index, lines = {}, -1, 0
        for event, name, first, line, variables, arg in self.oracle("lines", path):
            if event == "line":
                frame = ours[index]
                lines += 1
                # Events of library code in between would make the position another one.
                if ours[index + 1].number == frame.number + 1:
                    want[frame.number, lines, 0, 0] = line, name, variables, None
                continue
            index += 1
            lines = 0
            here = ours[index]
            skipped = 0
            while (here.name, here.line, here.kind in "CS") != (name, first, event == "call") and skipped < 4:
                # sys.settrace leaves out some of what happens when a generator is thrown into.
                skipped += 1
                index += 1
                here = ours[index]
            self.assertEqual((here.name, here.line), (name, first))
            if event == "call":
                self.assertIn(here.kind, "CS")
                want[here.number, 0, 0, 0] = line, name, variables, None
            elif index and ours[index - 1].number == here.number - 1:
                kind = {"R": 1, "Y": 2, "U": 4}[here.kind]
                want[here.number - 1, 0, 1, kind] = line, name, variables, arg
        return want

    def check_stops(self, path, want):
        answers, _ = self.stops(path, want)
        wrong = []
        for request, (line, name, variables, value) in sorted(want.items()):
            why, seen, items = answers[request[:3]]
            if why != AT:
                wrong.append((request, name, line, "not reached", why, seen))
                continue
            frames = [body for kind, body in items if kind == FRAME]
            got_line, = struct.unpack_from("=I", frames[0])
            file, got_name = frames[0][4:-1].decode().split("\0")
            got = {}
            for kind, body in items:
                if kind == LOCAL:
                    n, t, r = body.split(b"\0", 2)
                    got[n.decode()] = r.decode()
            clean = {k: without_addresses(v) for k, v in got.items()}
            expected = {k: without_addresses(v) for k, v in variables.items()}
            if self.version == "3.13" and set(expected) < set(clean) and name in ("<module>", "Thing"):
                # In a comprehension at module or class level, 3.13's f_locals has the comprehension's variables only.
                clean = {k: v for k, v in clean.items() if k in expected}
            if (got_line, got_name, file, clean) != (line, name, path, expected):
                wrong.append((request, "got", got_line, got_name, clean, "want", line, name, expected))
            if request[3] in (1, 2):
                returned = [body.split(b"\0", 1)[1].decode() for kind, body in items if kind == RETURNED]
                if without_addresses(str(returned)) != without_addresses(str([value])):
                    wrong.append((request, name, line, "returned", returned, value))
            if request[3] == 4 and not any(kind == RAISED for kind, _ in items):
                wrong.append((request, name, line, "raised nothing"))
        if wrong:
            self.fail(f"{len(wrong)} of {len(want)} wrong, the first:\n" + "\n".join(map(str, wrong[:12])))

    def test_stops(self):
        path = program("stops.py")
        want = self.positions(path)
        self.assertGreater(len(want), 250)
        self.check_stops(path, want)

    def test_stops_in_constructs(self):
        path = program("constructs.py")
        want = self.positions(path)
        some = dict(sorted(want.items())[::len(want) // 400])
        self.check_stops(path, some)

    def test_stop_short(self):
        path = program("stops.py")
        want = self.positions(path)
        last = {}
        for frame, lines, kind, _ in want:
            if kind == 0:
                last[frame] = max(lines, last.get(frame, 0))
        some = sorted(last)[5:60:4]
        answers, _ = self.stops(path, [(frame, last[frame] + 1, 0, 0) for frame in some])
        for frame in some:
            with self.subTest(frame=frame):
                self.assertEqual(answers[frame, last[frame] + 1, 0][:2], (SHORT, last[frame]))

    def test_raised(self):
        path = program("stops.py")
        events, _ = self.events(path)
        unwinds = [e for e in events if e.file == path and e.kind == "U" and e.name == "fails"]
        answers, _ = self.stops(path, [(e.number - 1, 0, 1, 4) for e in unwinds])
        for e in unwinds:
            items = answers[e.number - 1, 0, 1][2]
            self.assertEqual([b for k, b in items if k == RAISED], [b"KeyError\0'zero'"])

    def test_raised_with_another_in_finally(self):
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write("def f(n):\n    kept = None\n    try:\n        raise KeyError('a')\n    finally:\n        try:\n"
                    "            raise ValueError('b')\n        except ValueError as e:\n            kept = e\n"
                    "try: f(1)\nexcept KeyError: pass\n")
        events, _ = self.events(path)
        unwind, = [e for e in events if e.name == "f" and e.kind == "U"]
        answers, _ = self.stops(path, [(unwind.number - 1, 0, 1, 4)])
        self.assertEqual([b for k, b in answers[unwind.number - 1, 0, 1][2] if k == RAISED], [b"KeyError\0'a'"])

    def test_stop_in_traced_program(self):
        """The program's own trace function runs as it did; lines are counted beside it."""
        path = program("traced.py")
        events, plain = self.events(path)
        tracers = [e for e in events if e.name in ("tracer", "profiler") and e.kind == "C"]
        answers, _ = self.stops(path, [(e.number, 2, 0, 0) for e in tracers])
        for e in tracers:
            why, seen, items = answers[e.number, 2, 0]
            self.assertEqual(why, AT)
            self.assertEqual([b[4:] for k, b in items if k == FRAME][0], f"{path}\0{e.name}\0".encode())

    def test_stops_do_not_move_objects(self):
        """What is made between the event and the stop has the address that it has without a stop. (What comes from malloc
        is not compared: the harness itself uses malloc.)"""
        text = ("import gc\ndef f(ids):\n    a = object()\n    b = [a, {}]\n    c = {1: 2.5}\n    d = lambda: a\n"
                "    e = [" + "object(), " * 100 + "]\n    g = (x for x in e)\n    h = 'x' * 400\n    k = 10**50\n"
                "    ids += [id(v) for v in (a, b, c, d, g)]\n    ids += [id(v) for v in e]\n"
                "    ids.append(str(gc.get_count()[0]))\n"
                "    ids.append(0)\n    return 1\nfor i in range(3): ids = []; f(ids)\nprint(ids)\n")
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(text)
        events, run = self.events(path)
        calls = [e for e in events if e.name == "f" and e.kind == "C"]
        returns = [e for e in events if e.name == "f" and e.kind == "R"]
        before = returns[-1].number - 1
        answers, _ = self.stops(path, [(before, 0, 1, 1)], evaluate=["ids"])
        values = [b.decode() for k, b in answers[before, 0, 1][2] if k == VALUE]
        got, want = eval(values[0].split("\0")[1]), eval(run.stdout)
        self.assertEqual(got[:-2], want[:-2])
        expression = "[id(v) for v in (a, b, c, d, g)] + [id(v) for v in e]"
        answers, _ = self.stops(path, [(calls[-1].number, 9, 0, 0)], evaluate=[expression])
        why, _, items = answers[calls[-1].number, 9, 0]
        self.assertEqual(why, AT)
        values = [b.decode() for k, b in items if k == VALUE]
        self.assertEqual(eval(values[0].split("\0")[1]), want[:-2])

    # ---- Expressions.

    def evaluate(self, text, name, expressions):
        """At the exit of the function called name."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(text)
        events, _ = self.events(path)
        exit_ = [e for e in events if e.name == name and e.kind in "RUY"][0]
        kind = {"R": 1, "Y": 2, "U": 4}[exit_.kind]
        answers, _ = self.stops(path, [(exit_.number - 1, 0, 1, kind)], evaluate=expressions)
        items = answers[exit_.number - 1, 0, 1][2]
        values = [body.decode("utf-8", "replace").split("\0", 1) if kind == VALUE else body.decode()
                  for kind, body in items if kind in (VALUE, ERROR)]
        return dict(zip(expressions, values, strict=True)), items

    def test_expressions(self):
        text = ("import sys\nlimit = 2\nclass C:\n    def __init__(self): self.v = 5\n    def m(self): return self.v\n"
                "class R:\n    def __repr__(self): raise RuntimeError('no repr')\n"
                "def f(xs, k):\n    p = C()\n    r = R()\n    odd = 'na\\u00efve \\ud800 \\0 end'\n    cyclic = [1]\n"
                "    cyclic.append(cyclic)\n    big = list(range(10**6))\n    deep = []\n    for i in range(100000): deep = [deep]\n"
                "    def inner(): return k\n    return 'out'\nf([1, 2, 3], 7)\n")
        expressions = ["[x for x in xs if x > limit]", "sum(x * k for x in xs)", "(lambda: k + limit)()", "p.m()", "1 +", "nope",
                       "1 / 0", "sys.exit(3)", "(_ for _ in ()).throw(KeyboardInterrupt)", "print('hello')", "odd", "cyclic",
                       "len(big)", "r", "deep", "__return__", "await p", "inner()", "  xs", "(y := 5) + y", "big"]
        got, items = self.evaluate(text, "f", expressions)
        want = {"[x for x in xs if x > limit]": ["list", "[3]"], "sum(x * k for x in xs)": ["int", "42"],
                "(lambda: k + limit)()": ["int", "9"], "p.m()": ["int", "5"], "1 +": "SyntaxError: invalid syntax",
                "nope": "NameError: name 'nope' is not defined", "1 / 0": "ZeroDivisionError: division by zero",
                "sys.exit(3)": "SystemExit: 3", "(_ for _ in ()).throw(KeyboardInterrupt)": "KeyboardInterrupt",
                "print('hello')": ["NoneType", "None"], "odd": ["str", "'na\u00efve \\ud800 \\x00 end'"],
                "cyclic": ["list", "[1, [...]]"], "len(big)": ["int", "1000000"],
                "r": ["__main__.R", "<repr raised RuntimeError: no repr>"], "__return__": ["str", "'out'"], "inner()": ["int", "7"],
                "  xs": ["list", "[1, 2, 3]"], "(y := 5) + y": ["int", "10"]}
        for expression, value in want.items():
            with self.subTest(expression=expression):
                self.assertEqual(got[expression], value)
        self.assertIn("await is not supported", got["await p"])
        self.assertTrue(got["deep"][1].startswith("<repr raised RecursionError: maximum recursion depth exceeded"), got["deep"][1][:80])
        self.assertEqual(got["big"][1], repr(list(range(10 ** 6))))
        self.assertEqual([b for k, b in items if k == RETURNED], [b"str\0'out'"])
        names = [b.split(b"\0", 1)[0].decode() for k, b in items if k == LOCAL]
        self.assertEqual(names, ["xs", "k", "p", "r", "odd", "cyclic", "big", "deep", "i", "inner"] if "k" in names[:2] else names)

    def test_exception_in_expressions(self):
        text = "def f():\n    try:\n        1 / 0\n    finally:\n        done = True\ntry: f()\nexcept ZeroDivisionError: pass\n"
        got, items = self.evaluate(text, "f", ["__exception__", "done"])
        self.assertEqual(got["__exception__"], ["ZeroDivisionError", "ZeroDivisionError('division by zero')"])
        self.assertEqual(got["done"], ["bool", "True"])

    def test_headroom(self):
        """A repr works where the program has used up its recursion limit."""
        text = ("class C:\n    def __repr__(self): return 'C'\nd = 0\ndef f():\n    global d\n    c = [[[C()]]]\n    d += 1\n"
                "    f()\ntry: f()\nexcept RecursionError: pass\n")
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(text)
        events, _ = self.events(path)
        last = [e for e in events if e.name == "f" and e.kind == "C"][-2]
        answers, _ = self.stops(path, [(last.number, 3, 0, 0)])
        why, _, items = answers[last.number, 3, 0]
        self.assertEqual(why, AT)
        self.assertEqual([b for k, b in items if k == LOCAL], [b"c\0list\0[[[C]]]"])

    # ---- Other questions.

    def ask(self, text, name, questions, kind=None):
        """Answers to (what, from, count, frame, text) at the first exit of the function called name."""
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(text)
        if getattr(self, "asked", None) != text:
            self.asked, self.asked_events = text, self.events(path)[0]
        exit_ = [e for e in self.asked_events if e.file == path and e.name == name and e.kind in (kind or "RUY")][0]
        stop = exit_.number - 1, 0, 1, {"R": 1, "Y": 2, "U": 4}[exit_.kind]
        answers, _ = self.stops(path, [stop], ask=questions)
        out = []
        for kind_, body in answers[stop[:3]][2]:
            if kind_ == 103:
                out.append([])
            elif out:
                out[-1].append((kind_, body))
        self.assertEqual(len(out), len(questions))
        for items in out:
            self.assertEqual(items.pop(), (DONE, b""))
        return out

    def test_args(self):
        text = ("def inner(): return 1\n"
                "def f(a, /, b, *args, c=3, **kw):\n    d = 4\n    g = lambda: (a, c)\n    del b\n    return inner()\n"
                "f(1, 2, 5, 6, c=7, e=8)\n")
        names = [b"a\0int\x001", b"c\0int\x007", b"args\0tuple\0(5, 6)", b"kw\0dict\0{'e': 8}"]
        one, two, three, four, five = self.ask(text, "f", [(ARGS, 0, 0, 0, ""), (ARGS, 2, 0, 0, ""), (ARGS, 0, 0, 1, ""),
                                                           (ARGS, 0, 0, 2, ""), (ARGS, 0, 0, 7, "")])
        self.assertEqual([b for k, b in one if k == LOCAL], names)
        self.assertEqual([b for k, b in one if k == TRIES], [b"a\0int\0", b"c\0int\0", b"args\0tuple\0", b"kw\0dict\0"])
        self.assertEqual([b for k, b in two if k == LOCAL], names[2:])
        self.assertEqual(three, [])
        self.assertEqual(four, [(ERROR, b"there is no function number 2 on the stack")])
        self.assertEqual(five, [(ERROR, b"there is no function number 7 on the stack")])

    def test_questions_about_callers(self):
        text = ("top = 'T'\ndef inner(x): return x\ndef outer(y):\n    z = 5\n    return inner(y + 1)\nouter(1)\n")
        answers = self.ask(text, "inner", [(3, 0, 0, 0, "(x, __return__)"), (3, 0, 0, 1, "(y, z)"), (3, 0, 0, 1, "__return__"),
                                           (3, 0, 0, 2, "sorted(k for k in globals() if k[0] != '_')"), (2, 0, 0, 1, ""),
                                           (3, 0, 0, 3, "1"), (PREPARE, 0, 0, 1, "z > y"), (PURE, 0, 0, 1, "z > y")])
        self.assertEqual(answers[0], [(VALUE, b"tuple\0(2, 2)")])
        self.assertEqual(answers[1], [(VALUE, b"tuple\0(1, 5)")])
        self.assertEqual(answers[2], [(ERROR, b"NameError: name '__return__' is not defined")])
        self.assertEqual(answers[3], [(VALUE, b"list\0['inner', 'outer', 'top']")])
        self.assertEqual([b for k, b in answers[4] if k == LOCAL], [b"y\0int\x001", b"z\0int\x005"])
        self.assertEqual(answers[5], [(ERROR, b"there is no function number 3 on the stack")])
        self.assertEqual(answers[6][0][0], PROGRAM)
        self.assertEqual((answers[6][0][1][:4], answers[6][0][1][40:49]), (struct.pack("=I", 3), b"__main__\0"))
        self.assertTrue(answers[7][0][1].startswith(b"bool\0ok ok 1 "), answers[7])

    def test_pretty(self):
        text = ("class Bad:\n    def __repr__(self): raise ValueError('x')\n"
                "def f():\n    d = {'key%d' % i: list(range(10)) for i in range(4)}\n    b = Bad()\n    return 1\nf()\n")
        one, two, three, four = self.ask(text, "f", [(PRETTY, 0, 0, 0, t) for t in ("d", "b", "1 / 0", "[1, 2]")])
        import pprint
        self.assertEqual(one, [(VALUE, b"dict\0" + pprint.pformat({'key%d' % i: list(range(10)) for i in range(4)}).encode())])
        self.assertEqual(two, [(VALUE, b"__main__.Bad\0<repr raised ValueError: x>")])
        self.assertEqual(three, [(ERROR, b"ZeroDivisionError: division by zero")])
        self.assertEqual(four, [(VALUE, b"list\0[1, 2]")])

    def test_expand(self):
        text = ("import collections.abc, types\n"
                "class P:\n    __slots__ = 'a', 'b', 'c'\n"
                "class Q(P):\n    def __init__(self): self.x, self.y, self.a, self.c = 1, 'two', 3, 4\n    z = 5\n    def m(self): pass\n"
                "class D(dict): pass\n"
                "class Bad:\n    def __repr__(self): raise ValueError('x')\n"
                "class Proxy(collections.abc.Mapping):\n    def __init__(self, d): self.d = d\n    def __len__(self): return len(self.d)\n"
                "    def __iter__(self): return iter(self.d)\n    def __getitem__(self, k): return self.d[k]\n"
                "def f():\n    q = Q()\n    d = D({1: 'a', 'k': 2, (1, b'x'): 3, 2.5: 4, None: 5})\n    d.attr = 6\n"
                "    l = [1, Bad(), 'x' * 1000]\n    big = list(range(1000))\n    s = {7}\n    q2 = collections.deque([1, 2])\n"
                "    m = types.ModuleType('mod'); m.u = 1; m._v = 2\n    setattr(q, 'odd name', 1)\n"
                "    proxy = Proxy({'a': 1})\n    view = types.MappingProxyType({'b': 2})\n    N = collections.namedtuple('N', 'u v')\n"
                "    n = N(1, 2)\n    return 1\nf()\n")
        cases = {
            "q": ([".x 1", ".y 'two'", "<attribute 'odd name'> 1", ".a 3", ".c 4"], 5),
            "d": (["[1] 'a'", "['k'] 2", "[(1, b'x')] 3", "<key 2.5> 4", "[None] 5", ".attr 6"], 6),
            "l": (["[0] 1", "[1] <repr raised ValueError: x>", "[2] " + repr('x' * 1000)], 3),
            "s": (["<0> 7"], 1), "q2": (["[0] 1", "[1] 2"], 2), "m": ([".u 1"], 1), "(1, (2,))": (["[0] 1", "[1] (2,)"], 2),
            "proxy": (["['a'] 1", ".d {'a': 1}"], 2), "view": (["['b'] 2"], 1), "5": ([], 0), "'text'": ([], 0),
            "range(2)": (["[0] 0", "[1] 1"], 2), "n": (["[0] 1", "[1] 2"], 2), "frozenset()": ([], 0)}
        questions = [(EXPAND, 0, 100, 0, t) for t in cases]
        more = [(EXPAND, 998, 100, 0, "big"), (EXPAND, 10, 2, 0, "big"), (EXPAND, 4, 2, 0, "d"), (EXPAND, 0, 0, 0, "d"),
                (EXPAND, 0, 9, 0, "nope"), (EXPAND, 0, 9, 0, "Q"), (EXPAND, 7, 9, 0, "d")]
        answers = self.ask(text, "f", questions + more)
        def show(items):
            self.assertEqual(items[0][0], VALUE)
            self.assertEqual(items[-1][0], COUNT)
            children = [b.split(b"\0", 2) for k, b in items if k == CHILD]
            self.assertEqual([b.split(b"\0")[:2] for k, b in items if k == TRIES], [c[:2] for c in children])
            return [(a + b" " + c).decode() for a, _, c in children], struct.unpack("=Q", items[-1][1])[0]
        for (expression, want), items in zip(cases.items(), answers):
            with self.subTest(expression=expression):
                self.assertEqual(show(items), want)
        a, b, c, d, e, q, past = answers[len(cases):]
        self.assertEqual(show(a), (["[998] 998", "[999] 999"], 1000))
        self.assertEqual(show(b), (["[10] 10", "[11] 11"], 1000))
        self.assertEqual(show(c), (["[None] 5", ".attr 6"], 6))
        self.assertEqual(show(d), ([], 6))
        self.assertEqual(e, [(ERROR, b"NameError: name 'nope' is not defined")])
        self.assertEqual([c.split(" ")[0] for c in show(q)[0]], [".z", ".m"])
        self.assertEqual(show(past), ([], 6))

    def test_names(self):
        text = ("glob = 1\nclass C:\n    def __init__(self): self.own = 1\n    def m(self): pass\n"
                "def f(arg):\n    c = C()\n    def inner(): return arg\n    return 1\nf(2)\n")
        empty, c, bad = self.ask(text, "f", [(NAMES, 0, 0, 0, " "), (NAMES, 0, 0, 0, "c"), (NAMES, 0, 0, 0, "zzz")])
        names = [b.decode() for k, b in empty if k == NAME]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(names[:3]), {"arg", "c", "inner"})
        self.assertLess(names.index("glob"), names.index("len"))
        names = [b.decode() for k, b in c if k == NAME]
        self.assertIn("own", names)
        self.assertIn("m", names)
        self.assertEqual(bad, [(ERROR, b"NameError: name 'zzz' is not defined")])

    def test_prepare(self):
        text = "g = 1\ndef f(a):\n    k = a\n    def h(): return k\n    return 1\nf(2)\n"
        cases = {"a > 1": 3, "g > 1": 1, "f(a)": 2, "f(g)": 0, "k": 3, "len(g)": 1, "[x for x in a]": 2, "(lambda: g)()": 0,
                 "g if g else a": 3, "(y := 1)": 0, "1.5j": 0, "f'{a}'": 2, "...": 0, "a[::2]": 2, "max(a, key=g)": 2}
        answers = self.ask(text, "f", [(PREPARE, 0, 0, 0, t) for t in cases] + [(PREPARE, 0, 0, 0, "1 +"), (PREPARE, 0, 0, 0, "")])
        for (expression, bits), items in zip(cases.items(), answers):
            with self.subTest(expression=expression):
                (kind, body), = items
                self.assertEqual(kind, PROGRAM)
                told, length, place, _, frame, thing, type_ = struct.unpack("=IIIIQQQ", body[:40])
                module, rest = body[40:].split(b"\0", 1)
                self.assertEqual((told, module), (bits, b"__main__"))
                self.assertEqual(bool(length), bool(bits & 1))
                self.assertTrue(frame)
                self.assertEqual((thing, place, rest[length:]), (0, 0, b"\0"))
        for items in answers[-2:]:
            self.assertEqual([k for k, _ in items], [ERROR])
            self.assertTrue(items[0][1].startswith(b"SyntaxError"))

    def test_prepare_place(self):
        text = ("class C: pass\nc = C()\nc.x = [1, {'k': 2}]\ndef f(a, i):\n    k = 'k'\n    return 1\nf(c, 1)\n")
        cases = {"a.x": "_.x", "c.x[i]": "_[1]", "a.x[1][k]": "_['k']", "a.x[-1]['k']": "_['k']", "(a).x": "_.x", "f(a, 1).y": None,
                 "[1, 2][0]": None, "a.x[a]": None, "a.x[i:]": None, "k[0]": None, "a": None, "a.x + [1]": None, "a.nope": "_.nope"}
        answers = self.ask(text, "f", [(PREPARE, 0, 0, 0, t) for t in cases])
        for (expression, expected), items in zip(cases.items(), answers):
            with self.subTest(expression=expression):
                (kind, body), = items
                _, length, place, _, _, thing, type_ = struct.unpack("=IIIIQQQ", body[:40])
                rest = body[40:].split(b"\0", 1)[1]
                self.assertEqual(bool(thing), expected is not None)
                self.assertEqual(bool(place), expected is not None)
                self.assertEqual(rest[length + place:], (expected or "").encode() + b"\0")

    # ---- Expressions without Python.

    PURE_PROGRAM = r'''
import collections, enum, re, sys, types
class Slots:
    __slots__ = "a", "b", "unset"
    const = 11
    def __init__(self): self.a, self.b = 1, "slot"
class Base:
    klass = [1, 2]
    shadow = "class"
    def __init__(self): self.count, self.name, self.shadow, self.none = 3, "base", "instance", None
    @property
    def prop(self): return 5
    def method(self): return self.count > len(self.klass)
    @classmethod
    def cm(cls): pass
    @staticmethod
    def sm(): pass
class Sub(Base):
    extra = 2.5
    def __init__(self):
        super().__init__()
        self.sub = 1
class Mixed(Slots):
    def __init__(self):
        super().__init__()
        self.d = 4
class Hook(Base):
    def __getattr__(self, name): return 42
class Override(Base):
    def __getattribute__(self, name): return 43
class Sized:
    def __len__(self): return 0
class Falsy:
    def __bool__(self): return False
class Eq:
    def __eq__(self, other): return True
    __hash__ = None
class MyInt(int): pass
class MyStr(str): pass
class MyList(list):
    pass
class OddList(list):
    def __getitem__(self, i): return "odd"
    def __len__(self): return 77
    def __contains__(self, x): return True
class MyDict(dict):
    def __missing__(self, k): return "missing"
class Meta(type):
    def __instancecheck__(cls, o): return True
    metaattr = 9
class WithMeta(metaclass=Meta): own = 8
class Liar:
    @property
    def __class__(self): return int
class Desc:
    def __get__(self, o, t): return 1
class WithDesc:
    d = Desc()
class Color(enum.Enum):
    RED = 1
Point = collections.namedtuple("Point", "x y")
shadowed, unbound = "global", "global unbound"
i0, i1, i5, neg, big, bigger, limit, least = 0, 1, 5, -7, 2**70, -2**100, 2**63 - 1, -2**63
t, f_, none, fl, nan, inf, cx, negzero = True, False, None, 2.5, float("nan"), float("inf"), 1j, -0.0
s, u, w, e, by = "text", "na\u00efve", "\u65e5\u672c\U0001f600x", "", b"bytes"
lst, tup, empty, nested = [1, 2.5, "x", None, nan], (1, 2, 3), [], [[1, (2, 3)], {"k": [4]}]
dct = {"a": 1, 2: "two", (1, "x"): 3, None: 4, True: 5, 2.5: 6, big: 7, b"b": 8, "\u65e5": 9, "": 10}
st, fz = {1, "a", 2.5, (1, 2), None}, frozenset([1, 2])
many = {i * 7919: str(i) for i in range(5000)}
manyset = {str(i) for i in range(300)} | set(range(1000))
removed = {i: i for i in range(100)}
for k_ in range(0, 100, 2): del removed[k_]
removedset = set(range(100)) - set(range(0, 100, 3))
dq, od, dd, ba, cnt = collections.deque([1]), collections.OrderedDict(a=1), collections.defaultdict(list, a=1), bytearray(b"x"), collections.Counter("aab")
base, sub, slots, mixed, hook, override = Base(), Sub(), Slots(), Mixed(), Hook(), Override()
withdict = Base(); withdict.__dict__["more"] = 8
shrunk = Base(); del shrunk.count
sized, falsy, eq, myint, mystr, mylist, oddlist, mydict, plain = Sized(), Falsy(), Eq(), MyInt(4), MyStr("q"), MyList([1]), OddList([1]), MyDict(a=1), object()
point, liar, withdesc, error = Point(1, 2), Liar(), WithDesc(), ValueError("bad", 2)
huge, hugeset = {str(i): i for i in range(70000)}, set(range(0, 300000, 3))
wide = Base()
for k_ in range(50): setattr(wide, "attr%d" % k_, k_)
late = Base(); late.attr49 = "late"
class Wide:
    def __init__(self):
        for k_ in range(40): setattr(self, "w%d" % k_, k_)
wides = [Wide() for _ in range(3)]
del wides[1].w3, wides[2].w39
class SlotsAndDict(Slots): __slots__ = "e", "__dict__"
sd = SlotsAndDict(); sd.e, sd.other = "e", "o"
class IntDict(int): pass
class TupDict(tuple): pass
class ErrDict(ValueError): pass
class FuncHolder: pass
func_holder = FuncHolder(); func_holder.f = print; func_holder.__dict__ = MyDict(z=1)
intdict, tupdict, errdict = IntDict(7), TupDict((1, 2)), ErrDict("e")
intdict.v, tupdict.v, errdict.v = 1, 2, 3
class StrKey(str):
    def __eq__(self, o): return True
    __hash__ = str.__hash__
strkeys = {StrKey("k"): 1, "other": 2}
rng, mv = range(3), memoryview(b"abc")
slots.b = base
mod = types.ModuleType("mod"); mod.v = 3
lazy = types.ModuleType("lazy"); lazy.__getattr__ = lambda n: 1
def func(arg, celled, shadowed, *rest, kw=2):
    local, later = arg + 1, 1
    if arg == 100: unbound = 1
    def closure(extra=0):
        nonlocal later
        freed = celled, local, later
        return celled
    r = closure()
    return closure
def overriding(len, isinstance=3):
    return len
def generator(n):
    held = n
    yield held
    k = lambda: held
    yield k
def body():
    outer = 5
    class Body:
        inside = 1
        shadowed = "body"
        copy = outer
    return Body
def before(p, q=(1, 2), *r, cell=9, **kws):
    return lambda: cell
func(1, [1], "local")
overriding(5)
for g_ in generator(4): pass
body()
sub.method()
before(1)
def last(): return 1
last()
'''
    # By function; after "!" only Python can tell, after "^" it is an error.
    PURE = {
        "last": '''huge["69999"];huge["65535"];"70000" in huge;299997 in hugeset;299998 in hugeset;wide.attr49;wide.attr0;wide.count;late.attr49;late.name;
            wides[0].w0;wides[0].w39;wides[1].w39;wides[2].w3;sd.a;sd.e;sd.other;tupdict.v;tupdict[1];errdict.v;errdict.args;func_holder.z;strkeys["other"];i0;i1;i5 > 4;neg < -6;i5 > 5 or i1;i0 and 1 / 0;not i0;not lst;big;big > limit;bigger < least;
            big == 1180591620717411303424;big > fl;i5 == 5.0;t == 1;t is True;t is 1 > 0;none is None;none is not None;i5 is None;fl == 2.5;nan == nan;nan != nan;nan < 1;
            inf > limit;limit == 9223372036854775807;limit == 9223372036854775808;limit < 9223372036854775807.0;limit == 2.0**63;limit > 9.223372036854775e18;
            least == -9223372036854775808;least == -9.223372036854775808e18;0.0 == negzero;negzero;-0.0;1 < i5 < 10;1 < i5 < 3;10 < i5 < 1 / 0;i5 == 5 != 6;
            i1 < 2 < 3 < 4 > 0;s == "text";s == 'Text';s < "texu";s > "tex";u == "na\u00efve";w == "\u65e5\u672c\U0001f600x";w > u;w[0];w[1];w[2];w[3];w[-1] == "x";
            w[0] == "\u65e5";w[3:] == "x";w[3:];u[:2] == "na";u[:2];s[1:3];s[-2:];s[:100];s[5:2] == "";s[True];s in "some text";"ex" in s;"" in s;"x" in w;"\u672c\U0001f600" in w;"\u672c" in s;
            w[3] in s;s[0] in dct;by == b"bytes";by[0];by[-1] == 115;98 in by;b"yt" in by;by[1:3];by != "x";by < b"c";lst[0];lst[-1];lst[1] == 2.5;tup[1];tup[-3];tup[1:] == (2, 3);
            tup[:-1] == (1, 2);lst[:1] == [1];nested[0][1][0];nested[1]["k"][0] == 4;1 in lst;2.5 in lst;nan in lst;"y" in lst;None in lst;3 not in tup;(2, 3) in nested[0];i5 in (1, 5);i5 in [1, 2];
            i5 in {1, 2, 5};s in {"text"};tup == (1, 2, 3);tup < (1, 3);tup >= (1, 2);(1, 2) < tup;lst == lst;[nan] == [nan];lst == [1, 2.5, "x", None, nan];lst != tup;lst == 1;
            nested == [[1, (2, 3)], dct];tup == lst;dct["a"];dct[2];dct[2.0];dct[1, "x"];dct[(1, "x")];dct[None];dct[True];dct[1];dct[2.5];dct[big];dct[b"b"];dct["\u65e5"];dct[e];dct[w[0]];dct[w[3:] if none else "a"];
            dct[1180591620717411303424];"zz" in dct;"a" in dct;None in dct;1.0 in dct;plain in dct;base in lst[:1];1 in st;1.0 in st;(1, 2) in st;(1, 3) in st;None in st;3 in fz;st == st;
            fz != st;dct == dct;removed == removed;dct == 5;many[7919] == "1";many[7919 * 4999];7919 * 17 in many;7920 in many;"2999" in manyset;"3000" in manyset;999 in manyset;1000 in manyset;
            removed[51];50 in removed;51 in removed;3 in removedset;4 in removedset;many[-0];len(s);len(w);len(lst);len(dct) == 10;len(st);len(many);len(dq);len(od);len(dd);len(ba);len(mylist);len(point);len(e) == 0;
            dq;empty;od;ba;sized is sized;plain;base;base.count;base.name;base.shadow;base.klass;base.klass[1];base.none;sub.sub;sub.extra;sub.count == 3;sub.klass is base.klass;slots.a;slots.const;
            slots.b.count;mixed.a;mixed.d;mixed.const;withdict.more;withdict.count;shrunk.name;shrunk.klass;base.__class__;base.__class__ is Base;type(base) is Base;type(base) == Base;type(i1) is int;type(s) == str;
            type(none);type(w[0]);type(tup[1:]) is tuple;base.__class__.__name__;type(base).__name__ == "Base";type(i1).__name__;Base.__qualname__;Base.klass;Sub.extra;Base.method;Base.method.__name__;WithMeta.own;WithMeta.metaattr;
            mod.v;mod.__name__;sys.maxsize;sys.flags;re.I;isinstance(i1, int);isinstance(t, int);isinstance(i1, (str, int));isinstance(sub, Base);isinstance(base, Sub);isinstance(s, (str, bytes));isinstance(none, type(None));
            isinstance(myint, int);isinstance(Base, type);isinstance(sub, (Slots, (Base,)));error.args;error.args[0] == "bad";point.x;point.y == 2;point[1];mylist[0];mydict["a"];dd["a"];od["a"];cnt["a"];"a" in mydict;"zz" in dd;1 in od;abs(neg);abs(fl);abs(-0.0);abs(t);
            min(1, i5);max(1, i5, fl);max(tup);min(tup, (0, 1));max(s, "z");min(lst[:2]);bool(lst);bool(0);int(fl);int(t);int(big);int(i5);float(i5);float(fl);str(s);max(nan, 1);max(1, nan);min(2, t);
            i5 + 1;i5 - 6;i5 * i5;i5 / 2;i5 // 2;neg // 2;neg % 3;7 % -3;neg // -2;-7 // 7;i5 ** 2;i5 ** 0;2 ** 62;fl + 1;1 - fl;fl * fl;fl / 2;fl // 1;-fl // 1;fl % 1;-fl % 1;fl % -1;fl ** 2;2 ** 0.5;i5 / i1;
            i5 << 3;i5 << 0;0 << 1000;i5 >> 1;neg >> 1;neg >> 100;i5 >> 64;i5 & 4;i5 | 8;i5 ^ 1;t & f_;t | f_;t ^ t;t & 1;t + t;-i5;+i5;~i5;-t;+t;-fl;+fl;-big if none else 1;inf - inf;inf * 0;1e308 * 10;
            (1, s, None);[];();[i1, fl];{i1};{i1, plain};not {s};(1, 2) == (1, 2.0);(i5 if t else 1 / 0);(1 / 0 if none else s);s or 1 / 0;none or 0 or e or empty;1 and 2 and s;not (t and f_);cx;cx == none;
            plain == base;plain == 5;plain != None;5 == plain;plain in (1, plain);(plain, 1) == (plain, 1);(plain, 1) == (base, 1);[plain, nan] == [plain, nan];Color is Color;Base == Sub;func is func;func == func;func.__name__;
            base is sub;base is base;s is None;s is 5 if none else 1;len is len;type is type;True;None;1.5;"lit";b"lit";123456789012345678901234567890;-5;-1.5;liar.__class__ if none else 1;unbound;shadowed;
            isinstance(liar, Liar);isinstance(Color, type);bool(plain);len(many) > 10 and base.count == 3;i5 > 3 and base.name == "base" and not base.none;mylist;dd;cnt;fz;Sub;print;''',
        "last!": '''strkeys["k"];"k" in strkeys;base.prop;big == 2**70;fz == {1, 2};cx == 1j;s * fl;zzz();base.method;base.method();base.cm;base.sm;base.__dict__;hook.count;hook.zzz;override.count;bool(sized);not sized;sized or 1;len(sized);falsy and 1;not falsy;eq == 1;1 == eq;eq in [1];1 in [eq];
            myint == 4;mystr == "q";4 == myint;myint + 1;myint;oddlist[0];len(oddlist);1 in oddlist;mydict["zz"];dd["zz"];cnt["zz"];dd == 1;isinstance(5, WithMeta);isinstance(liar, int);withdesc.d;Base.cm;WithDesc.d;lazy.zzz;
            big + 1;limit + 1;least - 1;-least;limit * 2;2 ** 63;1 << 63;abs(least);s + "x";s * 2;s % 1;by + by;str(5);int("5");float("1");[x for x in lst];lambda: 1;f"{s}";s.upper();s.upper;print(1);sorted(lst);
            sum(tup);lst[::2];lst + lst;tup + (1,);st | st;st < st;cx + 1;cx == 1;rng[0];1 in rng;mv[0];Color.RED.value;int.real;type("X", (), {});max(lst, key=len);len(*lst);__debug__;globals();(yield_ := 5);
            eq == eq;[eq] == [1];dct == {};~t;1j;...;base.klass.append;{**dct};[*lst];od == od;dq == dq;hook.__class__;repr(s);any(lst);i5 is 5;s is "text";s[0] is "t";len(s) is 4;limit / 3;big == 1.5e30;
            {} ;{1: 2};dq[0];ba[0];1 in dq;ba == b"x";Base.__dict__;base.method.__name__;id(base);hash(s);min(st);point == (1, 2);mylist == [1];fz in st;st in st;{1} in st;{1} in {1, 2};max(rng);0.0 ** -1 if none else 0.0 ** 1;''',
        "last^": '''wides[1].w3;wides[2].w39;late.attr48;func_holder.f;sd.unset;sd.zzz;tupdict.zzz;errdict.zzz;huge["x"];nope;nope.x;base.nope;base.count.nope;i1.nope;none.x;slots.unset;shrunk.count;mixed.zzz;Base.zzz;mod.zzz;func.zzz;plain.x;lst[5];lst[-6];tup[3];s[4];by[5];e[0];lst["x"];lst[None];lst[1.5];tup["a"];dct["zz"];dct[3];
            {lst};{1, dct};not {st};1 in {1, lst};dct[[]];dct[lst];lst in dct;dct in st;[] in {1};{1} in dct;none[0];i1[0];5 in s;None in s;300 in by;"x" in by;1 in 5;1 / 0;1 // 0;1 % 0;1.5 / 0;fl // 0;fl % 0.0;0 ** -1;1 << -1;1 >> -1;s - 1;s + 1;1 + s;none + 1;s + by;
            fl & 1;fl << 1;none * 2;-s;-none;~fl;~s;s < 1;none < 1;none < none;1 < none;lst < tup;lst < 1;plain < plain;plain < 1;base > 5;len(5);len(none);len(plain);len(fl);abs(s);abs(none);min(5);max([]);max(());int(none);
            int(nan);int(inf);float(none);min(1, s);max(none, none);i5 > s;t < s;[1, 2] < [1, s];s[none:s];s["a":];lst[1.5:];big < s;lst[big];"text"["x"];base.__class__.zzz;1 in base.count;''',
        "func": '''arg;celled;celled[0];shadowed;unbound;local == arg + 1;rest;rest == ();kw;closure is r;later;i5;len(rest) == 0;base.count + arg''',
        "func^": "freed;extra",
        "func.<locals>.closure": "celled;freed;freed[0] is celled;extra;local;later;later == 1;shadowed;arg if none else 1",
        "func.<locals>.closure^": "arg",
        "overriding": "len;len == 5;isinstance;max(len, 1)",
        "overriding!": "len(s);isinstance(s, str)",
        "generator": "n;held;held == 4;n in (4, 5)",
        "generator^": "k",
        "body.<locals>.Body": "inside;shadowed;shadowed == 'body';copy;outer;__name__;__qualname__;unbound;i5",
        "body.<locals>.Body^": "Body",
        "Base.method": "self.count;self.count > len(self.klass);self.sub;self.extra;self;type(self).__name__;self is sub",
        "Base.method!": "self.prop;self.method;super().count;__class__.klass if none else self.prop",
        "Base.method^": "self.__count;self.zzz",
        "<module>": "i5;base.count;last;__name__;shadowed;len(s)",
        "<module>^": "local;p",
    }

    @staticmethod
    def verdict(items):
        """(pure result, fits, truth, fingerprint, Python's truth, its fingerprint, type)"""
        (kind, body), = items
        if kind == ERROR:
            return ("syntax", body.decode())
        type_, text = body.decode().split("\0")
        r, fits, truth, fp, ptruth, pfp = text.split(" ")
        return r, fits, int(truth), fp, int(ptruth), pfp, type_

    def check_pure(self, expression, v, want=None):
        """Is what the program says what Python says?"""
        if v[0] == "syntax":
            return f"{expression}: {v}"
        r, fits, truth, fp, ptruth, pfp, type_ = v
        wrong = []
        if want and r != want and fits != want:
            wrong.append(f"should be {want}")
        if r == "ok" and fits != "cannot" and (fits != "ok" or truth != ptruth):
            wrong.append("another truth")
        if r == "ok" and fp != pfp and type_ not in ("list", "tuple", "set"):
            wrong.append("another value")
        if r == "ok" and not type_ or r == "raises" and type_:
            wrong.append("one of them raises")
        return f"{expression}: {', '.join(wrong)}: {v}" if wrong else None

    def test_pure(self):
        count, wrong = 0, []
        for where, expressions in self.PURE.items():
            name, kind = where.rstrip("!^"), {"!": "cannot", "^": "raises"}.get(where[-1], "ok")
            expressions = [e.strip() for e in expressions.split(";") if e.strip()]
            # A bool() that only Python can tell of is no fault of the value.
            answers = self.ask(self.PURE_PROGRAM, name, [(PURE, 0, 0, 0, e) for e in expressions])
            for e, items in zip(expressions, answers):
                count += 1
                problem = self.check_pure(e, self.verdict(items), kind)
                if problem:
                    wrong.append(f"{where}: {problem}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))
        self.assertGreater(count, 500)

    def test_pure_at_random(self):
        """Whatever the expression is: what Python says, or nothing."""
        import random
        names = ("i0 i1 i5 neg big bigger limit least t f_ none fl nan inf cx s u w e by lst tup empty nested dct st fz many manyset "
                 "removed dq od dd ba cnt base sub slots mixed hook sized falsy eq myint mystr mylist oddlist mydict plain point liar "
                 "error rng mod int str Base Sub nope").split()
        scalars = "i0 i1 i5 neg limit least t f_ fl inf nan 0 1 2 -1 3.5 -0.0 63 1e300 big".split()
        attributes = "count name klass shadow none a b x y sub const prop zzz __class__ __name__ args v".split()
        r = random.Random(int(os.environ.get("PURE_SEED", "1")))
        def make(depth):
            kind = r.randrange(16 if depth < 4 else 2)
            sub_ = lambda: "(" + make(depth + 1) + ")"
            if kind == 0:
                return r.choice(names)
            if kind == 1:
                return r.choice(scalars + ["'a'", "'x'", "''", "b'b'", "None", "True", "False", "'te'", "2.5"])
            if kind == 2:
                return r.choice(names) + "." + r.choice(attributes)
            if kind == 3:
                return sub_() + "[" + make(depth + 1) + "]"
            if kind in (4, 5):
                return sub_() + r.choice([" == ", " != ", " < ", " <= ", " > ", " >= ", " is ", " is not ", " in ", " not in "]) + sub_()
            if kind in (6, 7):
                return sub_() + r.choice([" and ", " or "]) + sub_()
            if kind == 8:
                return r.choice(["not ", "-", "+", "~"]) + sub_()
            if kind in (9, 10):
                op = r.choice("+ - * / // % & | ^ >>".split())
                return f"({r.choice(scalars)}) {op} ({r.choice(scalars)})"
            if kind == 11:
                return f"{sub_()} if {sub_()} else {sub_()}"
            if kind == 12:
                return r.choice(["(%s, %s)", "[%s, %s]", "{%s, %s}"]) % (sub_(), sub_())
            if kind == 13:
                f = r.choice("len abs min max type bool int float str isinstance".split())
                return f"{f}({make(depth + 1)}{', ' + make(depth + 1) if f in ('min', 'max', 'isinstance') else ''})"
            if kind == 14:
                return f"{sub_()} {r.choice(['<', '==', 'in', '>='])} {sub_()} {r.choice(['<', '!=', 'is'])} {sub_()}"
            return f"{sub_()}[{r.choice(['', '1', '-1', 'i1'])}:{r.choice(['', '2', '-1', 'none'])}]"
        expressions = [make(0) for _ in range(int(os.environ.get("PURE_COUNT", "2000")))]
        answers = self.ask(self.PURE_PROGRAM, "last", [(PURE, 0, 0, 0, e) for e in expressions])
        verdicts = [(e, self.verdict(items)) for e, items in zip(expressions, answers)]
        wrong = [w for e, v in verdicts if (w := self.check_pure(e, v))]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong[:20]))
        self.assertGreater(sum(v[0] == "ok" for _, v in verdicts), len(expressions) / 8)
        self.assertGreater(sum(v[0] == "raises" for _, v in verdicts), len(expressions) / 8)

    def test_fingerprints(self):
        text = ("import collections\nclass C: pass\nclass L(list): pass\n"
                "def one(): pass\ndef two(): pass\ndef three(): pass\n"
                "dq, lst, dct, st, ba, sub, deep = collections.deque(range(100)), [1, 2], {1: 2}, {1, 2}, bytearray(b'x'), L([1]), [[1]]\n"
                "other, w, big, c, grown, order, ratio = [5], 'x\\u65e5y', 2 ** 70, C(), [1, 2, 3], {1: 1, 2: 2}, 1\n"
                "same = dq, lst, dct, st, ba, sub, other, w, big, c, grown, order, deep\n"
                "one()\n"
                "dq.append(7); dq.popleft(); lst[0] = True; dct[1] = 2.0; st.remove(1); st.add(3); ba[0] = 1; sub[0] = None; ratio = 1.0\n"
                "grown.append(4); grown.pop(); order.pop(1); order[1] = 1; deep[0].append(2); c.x = 1\n"
                "two()\n"
                "dq.appendleft(0); dq.pop(); lst[0] = 1; dct[1] = 2; st.remove(3); st.add(1); ba[0] = 120; sub[0] = 1; ratio = 1\n"
                "three()\n")
        changing, constant = "dq lst dct st ba sub ratio".split(), "other w big c grown order deep same nope".split()
        more = ["1", "True", "1.0", "'1'", "b'1'", "0", "None", "w[0]", "'x'", "w[1]", "'\\u65e5'", "{1, 2}", "{2, 1}", "(1, w[0])", "(1, 'x')",
                "[1, 'x']", "2 ** 62", "-2 ** 62", "1180591620717411303424", "big", "-0.0", "0.0"]
        found = []
        for name in "one", "two", "three":
            expressions = changing + constant + (more if name == "one" else [])
            verdicts = [self.verdict(a) for a in self.ask(text, name, [(PURE, 0, 0, 0, e) for e in expressions])]
            self.assertEqual({e for e, v in zip(expressions, verdicts) if v[0] != "ok"}, {"nope"})
            found.append({e: v[3] for e, v in zip(expressions, verdicts)})
        one, two, three = found
        self.assertEqual({e: one[e] for e in constant}, {e: two[e] for e in constant})
        self.assertEqual([e for e in changing if one[e] == two[e]], [])
        self.assertEqual([e for e in changing if one[e] != three[e]], [])
        self.assertEqual(int(one["nope"], 16), 0)
        equal = [("w[0]", "'x'"), ("w[1]", "'\\u65e5'"), ("{1, 2}", "{2, 1}"), ("(1, w[0])", "(1, 'x')"), ("1180591620717411303424", "big"), ("1", "ratio")]
        for a, b in equal:
            self.assertEqual(one[a], one[b], (a, b))
        rest = [e for e in one if e not in [b for _, b in equal]]
        self.assertEqual(len({one[e] for e in rest}), len(rest))

    def evaluate_here(self, path, event, times, expressions):
        """Evaluates in the program's own timeline: [(result, truth, fingerprint, ns)], and what the program wrote."""
        out = os.path.join(self.results, "out")
        run = self.harness(path, HARNESS_OUT=out, HARNESS_PURE="%d:%09d:%s" % (event, times, "\x1e".join(expressions)))
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(out, "rb") as f:
            data, at, results = f.read(), 0, []
        while at < len(data):
            kind, size = struct.unpack_from("=iQ", data, at)
            self.assertEqual(kind, 102)
            results.append(struct.unpack("=iiQd", data[at + 12:at + 12 + size]))
            at += 12 + size
        self.assertEqual(len(results), len(expressions))
        return results, run.stdout

    def test_pure_before_the_first_line(self):
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(self.PURE_PROGRAM)
        events, _ = self.events(path)
        call = [e for e in events if e.name == "before" and e.kind == "C"][0]
        cases = {"p == 1": (0, 1), "q == (1, 2)": (0, 1), "cell == 9": (0, 1), "r == ()": (0, 1), "len(kws) == 0": (0, 1), "cell > 9": (0, 0),
                 "i5": (0, 1), "zzz": (2, 0), "base.prop": (1, 0)}
        results, _ = self.evaluate_here(path, call.number, 1, list(cases))
        self.assertEqual([r[:2] for r in results], list(cases.values()))
        call = [e for e in events if e.name == "func.<locals>.closure" and e.kind == "C"][0]
        cases = {"celled[0] == 1": (0, 1), "local == 2": (0, 1), "extra == 0": (0, 1), "freed": (2, 0)}
        results, _ = self.evaluate_here(path, call.number, 1, list(cases))
        self.assertEqual([r[:2] for r in results], list(cases.values()))
        call = [e for e in events if e.name == "generator" and e.kind == "C"][0]
        results, _ = self.evaluate_here(path, call.number, 1, ["n == 4", "held"])
        self.assertEqual([r[:2] for r in results], [(0, 1), (2, 0)])

    def test_pure_leaves_no_trace(self):
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(self.PURE_PROGRAM + r'''
def traced(x, self):
    sys.stdout.write("")
    def nothing(): pass
    try:
        raise KeyError("k")
    except KeyError:
        nothing()
    out = [sys.getallocatedblocks(), gc.get_count(), gc.get_objects().__len__()]
    out += [sys.getrefcount(o) for o in (self, x, base, Base, Slots, slots, dct, lst, Base.klass, "count", none, s, w, nan, big, tup)]
    out += [id(object()), id([]), id({}), id("x" * (500 + x)), id(1.5 * x), id(10 ** 30 * x), id(Base()), id((x, out))]
    out += [sys.getsizeof(o) for o in (base, sub, slots, dct, w, u, s, manyset, many)]
    out += [sys.getsizeof(o.__dict__) for o in (sub, base)]
    out += [id(object()), id(o_) if (o_ := Base()) else 0]
    return out
import gc
for _ in range(3): o_ = traced(6, base)
fresh = Base()
print(traced(6, fresh))
''')
        events, _ = self.events(path)
        call = [e for e in events if e.name == "traced.<locals>.nothing" and e.kind == "R"][-1]
        start = [e for e in events if e.name == "traced" and e.kind == "C"][-1]
        expressions = ["x > 5 and self.count == 3", "sub.extra > 1 and self.name == 'base'", "dct['a'] == 1 and dct[1, 'x']", "w[1:] != 'x' + 1",
                       "'2999' in manyset and many[7919] == '1'", "nested == [[1, (2, 3)], dct]", "self.zzz", "self.prop", "big > 5 and -big",
                       "type(self).__name__ == 'Base'", "[x, self, 'y' in w]", "lst", "dct", "isinstance(self, (int, Base))", "nope",
                       "max(x, fl) ** 2 / 3", "slots.b.count", "len(self.klass) == 2 and not self.none", "s[1:3] == 'ex'", "mod.zzz", "sys.maxsize > 5"]
        for event in (call.number, start.number):
            _, without = self.evaluate_here(path, event, 0, expressions)
            results, with_ = self.evaluate_here(path, event, 100000, expressions)
            self.assertEqual(with_, without)
            self.assertIn(", ", with_)
            self.assertEqual(results[0][:2], (0, 1))
            if os.environ.get("PURE_TIMES"):
                print(self.version, *(f"{r[3]:.0f} ns  {e}" for e, r in zip(expressions, results)), sep="\n    ")
            self.assertLess(results[0][3], 2000)

    def test_where(self):
        text = "def g():\n    return 1\n\n\ndef f():\n    return g()\n\n\nf()\n"
        path = os.path.join(self.folder, "p.py")
        with open(path, "w") as f:
            f.write(text)
        events, _ = self.events(path)
        inner = [e for e in events if e.name == "g" and e.kind == "R"][0]
        _, texts = self.stops(path, [], where=inner.number)
        self.assertEqual(texts, [f"{path}:6 in f\n{path}:9 in <module>\n"])


def main():
    global BUILD
    args = sys.argv[1:]
    options = args[args.index("--") + 1:] if "--" in args else []
    BUILD, *pythons = args[:args.index("--")] if "--" in args else args
    BUILD = os.path.abspath(BUILD)
    for python in pythons:
        version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True).strip()
        name = "Python" + version.replace(".", "") + f"_{pythons.index(python)}"
        globals()[name] = type(name, (EngineTest,), {"python": python, "version": version})
    del globals()["EngineTest"]
    unittest.main(argv=[sys.argv[0], *options])


if __name__ == "__main__":
    main()
