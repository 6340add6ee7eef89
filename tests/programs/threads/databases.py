"""sqlite3: a connection for each thread on one file, transactions that wait for each other; one connection that several use."""
import sqlite3
import tempfile
import threading

from steps import finish, run, step

folder = tempfile.TemporaryDirectory()
path = folder.name + "/shared.db"
with sqlite3.connect(path) as first:
    first.execute("create table t (thread integer, n integer)")
shared, lock = sqlite3.connect(":memory:", check_same_thread=False), threading.Lock()
shared.execute("create table t (n integer)")


def work(number):
    connection = sqlite3.connect(path, timeout=30)
    for i in range(4):
        with connection:
            connection.execute("begin immediate")
            connection.execute("insert into t values (?, ?)", (number, i))
        count, = connection.execute("select count(*) from t where thread = ?", (number,)).fetchone()
        step(count)
        with lock:
            shared.execute("insert into t values (?)", (number,))
    connection.close()


run(3, work)
with sqlite3.connect(path) as last:
    rows = last.execute("select thread, n from t").fetchall()
assert sorted(rows) == [(t, n) for t in range(3) for n in range(4)]
assert shared.execute("select sum(n), count(*) from t").fetchone() == (12, 12)
folder.cleanup()
finish(rows=rows)
