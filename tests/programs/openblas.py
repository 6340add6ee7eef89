"""numpy as it is: OpenBLAS starts a thread for each processor when it is loaded, where there is more than one."""
import os
import sys


def before(n):
    return n * 2


print(before(21))
sys.stdout.flush()
os.environ["OPENBLAS_NUM_THREADS"] = "2"
import numpy

print(numpy.ones((3, 3)).sum())
