"""A day at a small warehouse: orders come in, are settled against the stock, some fail, refunds are paid out.

It ends with a traceback, on purpose: at closing time the books do not balance. The line that raises is not the
line that is wrong. Which call changed which order, and when? Run it under timefork and go back:

    build/timefork record examples/orders.py
    build/timefork query --frames --function settle --limit 5
    build/timefork replay --goto-frame end

Every run is another one (random, uuid4, the clock); a recording of it is always the same.
"""
import json
import random
import sys
import tempfile
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

PRICES = {"bolt": 15, "nut": 10, "washer": 5, "bracket": 240, "hinge": 310, "plate": 950}


class OutOfStock(Exception):
    def __init__(self, name, wanted, left):
        super().__init__(f"{name}: {wanted} wanted, {left} left")
        self.name = name


@dataclass
class Item:
    name: str
    quantity: int
    price: int  # cents

    def total(self):
        return self.quantity * self.price


@dataclass
class Order:
    customer: str
    items: list
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: str = "new"
    placed: float = field(default_factory=time.time)

    def total(self):
        return sum(item.total() for item in self.items)


class Stock:
    def __init__(self, levels):
        self.levels = dict(levels)

    def left(self, name):
        return self.levels[name]

    def take(self, name, quantity):
        left = self.left(name)
        if quantity > left:
            raise OutOfStock(name, quantity, left)
        self.levels[name] = left - quantity

    def put_back(self, name, quantity):
        self.levels[name] += quantity


class Ledger:
    """What was charged, by order; `balance` is kept along the way and checked at closing time."""

    def __init__(self):
        self.charged = {}
        self.balance = 0

    def charge(self, order):
        amount = order.total()
        self.charged[order.id] = amount
        self.balance += amount
        return amount

    def refund(self, order):
        self.balance -= order.total()
        del self.charged[order.id]


def basket(templates):
    """A few items, taken from the list of usual ones."""
    return [random.choice(templates) for _ in range(random.randint(1, 5))]


def new_order(templates, number):
    return Order(f"customer-{number % 97:02d}", basket(templates))


def settle(order, stock, ledger):
    """Takes the items from the stock and charges for them, or puts everything back."""
    taken = []
    try:
        for item in order.items:
            stock.take(item.name, item.quantity)
            taken.append(item)
    except OutOfStock:
        for item in taken:
            stock.put_back(item.name, item.quantity)
        order.state = "back-ordered"
        return 0
    order.state = "settled"
    return ledger.charge(order)


def give_discount(order, percent):
    """A kind word for a good customer: cheaper items in an order that was not settled yet."""
    for item in order.items:
        item.price -= item.price * percent // 100


def restock(stock):
    for name in PRICES:
        stock.put_back(name, random.randint(150, 400))


def run_day(count, stock, ledger, templates):
    queue = deque()
    settled = []
    for number in range(count):
        queue.append(new_order(templates, number))
        while len(queue) > 3 or (queue and number == count - 1):
            order = queue.popleft()
            if settle(order, stock, ledger):
                settled.append(order)
            elif len(order.items) > 1:
                order.items.pop()
                queue.append(order)
            else:
                restock(stock)
                queue.append(order)
        if number % 1000 == 999:
            returned = settled.pop(random.randrange(len(settled)))
            ledger.refund(returned)
        if number == count * 3 // 4:
            give_discount(queue[-1], 20)
    return settled


def write_report(path, settled, ledger):
    rows = [{"id": order.id, "customer": order.customer, "total": ledger.charged[order.id]} for order in settled]
    with open(path, "w") as out:
        out.write(json.dumps({"written": time.strftime("%Y-%m-%d %H:%M:%S"), "orders": rows}))


def close_books(path, settled, ledger):
    """Compares the report with the orders as they are now."""
    with open(path) as report:
        rows = json.load(report)["orders"]
    by_id = {order.id: order for order in settled}
    for row in rows:
        order = by_id[row["id"]]
        if order.total() != row["total"]:
            raise AssertionError(
                f"order {order.id} of {order.customer} was charged {row['total']}, but its items are worth {order.total()}"
            )


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    templates = [Item(name, random.randint(1, 6), price) for name, price in PRICES.items() for _ in range(3)]
    stock = Stock({name: 500 for name in PRICES})
    ledger = Ledger()
    started = time.perf_counter()
    settled = run_day(count, stock, ledger, templates)
    print(f"{len(settled)} orders settled, balance {ledger.balance / 100:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        write_report(report, settled, ledger)
        print(f"report: {report.stat().st_size} bytes after {time.perf_counter() - started:.2f} s")
        close_books(report, settled, ledger)
    print("the books balance")


if __name__ == "__main__":
    main()
