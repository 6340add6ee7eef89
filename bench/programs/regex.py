"""Regular expressions over a log of 2,000 lines, with functions for what is found. argv[1]: times. Prints how many matches were handled, the seconds, and the CPU seconds of the process."""
import re
import sys
from time import perf_counter, process_time

LINE = re.compile(r"(?P<time>\d\d:\d\d:\d\d) (?P<level>[A-Z]+) (?P<module>[\w.]+): (?P<text>.*)")
NUMBER = re.compile(r"\b\d+\b")
ADDRESS = re.compile(r"[\w.]+@(?:\w+\.)+\w+")
LOG = [f"{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d} {('INFO', 'WARNING', 'ERROR')[n % 3]} shop.part{n % 11}: order {n * 7919} of user{n}@mail{n % 5}.example.org took {n % 300} ms"
       for n in range(2000)]
handled = 0


def hide(match):
    global handled
    handled += 1
    return "#" * len(match.group())


def look(line):
    fields = LINE.match(line).groupdict()
    return fields["level"], ADDRESS.findall(fields["text"]), NUMBER.sub(hide, fields["text"])


started = perf_counter()
for _ in range(int(sys.argv[1])):
    levels = {}
    for line in LOG:
        level, addresses, _ = look(line)
        levels.setdefault(level, []).extend(addresses)
    assert sum(map(len, levels.values())) == len(LOG)
print(handled, perf_counter() - started, process_time())
