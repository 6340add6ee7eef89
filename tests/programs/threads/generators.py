"""A generator that several threads resume in turn, a coroutine that is begun in one and ended in another, exceptions that are caught in
another thread with their tracebacks."""
import threading
import traceback

from steps import finish, run, step

lock, errors = threading.Lock(), []


def numbers():
    n = 0
    while True:
        step(n)
        n += (yield n) or 1


shared = numbers()
next(shared)
taken = []


def takes(number):
    for _ in range(6):
        with lock:
            taken.append(shared.send(1))


run(3, takes)
assert taken == list(range(1, 19))


class Wait:
    def __await__(self):
        return (yield "waiting")


async def coroutine():
    step("begun")
    got = await Wait()
    step("ended")
    return got


running = coroutine()


def resumes(number):
    try:
        running.send(None if number == 0 else "value")
    except StopIteration as e:
        errors.append(e.value)


for n in range(2):
    one = threading.Thread(target=resumes, args=(n,), name=f"resumes-{n}")
    one.start()
    one.join()
assert errors == ["value"]


def already(number):
    """A generator that is running in another thread."""
    try:
        with_lock.send(None)
    except ValueError as e:
        errors.append(str(e))


def runs_others():
    run(1, already, names="already")
    yield


with_lock = runs_others()
next(with_lock)
assert errors[1:] == ["generator already executing"]


def raises(number):
    try:
        try:
            [].pop()
        except IndexError:
            {}[number]
    except KeyError as e:
        errors.append(e)


run(2, raises, names="raises")
texts = []
for e in errors[2:]:
    try:
        raise RuntimeError("again") from e
    except RuntimeError as again:
        texts.append("".join(traceback.format_exception(again)))
        step(len(texts[-1]))
assert all("IndexError" in t and "KeyError" in t and "in raises" in t for t in texts)
finish()
