"""Decorators, context managers, ExitStack, exceptions that they swallow or replace."""
import contextlib
import functools

log = []


def traced(f):
    @functools.wraps(f)
    def wrapper(*args, **kw):
        log.append(f"> {f.__name__}{args}")
        try:
            return f(*args, **kw)
        finally:
            log.append(f"< {f.__name__}")
    return wrapper


class Guard:
    def __init__(self, name, swallow=False):
        self.name, self.swallow = name, swallow

    def __enter__(self):
        log.append(f"enter {self.name}")
        return self

    def __exit__(self, kind, value, trace):
        log.append(f"exit {self.name} {kind.__name__ if kind else None}")
        return self.swallow


@contextlib.contextmanager
def step(name):
    try:
        yield name * 2
    except KeyError as e:
        raise LookupError(name) from e
    finally:
        log.append(f"done {name}")


@traced
def work(n):
    with Guard("outer", swallow=True), Guard("inner"):
        if n == 1:
            raise ValueError(n)
        with step("s") as text:
            if n == 2:
                {}["x"]
            return text
    return "swallowed"


@traced
def stacked():
    with contextlib.ExitStack() as stack:
        for i in range(3):
            stack.enter_context(Guard(f"g{i}"))
        stack.callback(log.append, "callback")
        with contextlib.suppress(ZeroDivisionError):
            1 // 0
    return len(log)


print([work(n) for n in range(3)], stacked())
for line in log:
    print(line)
try:
    raise ExceptionGroup("several", [ValueError(1), TypeError(2)])
except* ValueError as group:
    print("values", group.exceptions)
except* TypeError as group:
    print("types", group.exceptions)
