"""C modules of the standard library that keep or squeeze data: sqlite3 in all its journals, dbm, compression, digests, decimals, expat, ctypes."""
import bz2
import ctypes
import dbm
import decimal
import gzip
import hashlib
import lzma
import shelve
import sqlite3
import uuid
import xml.dom.minidom
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib


def journals():
    for mode in ("delete", "truncate", "persist", "memory", "off", "wal"):
        connection = sqlite3.connect("a.db", isolation_level=None)
        connection.execute("pragma locking_mode = exclusive")  # or WAL shares memory
        print(connection.execute(f"pragma journal_mode = {mode}").fetchone())
        connection.execute("begin")
        connection.execute("create table if not exists t (a integer primary key, b)")
        connection.executemany("insert into t (b) values (?)", ((mode * (i % 9),) for i in range(200)))
        connection.execute("commit")
        print(connection.execute("select count(*), max(length(b)) from t").fetchone())
        if mode == "wal":
            print(connection.execute("pragma wal_checkpoint(truncate)").fetchone())
            connection.execute("pragma journal_mode = delete")
        connection.close()
    connection = sqlite3.connect("a.db")
    connection.execute("pragma mmap_size = 1000000")
    other = sqlite3.connect("a.db", timeout=0.05)
    connection.execute("update t set b = 'x'")
    try:
        other.execute("update t set b = 'y'")
    except sqlite3.OperationalError as e:
        print(e)
    connection.rollback()
    with sqlite3.connect("b.db") as copy:
        connection.backup(copy)
    return copy.execute("select count(*) from t").fetchone(), list(connection.iterdump())[-1]


def squeezed():
    data = b"".join(b"%d squared is %d\n" % (i, i * i) for i in range(3000))
    for module in (gzip, bz2, lzma):
        with module.open("packed", "wb") as f:
            f.write(data)
        with module.open("packed", "rb") as f:
            print(module.__name__, f.read() == data, len(f.read()))
    with zipfile.ZipFile("packed.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("data", data)
    with zipfile.ZipFile("packed.zip") as z:
        print(z.testzip(), z.getinfo("data").file_size, zlib.crc32(data))
    with open("packed.zip", "rb") as f:
        return hashlib.sha256(data).hexdigest()[:8], hashlib.file_digest(f, "md5").digest_size, hashlib.scrypt(b"p", salt=b"s", n=16, r=1, p=1)[:2].hex()


def kept():
    with shelve.open("shelf") as s:
        s["key"] = [1, 2, 3]
        s["other"] = {"a": uuid.UUID(int=7)}
    with shelve.open("shelf") as s:
        return sorted(s), s["other"], dbm.whichdb("shelf") is not None


def numbers():
    with decimal.localcontext() as context:
        context.prec = 60
        print(decimal.Decimal(2).sqrt(), decimal.Decimal(1) / 7)
    tree = ElementTree.fromstring("<a x='1'><b>text</b><b/>tail</a>")
    values = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))(lambda a, b: a[0] - b[0])
    ctypes.CDLL(None).qsort(values, 5, 4, compare)
    return [e.tag for e in tree.iter()], xml.dom.minidom.parseString("<a><b/></a>").toxml(), list(values), len({uuid.uuid4(), uuid.uuid1(), uuid.uuid1()})


for part in (journals, squeezed, kept, numbers):
    print(part.__name__)
    print(part())
