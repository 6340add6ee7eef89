"""What a program does, found out with nothing but sys.settrace or sys.setprofile: an oracle for timefork.

    python3 oracle.py count OUT FOLDER PROGRAM [ARGS...]
    python3 oracle.py trace OUT FOLDER POSITIONS PROGRAM [ARGS...]
    python3 oracle.py lines OUT FOLDER QUESTIONS PROGRAM [ARGS...]

Runs PROGRAM as a plain Python run would, and looks at the functions whose file is inside FOLDER ("user events").

`count` uses sys.setprofile and writes {"enter": N, "leave": N}.

`trace` uses sys.settrace and writes {"events": [[kind, code, lines], ...], "codes": [...], "details": {...}}:
  kind    call, resume, return, yield, unwind
  code    index into codes: [file, qualified name, first line]
  lines   how many lines ran in this frame between this event and the next frame event of any code
  details for each of POSITIONS (a JSON file, [[k, n], ...]: n lines after the k-th user event, from 0) what can be
          seen there: function, line, next_line (of the line that runs next), stack, locals

`lines` uses sys.settrace and writes everything that happens, in order:
  items   ["l", node, line] a line of a user function begins; ["e", node, kind] a user event; ["x", node, kind] an event
          of any other function; ["r", node, line, first, [class, base, ...]] an exception comes up in a user function,
          first: it has been in no function before
  nodes   [parent, activation]: the stack when it happened, innermost function first; 0 is the empty one
  acts    for each activation the index of its code; a generator has one for its whole life
  codes   [file, qualified name, first line, user, names of its variables]
QUESTIONS is a JSON file with
  eval    {"FILE:LINE": [expression, ...]}: answers {item: [true, false or null (it raises), ...]}
  watch   [[FILE, function, name] or [FILE, null, global name], ...]: values {number: [[activation, item, old, new], ...]}: the
          items at which it had become another one; null: not there

A generator function, when called, first makes the generator: that is no event, neither here nor in a recording. The
first piece of its body is a "call", the others are "resume".
"""
import sys

BEFORE = set(sys.modules)

import dis  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import types  # noqa: E402

LEAVES = {dis.opmap[n]: k for n, k in (("RETURN_VALUE", "return"), ("RETURN_CONST", "return"),
                                       ("YIELD_VALUE", "yield")) if n in dis.opmap}
RESUME = dis.opmap["RESUME"]
RETURN_GENERATOR = dis.opmap["RETURN_GENERATOR"]
SIMPLE = (int, float, str, bool, bytes, type(None))


def simple(value, depth=0):
    """Can its repr be compared between two processes, and computed without running any Python code?"""
    if type(value) in SIMPLE:
        return True
    if depth > 3:
        return False
    if type(value) in (list, tuple):
        return len(value) <= 50 and all(simple(v, depth + 1) for v in value)
    if type(value) is dict:
        return len(value) <= 50 and all(simple(k, depth + 1) and simple(v, depth + 1) for k, v in value.items())
    return False


class Inside:
    """Which code objects are the user's; remembers the answer."""

    def __init__(self, folder):
        self.prefix = os.path.realpath(folder) + os.sep
        self.known = {}

    def __call__(self, code):
        answer = self.known.get(code)
        if answer is None:
            name = code.co_filename
            answer = self.known[code] = os.path.isabs(name) and os.path.realpath(name).startswith(self.prefix)
        return answer


class Counter:
    def __init__(self, folder):
        self.inside = Inside(folder)
        self.enter = self.leave = 0

    def profile(self, frame, event, arg):
        if event == "call":
            if self.inside(frame.f_code):
                self.enter += 1
        elif event == "return":
            if self.inside(frame.f_code):
                self.leave += 1

    def start(self):
        sys.setprofile(self.profile)

    def stop(self):
        sys.setprofile(None)

    def report(self):
        return {"enter": self.enter, "leave": self.leave}


class Tracer:
    def __init__(self, folder, positions):
        self.inside = Inside(folder)
        self.events, self.codes, self.details = [], [], {}
        self.code_index = {}
        self.wanted = {}
        for k, n in positions:
            self.wanted.setdefault(k, set()).add(n)
        self.raised = None   # the frame whose exception was the last thing seen
        self.open = None     # (frame, k) whose lines are being counted
        self.pending = None  # (frame, detail) that still lacks next_line

    def index(self, code):
        if code not in self.code_index:
            self.code_index[code] = len(self.codes)
            self.codes.append([code.co_filename, code.co_qualname, code.co_firstlineno])
        return self.code_index[code]

    def look(self, frame, kind):
        stack, f = [], frame
        while f is not None:
            if self.inside(f.f_code):
                stack.append([f.f_code.co_qualname, f.f_code.co_filename, f.f_lineno])
            f = f.f_back
        values = frame.f_locals
        # In modules and class bodies timefork leaves out the names that the machinery uses.
        function = frame.f_code.co_flags & 1  # CO_OPTIMIZED
        names = sorted(name for name in values if function or not (name.startswith("__") and name.endswith("__")))
        return {"kind": kind, "function": frame.f_code.co_qualname, "file": frame.f_code.co_filename,
                "line": frame.f_lineno, "first_line": frame.f_code.co_firstlineno, "next_line": None,
                "stack": stack, "names": names,
                "locals": {name: repr(values[name]) for name in names if simple(values[name])}}

    def event(self, frame, kind):
        k = len(self.events)
        self.events.append([kind, self.index(frame.f_code), 0])
        self.open, self.pending = (frame, k), None
        if 0 in self.wanted.get(k, ()):
            detail = self.details[f"{k}+0"] = self.look(frame, kind)
            if kind in ("call", "resume"):
                self.pending = (frame, detail)

    def enter(self, frame, event, arg):
        """The global trace function: a call or a resume of any Python function."""
        self.open = self.pending = self.raised = None
        if not self.inside(frame.f_code):
            return None
        code, at = frame.f_code.co_code, frame.f_lasti
        # An exception may be thrown into a generator that has not begun: it stands where it was made.
        begins = code[at] == RESUME and code[at + 1] == 0 or RETURN_GENERATOR in (code[at], code[max(at - 2, 0)])
        self.event(frame, "call" if begins else "resume")
        return self.local

    def local(self, frame, event, arg):
        if event == "line":
            if self.pending and self.pending[0] is frame:
                self.pending[1]["next_line"] = frame.f_lineno
                self.pending = None
            if self.open and self.open[0] is frame:
                k = self.open[1]
                self.events[k][2] += 1
                n = self.events[k][2]
                if n in self.wanted.get(k, ()):
                    self.details[f"{k}+{n}"] = self.look(frame, "line")
        elif event == "return":
            kind = self.leaving(frame)
            if arg is None and kind == "yield" and self.raised is frame:
                kind = "unwind"  # thrown into where it stood suspended
            self.event(frame, kind)
            self.open = self.raised = None
            return None
        self.raised = frame if event == "exception" else None
        return self.local

    @staticmethod
    def leaving(frame):
        """How a frame is left, by the instruction it stands at; for a yield 3.13 says the one behind it."""
        code, at = frame.f_code.co_code, frame.f_lasti
        if code[at] == RESUME and at >= 2 and LEAVES.get(code[at - 2]) == "yield":
            return "yield"
        return LEAVES.get(code[at], "unwind")

    def start(self):
        sys.settrace(self.enter)

    def stop(self):
        sys.settrace(None)

    def report(self):
        return {"events": self.events, "codes": self.codes, "details": self.details}


def token(value):
    """Two values are the same if their tokens are. With a type that makes it readable."""
    if type(value) in SIMPLE:
        return f"{type(value).__name__} {value!r}"
    if type(value) in (list, tuple, dict):
        if simple(value):
            return f"{type(value).__name__} {id(value)} {value!r}"
        items = [x for pair in value.items() for x in pair] if type(value) is dict else value
        items = [repr(x) if type(x) in SIMPLE else str(id(x)) for x in items]
        return f"{type(value).__name__} {id(value)} ?{items}"
    return f"{type(value).__name__} {id(value)}"


class Lines:
    def __init__(self, folder, questions):
        self.inside = Inside(folder)
        self.items, self.nodes, self.acts, self.codes = [], [[0, 0]], [0], [["", "", 0, False, []]]
        self.code_index, self.node_index, self.act_of = {}, {}, {}
        self.eval = {place: [compile(e, "<question>", "eval") for e in es] for place, es in questions.get("eval", {}).items()}
        self.answers = {}
        self.raised = None
        self.watch = questions.get("watch", [])
        self.values = {n: [] for n in range(len(self.watch))}
        self.live = []  # [number, activation, frame or None, last token]
        self.wanted = {(file, function): [] for file, function, _ in self.watch if function}
        for n, (file, function, _) in enumerate(self.watch):
            if function:
                self.wanted[file, function].append(n)
            else:
                self.live.append([n, 0, None, None])

    def index(self, code):
        if code not in self.code_index:
            self.code_index[code] = len(self.codes)
            # Not of classes and modules: there f_locals mixes in the variables of comprehensions, on 3.12.
            names = code.co_varnames + code.co_cellvars + code.co_freevars if code.co_flags & 1 else ()
            self.codes.append([code.co_filename, code.co_qualname, code.co_firstlineno, self.inside(code), names])
        return self.code_index[code]

    def act(self, frame, new=False):
        found = None if new else self.act_of.get(id(frame))
        if found is None:
            found = self.act_of[id(frame)] = len(self.acts)
            self.acts.append(self.index(frame.f_code))
        return found

    def node(self, frame):
        chain = []
        while frame is not None and frame.f_code.co_filename != __file__:
            chain.append(self.act(frame))
            frame = frame.f_back
        node = 0
        for act in reversed(chain):
            key = node, act
            node = self.node_index.get(key)
            if node is None:
                node = self.node_index[key] = len(self.nodes)
                self.nodes.append(key)
        return node

    def place(self, kind, frame, what):
        self.items.append([kind, self.node(frame), what])
        for entry in self.live:
            number, act, of, last = entry
            if act and not of:  # suspended; to keep its frame would keep alive what is in it
                continue
            space = of.f_locals if of else sys.modules["__main__"].__dict__
            name = self.watch[number][2]
            now = token(space[name]) if name in space else None
            if now != last:
                self.values[number].append([act, len(self.items) - 1, last, now])
                entry[3] = now

    def enter(self, frame, event, arg):
        code = frame.f_code
        if code.co_filename == __file__:
            return None
        op, oparg = code.co_code[frame.f_lasti:frame.f_lasti + 2]
        called = op == RESUME and oparg == 0 or id(frame) not in self.act_of  # or thrown into before it has begun
        self.raised = None
        act = self.act(frame, new=called)
        user = self.inside(code)
        if called and user:
            self.live += [[n, act, frame, None] for n in self.wanted.get((code.co_filename, code.co_qualname), ())]
        for entry in self.live:
            if entry[1] == act:
                entry[2] = frame
        self.place("e" if user else "x", frame, "call" if called else "resume")
        if not user:
            frame.f_trace_lines = False
            return self.other
        return self.local

    def other(self, frame, event, arg):
        if event == "return":
            kind = Tracer.leaving(frame)
            self.place("x", frame, kind)
            if kind != "yield":
                self.act_of.pop(id(frame), None)
        return self.other

    def local(self, frame, event, arg):
        if event == "line":
            self.place("l", frame, frame.f_lineno)
            questions = self.eval.get(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            if questions:
                space = frame.f_globals, frame.f_locals
                self.answers[len(self.items) - 1] = [self.ask(q, space) for q in questions]
        elif event == "exception":
            trace = arg[2]
            first = trace is not None and trace.tb_next is None and trace.tb_frame is frame
            self.items.append(["r", self.node(frame), frame.f_lineno, first, [c.__name__ for c in arg[0].__mro__]])
        elif event == "return":
            kind = Tracer.leaving(frame)
            if arg is None and kind == "yield" and self.raised is frame:
                kind = "unwind"
            self.place("e", frame, kind)
            act = self.act(frame)
            for entry in self.live:
                if entry[1] == act:
                    entry[2] = None
            if kind != "yield":
                self.act_of.pop(id(frame), None)
                self.live = [entry for entry in self.live if entry[1] != act]
        self.raised = frame if event == "exception" else None
        return self.local

    @staticmethod
    def ask(question, space):
        try:
            return bool(eval(question, *space))
        except Exception:
            return None

    def start(self):
        sys.settrace(self.enter)

    def stop(self):
        sys.settrace(None)

    def report(self):
        return {"items": self.items, "nodes": self.nodes, "acts": self.acts, "codes": self.codes,
                "answers": self.answers, "values": self.values}


def run(watch, program, args, out):
    with open(program, "rb") as f:
        code = compile(f.read(), program, "exec", dont_inherit=True)
    # The program imports what a plain run of it imports: nothing has been imported for it.
    for name in set(sys.modules) - BEFORE:
        del sys.modules[name]
    sys.argv[:] = [program, *args]
    sys.path[0] = os.path.dirname(program)
    module = types.ModuleType("__main__")
    module.__file__ = program
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    try:
        watch.start()
        try:
            exec(code, module.__dict__)
        finally:
            watch.stop()
            # The program's own __del__ may print at the very end, so the report is written before that.
            with open(out, "w") as f:
                json.dump(watch.report(), f)
    except SystemExit:
        raise
    except BaseException as e:
        # The traceback of the program only, as a plain run has it.
        trace = e.__traceback__
        while trace and trace.tb_frame.f_code is not code:
            trace = trace.tb_next
        sys.excepthook(type(e), e.with_traceback(trace), trace)
        sys.exit(1)


def main():
    mode, out, folder = sys.argv[1:4]
    if mode == "count":
        watch, rest = Counter(folder), sys.argv[4:]
    else:
        with open(sys.argv[4]) as f:
            questions = json.load(f)
        rest = sys.argv[5:]
        watch = Lines(folder, questions) if mode == "lines" else Tracer(folder, [tuple(p) for p in questions])
    run(watch, os.path.abspath(rest[0]), rest[1:], os.path.abspath(out))


if __name__ == "__main__":
    main()
