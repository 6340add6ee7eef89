"""Two threads that play in turns; each waits for the other with a lock."""
import threading

ping, pong = threading.Lock(), threading.Lock()
ping.acquire()
pong.acquire()
log = []
count = 0


class Score:
    def __init__(self):
        self.points = 0


score = Score()


def play(mine, other):
    for i in range(3):
        mine.acquire()
        hit(i)
        other.release()
    return i


def hit(i):
    global count
    count += 1
    score.points += 10
    log.append((threading.current_thread().name, i))


alice = threading.Thread(target=play, args=(ping, pong), name="alice")
bob = threading.Thread(target=play, args=(pong, ping), name="bob")
alice.start()
bob.start()
ping.release()
alice.join()
bob.join()
print(log)
