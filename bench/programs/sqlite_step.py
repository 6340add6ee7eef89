"""SQLite, in memory and in a file in the current folder: rows go in and out, and a function of Python's is called for each of some. argv[1]: times 1,000 rows.
Prints how often that was called, the seconds, and the CPU seconds of the process."""
import os
import sqlite3
import sys
from time import perf_counter, process_time

asked = 0
FILE = "sqlite_step.db"


def rebate(amount):
    global asked
    asked += 1
    return amount * 0.9 if amount > 500 else amount


def fill(base, seed):
    base.executemany("INSERT INTO orders(customer, amount, note) VALUES (?, ?, ?)", ((n % 50, n * 7919 % 1000, f"note {n}") for n in range(seed, seed + 1000)))
    base.commit()


def ask(base):
    total = base.execute("SELECT sum(rebate(amount)) FROM orders WHERE customer < 25").fetchone()[0]
    rows = base.execute("SELECT customer, count(*), sum(amount) FROM orders GROUP BY customer ORDER BY 3 DESC").fetchall()
    return total, {customer: (count, amount) for customer, count, amount in rows}


started = perf_counter()
for where in (":memory:", FILE):
    if where == FILE and os.path.exists(FILE):
        os.unlink(FILE)
    base = sqlite3.connect(where)
    base.execute("PRAGMA synchronous = OFF")  # the disk is not what is measured
    base.create_function("rebate", 1, rebate)
    for n in range(int(sys.argv[1])):
        base.execute("DROP TABLE IF EXISTS orders")
        base.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount INTEGER, note TEXT)")
        fill(base, n)
        assert len(ask(base)[1]) == 50
    base.close()
os.unlink(FILE)
print(asked, perf_counter() - started, process_time())
