"""Reads its standard input in every way there is."""
import os
import sys


def words(line):
    return line.split()


print(repr(input()))
print(words(sys.stdin.readline()))
for number, line in enumerate(sys.stdin):
    print(number, words(line))
    if number == 2:
        break
print(len(sys.stdin.buffer.read()), os.read(0, 10), sys.stdin.isatty())
try:
    input()
except EOFError as e:
    print("end", e)
