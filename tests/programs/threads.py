"""Starts a thread."""
import threading


def before(n):
    return n * 2


print(before(21), flush=True)
thread = threading.Thread(target=before, args=(1,))
thread.start()
thread.join()
print("joined")
