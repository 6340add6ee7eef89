"""logging to a file and to standard error, warnings, traceback.format_exc."""
import logging
import logging.handlers
import sys
import traceback
import warnings

logging.basicConfig(filename="app.log", level=logging.DEBUG, format="%(asctime)s %(levelname)s %(funcName)s %(message)s")
console = logging.StreamHandler(sys.stderr)
console.setLevel(logging.WARNING)
logging.getLogger().addHandler(console)
rotating = logging.handlers.RotatingFileHandler("rotating.log", maxBytes=300, backupCount=2)
logging.getLogger("noisy").addHandler(rotating)


def risky(n):
    if n % 4 == 3:
        raise ArithmeticError(n)
    logging.debug("n is %d", n)


for n in range(8):
    try:
        risky(n)
    except ArithmeticError:
        logging.exception("it failed for %d", n)
        print(traceback.format_exc().splitlines()[-1])
    logging.getLogger("noisy").info("line %d %s", n, "x" * 40)
warnings.simplefilter("always")
warnings.warn("old", DeprecationWarning)
logging.shutdown()
with open("app.log") as log:
    print(sum("DEBUG" in line for line in log))
