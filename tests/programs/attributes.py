"""stat, utime, chmod, rename, links, access, umask, statvfs, xattr-free metadata."""
import errno
import os
import stat


def mode(path):
    return stat.filemode(os.lstat(path).st_mode)


def attempt(f, *args):
    try:
        return f(*args)
    except OSError as e:
        return errno.errorcode[e.errno], e.strerror, e.filename


old = os.umask(0o027)
with open("a", "w") as f:
    f.write("text")
os.mkdir("dir", 0o755)
print(mode("a"), mode("dir"), oct(old), os.access("a", os.R_OK), os.access("none", os.F_OK))
os.chmod("a", 0o640)
os.utime("a", ns=(1_000_000_001, 2_000_000_002))
print(mode("a"), os.stat("a").st_mtime_ns, os.stat("a").st_atime_ns, os.stat("a").st_size)
os.symlink("a", "link")
os.link("a", "hard")
print(os.readlink("link"), mode("link"), os.stat("hard").st_nlink, os.path.samefile("a", "link"))
os.rename("a", "b")
os.replace("hard", "dir/moved")
print(sorted(os.listdir(".")), os.path.exists("link"), os.path.lexists("link"))
print(attempt(os.stat, "none"), attempt(os.rmdir, "dir"), attempt(os.mkdir, "dir"), attempt(open, "none/x"), attempt(os.read, 99, 1))
os.unlink("dir/moved")
os.rmdir("dir")
print(os.statvfs(".").f_namemax, os.getcwd() == os.path.realpath("."), os.get_inheritable(1))
os.chdir("/")
print(os.getcwd(), os.stat("/").st_ino)
