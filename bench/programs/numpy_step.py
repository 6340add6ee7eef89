"""numpy: a step of diffusion on a grid of 256 by 256, and some statistics of it, one call for each step. argv[1]: steps. Prints these, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time

import numpy as np


def diffuse(grid):
    inner = grid[1:-1, 1:-1]
    inner += 0.1 * (grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2] + grid[1:-1, 2:] - 4 * inner)
    rows = grid.mean(axis=1)
    return float(rows.max()), int(np.argmax(rows)), float(np.sort(rows)[128])


steps = int(sys.argv[1])
grid = np.random.default_rng(7).random((256, 256))
started = perf_counter()
for _ in range(steps):
    highest, row, middle = diffuse(grid)
    assert highest >= middle and 0 <= row < 256
print(steps, perf_counter() - started, process_time())
