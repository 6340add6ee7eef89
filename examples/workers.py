"""Three workers, each a child process, and one of them is wrong."""
import os
import sys


def price(n):
    return n * 15 - (n == 2) * 3


def worker(number, pipe):
    total = sum(price(n) for n in range(number + 1))
    os.write(pipe, f"{number} {total}\n".encode())


def main():
    reader, writer = os.pipe()
    for number in range(3):
        if os.fork() == 0:
            worker(number, writer)
            os._exit(0)
        os.wait()
    os.close(writer)
    with open(reader) as lines:
        for line in lines:
            number, total = map(int, line.split())
            expected = 15 * number * (number + 1) // 2
            print(number, total, "" if total == expected else f"expected {expected}")
            if total != expected:
                sys.exit(1)


if __name__ == "__main__":
    main()
