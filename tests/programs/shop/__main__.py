import sys

from .prices import price

print(__name__, __package__, sys.argv[1:], [price(a) for a in sys.argv[1:]])
