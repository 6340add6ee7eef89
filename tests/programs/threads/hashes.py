"""C code that gives the GIL away: hashlib of large buffers, zlib, bz2, lzma, file reads, re without it."""
import bz2
import hashlib
import lzma
import os
import tempfile
import zlib

from steps import finish, run, step

data = bytes(range(256)) * 2000
found = {}


def work(number):
    for i in range(3):
        piece = data[number * 1000 + i:]
        digest = hashlib.sha256(piece).hexdigest()[:8]
        packed = zlib.compress(piece, 6)
        assert zlib.decompress(packed) == piece
        step(f"{digest} {len(packed)}")
    short = data[:20000 + number]
    assert bz2.decompress(bz2.compress(short)) == lzma.decompress(lzma.compress(short, preset=0)) == short
    running = hashlib.sha1()
    for i in range(0, len(data), 100000):
        running.update(data[i:i + 100000])
    with tempfile.TemporaryFile() as f:
        f.write(data)
        f.seek(0)
        assert hashlib.sha1(f.read()).hexdigest() == running.hexdigest()
    found[number] = hashlib.pbkdf2_hmac("sha256", b"x", bytes([number]), 500).hex()[:8] + os.urandom(2).hex()
    step(found[number])


run(4, work)
finish(found=found)
