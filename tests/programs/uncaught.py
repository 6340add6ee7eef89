"""A chain of exceptions that nobody catches, with notes and a long traceback."""


class OrderError(Exception):
    pass


def parse(text):
    return int(text)


def load(rows):
    for number, row in enumerate(rows):
        try:
            yield parse(row)
        except ValueError as e:
            e.add_note(f"in row {number}")
            raise OrderError(f"row {number}") from e


def recurse(n):
    if n == 0:
        return list(load(["1", "2", "x"]))
    return recurse(n - 1)


recurse(12)
