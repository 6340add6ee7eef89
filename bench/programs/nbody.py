"""Five bodies that attract each other: floating-point numbers in loops, a call for each step. argv[1]: steps. Prints these, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time


class Body:
    def __init__(self, place, speed, mass):
        self.x, self.y, self.z = place
        self.vx, self.vy, self.vz = speed
        self.mass = mass


# Distances in units of the earth's from the sun, speeds in these a year, masses in suns times 4 pi squared.
BODIES = [
    Body((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 39.478),
    Body((5.2, 0.0, 0.0), (0.0, 2.755, 0.0), 0.0377),
    Body((0.0, 9.58, 0.1), (-2.03, 0.0, 0.0), 0.0113),
    Body((-19.2, 0.0, -0.2), (0.0, -1.434, 0.0), 0.00172),
    Body((0.0, -30.1, 0.3), (1.145, 0.0, 0.0), 0.00203),
]
PAIRS = [(a, b) for n, a in enumerate(BODIES) for b in BODIES[n + 1:]]


def advance(dt):
    for a, b in PAIRS:
        dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
        pull = dt / (dx * dx + dy * dy + dz * dz) ** 1.5
        a.vx -= dx * b.mass * pull
        a.vy -= dy * b.mass * pull
        a.vz -= dz * b.mass * pull
        b.vx += dx * a.mass * pull
        b.vy += dy * a.mass * pull
        b.vz += dz * a.mass * pull
    for body in BODIES:
        body.x += dt * body.vx
        body.y += dt * body.vy
        body.z += dt * body.vz


steps = int(sys.argv[1])
started = perf_counter()
for _ in range(steps):
    advance(0.001)
print(steps, perf_counter() - started, process_time())
