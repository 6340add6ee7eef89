"""multiprocessing.Pool: the parent has threads that hand out tasks and collect results."""
import multiprocessing
import warnings

from steps import finish, step

warnings.simplefilter("ignore")


def square(n):
    return n * n


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        squares = pool.map(square, range(20))
        step(sum(squares))
        lazy = list(pool.imap_unordered(square, range(10), 2))
        step(sum(lazy))
        later = pool.apply_async(square, (12,), callback=step)
        assert later.get(10) == 144
        pool.close()
        pool.join()
    assert squares == [n * n for n in range(20)] and sorted(lazy) == squares[:10]
    finish(lazy=lazy)
