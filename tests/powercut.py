"""What a power cut may leave of a recording: a library that notes each change that a recorder makes to files, and the states of the files
that a disk may be in when the power goes at any moment. What was written to a file since it was last forced to the disk (fsync, fdatasync) may
be there or not, each write on its own, the last ones cut at any byte; names that were made or removed since their folder was forced to the
disk likewise, those of one name in their order."""
import shutil
import struct
import subprocess

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
extern char *program_invocation_short_name;
static int out = -1;
static char folder[4096];
#define REAL(name, type) static __typeof__(type) real; if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, name)
__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("POWERCUT_LOG"), *in = getenv("POWERCUT_FOLDER");
    if (path && in && strcmp(program_invocation_short_name, "timefork") == 0) {
        strcpy(folder, in);
        out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
}
static void note(char op, uint64_t inode, uint64_t at, const void *data, uint64_t len)
{
    char head[32] = {op};
    memcpy(head + 8, &inode, 8);
    memcpy(head + 16, &at, 8);
    memcpy(head + 24, &len, 8);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, len}};
    if (writev(out, parts, 2) != (ssize_t)(sizeof head + len))
        abort();
}
static uint64_t inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? 0 : st.st_ino;
}
#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(#name, int (*)(const char *, int, ...)); \
        va_list ap; \
        va_start(ap, flags); \
        unsigned mode = va_arg(ap, unsigned); \
        va_end(ap); \
        int made = out >= 0 && (flags & O_CREAT) && access(path, F_OK); \
        int fd = real(path, flags, mode); \
        if (made && fd >= 0) \
            note('c', inode_of(fd), 0, path, strlen(path)); \
        return fd; \
    }
OPEN(open)
OPEN(open64)
#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t len, off_t at) \
    { \
        REAL(#name, ssize_t (*)(int, const void *, size_t, off_t)); \
        ssize_t n = real(fd, data, len, at); \
        if (out >= 0 && n > 0) \
            note('w', inode_of(fd), (uint64_t)at, data, (uint64_t)n); \
        return n; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
#define TRUNCATE(name) \
    int name(int fd, off_t len) \
    { \
        REAL(#name, int (*)(int, off_t)); \
        int r = real(fd, len); \
        if (out >= 0 && r == 0) \
            note('t', inode_of(fd), (uint64_t)len, NULL, 0); \
        return r; \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)
#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(#name, int (*)(int)); \
        int r = real(fd); \
        if (out >= 0 && r == 0) \
            note('s', inode_of(fd), 0, NULL, 0); \
        return r; \
    }
SYNC(fsync)
SYNC(fdatasync)
int unlink(const char *path)
{
    REAL("unlink", int (*)(const char *));
    int r = real(path);
    if (out >= 0 && r == 0)
        note('u', 0, 0, path, strlen(path));
    return r;
}
"""


def build(folder):
    """The library; None: there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return None
    (folder / "powercut.c").write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "powercut.so", folder / "powercut.c", "-ldl"], check=True)
    return folder / "powercut.so"


class File:
    def __init__(self, content=b""):
        self.durable = bytearray(content)
        self.pending = []  # (offset, data), or (length, None): truncated

    def change(self, change):
        self.pending.append(change)

    def sync(self):
        for c in self.pending:
            apply(self.durable, c)
        self.pending = []

    def after(self, chance):
        """One of the contents that it may have."""
        content = bytearray(self.durable)
        n = len(self.pending)
        how = chance.random()
        keep = [i < n * chance.random() for i in range(n)] if how < 0.4 else [chance.random() < 0.5 for _ in range(n)] if how < 0.8 else [how < 0.9] * n
        for (at, data), kept in zip(self.pending, keep):
            if data and chance.random() < 0.1:  # torn: a part of it
                cut = chance.randrange(len(data) + 1)
                apply(content, (at, data[:cut]) if chance.random() < 0.5 else (at + cut, data[cut:]))
            elif kept:
                apply(content, (at, data))
        return bytes(content)


def apply(content, change):
    at, data = change
    if data is None:
        if at < len(content):
            del content[at:]
        else:
            content.extend(bytes(at - len(content)))
        return
    if at > len(content):
        content.extend(bytes(at - len(content)))
    content[at:at + len(data)] = data


class Disk:
    """The files of a folder, as they were when the recorder began, and its log."""

    def __init__(self, folder, log):
        self.folder, self.log = folder, log
        self.inode = folder.stat().st_ino
        self.names = {str(p): File(p.read_bytes()) for p in folder.iterdir()}
        self.inodes = {p.stat().st_ino: self.names[str(p)] for p in folder.iterdir()}

    def operations(self):
        raw, at = self.log.read_bytes(), 0
        while at < len(raw):
            op, inode, where, length = struct.unpack_from("<c7xQQQ", raw, at)
            yield op, inode, where, raw[at + 32:at + 32 + length]
            at += 32 + length

    def play(self):
        """After each operation that matters: yields its number, with the disk as it is then."""
        self.bindings = {name: [file] for name, file in self.names.items()}  # what a name stood for since the folder was forced to the disk
        for number, (op, inode, where, data) in enumerate(self.operations()):
            if op == b"c":
                name = data.decode()
                if name.startswith(str(self.folder)):
                    self.inodes[inode] = File()
                    self.bindings.setdefault(name, [None]).append(self.inodes[inode])
            elif op == b"u":
                if data.decode() in self.bindings:
                    self.bindings[data.decode()].append(None)
            elif op == b"s" and inode == self.inode:
                self.bindings = {name: known[-1:] for name, known in self.bindings.items()}
            elif inode in self.inodes:
                file = self.inodes[inode]
                if op == b"s":
                    file.sync()
                elif op == b"w":
                    file.change((where, data))
                else:
                    file.change((where, None))
            else:
                continue
            yield number

    def cut(self, to, chance):
        """The power goes: writes the files as the disk may have them to another folder."""
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for name, known in self.bindings.items():
            file = chance.choice(known)
            if file:
                (to / name.rpartition("/")[2]).write_bytes(file.after(chance))
