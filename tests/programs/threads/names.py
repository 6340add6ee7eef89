"""Names that are given and changed, native ids, identifiers, main's name, daemon flags, threads that are not threading's."""
import _thread
import os
import threading

from steps import finish, start, step

seen, go, other = {}, threading.Event(), threading.Lock()


def work(number):
    me = threading.current_thread()
    assert me.native_id == threading.get_native_id() and me.ident == threading.get_ident()
    assert os.path.exists(f"/proc/self/task/{me.native_id}")
    step(me.name)
    me.name = f"renamed-{number}"
    seen[number] = (me.name, me.native_id, hex(me.ident), me.daemon)
    step(me.name)
    go.wait(10)


threads = start(3, work) + start(1, work, names="Grüße 🧵 ", daemon=True)
go.set()
for thread in threads:
    thread.join()
main = threading.main_thread()
assert main.native_id == os.getpid() and main.name == "MainThread"
other.acquire()


def foreign():
    seen["foreign"] = threading.current_thread().name
    step("foreign")
    other.release()


_thread.start_new_thread(foreign, ())
other.acquire()
assert seen["foreign"].startswith("Dummy-")
finish(seen={str(k): v for k, v in seen.items()})
