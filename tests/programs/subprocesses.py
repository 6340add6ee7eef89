"""subprocess in all its forms, and the older ways to run a program."""
import os
import pty
import signal
import subprocess
import sys
import tempfile

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C", "GREETING": "hello"}


def shown(value):
    return value


def show(*values):
    print(repr(shown(values)), flush=True)


def run(*args, **more):
    done = subprocess.run(args, capture_output=True, env=ENV, **more)
    return done.returncode, done.stdout, done.stderr


def fails(call, *args, **more):
    try:
        return call(*args, **more)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return type(error).__name__, getattr(error, "errno", None), getattr(error, "filename", None)


def session_of_its_own():
    child = subprocess.Popen(["sh", "-c", "test $(ps -o sid= -p $$) = $$ && echo leads"], start_new_session=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    child.communicate()
    return child.returncode is not None


def by_pty():
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "test -t 0 && test -t 1 && echo a terminal; exit 4"])
    text = b""
    while True:
        try:
            part = os.read(fd, 1000)
        except OSError:
            break
        if not part:
            break
        text += part
    return text, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    show("run", run("echo", "one", "two"))
    show("status", run("sh", "-c", "exit 3"), run("sh", "-c", "kill -9 $$"))
    show("input", run("tr", "a-z", "A-Z", input=b"some text"))
    show("both", run("sh", "-c", "echo out; echo err >&2"))
    show("environment", run("sh", "-c", "echo $GREETING"))
    show("folder", run("pwd", cwd="/usr"), fails(run, "pwd", cwd="/no/such"))
    show("shell", subprocess.run("echo $((6 * 7)) | cat", shell=True, stdout=subprocess.PIPE).stdout)
    show("missing", fails(run, "/no/such/program"), fails(run, "no-such-program"), fails(run, "/etc/passwd"))
    show("check", fails(subprocess.check_call, ["false"]), subprocess.check_output(["printf", "%s", "x"]))
    show("timeout", fails(run, "sleep", "10", timeout=0.05))
    show("preexec", run("sh", "-c", "umask", preexec_fn=lambda: os.umask(0o077)))
    show("large", len(run("head", "-c", "300000", "/dev/zero")[1]))
    show("session", session_of_its_own())
    with tempfile.TemporaryFile() as file:
        subprocess.run(["echo", "to a file"], stdout=file, stderr=subprocess.STDOUT)
        file.seek(0)
        show("file", file.read())
    reader, writer = os.pipe()
    child = subprocess.Popen(["sh", "-c", f"echo passed >&{writer}"], pass_fds=[writer])
    os.close(writer)
    show("passed", os.read(reader, 100), child.wait())
    os.close(reader)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    answers = []
    for word in (b"a\n", b"bc\n"):
        child.stdin.write(word)
        answers.append(child.stdout.readline())
    child.stdin.close()
    show("talk", answers, child.wait(), child.stdout.read())
    child = subprocess.Popen(["sleep", "10"])
    polled = child.poll()
    child.send_signal(signal.SIGTERM)
    show("signal", polled, child.wait(), child.poll())
    show("system", os.system("exit 3"), os.system("true"))
    with os.popen("echo from popen; exit 2") as stream:
        text = stream.read()
    show("popen", text, stream.close())
    show("posix_spawn", os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], ENV), 0)[1],
         fails(os.posix_spawn, "/no/such", ["x"], ENV), os.waitpid(os.posix_spawnp("true", ["true"], ENV), 0)[1])
    show("spawn", os.spawnvp(os.P_WAIT, "sh", ["sh", "-c", "exit 9"]))
    pids = [os.posix_spawnp("sh", ["sh", "-c", f"exit {n}"], ENV) for n in (1, 2, 3)]
    show("waitid", sorted(os.waitid(os.P_PID, pid, os.WEXITED).si_status for pid in pids), fails(os.waitpid, -1, 0))
    show("pty", by_pty())
    if len(sys.argv) > 1:
        sys.stdout.flush()
        os.execv("/bin/sh", ["sh", "-c", "echo the end; exit 6"])


main()
