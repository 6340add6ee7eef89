"""faulthandler hands a signal on to the handler that was there before: it sends it again, on a small stack."""
import faulthandler
import os
import signal

seen = []


def handler(number, frame):
    seen.append(frame.f_lineno)


def send(n):
    for _ in range(n):
        os.kill(os.getpid(), signal.SIGUSR1)
    return n


signal.signal(signal.SIGUSR1, handler)
with open(os.devnull, "w") as file:
    faulthandler.register(signal.SIGUSR1, file=file, chain=True)
    print(send(3), seen)
    faulthandler.unregister(signal.SIGUSR1)
print(send(2), seen)
