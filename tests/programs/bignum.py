"""Big integers, fractions, decimals, floats, matrices."""
import decimal
import fractions
import math
import statistics


def pi_digits(n):
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    digits = []
    while len(digits) < n:
        if 4 * q + r - t < m * t:
            digits.append(m)
            q, r, m = 10 * q, 10 * (r - m * t), 10 * (3 * q + r) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2
    return "".join(map(str, digits))


def multiply(a, b):
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


print(pi_digits(60))
print(math.factorial(120) % (2**61 - 1), pow(7, 10**6, 10**9 + 7), (1 << 200).bit_length())
print(sum(fractions.Fraction(1, n) for n in range(1, 30)))
with decimal.localcontext() as context:
    context.prec = 40
    print(decimal.Decimal(2).sqrt())
print(statistics.stdev([2.5, 3.25, 5.5]), math.fsum([0.1] * 10), float("nan"), -0.0)
print(multiply([[1, 2], [3, 4]], [[5, 6], [7, 8]]))
