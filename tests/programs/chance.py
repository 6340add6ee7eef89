"""random, secrets, uuid: every run prints something else."""
import os
import random
import secrets
import uuid


def draw(rng, n):
    return [rng.choice("abcdef") for _ in range(n)], rng.sample(range(100), 3), rng.gauss(0, 1), rng.getrandbits(65)


def shuffled(n):
    cards = list(range(n))
    random.shuffle(cards)
    return cards


for i in range(30):
    print(i, draw(random, 5), draw(random.SystemRandom(), 2), shuffled(6))
    print(secrets.token_urlsafe(6), uuid.uuid4(), uuid.uuid1(), os.getrandom(4), uuid.uuid5(uuid.NAMESPACE_DNS, "a.example"))
print(draw(random.Random(7), 5), {f"k{i}" for i in range(20)}, hash("text"))
