"""asyncio: a server on the loopback that sends lines back, and ten clients of it. argv[1]: lines of each. Prints how many were sent back, the seconds, and the CPU seconds of the process."""
import asyncio
import sys
from time import perf_counter, process_time

CLIENTS = 10
echoed = 0


def answer(line):
    global echoed
    echoed += 1
    return line.upper()


async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(answer(line))
        await writer.drain()
    writer.close()


async def client(port, lines):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in range(lines):
        writer.write(f"line {n}\n".encode())
        assert await reader.readline() == f"LINE {n}\n".encode()
    writer.close()


async def main(lines):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*[client(port, lines) for _ in range(CLIENTS)])
    server.close()


started = perf_counter()
asyncio.run(main(int(sys.argv[1])))
print(echoed, perf_counter() - started, process_time())
