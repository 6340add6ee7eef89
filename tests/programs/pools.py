"""multiprocessing without threads in the parent: processes, pipes, values that come back. Each process prints what work()
returns."""
import multiprocessing
import os
import sys


def work(name, value):
    return name, value


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


def squares(connection, numbers):
    total = 0
    for n in numbers:
        connection.send(n * n)
        total += n * n
    tell(work("squares", total))
    connection.close()


def echo(connection):
    while (text := connection.recv()) is not None:
        connection.send(text.upper())
    tell(work("echo", "ends"))


def fails():
    sys.stderr = open(os.devnull, "w")
    tell(work("fails", 1))
    raise RuntimeError("planned")


def main(how):
    context = multiprocessing.get_context(how)
    tell(work("main", how))
    here, there = context.Pipe()
    child = context.Process(target=squares, args=(there, range(20)))
    child.start()
    there.close()
    got = []
    while True:
        try:
            got.append(here.recv())
        except EOFError:
            break
    child.join()
    tell(work("joined", (child.exitcode, sum(got))))
    here, there = context.Pipe()
    child = context.Process(target=echo, args=(there,), name="echo")
    child.start()
    answers = []
    for word in ("one", "two"):
        here.send(word)
        answers.append(here.recv())
    here.send(None)
    child.join()
    tell(work("answers", answers))
    child = context.Process(target=fails)
    child.start()
    child.join()
    tell(work("exit", child.exitcode))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "fork")
