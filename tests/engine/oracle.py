"""The oracle of run.py: runs a program under Python's own tracing and prints what happened as JSON lines.

oracle.py calls|lines PROGRAM. In its own process, without timefork.
"""
import json
import sys

mode, path = sys.argv[1:]
sys.argv = [path]
log = []


def where(frame):
    name = frame.f_code.co_qualname
    return name, frame.f_code.co_firstlineno


def profiler(frame, event, arg):
    if frame.f_code.co_filename == path and event in ("call", "return"):
        log.append((event, *where(frame)))


def variables(frame):
    out = {}
    module = not frame.f_code.co_flags & 1
    for name, value in dict(frame.f_locals).items():
        if module and name[:2] == name[-2:] == "__":
            continue
        try:
            out[name] = repr(value)
        except Exception as e:
            out[name] = f"<repr raised {type(e).__name__}: {e}>"
    return out


def tracer(frame, event, arg):
    if frame.f_code.co_filename != path or busy:
        return None
    if event in ("call", "line", "return"):
        busy.append(1)
        log.append((event, *where(frame), frame.f_lineno, variables(frame), repr(arg)))
        busy.pop()
    return tracer


busy = []
code = compile(open(path).read(), path, "exec")
namespace = {"__name__": "__main__", "__file__": path, "__builtins__": __builtins__}
out, sys.stdout = sys.stdout, sys.stderr
if mode == "calls":
    sys.setprofile(profiler)
else:
    sys.settrace(tracer)
try:
    exec(code, namespace)
except BaseException:
    pass
sys.setprofile(None)
sys.settrace(None)
for entry in log:
    print(json.dumps(entry), file=out)
