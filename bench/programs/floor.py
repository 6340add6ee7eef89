"""Runs a program behind the empty frame evaluator of bench/floor.c. argv: folder of the built module, program, its arguments."""
import runpy
import sys

sys.path.insert(0, sys.argv[1])
import timefork_floor

del sys.path[0], sys.argv[:2]
timefork_floor.install()
runpy.run_path(sys.argv[0], run_name="__main__")
