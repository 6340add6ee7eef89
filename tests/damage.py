"""Changing a recording so that it stays sound but says something else: for tests of what a replay makes of it."""
import ctypes
import sqlite3
import struct

zstd = ctypes.CDLL("libzstd.so.1")
xxhash = ctypes.CDLL("libxxhash.so.0")
zstd.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
zstd.ZSTD_compressBound.restype = zstd.ZSTD_compress.restype = zstd.ZSTD_decompress.restype = ctypes.c_size_t
xxhash.XXH3_64bits.restype = ctypes.c_uint64

HEAD = struct.Struct("<IHHQqIHHQ")  # docs/format.md: outside events
CODE, MARK, START, SIGNAL = 1000, 1001, 1002, 1003


def unpack(blob):
    size = zstd.ZSTD_getFrameContentSize(blob, ctypes.c_size_t(len(blob)))
    out = ctypes.create_string_buffer(max(1, size))
    assert zstd.ZSTD_decompress(out, ctypes.c_size_t(size), blob, ctypes.c_size_t(len(blob))) == size
    return out.raw[:size]


def pack(data):
    room = zstd.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    out = ctypes.create_string_buffer(room)
    n = zstd.ZSTD_compress(out, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:n]


def digest(data):
    return xxhash.XXH3_64bits(data, ctypes.c_size_t(len(data)))


def signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


class Outside:
    """One outside event."""

    def __init__(self, raw, at):
        (self.total, self.call, self.thread, self.frame, self.result, args_len, self.flags, _,
         data_len) = HEAD.unpack_from(raw, at)
        args = at + HEAD.size
        data = args + (args_len + 7 & ~7)
        self.args = raw[args:args + args_len]
        self.data = raw[data:data + data_len]

    def bytes(self):
        body = self.args + bytes(-len(self.args) % 8) + self.data + bytes(-len(self.data) % 8)
        return HEAD.pack(HEAD.size + len(body), self.call, self.thread, self.frame, self.result, len(self.args), self.flags, 0,
                         len(self.data)) + body


class Damage:
    """with Damage(path) as d: change d.outside (a list of Outside), d.words(), or by d.sql()."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.db = sqlite3.connect(self.path)
        self.run, = self.db.execute("SELECT max(run) FROM runs").fetchone()
        raw = b"".join(unpack(data) for data, in self.sql("SELECT data FROM outside WHERE run = ? ORDER BY offset", self.run))
        self.outside, at = [], 0
        while at < len(raw):
            self.outside.append(Outside(raw, at))
            at += self.outside[-1].total
        self.before = raw
        return self

    def sql(self, text, *values):
        return self.db.execute(text, values).fetchall()

    def find(self, call, having=b"", data=None):
        """The place of an event in self.outside: of a call, with some bytes in its arguments or data, or with just these data."""
        return next(i for i, e in enumerate(self.outside) if e.call == call and
                    (e.data == data if data is not None else having in e.args or having in e.data))

    def swap_event(self, of, to, nth=0):
        """The nth call of the function `of` becomes one of `to`, in the first block. Returns its frame number."""
        ids = {name: i for i, name in self.sql("SELECT id, qualname FROM codes WHERE run = ?", self.run)}
        n, data = self.sql("SELECT n, data FROM frames WHERE run = ? AND block = 0", self.run)[0]
        numbers, value, shift = [], 0, 0
        for byte in unpack(data):
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                numbers.append(value)
                value = shift = 0
        if numbers[0] != 2:
            raise ValueError(f"the packed block has version {numbers[0]}")
        codes = numbers[5:5 + numbers[4]]
        symbols = numbers[-n:]
        calls = [i for i, s in enumerate(symbols) if s == 4 + 2 * codes.index(ids[of])]
        at = calls[nth]
        symbols[at] = 4 + 2 * codes.index(ids[to])
        if 3 in symbols:
            raise ValueError("the first block has switches between threads")
        kinds = {0: 1 << 29, 1: 2 << 29, 2: 4 << 29}
        words = [kinds[s] if s < 3 else ((s - 4) % 2 * 3 << 29) | codes[(s - 4) // 2] for s in symbols]
        out = bytearray()
        for value in numbers[:-n] + symbols:
            while value > 127:
                out.append(value & 127 | 128)
                value >>= 7
            out.append(value)
        data = pack(bytes(out))
        self.sql("UPDATE frames SET data = ?, digest = ?, words_digest = ? WHERE run = ? AND block = 0", data,
                 signed(digest(data)), signed(digest(struct.pack(f"<{n}I", *words))), self.run)
        return at + 1

    def __exit__(self, kind, *rest):
        raw = b"".join(e.bytes() for e in self.outside)
        if raw != self.before and kind is None:
            blob = pack(raw)
            flags = 0
            for e in self.outside:
                flags |= e.flags
            calls = b"".join(struct.pack("<H", c) for c in sorted({e.call for e in self.outside}))
            self.sql("DELETE FROM outside WHERE run = ?", self.run)
            self.sql("INSERT INTO outside VALUES(?,?,?,?,?,?,?,?,?,?,?)", self.run, 0, len(raw), 1, len(self.outside),
                     self.outside[0].frame, self.outside[-1].frame, flags, signed(digest(blob)), calls, blob)
            self.sql("UPDATE runs SET outside = ?, outside_bytes = ? WHERE run = ?", len(self.outside), len(raw), self.run)
        if kind is None:
            self.db.commit()
        self.db.close()
