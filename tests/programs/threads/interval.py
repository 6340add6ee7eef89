"""sys.setswitchinterval: very short, and back; threads that compute with calls."""
import sys

from steps import finish, run, step


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def work(number):
    for i in range(6):
        step(fib(8 + number % 3))


before = sys.getswitchinterval()
sys.setswitchinterval(1e-6)
run(4, work, names="short")
sys.setswitchinterval(0.0005)
run(3, work, names="longer")
sys.setswitchinterval(before)
assert before == sys.getswitchinterval() == 0.005
finish()
