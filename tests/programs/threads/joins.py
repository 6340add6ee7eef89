"""join with and without time-outs, of threads that have ended, of itself, is_alive, before start, starting twice."""
import threading
import time

from steps import finish, start, step

go = threading.Event()


def waits(number):
    step("waits")
    go.wait(10)
    time.sleep(0.002 * number)
    step("goes")


threads = start(3, waits)
for thread in threads:
    thread.join(0.003)
    assert thread.is_alive()
go.set()
for thread in reversed(threads):
    thread.join(10)
    assert not thread.is_alive()
    thread.join(), thread.join(0)
errors = []
for wrong in threading.current_thread().join, threads[0].start, threading.Thread().join:
    try:
        wrong()
    except RuntimeError as e:
        errors.append(str(e))


def joins(number):
    others[1].join(10)
    step("joined")



others = [threading.Thread(target=joins, args=(0,), name="joins"), threading.Thread(target=waits, args=(0,), name="joined")]
for thread in reversed(others):
    thread.start()
for thread in others:
    thread.join()
assert len(errors) == 3
finish(errors=errors)
