"""A second interpreter in the process: with the main one's GIL it takes turns with that; with one of its own its code runs beside."""
import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters


def before(n):
    return n + 1


def make(how):
    if sys.version_info < (3, 13):
        return interpreters.create(isolated=how == "own")
    return interpreters.create("isolated" if how == "own" else "legacy")


def execute(which, code):
    (interpreters.exec if hasattr(interpreters, "exec") else interpreters.run_string)(which, code)


print([before(n) for n in range(5)], flush=True)
there = make(sys.argv[1])
execute(there, "def f(n): return n * n\nprint([f(n) for n in range(5)], flush=True)")
interpreters.destroy(there)
print("gone", before(1))
