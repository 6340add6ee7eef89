"""Children, their children, and what each computes. Every process prints its number, its parent's, and each value that
work() returns; nothing else calls work()."""
import atexit
import os
import random
import sys

log = []


def work(*values):
    return [v if isinstance(v, str) else v * 2 for v in values]


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def counter(n):
    for i in range(n):
        yield i


def nested(depth=1):
    """Each generation forks the next one from deeper in the stack."""
    tell(work("generation", depth))
    if depth == 4:
        return
    pid = os.fork()
    if pid == 0:
        nested(depth + 1)
        os._exit(depth)
    tell(work("child of", depth, wait(pid)))


def siblings():
    """Children that define functions of their own: the same code numbers mean something else in each."""
    pids = []
    for name in ("ant", "bee", "cat"):
        pid = os.fork()
        if pid == 0:
            space = {}
            exec(f"def {name}(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total\n", space)
            tell(work(name, space[name](10), random.random() < 2))
            os._exit(0)
        pids.append(pid)
    tell(work("siblings", *[wait(pid) for pid in pids]))


def raises(n):
    if n == 0:
        raise KeyError("bottom")
    raises(n - 1)


def leaving():
    for how in ("exit", "raise", "kill", "abort"):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            atexit.register(lambda: tell(work("atexit", how)))
            tell(work("leaves by", how))
            if how == "exit":
                sys.exit(5)
            if how == "raise":
                sys.stderr = open(os.devnull, "w")
                raises(3)
            if how == "kill":
                os.kill(os.getpid(), 9)
            os.abort()
        tell(work("left", how, wait(pid)))


def goes_on():
    """A generator, a with block and a loop that are open at the fork, in both processes."""
    numbers = counter(10)
    first = [next(numbers) for _ in range(3)]
    pid = os.fork()
    rest = list(numbers) if pid else [next(numbers), 100]
    tell(work(*first, *rest))
    if pid == 0:
        os._exit(0)
    wait(pid)


def pipe():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        for i in range(100):
            os.write(writer, b"%d " % (i * 2))
        os._exit(0)
    os.close(writer)
    text = b""
    while part := os.read(reader, 64):
        text += part
    tell(work(sum(map(int, text.split())), wait(pid)))


def many():
    for i in range(30):
        pid = os.fork()
        if pid == 0:
            os._exit(i)
        log.append(wait(pid))
    tell(work(*log))


def main():
    for part in sys.argv[1:] or ("nested", "siblings", "goes_on", "pipe", "many", "leaving"):
        globals()[part]()


if __name__ == "__main__":
    main()
