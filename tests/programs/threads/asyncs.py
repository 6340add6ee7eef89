"""asyncio with threads: to_thread, run_in_executor, call_soon_threadsafe, run_coroutine_threadsafe, a loop in a thread of its own."""
import asyncio
import threading
import time

from steps import finish, step


def blocks(n):
    time.sleep(0.001 * (4 - n))
    step(n)
    return n * n


async def main():
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(*[asyncio.to_thread(blocks, n) for n in range(4)])
    results += [await loop.run_in_executor(None, blocks, n) for n in range(3)]
    event = asyncio.Event()
    threading.Thread(target=loop.call_soon_threadsafe, args=(event.set,), name="calls").start()
    await asyncio.wait_for(event.wait(), 10)
    return results


async def other(n):
    await asyncio.sleep(0.001)
    return step(n)[3]


assert asyncio.run(main()) == [0, 1, 4, 9, 0, 1, 4]
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever, name="loop")
thread.start()
results = [asyncio.run_coroutine_threadsafe(other(n), loop) for n in range(5)]
assert [r.result(10) for r in results] == [0, 1, 2, 3, 4]
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
finish()
