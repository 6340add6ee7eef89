"""One function, called so often that checkpoints lie between the calls."""
def f(n):
    x = n
    x += 1
    return x


for n in range(150000):
    f(n)
