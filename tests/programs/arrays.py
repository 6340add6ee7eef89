"""numpy: files, maps of files, random numbers, linear algebra with one thread."""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy


def files():
    a = numpy.arange(10000, dtype="f8")
    a.tofile("numbers")
    numpy.save("numbers.npy", a.reshape(100, 100))
    numpy.savez_compressed("numbers.npz", a=a, b=a[:10])
    with numpy.load("numbers.npz") as z:
        print(sorted(z), z["b"].sum())
    del z  # it has a __del__: at the return of this function it would run behind the position
    print(numpy.fromfile("numbers", dtype="f8")[-3:], numpy.load("numbers.npy").trace())
    numpy.savetxt("numbers.csv", a[:100].reshape(10, 10), delimiter=",")
    return numpy.loadtxt("numbers.csv", delimiter=",").sum()


def maps():
    copy = numpy.memmap("numbers", dtype="f8", mode="c")
    copy[:3] = -1
    read = numpy.memmap("numbers", dtype="f8", mode="r", offset=80, shape=(50, 2))
    loaded = numpy.load("numbers.npy", mmap_mode="r")
    return copy[:5], read[1], loaded[99, 98:], float(copy.sum())


def chance():
    rng = numpy.random.default_rng(7)
    print(rng.integers(100, size=5), rng.normal(size=2))
    numpy.random.seed(3)
    return numpy.random.rand(3)


def algebra():
    a = numpy.random.default_rng(1).normal(size=(200, 200))
    b = a @ a.T + numpy.eye(200)
    values = numpy.linalg.eigvalsh(b)
    print(numpy.allclose(numpy.linalg.inv(b) @ b, numpy.eye(200)), numpy.linalg.solve(b, a[:, 0])[:2].round(8), values[-1].round(6))
    return numpy.fft.fft(a[0])[:2].round(6), numpy.linalg.svd(a, compute_uv=False)[0].round(6), numpy.sort(a[0])[:2].round(6)


print(files())
for part in (maps, chance, algebra):
    print(*part())
unseeded = numpy.random.default_rng().integers(1 << 60)
print(0 <= unseeded < 1 << 60, 0 <= numpy.random.default_rng().random() < 1)
