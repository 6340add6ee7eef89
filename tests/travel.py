#!/usr/bin/env python3
"""Property tests of the time-travel prompt, against an oracle (oracle.py lines) that shares no code with it.

    tests/travel.py [--seed N] [--jobs N] [--only CHECK] [NAME...]

For each Python and each program the oracle lists what happens in the program's own functions, in order: S, each line and
each event with its stack. From S follows, by definitions that are written down again here, where the prompt has to stand:
  steps    step and reverse-step from random places, 60 or so of each
  moves    next, finish, until and their reverses from random places
  points   random sets of breakpoints, on lines and functions, with hit counts and conditions, pure ones and ones with side
           effects: continue from the start and reverse-continue from the end
  watches  watch, history and last of locals and globals, against the values that the oracle sees
  raises   catch raise, with and without a type
  series   random series of commands: every position looks as one that was gone to directly, in another process
The recording's bytes are the same afterwards.

Each program is tested with one Python as said here, in turn, and with the others at fewer places.
TIMEFORK_TEST_SEED repeats the random choices (the seed is printed when something fails), TIMEFORK_TEST_LONG=1 asks for
far more of them, of all Pythons, and for more programs.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import sys
import time

import corpus
from corpus import PROGRAMS, Program
from lib import LONG, Folder, Tally, in_turn, json_lines, need_timefork, pythons, timefork

INSIDE = str(PROGRAMS) + "/"
OWN = [Program("journey.py"), Program("constructs.py"), Program("stops.py"), Program("ways.py")]
# In the default mode: what is left out costs time and has nothing that the others do not have.
SHORT = "journey constructs stops ways exceptions generators contexts exec_eval".split()
PROGRAMS_TO_TEST = OWN + [p for p in corpus.ALL if p.oracle and not p.varies and not p.uncovered and p.name != "journey"]
ENTERS = ("call", "resume")
CHECKS = ("steps", "moves", "points", "watches", "raises", "series")


def more(short, long):
    return long if LONG else short


def place(answer):
    """Of an answer with an error: nowhere."""
    at = answer.get("position")
    return (at["frame"], at["line_offset"]) if at else (0, 0)


def text(position):
    return f"{position[0]}+{position[1]}" if position[1] else str(position[0])


class Item:
    """One thing that happens: a line ("l"), an event of a user function ("e") or another one ("x"), a raise ("r")."""
    __slots__ = ("kind", "what", "stack", "position", "code", "first", "types", "number")

    def __init__(self, number, kind, what, stack, code):
        self.number, self.kind, self.what, self.stack, self.code = number, kind, what, stack, code
        self.position = self.first = self.types = None

    @property
    def enters(self):
        return self.kind in "ex" and self.what in ENTERS

    @property
    def leaves(self):
        return self.kind in "ex" and self.what not in ENTERS

    def __str__(self):
        line = f":{self.what}" if self.kind in "lr" else ""
        event = f" {self.what}" if self.kind in "ex" else ""
        where = text(self.position) if self.position else "?"
        return f"{where}{event} {self.code[1]} at {os.path.basename(self.code[0])}{line}"


class Travel(corpus.Case):
    def more(self, part, short, long):
        return more(short if self.whole else part, long)

    def go(self, seed, only):
        self.seed = seed
        self.rng = random.Random(f"{seed} {self.label}")
        self.only = only
        exe, rest = self.command()
        self.plain = corpus.run([exe, *rest], **self.fresh())
        recorded = timefork("record", "--quiet", "-o", self.recording, "--python", exe, *rest, **self.fresh())
        if not self.check("is recorded", self.recording.exists() and not recorded.timed_out, recorded):
            return
        before = hashlib.sha256(self.recording.read_bytes()).hexdigest()
        if not self.learn({}):
            return
        for name in CHECKS:
            if not only or name in only:
                began = time.monotonic()
                getattr(self, name)()
                if os.environ.get("TIMEFORK_TEST_VERBOSE"):
                    print(f"{self.label} {name}: {time.monotonic() - began:.1f} s")
        self.equal("the recording is unchanged", hashlib.sha256(self.recording.read_bytes()).hexdigest(), before)

    def check(self, what, good, detail=""):
        return super().check(what, good, lambda: f"{detail() if callable(detail) else detail}\n(seed {self.seed})")

    # ---- what happens ----

    def learn(self, questions):
        """Asks the oracle, and finds out which positions the items have. False: it cannot be used."""
        self.asking = bool(questions)
        (self.top / "questions.json").write_text(json.dumps(questions))
        told = self.ask_oracle("lines", self.top / "questions.json")
        if not told:
            return False
        stacks = [()]
        for parent, act in told["nodes"][1:]:
            stacks.append(stacks[parent] + (act,))
        self.codes = [tuple(code) for code in told["codes"]]
        self.code_of = [self.codes[i] for i in told["acts"]]
        self.items = []
        for n, (kind, node, what, *rest) in enumerate(told["items"]):
            item = Item(n, kind, what, stacks[node], self.code_of[stacks[node][-1]])
            if kind == "r":
                item.first, item.types = rest
            self.items.append(item)
        self.answers = {int(n): a for n, a in told["answers"].items()}
        self.values = {int(n): v for n, v in told["values"].items()}
        return self.positions_of_items()

    def library_event(self, item):
        """One that a user function causes itself."""
        return item.kind == "x" and len(item.stack) > 1 and self.code_of[item.stack[-2]][3]

    def positions_of_items(self):
        if not hasattr(self, "events"):
            self.events = self.frames("--all")
        user, between, stack = [], [[]], []
        for event in self.events:
            del stack[event["depth"] - 1:]
            mine = event["file"].startswith(INSIDE)
            if mine:
                user.append(event)
                between.append([])
            elif stack and stack[-1]:
                between[-1].append(event)
            stack.append(mine)
            if event["event"] not in ENTERS:
                stack.pop()
        expected = [f"{i.what} {i.code[1]}" for i in self.items if i.kind == "e"]
        got = [f"{e['event']} {e['function']}" for e in user[:len(expected)]]
        if got != expected and self.asking:
            # What looks at variables while the program runs keeps them alive a little longer.
            self.tally.skip(f"{self.label} what the oracle is asked", f"the program does something else then (seed {self.seed})")
            return False
        if got != expected:
            at = next((n for n, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
            return self.check("every event, against sys.settrace", False, f"number {at}: {got[at - 3:at + 6]}\nexpected {expected[at - 3:at + 6]}")
        # Interval after interval: what lies between two user events.
        k, pending = 0, []
        last, lines, unknown = None, 0, 0
        for item in self.items:
            if item.kind == "e":
                item.position = user[k]["frame"], 0
                k += 1
                pending = [e for e in between[k]]
                last, lines = item.position, 0
            elif item.kind == "x":
                last, lines = None, 0
                if self.library_event(item):
                    if pending and (pending[0]["event"], pending[0]["function"]) == (item.what, item.code[1]):
                        item.position = pending.pop(0)["frame"], 0
                        last = item.position
                    else:
                        pending = []  # the libraries do something else under a trace function
                        unknown += 1
            elif item.kind == "l":
                lines += 1
                if last:
                    item.position = last[0], lines
            elif last:
                item.position = last[0], lines
        # A raise behind the last call of its line is told at the next place there is.
        left = False
        for n, item in enumerate(self.items):
            if item.kind in "ex":
                left = item.leaves
            elif item.kind == "r" and left and item.position and item.position[1] == 0:
                after = next((i for i in self.items[n + 1:] if i.kind != "r"), None)
                item.position = after.position if after else None
        self.lines = [i for i in self.items if i.kind == "l"]
        self.end = user[k - 1]["frame"]  # behind it there is what the interpreter's end runs
        known = sum(i.position is not None for i in self.lines)
        return self.check("positions of lines", known >= 0.8 * len(self.lines), f"{unknown} library events are others than recorded")

    # ---- the prompt ----

    def session(self, commands, what, may_fail=("last ", "history ")):
        """Answers of one session, as many as commands; log lines apart."""
        script = self.top / "script"
        script.write_text("".join(c + "\n" for c in commands))
        result = timefork("replay", self.recording, "--format", "json", "-x", script)
        answers = json_lines(result)
        self.logged = [a for a in answers if "log" in a]
        answers = [a for a in answers if "log" not in a]
        failed = [f"{c}: {a['error']}" for c, a in zip(commands, answers) if "error" in a and not c.startswith(may_fail)]
        if not self.check(f"{what}: no command fails", not failed,
                          lambda: f"{len(failed)} failed: {failed[0].splitlines()[0]}\n{shortened(commands)}"):
            return None  # what comes after it stands elsewhere
        if not self.check(f"{what}: a session of {len(commands)} commands", len(answers) == len(commands) and not result.timed_out, result):
            return None
        return answers

    def report(self, what, wrong, n):
        self.check(f"{what} ({n})", not wrong, lambda: f"{len(wrong)} are wrong\n" + "\n".join(wrong[:6]))

    def random_places(self, n, events=True):
        known = [i for i in self.items if i.position and (i.kind == "l" or events and i.kind == "e")]
        # As many from each function: a loop must not take all of them.
        by_code = {}
        for i in known:
            by_code.setdefault((i.code[:3], i.what), []).append(i)
        groups = list(by_code.values())
        return [self.rng.choice(self.rng.choice(groups)) for _ in range(n)]

    @staticmethod
    def ours(answers):
        return [a for a in answers if "position" in a and a["position"]["file"] and a["position"]["file"].startswith(INSIDE)]

    def wrong_place(self, answer, item):
        """What is wrong with an answer that ought to stand at the item, or None."""
        if "position" not in answer:
            return answer.get("error", "no position")
        at = answer["position"]
        got = at["function"], at["file"]
        if item.position and place(answer) != item.position or got != (item.code[1], item.code[0]) or \
                item.kind in "lr" and at["line"] != item.what:
            return f"stands at {text(place(answer))} {at['function']}:{at['line']} {answer.get('reason', '')}, expected {item}"
        return None

    # ---- 1: steps ----

    def steps(self):
        n, length = self.more(1, 2, 30), more(40, 60)
        wrong, count = [], 0
        for start in self.random_places(n):
            answers = self.session([f"goto {text(start.position)}"] + ["step"] * length + ["reverse-step"] * length, "steps")
            if not answers:
                return
            forward, back = answers[:length + 1], answers[length + 1:]
            if forward[-1].get("reason") == "end":  # it stays there
                end = next(i for i, a in enumerate(forward) if a.get("reason") == "end")
                forward = forward[:end + 1]
            back = back[:len(forward) - 1]
            expected = [i for i in self.lines if i.number > start.number]
            got = [a for a in self.ours(forward[1:]) if not a.get("reason") and place(a)[0] <= self.end]
            for answer, item in zip(got, expected):
                problem = self.wrong_place(answer, item)
                if problem:
                    wrong.append(f"step from {start}: {problem}")
                    break
            if len(got) > len(expected):
                wrong.append(f"step from {start}: {len(got)} stops, there are {len(expected)} lines")
            # Back to the first stop that is a line.
            there, again = [place(a) for a in forward], [place(a) for a in back]
            if start.kind != "l":
                there, again = there[1:], again[:-1]
            if again != there[-2::-1]:
                at = next((i for i, (a, b) in enumerate(zip(again, there[-2::-1])) if a != b), -1)
                wrong.append(f"reverse-step from {text(place(forward[-1]))}, number {at + 1}: got {again[at:at + 3]}, "
                             f"expected {there[-2::-1][at:at + 3]}")
            # The line before the first one.
            if again and start.kind == "l" and place(back[-1]) == start.position:
                count += 1
            count += len(got) + len(again)
        self.report("steps", wrong, count)

    # ---- 2: moves ----
    # Each of these yields what may be the answer: items, or the activation of a library function in which
    # it may be; the first item is the last thing it can be. None: the run's end, or start.

    def library(self, act, found):
        code = self.code_of[act]
        if not code[0].startswith("<frozen "):
            found.append(act)

    def expect_next(self, start):
        found, m = [], len(start.stack)
        if start.leaves:
            m -= 1
        if m and not self.code_of[start.stack[m - 1]][3]:
            self.library(start.stack[m - 1], found)
        for item in self.items[start.number + 1:]:
            if m == 0:
                break
            if item.kind == "r":
                continue
            if item.stack[:m] != start.stack[:m]:
                # Left without an event: throw() links the generators on the way to the innermost one, but runs only that one.
                m = next(n for n in range(m, -1, -1) if item.stack[:n] == start.stack[:n])
                if m and not self.code_of[start.stack[m - 1]][3]:
                    self.library(start.stack[m - 1], found)
            if len(item.stack) != m:
                continue
            if item.kind == "l":
                return found + [item]
            if item.leaves:
                m -= 1
                if m and not self.code_of[start.stack[m - 1]][3]:
                    self.library(start.stack[m - 1], found)
        return found + [None]

    def expect_back(self, start, levels_out):
        """The last line of the function, since it was entered; else of its caller. levels_out: begin with that caller."""
        found, m = [], len(start.stack)
        allowed = m - levels_out

        def look():
            if 0 < m <= allowed and not self.code_of[start.stack[m - 1]][3]:
                self.library(start.stack[m - 1], found)

        if start.enters:
            m -= 1
        look()
        for n in range(start.number - 1, -1, -1):
            item = self.items[n]
            if m == 0:
                break
            if item.kind == "r":
                continue
            if item.stack[:m] != start.stack[:m]:  # entered without an event, by throw()
                m = next(n for n in range(m, -1, -1) if item.stack[:n] == start.stack[:n])
                look()
            if len(item.stack) != m:
                continue
            if item.kind == "l" and m <= allowed:
                return found + [item]
            if item.enters:
                m -= 1
                look()
        return found + [None]

    def expect_finish(self, start):
        m = len(start.stack) - (1 if start.leaves else 0)
        if m == 0:
            return [None]
        for item in self.items[start.number + 1:]:
            if item.leaves and item.stack == start.stack[:m]:
                return [item] if item.position else [item.stack[-1]]
        return [None]

    def expect_until(self, start, line):
        if start.leaves:
            return self.expect_next(start)
        present = start.what if start.kind == "l" else start.code[2]
        least = line or present + 1
        for item in self.items[start.number + 1:]:
            if item.kind != "r" and item.stack == start.stack:
                if item.kind == "l" and item.what >= least or item.leaves:
                    return [item]
        return [None]

    def wrong_move(self, answer, may):
        if "position" not in answer:
            return answer.get("error", "no position")
        at = answer["position"]
        if may[-1] is None:
            if answer.get("reason") in ("end", "start") or place(answer)[0] > self.end:
                return None
        elif isinstance(may[-1], Item) and not self.wrong_place(answer, may[-1]):
            return None
        for act in may:
            if isinstance(act, int) and (at["function"], at["file"]) == (self.code_of[act][1], self.code_of[act][0]):
                return None
        if not self.ours([answer]) and may[-1] is None and not answer.get("reason"):
            return None  # before or behind the program's module
        expected = ", ".join(str(m) if isinstance(m, Item) else "the end" if m is None else f"in {self.code_of[m][1]}" for m in may)
        return f"stands at {text(place(answer))} {at['function']}:{at['line']} {answer.get('reason', '')}, expected {expected}"

    def moves(self):
        chosen = []
        for start in self.random_places(self.more(10, 30, 400)):
            way = self.rng.choice(["next", "reverse-next", "finish", "reverse-finish", "until", "until LINE"])
            if way == "next":
                may = self.expect_next(start)
            elif way == "finish":
                may = self.expect_finish(start)
            elif way.startswith("until"):
                line = 0
                if way != "until" or start.kind == "e":
                    line = max(1, start.code[2] + self.rng.randint(0, 12))
                    way = f"until {line}"
                may = self.expect_until(start, line)
            else:
                may = self.expect_back(start, 0 if way == "reverse-next" else 1)
            chosen.append((start, way, may))
        answers = self.session([c for start, way, _ in chosen for c in (f"goto {text(start.position)}", way)], "moves")
        if not answers:
            return
        wrong = []
        for (start, way, may), went, answer in zip(chosen, answers[::2], answers[1::2]):
            problem = self.wrong_place(went, start) if start.kind == "l" else None
            if problem:
                wrong.append(f"goto {start}: {problem}")
                continue
            problem = self.wrong_move(answer, may)
            if problem:
                wrong.append(f"{way} from {start}: {problem}")
        self.report("moves", wrong, len(chosen))

    # ---- 3: breakpoints ----

    IMPURE = ("{}", "{}", "[].append(1) or ({})", "print('seen') or ({})", "globals().update(zz_gone=1) or ({})",
              "__import__('gc').collect() and 0 or ({})", "({}) if isinstance(1, int) else 0", "bool({})")

    def random_points(self):
        """[(command, items that it means, expression or None, form, hits or None)]"""
        by_line, calls = {}, {}
        for i in self.items:
            if i.kind == "l":
                by_line.setdefault((i.code[0], i.what), []).append(i)
            elif i.kind == "e" and i.what == "call":
                calls.setdefault((i.code[0], i.code[1]), []).append(i)
        chosen = []
        for _ in range(self.rng.randint(2, 6)):
            if self.rng.random() < 0.75:
                (file, line), items = self.rng.choice(list(by_line.items()))
                where = f"{file}:{line}"
            else:
                (file, name), items = self.rng.choice(list(calls.items()))
                if name.startswith("<lambda") or "<genexpr>" in name or "comp>" in name and self.rng.random() < 0.5:
                    continue
                where = f"{file}:{name}"
            expr = None
            names = sorted({n for i in items for n in i.code[4] if n.isidentifier()})
            if names and self.rng.random() < 0.5 and items[0].kind == "l":
                name = self.rng.choice(names)
                value = self.rng.choice([0, 1, 2, 3, 5, "'a'", "None"])
                expr = self.rng.choice([f"{name} == {value}", f"{name} != {value}", f"{name} >= {value}", f"{name}",
                                        f"not {name}", f"{name} is not None and {name} != {value}", f"{name} < 3 or {name} > 4"])
            hits = None
            if self.rng.random() < 0.35 or len(items) > more(15, 60) and not expr:
                hits = self.rng.choice([f">={self.rng.randint(1, 4)}", f"%{self.rng.randint(1, 4)}", f"<={self.rng.randint(1, 9)}",
                                        f"{self.rng.randint(1, 5)}", f"ignore {self.rng.randint(1, 4)}"])
                if len(items) > more(15, 60):
                    hits = f"%{len(items) // 8}"
            chosen.append((where, items, expr, self.rng.choice(self.IMPURE), hits))
        return chosen

    @staticmethod
    def counted(hits, n):
        if not hits:
            return True
        if hits.startswith("ignore"):
            return n > int(hits.split()[1])
        number = int(hits.lstrip(">=<%"))
        return {">": n >= number, "<": n <= number, "%": n % number == 0}.get(hits[0], n == number)

    def points(self):
        sets = [self.random_points() for _ in range(self.more(1, 2, 30))]
        questions = {}
        for chosen in sets:
            for where, items, expr, *_ in chosen:
                if expr:
                    questions.setdefault(where, []).append(expr)
        # Expressions are asked in their order: the same dictionary tells which answer is whose.
        if not self.learn({"eval": questions}):
            self.learn({})
            return
        for chosen in sets:
            self.one_set(chosen, questions)

    def one_set(self, chosen, questions):
        # What the set was made of was from another run of the oracle: the numbers of items are the same.
        expected, commands, wrong = {}, ["goto start"], []
        for number, (where, items, expr, form, hits) in enumerate(chosen, 1):
            condition = f" if {form.format(expr)}" if expr else ""
            commands.append(f"break {where}{condition}")
            if hits:
                commands.append(f"ignore {number} {hits.split()[1]}" if hits.startswith("ignore") else f"hits {number} {hits}")
            n = 0
            for old in items:
                item = self.items[old.number]
                failed = False
                if expr:
                    answer = self.answers[item.number][questions[where].index(expr)]
                    failed = answer is None
                    if answer is False:
                        continue
                n += 1
                if self.counted(hits, n):
                    expected.setdefault(item.number, []).append((number, failed))
        order = [self.items[n] for n in sorted(expected)]
        if len(order) > more(40, 300):
            return
        made = len(commands)
        extra = 6
        commands += ["continue"] * (len(order) + extra) + ["goto end"] + ["reverse-continue"] * (len(order) + extra)
        answers = self.session(commands, "points")
        if not answers:
            return
        told = "; ".join(commands[1:made])
        for command, answer in zip(commands[1:made], answers[1:made]):
            if "error" in answer:
                wrong.append(f"{command}: {answer['error']}")
        # Inside the program's module only: the interpreter's end may call its __del__.
        for way, got in (("continue", answers[made:made + len(order) + extra]), ("reverse-continue", answers[-len(order) - extra:])):
            got = [a for a in got if a.get("reason") not in ("end", "start") and not ("position" in a and place(a)[0] > self.end)]
            want = order if way == "continue" else order[::-1]
            for answer, item in zip(got, want):
                problem = self.wrong_place(answer, item)
                if not problem:
                    numbers = sorted(n for n, _ in expected[item.number])
                    failed = sorted(n for n, f in expected[item.number] if f)
                    if sorted(answer.get("breakpoints", [])) != numbers:
                        problem = f"at {item}: breakpoints {answer.get('breakpoints')}, expected {numbers}"
                    elif sorted(f["breakpoint"] for f in answer.get("failed", [])) != failed:
                        problem = f"at {item}: failed {answer.get('failed')}, expected {failed}"
                if problem:
                    wrong.append(f"{way}: {problem}")
                    break
            if len(got) != len(want):
                rest = got[len(want):] or want[len(got):]
                rest = [str(r) if isinstance(r, Item) else text(place(r)) if "position" in r else str(r) for r in rest[:3]]
                wrong.append(f"{way}: {len(got)} hits, expected {len(want)}; {rest}")
        if wrong:
            wrong.append(f"points: {told}")
        self.report("points", wrong, 2 * len(order))

    # ---- 4: watches ----

    def watches(self):
        """Locals of one activation, and globals: every change, in both directions."""
        functions, names = {}, {}
        module = next(i.code for i in self.items if i.kind == "e")
        for code in self.codes:
            if code[3] and code[4] and not code[1].startswith("<"):
                functions.setdefault((code[0], code[1]), code)
        watch = [[*self.rng.choice(list(functions))] for _ in range(self.more(1, 2, 20))] if functions else []
        for entry in watch:
            entry.append(self.rng.choice([n for n in functions[tuple(entry)][4] if n.isidentifier()] or ["none"]))
        for name in self.global_names(module):
            watch.append([module[0], None, name])
        if not self.learn({"watch": watch}):
            self.learn({})
            return
        for number, (file, function, name) in enumerate(watch):
            self.one_watch(number, function, name)

    def global_names(self, module):
        source = open(module[0], encoding="utf-8").read()
        names = [n for n in ("counter", "mode", "shape", "total", "s", "flag", "results", "n", "first", "seen", "log") if
                 f"\n{n} =" in source or f"\nfor {n} in" in source]
        self.rng.shuffle(names)
        return names[:more(1, 6)]

    def one_watch(self, number, function, name):
        changes = self.values[number]
        if function:
            acts = sorted({c[0] for c in changes})
            if not acts:
                return
            act = self.rng.choice(acts)
            changes = [c for c in changes if c[0] == act]
            inside = [i for i in self.lines if act == i.stack[-1] and i.position]
            if not inside:
                return
            start = self.rng.choice(inside)
        else:
            act = 0
            inside = [i for i in self.lines if len(i.stack) == 1 and i.position and not i.code[1].startswith("<l")]
            start = self.rng.choice(inside)
        changes = [(self.items[at], old, new) for _, at, old, new in changes]
        if len(changes) > more(30, 200) or any(item.position is None for item, _, _ in changes):
            return
        if any(new and " ?" in new for _, _, new in changes):  # may change in code whose lines the oracle does not see
            return
        after = [c for c in changes if c[0].number > start.number]
        before = [c for c in changes if c[0].number <= start.number]
        extra = 2
        commands = [f"goto {text(start.position)}", f"history {name} 1000", f"last {name}", f"goto {text(start.position)}", f"watch {name}"]
        made = len(commands)
        commands += ["continue"] * (len(after) + extra) + ["reverse-continue"] * (len(changes) + extra)
        commands += ["goto start", *["continue"] * (len(changes) + extra)]
        what = f"watch {name} of {function or 'the module'} from {start}"
        answers = self.session(commands, what)
        if not answers:
            return
        wrong = []
        for command, answer in zip(commands[:made], answers[:made]):
            if "error" in answer and not command.startswith("last"):
                wrong.append(f"{command}: {answer['error']}")
        if not wrong:
            # Behind the program's own module its globals are torn down: there the oracle does not look.
            got = [c for c in answers[1]["changes"] if c["frame"] <= self.end]
            wrong += self.wrong_changes("history", got, [(c["frame"], c["line_offset"]) for c in got], changes)
            wrong += self.wrong_last(answers[2], before, start)
            forward = answers[made:made + len(after) + extra]
            back = answers[made + len(after) + extra:made + len(after) + extra + len(changes) + extra]
            again = answers[-len(changes) - extra:]
            for way, got, want in (("continue", forward, after), ("reverse-continue", back, changes[::-1]), ("continue again", again, changes)):
                got = [a for a in got if a.get("reason") == "watch" and place(a)[0] <= self.end]
                wrong += self.wrong_changes(way, [a["watches"][0] for a in got], [place(a) for a in got], want)
        self.report(what, wrong, len(changes))

    def wrong_changes(self, way, got, places, want):
        wrong = []
        for change, at, (item, old, new) in zip(got, places, want):
            if at != item.position:
                return [f"{way}: stands at {text(at)}, expected {item}: {old} -> {new}"]
            for key, expected in (("old", old), ("new", new)):
                if not same_value(change[key], expected):
                    wrong.append(f"{way}: at {item}: {key} value {change[key]}, expected {expected}")
            called = item.enters and item.kind == "e" and item.what == "call" and old is None
            maker = item if called else self.maker(item)
            at = change["changed_at"]
            if maker and maker.position and at and (at["frame"], at["line_offset"]) != maker.position:
                wrong.append(f"{way}: at {item}: changed at {at}, expected {maker}")
        if len(got) != len(want):
            rest = [text(p) for p in places[len(want):][:3]] or [str(c[0]) for c in want[len(got):][:3]]
            wrong.append(f"{way}: {len(got)} changes, expected {len(want)}; {rest}")
        return wrong[:3]

    def maker(self, item):
        """The line that ran up to the item; None if no line has begun in the function since it was entered, or if it is a library's."""
        stack = item.stack[:-1] if item.enters else item.stack
        for n in range(item.number - 1, -1, -1):
            before = self.items[n]
            if before.kind != "r" and before.stack == stack:
                if before.kind == "l":
                    return before
                if before.enters:
                    return None
        return None

    def wrong_last(self, answer, before, start):
        if not before or before[-1][0] is start and start.what == "call":
            return [] if "error" in answer else [f"last: {answer}, expected an error: it has not changed"]
        item, old, new = before[-1]
        if "error" in answer:
            return [f"last: {answer['error']}, expected {item}"]
        called = item.enters and item.kind == "e" and item.what == "call" and old is None
        maker = item if called else self.maker(item)
        if maker and maker.position and (problem := self.wrong_place(answer, maker)):
            return [f"last: {problem}; for {old} -> {new} at {item}"]
        return []

    # ---- 6: raises ----

    def raises(self):
        raised = [i for i in self.items if i.kind == "r"]
        types = sorted({t for i in raised for t in i.types} - {"object", "StopIteration", "GeneratorExit", "StopAsyncIteration"})
        first = self.lines[0]
        for wanted in self.rng.sample(types, min(len(types), more(1, 5))) + [None]:
            must = [i for i in raised if i.first and (not wanted or wanted in i.types)]
            may = [i for i in raised if not wanted or wanted in i.types]
            n = min(len(may) + 4, more(25, 200))
            answers = self.session([f"goto {text(first.position)}", f"catch raise {wanted or ''}"] + ["continue"] * n + ["reverse-continue"] * n,
                                   "raises")
            if not answers:
                continue
            wrong = []
            forward, back = answers[2:n + 2], answers[n + 2:]
            cut = next((i for i, a in enumerate(forward) if a.get("reason") == "end"), len(forward))
            there = [place(a) for a in forward[:cut]]
            again = [place(a) for a in back[:cut]]
            expected = there[::-1] if cut < len(forward) else there[-2::-1]
            if again[:len(expected)] != expected:
                wrong.append(f"reverse-continue: {again[:8]}, forward {there[-8:]}")
            got = [a for a in self.ours(forward[:cut]) if place(a)[0] <= self.end]
            reach = place(forward[cut - 1]) if cut and cut == len(forward) else (self.end + 1, 0)
            got_places = [place(a) for a in got]
            for i in must:
                if i.position and i.position <= reach and i.position not in got_places and not self.implicit(i):
                    wrong.append(f"not found: {i} {i.types[0]}")
            may_places = {i.position for i in may}
            if None not in may_places:
                for a in got:
                    if place(a) not in may_places:
                        wrong.append(f"nothing is raised at {text(place(a))} {a['position']['function']}:{a['position']['line']}")
            self.report(f"catch raise {wanted or ''}", wrong, len(got))

    @staticmethod
    def implicit(item):
        """The end of an iteration or of a coroutine is no error to anybody."""
        return item.types[0] in ("StopIteration", "StopAsyncIteration", "GeneratorExit")

    # ---- 5: series ----

    LOOK = ["where", "locals"]

    def series(self):
        for _ in range(more(1, 10)):
            self.one_series()

    def one_series(self):
        commands, looks = [], []
        by_line = sorted({(i.code[0], i.what) for i in self.lines})
        names = sorted({n for code in self.codes if code[3] for n in code[4] if n.isidentifier()}) or ["x"]
        points = 0
        for _ in range(self.more(10, 20, 60)):
            command = self.rng.choice(
                ["step"] * 3 + ["reverse-step"] * 3 + ["next", "reverse-next", "finish", "reverse-finish", "until", "continue", "reverse-continue",
                                "back", "forth", "goto", "goto", "break", "delete", "disable", "enable", "print", "print", "output", "step 3",
                                "reverse-next 2", "watch", "log", "goto start", "goto end"])
            if command == "goto":
                command += " " + text(self.random_places(1)[0].position)
            elif command in ("break", "log"):
                file, line = self.rng.choice(by_line)
                points += 1
                command += f" {file}:{line}" + (" 'passed'" if command == "log" else self.rng.choice(
                    ["", "", " if print('x') or True", " if 1 == 2", " if globals().clear() or True"]))
            elif command in ("delete", "disable", "enable"):
                if not points:
                    continue
                command += f" {self.rng.randint(1, points)}"
            elif command == "print":
                command += " " + self.rng.choice(
                    ["locals()", "globals().clear()", "__import__('sys').exit(3)", "[].append(1)", "print('noise')", self.rng.choice(names),
                     "__import__('os').abort()", "[setattr(o, 'n', -1) for o in list(locals().values()) if hasattr(o, 'n')]",
                     "__import__('gc').collect()", "(lambda: undefined)()", "exec('while 0: pass')", "open('/tmp/none', 'w')"])
            elif command == "watch":
                command += " " + self.rng.choice(names)
                points += 1
            commands.append(command)
            looks.append(len(commands))
            commands += self.LOOK
        answers = self.session(commands, "series", may_fail=("print ", "enable", "disable", "delete", "watch ", "back", "forth"))
        if not answers:
            return
        seen, wrong = {}, []
        for n in looks:
            where, local = answers[n], answers[n + 1]
            if "position" not in where or "locals" not in local:
                wrong.append(f"after {commands[n - 1]}: {where}, {local}")
                continue
            key = place(where)
            looked = where["stack"], local["locals"], where["position"]["event"]
            if key in seen and seen[key][0] != looked:
                wrong.append(f"{text(key)} looked different before '{commands[n - 1]}': {seen[key][0]}, {looked}")
            seen.setdefault(key, (looked, n))
        order = list(seen)
        self.rng.shuffle(order)
        few, rest = order[:more(2, 10)], order[more(2, 10):]
        fresh = [a for p in few for a in self.goto([text(p)])] + (self.goto([text(p) for p in rest]) if rest else [])
        for p, answer in zip(few + rest, fresh):
            (stack, local, event), n = seen[p]
            if "error" in answer or "stack" not in answer:
                wrong.append(f"{text(p)}: {answer.get('error')}; reached by: {commands[n - 1]}")
            elif (answer["stack"], answer["locals"], answer["event"]) != (stack, local, event):
                wrong.append(f"{text(p)}, reached by '{commands[n - 1]}':\n    {stack}\n    {local}\n  fresh:\n    {answer['stack']}\n    {answer['locals']}")
        if wrong:
            wrong.insert(min(len(wrong), 5), "the series: " + shortened([c for c in commands if c not in self.LOOK]))
        self.report("series", wrong, len(order))


def shortened(commands):
    """As a text; the same command many times only once."""
    out = []
    for command in commands:
        if out and out[-1].split(" * ")[0] == command:
            out[-1] = f"{command} * {int((out[-1].split(' * ') + ['1'])[1]) + 1}"
        else:
            out.append(command)
    return "; ".join(out)


def same_value(got, token):
    """Against a token of the oracle. Addresses are others there."""
    if token is None:
        return got is None or "error" in got
    if not got or "value" not in got:
        return False
    kind, _, rest = token.partition(" ")
    if kind in ("list", "tuple", "dict"):
        shown = rest.partition(" ")[2]
        return shown.startswith("?") or shown == got["value"]
    if kind in ("int", "float", "str", "bool", "bytes", "NoneType"):
        return got["type"] == kind and got["value"] == rest
    return got["type"].rpartition(".")[2] == kind


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("TIMEFORK_TEST_SEED") or (time.time_ns() % 1000000 if LONG else 7)))
    parser.add_argument("--jobs", type=int, default=2, help="how many programs at once")
    parser.add_argument("--only", action="append", choices=CHECKS)
    parser.add_argument("names", nargs="*", help="only these programs")
    options = parser.parse_args()
    need_timefork()
    tally = Tally()
    programs = [p for p in PROGRAMS_TO_TEST if p.name in options.names or
                not options.names and (LONG or p.name.removeprefix("cases/") in SHORT)]

    def one(python, version, exe, program):
        with Folder() as top:
            try:
                Travel(tally, version, exe, program, top, whole=in_turn(programs.index(program), python, len(pythons()))).go(options.seed, options.only)
            except Exception as e:
                at = e.__traceback__
                while at.tb_next:
                    at = at.tb_next
                tally.fail(f"{version} {program.name}", f"the test itself failed (line {at.tb_lineno}): {type(e).__name__}: {e} (seed {options.seed})")

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for job in [pool.submit(one, n, v, exe, p) for p in programs for n, (v, exe) in enumerate(pythons())]:
            job.result()
    if tally.failed:
        print(f"to repeat: TIMEFORK_TEST_SEED={options.seed}")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
