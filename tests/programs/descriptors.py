"""All descriptors used, copied, closed in ranges; a low limit; locks."""
import fcntl
import os
import resource
import tempfile

fds = []
try:
    while len(fds) < 2000:
        fds.append(os.open("/dev/null", os.O_RDONLY))
except OSError as e:
    print(e.errno)
print(fds == list(range(fds[0], fds[0] + len(fds))))
os.closerange(fds[0], fds[-1] + 1)
print(os.dup(1), os.dup2(1, 50), fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 60))
os.write(50, b"by a copy\n")
os.closerange(3, 5000)
with tempfile.TemporaryFile() as f:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(f, fcntl.LOCK_SH)
    fcntl.lockf(f, fcntl.LOCK_UN)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    os.dup2(1, 64)
except OSError as e:
    print(e.errno)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
