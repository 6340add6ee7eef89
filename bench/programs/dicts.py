"""Dictionaries: counting, grouping, nesting, keys of tuples and strings, a cache of the program's own. argv[1]: times 1,000 records. Prints how many were added, the seconds, and the CPU seconds of the process."""
import sys
from collections import Counter, defaultdict
from time import perf_counter, process_time

added = 0


def add(groups, counts, nested, record):
    global added
    added += 1
    name, place, amount = record
    groups[place].append(amount)
    counts[name] += amount
    level = nested
    for part in name.split("-"):
        level = level.setdefault(part, {})
    level[place, amount % 10] = level.get((place, amount % 10), 0) + 1


def cached(cache, n):
    key = (n % 97, str(n % 13))
    if key not in cache:
        cache[key] = {k: k * n for k in range(10)}
    return cache[key]


def batch(seed):
    groups, counts, nested, cache = defaultdict(list), Counter(), {}, {}
    for n in range(seed, seed + 1000):
        add(groups, counts, nested, (f"a{n % 7}-b{n % 11}-c{n % 3}", n % 29, n * 7919 % 1000))
        cached(cache, n)
    merged = {place: sum(amounts) for place, amounts in groups.items()}
    assert sum(merged.values()) == sum(counts.values())
    return {**merged, **{name: n for name, n in counts.most_common(20)}}


started = perf_counter()
for n in range(int(sys.argv[1])):
    batch(n)
print(added, perf_counter() - started, process_time())
