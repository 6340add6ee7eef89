"""Four counters sell the seats of a theatre. Once in many days a seat is sold twice: timefork race examples/seats.py"""
import threading

SEATS = 40


class Hall:
    def __init__(self):
        self.free = list(range(1, SEATS + 1))
        self.sold = {}

    def best(self):
        return self.free[0] if self.free else None

    def sell(self, seat, counter):
        if seat in self.sold:
            raise RuntimeError(f"seat {seat}: counter {counter} sells it, and counter {self.sold[seat]} has")
        self.sold[seat] = counter
        self.free.remove(seat)


def counter(number, hall):
    while (seat := hall.best()) is not None:
        hall.sell(seat, number)


hall = Hall()
counters = [threading.Thread(target=counter, args=(n, hall), name=f"counter {n}") for n in range(4)]
for thread in counters:
    thread.start()
for thread in counters:
    thread.join()
print(f"{len(hall.sold)} of {SEATS} seats are sold")
