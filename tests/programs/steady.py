"""Works for a while, the same in every run: what it prints and its exit status do not depend on when or whether somebody kills its
recorder. Usage: steady.py WAY ROUNDS; the ways are the functions below the line."""
import hashlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time


def step(state, n):
    return hashlib.sha256(state + bytes([n & 255])).digest()


def steps(rounds, state=b""):
    for i in range(rounds):
        for j in range(20):
            state = step(state, i + j)
        time.sleep(0.0005)
        time.time()
        os.urandom(8)
    return state


# ----


def plain(rounds):
    return steps(rounds)


def threads(rounds):
    """They give work to each other, and wait with a time limit."""
    todo, done = queue.Queue(4), queue.Queue()

    def worker():
        while (item := todo.get()) is not None:
            done.put((item, steps(1, bytes([item & 255]))))

    pool = [threading.Thread(target=worker) for _ in range(3)]
    for t in pool:
        t.start()
    for i in range(rounds):
        todo.put(i)
    for t in pool:
        todo.put(None)
    for t in pool:
        t.join()
    return b"".join(v for _, v in sorted(done.get() for _ in range(rounds)))


def children(rounds):
    """Forks without end, and other programs now and then."""
    found = []
    for i in range(max(1, rounds // 20)):
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(w, steps(5, bytes([i & 255])))
            os._exit(i & 7)
        os.close(w)
        data = b""
        while piece := os.read(r, 100):
            data += piece
        os.close(r)
        found += [data, bytes([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])])]
        if i % 8 == 0:
            found.append(subprocess.run(["/bin/echo", str(i)], stdout=subprocess.PIPE).stdout)
    return b"".join(found)


def sockets(rounds):
    """A server in a thread, on the machine's own address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        there, _ = server.accept()
        with there:
            while data := there.recv(4096):
                there.sendall(step(data, 1))

    thread = threading.Thread(target=serve)
    thread.start()
    state = b"x" * 32
    with socket.create_connection(server.getsockname()) as here:
        for i in range(rounds):
            here.sendall(step(state, i))
            state = here.recv(4096)
    thread.join()
    server.close()
    return state


def signals(rounds):
    """A timer's, which cut short what waits; and one that is sent to itself."""
    seen = [0, 0]

    def on_alarm(number, frame):
        seen[0] += 1

    def on_user(number, frame):
        seen[1] += 1

    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGUSR1, on_user)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    state = b""
    for i in range(rounds):
        state = steps(1, state)
        os.kill(os.getpid(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return state + repr((seen[0] > 0, seen[1])).encode()


def semaphores(rounds):
    """Two processes hand a turn to each other: one of them always waits."""
    import multiprocessing
    context = multiprocessing.get_context("fork")
    a, b = context.Semaphore(0), context.Semaphore(0)
    pid = os.fork()
    if not pid:
        for i in range(rounds):
            a.acquire()
            steps(1)
            b.release()
        os._exit(5)
    count = 0
    for i in range(rounds):
        a.release()
        count += b.acquire(timeout=60)
    return repr((count, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))).encode()


def pipes(rounds):
    """Much through a pipe, from a child to its parent."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(r)
        piece = bytes(range(256)) * 1024
        for i in range(rounds // 4):
            view = memoryview(piece)
            while view:
                view = view[os.write(w, view):]
        os._exit(6)
    os.close(w)
    total = hashlib.sha256()
    length = 0
    while data := os.read(r, 65536):
        total.update(data)
        length += len(data)
    os.close(r)
    return repr((length, total.hexdigest(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))).encode()


def busy(rounds):
    """Events faster than they are written: the ring is full again and again."""
    state = 0

    def leaf(x):
        return x + 1

    for i in range(rounds):
        for _ in range(10000):
            state = leaf(state)
    return repr(state).encode()


if __name__ == "__main__":
    print("up", flush=True)
    print(hashlib.sha256(globals()[sys.argv[1]](int(sys.argv[2]))).hexdigest())
    sys.stdout.flush()
    sys.exit(7)
