"""logging from several threads, directly and through QueueHandler and QueueListener."""
import io
import logging
import logging.handlers
import queue

from steps import finish, run, step

direct, through, records = io.StringIO(), io.StringIO(), queue.Queue()
formatter = logging.Formatter("%(threadName)s %(message)s %(created).6f")
log = logging.getLogger("test")
log.setLevel(logging.INFO)
log.propagate = False
for handler in logging.StreamHandler(direct), logging.handlers.QueueHandler(records):
    handler.setFormatter(formatter)
    log.addHandler(handler)
listener = logging.handlers.QueueListener(records, logging.StreamHandler(through))
listener.start()


def work(number):
    for i in range(8):
        log.info("message %d of %d", i, number)
        step(i)


run(3, work)
listener.stop()
one, two = direct.getvalue().splitlines(), through.getvalue().splitlines()
assert len(one) == len(two) == 24 and sorted(one) == sorted(two)
finish(same=one == two)
