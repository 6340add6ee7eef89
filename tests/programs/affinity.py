"""Limits and masks that a process sets for itself, and reads back."""
import os
import resource

everywhere = os.sched_getaffinity(0)
os.sched_setaffinity(0, [min(everywhere)])
print(len(os.sched_getaffinity(0)))
os.sched_setaffinity(0, everywhere)
print(os.sched_getaffinity(0) == everywhere)
try:
    os.sched_setaffinity(0, [])
except OSError as e:
    print(e.errno)
for soft in (4 << 20, 16 << 20):
    resource.setrlimit(resource.RLIMIT_STACK, (soft, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    print(resource.getrlimit(resource.RLIMIT_STACK)[0])
