"""libc's own calls: names of users, hosts and services, locales and time zones, stdio, folders, a terminal's line."""
import ctypes
import curses
import errno
import grp
import locale
import os
import pty
import pwd
import readline
import socket
import sys
import termios
import time
import tty
import zoneinfo

libc = ctypes.CDLL(None, use_errno=True)


def says(call, *args):
    try:
        return call(*args)
    except (OSError, KeyError, locale.Error) as e:
        return type(e).__name__


def names():
    print(pwd.getpwuid(0).pw_name, pwd.getpwnam("root").pw_uid, says(pwd.getpwnam, "nobody at all"), len(pwd.getpwall()) > 1)
    print(grp.getgrgid(0).gr_name, says(grp.getgrnam, "no group"), os.getgrouplist("root", 0)[:1], os.path.expanduser("~root"))
    print(socket.getaddrinfo("localhost", "http", socket.AF_INET, socket.SOCK_STREAM)[0][4], socket.gethostbyname("127.0.0.1"))
    print(says(socket.getaddrinfo, "no.such.name.invalid", 80), says(socket.gethostbyaddr, "127.0.0.1") != "", socket.getservbyname("https"))
    print(socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST), len(socket.if_nameindex()) > 0, bool(socket.gethostname()), says(socket.if_nametoindex, "none0"))


def places():
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    print(time.localtime(0)[:6], time.tzname, zoneinfo.ZoneInfo("America/New_York").utcoffset(__import__("datetime").datetime(2020, 7, 1)) if zoneinfo.TZPATH and
          "America/New_York" in zoneinfo.available_timezones() else None)
    print(says(locale.setlocale, locale.LC_ALL, "C.UTF-8"), says(locale.setlocale, locale.LC_ALL, "xx_XX"), locale.localeconv()["decimal_point"])


def stdio():
    libc.fopen.restype = libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.getline.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    f = libc.fopen(b"text", b"w+")
    libc.fprintf(ctypes.c_void_p(f), b"line %d\nline %d\n", 1, 2)
    libc.rewind(ctypes.c_void_p(f))
    line, n = ctypes.c_char_p(), ctypes.c_size_t()
    print([(libc.getline(ctypes.byref(line), ctypes.byref(n), f), line.value) for _ in range(3)], libc.fclose(ctypes.c_void_p(f)))
    folder, found = libc.opendir(b"."), []
    while entry := libc.readdir(ctypes.c_void_p(folder)):
        found.append(ctypes.string_at(entry + 19))
    print(sorted(found), libc.closedir(ctypes.c_void_p(folder)), libc.fopen(b"missing", b"r"), errno.errorcode[ctypes.get_errno()])


def terminal():
    """Lines of a terminal whose other end is here, too: cooked, raw, and by readline."""
    master, slave = pty.openpty()
    print(os.isatty(slave), os.ttyname(slave).startswith("/dev/"), os.get_terminal_size(slave))
    termios.tcsetwinsize(slave, (40, 100))
    os.write(master, b"typed\x7fd\n")
    print(os.read(slave, 100), termios.tcgetwinsize(slave), os.read(master, 100))
    tty.setraw(slave)
    os.write(master, b"raw\x04")
    print(os.read(slave, 100), termios.tcgetattr(slave)[3] & termios.ICANON)
    termios.tcflush(slave, termios.TCIOFLUSH), termios.tcdrain(slave), termios.tcsendbreak(slave, 0)
    keep = os.dup(0), os.dup(1)
    os.environ["TERM"] = "xterm"
    os.write(master, b"a lime\x1b[D\x1b[D\x08n\n")
    try:
        os.dup2(slave, 0), os.dup2(slave, 1)
        sys.stdout.flush()
        text = input("? ")
        curses.setupterm("xterm", 1)
        screen = curses.initscr()
        screen.addstr(1, 1, "drawn")
        screen.refresh()
        size = screen.getmaxyx()
        curses.endwin()
    finally:
        os.dup2(keep[0], 0), os.dup2(keep[1], 1)
    shown = b""
    while b"drawn" not in shown:
        shown += os.read(master, 10000)
    print(repr(text), readline.get_current_history_length() >= 0, size)


for part in (names, places, stdio, terminal):
    print(part.__name__)
    part()
    sys.stdout.flush()
