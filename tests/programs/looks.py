"""What there is to look at: a stack, objects that hold others, what was printed, the clock."""
import os
import time


class Item:
    def __init__(self, name, price):
        self.name = name
        self.price = price

    def __repr__(self):
        return f"<{self.name} at {self.price}>"


def total(items, rate=2):
    amount = 0
    for item in items:
        amount += item.price * rate
    return amount


def main():
    items = [Item("nut", 1), Item("bolt", 2)]
    by_name = {item.name: item for item in items}
    os.write(1, b"one\n")
    before = time.time()
    os.write(1, b"two\n")
    amount = total(items)
    os.write(1, b"three\n")
    numbers = list(range(100))
    text = "x" * 5000
    return amount


main()
