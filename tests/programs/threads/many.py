"""5,000 threads, one after the other."""
import _thread
import threading

from steps import finish, step

n = 0


def work():
    global n
    n += 1
    if n % 500 == 0:
        step(n)


for _ in range(2500):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
done = threading.Lock()
done.acquire()


def bare():
    global n
    n += 1
    done.release()


for _ in range(2500):
    _thread.start_new_thread(bare, ())
    done.acquire()
assert n == 5000
finish(n=n)
