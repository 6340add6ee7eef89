"""ThreadPoolExecutor: map, submit, as_completed, wait, exceptions, cancelling, callbacks."""
import concurrent.futures as futures
import time

from steps import finish, step


def square(n):
    step(n)
    return n * n


def late(n):
    time.sleep(0.002 * (3 - n))
    step(-n)
    if n == 2:
        raise ValueError(n)
    return n


with futures.ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
    squares = list(pool.map(square, range(30)))
    assert squares == [n * n for n in range(30)]
    order, failed, called = [], [], []
    jobs = {pool.submit(late, n): n for n in range(4)}
    for job in futures.as_completed(jobs, timeout=10):
        order.append(jobs[job])
        job.add_done_callback(lambda j: called.append(jobs[j]))
        if job.exception():
            failed.append(str(job.exception()))
    assert sorted(order) == sorted(called) == [0, 1, 2, 3] and failed == ["2"]
    blocked = [pool.submit(time.sleep, 0.02) for _ in range(3)]
    cancelled = pool.submit(square, 99)
    assert cancelled.cancel()
    done, waiting = futures.wait(blocked, return_when=futures.FIRST_COMPLETED)
    assert done
finish(order=order, done=len(done))
