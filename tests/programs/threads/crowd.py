"""200 threads at once."""
import threading

from steps import finish, run, step

ready, go, lock, total = threading.Semaphore(0), threading.Event(), threading.Lock(), 0


def work(number):
    global total
    ready.release()
    go.wait()
    with lock:
        total += number
    step(number)


def conduct(number):
    for _ in range(200):
        ready.acquire()
    step(threading.active_count())
    go.set()


conductor = threading.Thread(target=conduct, args=(0,), name="conductor")
conductor.start()
run(200, work)
conductor.join()
assert total == sum(range(200))
finish()
