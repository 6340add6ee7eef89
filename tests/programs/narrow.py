"""Children of a process whose limit of descriptors has become low, and that has used them up. Each prints what work()
returns."""
import os
import resource
import subprocess
import sys


def work(*values):
    return values


def tell(value):
    sys.stdout.write(f"{os.getpid()} {os.getppid()} {value!r}\n")
    sys.stdout.flush()


def child(name):
    pid = os.fork()
    if pid == 0:
        tell(work(name, resource.getrlimit(resource.RLIMIT_NOFILE)))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
    tell(work("lower", child("below both")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 60))
    tell(work("hard", child("below the hard one")))
    tell(work("run", subprocess.run([sys.executable, __file__, "again"]).returncode))
    fds = []
    try:
        while True:
            fds.append(os.dup(0))
    except OSError:
        pass
    tell(work("full", len(fds) > 20, child("with all in use")))


if sys.argv[1:]:
    tell(work("again", resource.getrlimit(resource.RLIMIT_NOFILE)))
else:
    main()
