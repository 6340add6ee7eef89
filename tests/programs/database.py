"""sqlite3: locks whose structures have holes, a file that grows, a journal."""
import os
import sqlite3
import tempfile


def fill(connection, n):
    connection.executemany("insert into t values (?, ?)", ((i, "x" * (i % 50)) for i in range(n)))
    connection.commit()
    return connection.execute("select count(*), sum(length(b)) from t").fetchone()


with tempfile.TemporaryDirectory() as folder:
    connection = sqlite3.connect(os.path.join(folder, "a.db"))
    connection.execute("create table t (a integer primary key, b)")
    print(fill(connection, 500))
    connection.execute("pragma journal_mode = persist")
    connection.execute("update t set b = upper(b)")
    connection.rollback()
    print(connection.execute("select max(b) from t").fetchone()[0][:3])
    connection.close()
