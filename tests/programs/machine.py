"""Who and where: pids, users, host, resource usage, environment, terminal. Every run may print something else."""
import getpass
import os
import platform
import resource
import socket
import sys


def usage():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime, u.ru_maxrss, u.ru_minflt, u.ru_nvcsw


for _ in range(5):
    print(usage(), os.times(), os.getloadavg())
print(os.getpid(), os.getppid(), os.getuid(), os.getgid(), os.getgroups(), os.getpgid(0), os.getsid(0))
print(os.uname(), platform.python_version(), os.cpu_count(), os.sched_getaffinity(0), os.sysconf("SC_PAGE_SIZE"))
print(resource.getrlimit(resource.RLIMIT_NOFILE), os.ctermid(), sys.stdout.isatty(), os.environ.get("HOME"))
os.environ["ADDED"] = "yes"
os.putenv("PUT", "1")
print(os.environ["ADDED"], sorted(os.environ)[:3], socket.gethostname() == os.uname().nodename)
with open("/proc/self/status") as f:
    print(f.readline(), end="")
try:
    print(getpass.getuser())
except (KeyError, OSError) as e:
    print("no user name", e)
