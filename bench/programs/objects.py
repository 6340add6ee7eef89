"""Objects, dictionaries, strings, sorting: most of the time is spent inside of C functions, with calls between. argv[1]: how often."""
import sys
from time import perf_counter


class Row:
    def __init__(self, number):
        self.number = number
        self.name = f"row {number * 7919 % 1000:03d}"
        self.tags = {f"tag{(number + k) % 50}": k for k in range(12)}
        self.values = [number * k % 97 for k in range(24)]


made = 0


def batch(size):
    global made
    rows = []
    for number in range(size):
        rows.append(Row(number))
        made += 1
    rows.sort(key=lambda row: row.name)
    by_tag = {}
    for row in rows:
        for tag in row.tags:
            by_tag.setdefault(tag, []).append(row.number)
    text = ",".join([row.name for row in rows])
    return len(text.split(",")), sum([sum(sorted(row.values)) for row in rows]), {k: max(v) for k, v in by_tag.items()}


started = perf_counter()
for _ in range(int(sys.argv[1])):
    batch(1000)
print(made, perf_counter() - started)
