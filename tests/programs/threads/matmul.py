"""numpy with OpenBLAS's own threads, called from main and from several threads."""
import os

os.environ["OPENBLAS_NUM_THREADS"] = "2"
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
