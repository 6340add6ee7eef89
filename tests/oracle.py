"""What a program does, found out with nothing but sys.settrace or sys.setprofile: an oracle for timefork.

    python3 oracle.py count OUT FOLDER PROGRAM [ARGS...]
    python3 oracle.py trace OUT FOLDER POSITIONS PROGRAM [ARGS...]

Runs PROGRAM as a plain Python run would, and looks at the functions whose file is inside FOLDER ("user events").

`count` uses sys.setprofile and writes {"enter": N, "leave": N}.

`trace` uses sys.settrace and writes {"events": [[kind, code, lines], ...], "codes": [...], "details": {...}}:
  kind    call, resume, return, yield, unwind
  code    index into codes: [file, qualified name, first line]
  lines   how many lines ran in this frame between this event and the next frame event of any code
  details for each of POSITIONS (a JSON file, [[k, n], ...]: n lines after the k-th user event, from 0) what can be
          seen there: function, line, next_line (of the line that runs next), stack, locals

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
        op, oparg = frame.f_code.co_code[frame.f_lasti:frame.f_lasti + 2]
        self.event(frame, "call" if op == RESUME and oparg == 0 else "resume")
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
            watch, rest = Tracer(folder, [tuple(p) for p in json.load(f)]), sys.argv[5:]
    run(watch, os.path.abspath(rest[0]), rest[1:], os.path.abspath(out))


if __name__ == "__main__":
    main()
