"""Orders with a planted bug: an order is charged twice when its first payment was refused, and the line that raises at
closing time is not the line that is wrong. For moving about, breakpoints and watches."""


class Refused(Exception):
    pass


class Order:
    def __init__(self, number, amount):
        self.number = number
        self.amount = amount
        self.state = "new"
        self.paid = 0

    def settle(self, bank):
        # Refused payments are tried again.
        for attempt in (1, 2):
            try:
                self.paid += self.amount
                bank.pay(self.number, self.amount)
                break
            except Refused:
                self.state = "again"
        self.state = "paid"
        return self.paid


class Bank:
    calls = 0

    def pay(self, number, amount):
        self.calls += 1
        if number == 3 and self.calls == 3:
            raise Refused(number)
        return amount


def total(orders):
    s = 0
    for order in orders:
        s += order.paid
    return s


def never():
    return "called"


def main():
    bank = Bank()
    orders = [Order(n, n * 10) for n in range(1, 6)]
    for order in orders:
        order.settle(bank)
    expected = sum(order.amount for order in orders)
    got = total(orders)
    if got != expected:
        raise ValueError(f"{got} paid, {expected} expected")


main()
