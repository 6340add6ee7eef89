"""asyncio: tasks, queues, timeouts, cancellation, async generators and context managers."""
import asyncio


class Pool:
    async def __aenter__(self):
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc):
        await asyncio.sleep(0)


async def producer(queue, n):
    for i in range(n):
        await queue.put(i)
        await asyncio.sleep(0.0005)
    await queue.put(None)


async def consumer(queue):
    total = 0
    while (item := await queue.get()) is not None:
        total += item * item
    return total


async def slow():
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        print("cancelled")
        raise


async def numbers():
    for i in range(4):
        yield i
        await asyncio.sleep(0)


async def main():
    queue = asyncio.Queue(3)
    async with Pool():
        _, total = await asyncio.gather(producer(queue, 12), consumer(queue))
    print(total)
    try:
        await asyncio.wait_for(slow(), 0.01)
    except asyncio.TimeoutError:
        print("timeout")
    print([i async for i in numbers() if i % 2], await asyncio.gather(slow_fail(), return_exceptions=True))


async def slow_fail():
    await asyncio.sleep(0.001)
    raise OSError("gone")


asyncio.run(main())
