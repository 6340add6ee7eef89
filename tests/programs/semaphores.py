"""multiprocessing's locks, in one process: operations on POSIX semaphores, also cut short by signals."""
import multiprocessing
import signal
import time

seen = []


def refused(call):
    try:
        return call()
    except (ValueError, AssertionError) as e:
        return type(e).__name__, str(e)


def locks():
    lock, many, again, bounded = (multiprocessing.Lock(), multiprocessing.Semaphore(3), multiprocessing.RLock(),
                                  multiprocessing.BoundedSemaphore(2))
    print(lock, lock.acquire(), lock.acquire(block=False), lock)
    print(lock.acquire(timeout=0.02), lock.release(), refused(lock.release), many.get_value(), many.acquire(), many.get_value())
    with again:
        with again:
            print(again)
    print(refused(again.release), refused(bounded.release), bounded.acquire(), bounded.release())
    event, condition = multiprocessing.Event(), multiprocessing.Condition()
    print(event.is_set(), event.wait(0.01), event.set(), event.wait(), event.is_set())
    with condition:
        print(condition.wait(0.01), condition.notify())
    return many


def handlers(lock):
    def let_go(number, frame):
        seen.append(number)
        lock.release()

    signal.signal(signal.SIGALRM, let_go)
    lock.acquire()
    for wait in (lambda: lock.acquire(), lambda: lock.acquire(timeout=5)):
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        print(wait(), seen)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    print(lock.acquire(timeout=5), len(seen))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    try:
        lock.acquire()
    except KeyboardInterrupt:
        print("interrupted")
    lock.release()


def thousand(lock):
    for i in range(1000):
        with lock:
            seen.append(i)
    return len(seen)


locks()
handlers(multiprocessing.Lock())
print(thousand(multiprocessing.Lock()), [multiprocessing.Lock().acquire() for _ in range(50)].count(True))
started = time.monotonic()
print(multiprocessing.Semaphore(0).acquire(timeout=0.05), time.monotonic() - started >= 0.05)
