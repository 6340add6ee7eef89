"""Memory that mremap moves, again and again: large blocks grow, and what is behind them is taken."""
import mmap

kept = []


def grow(block, n):
    block.extend(bytes(n))
    kept.append(bytes(n))
    if len(kept) > 20:
        del kept[:15]
    return len(block)


def turn(i):
    block = bytearray(1 << 18)
    area = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    behind = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    sizes = [grow(block, 1 << 18) for _ in range(3)]
    area.resize(1 << (18 + i % 3))
    area[-1] = i
    area.resize(1 << 14)
    return sum(sizes) + len(behind)


print(sum(turn(i) for i in range(60)))
