"""Copies standard input, in pieces of 64 KiB: copy.py os|shutil FILE (- is standard output)."""
import os
import shutil
import sys

how, where = sys.argv[1:]
out = 1 if where == "-" else os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
if how == "os":
    while data := os.read(0, 65536):
        os.write(out, data)
else:
    shutil.copyfileobj(sys.stdin.buffer, open(out, "wb"), 65536)
