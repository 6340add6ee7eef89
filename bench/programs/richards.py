"""A kernel of tasks that hand packets to each other, after the idea of Richards: small methods, chosen by the kind of task. argv[1]: rounds.
Prints how many packets were handed on, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time


class Packet:
    def __init__(self, kind):
        self.kind, self.to, self.data = kind, None, [0, 0, 0, 0]


class Task:
    def __init__(self, kernel, priority):
        self.kernel, self.priority, self.waiting, self.held = kernel, priority, [], False

    def ready(self):
        return bool(self.waiting) and not self.held

    def take(self):
        return self.waiting.pop(0)

    def run(self):
        self.work(self.take())


class Worker(Task):
    """Fills a packet, and gives it to one of two handlers in turn."""
    turn = 0

    def work(self, packet):
        self.turn += 1
        for n in range(4):
            packet.data[n] = (packet.data[n] * 31 + self.turn + n) % 1009
        send(packet, self.kernel.handlers[self.turn & 1])


class Handler(Task):
    """Takes a packet to a device, if it is free, or else back to the worker."""

    def work(self, packet):
        if self.kernel.device.free():
            send(packet, self.kernel.device)
        else:
            send(packet, self.kernel.worker)


class Device(Task):
    """Is busy with every second packet until the kernel lets it go on."""
    seen = 0

    def free(self):
        return len(self.waiting) < 2

    def work(self, packet):
        self.seen += 1
        self.held = self.seen % 2 == 0
        send(packet, self.kernel.worker)


class Kernel:
    def __init__(self):
        self.worker, self.device = Worker(self, 1), Device(self, 3)
        self.handlers = [Handler(self, 2), Handler(self, 2)]
        self.tasks = sorted([self.worker, *self.handlers, self.device], key=lambda task: -task.priority)

    def next_task(self):
        for task in self.tasks:
            if task.ready():
                return task
        return None

    def schedule(self, steps):
        for _ in range(steps):
            task = self.next_task()
            if task is None:
                self.device.held = False
            else:
                task.run()


sent = 0


def send(packet, task):
    global sent
    sent += 1
    packet.to = task
    task.waiting.append(packet)


started = perf_counter()
for _ in range(int(sys.argv[1])):
    kernel = Kernel()
    for _ in range(6):
        send(Packet("work"), kernel.worker)
    kernel.schedule(1000)
print(sent, perf_counter() - started, process_time())
