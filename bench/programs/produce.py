"""Writes so many megabytes to standard output, in pieces of 64 KiB: produce.py zeros|text|noise MEGABYTES. It is never
recorded. Text is the source of the standard library."""
import os
import sys
from pathlib import Path

kind, megabytes = sys.argv[1], int(sys.argv[2])
size = 64 << 20
if kind == "zeros":
    buffer = bytes(size)
elif kind == "noise":
    buffer = os.urandom(size)
else:
    text = b"".join(f.read_bytes() for f in sorted(Path(os.__file__).parent.glob("*.py")))
    buffer = (text * (size // len(text) + 1))[:size]
view = memoryview(buffer)
at = 0
os.write(2, b"!")  # ready
for _ in range(megabytes * 16):
    os.write(1, view[at:at + 65536])
    at = (at + 65536) % size
