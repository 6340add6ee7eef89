"""What the tests of this small project are about."""


class OutOfStock(Exception):
    pass


class Stock:
    def __init__(self):
        self.items = {}

    def put(self, name, count=1):
        self.items[name] = self.items.get(name, 0) + count
        return self.items[name]

    def take(self, name, count=1):
        if self.items.get(name, 0) < count:
            raise OutOfStock(f"{count} {name} wanted, {self.items.get(name, 0)} there")
        self.items[name] -= count
        return self.items[name]
