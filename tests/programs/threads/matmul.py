"""numpy, called from main and from several threads; the argument says how many threads of its own OpenBLAS has for each."""
import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[1]
import numpy

from steps import finish, run, step

a = (numpy.arange(300 * 300, dtype=float) % 17).reshape(300, 300)
expected = float((a @ a).sum())
sums = {}


def work(number):
    for i in range(3):
        sums[number] = float((a @ a).sum())
        step(sums[number])


work("main")
run(3, work)
assert set(sums.values()) == {expected}
finish(expected=expected, inverse=float(numpy.linalg.det(a[:50, :50] + numpy.eye(50) * 20)))
