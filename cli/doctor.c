/*
 * doctor.c: `timefork doctor`: what works here. Nothing is concluded from versions alone: each thing is
 * tried, and each Python is recorded and replayed.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/criu.h"
#include "checkpoint/filter.h"
#include "checkpoint/launch.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/probe.h"
#include "cli/record.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

static int problems;

static void line(bool ok, const char *what, const char *detail, const char *todo)
{
    printf("%-4s %-22s %s\n", ok ? "ok" : "NO", what, detail);
    if (!ok) {
        printf("     -> %s\n", todo);
        problems++;
    }
}

/* Runs fn in a child: 0, or its errno. */
static int in_child(int (*fn)(void))
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn());
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int try_personality(void)
{
    return personality(ADDR_NO_RANDOMIZE) < 0 ? errno : 0;
}

static int try_dispatch(void)
{
    static volatile char selector;
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector) < 0 ? errno : 0;
}

static int try_filter(void)
{
    return tf_filter_try();
}

extern char **environ;

/* Records a small program with an interpreter and verifies the recording. */
static void try_python(const char *exe, const char *libdir, char *const *env)
{
    struct tf_probed probed;
    struct tf_err err = {0};
    char folder[] = "/tmp/timefork-doctor-XXXXXX", what[256], detail[1400], path[PATH_MAX];

    if (tf_probe(exe, env, libdir, &probed, &err)) {
        line(false, exe, "cannot be recorded", err.msg);
        return;
    }
    if (!mkdtemp(folder)) {
        line(false, exe, "not tried", "/tmp cannot be written to");
        return;
    }
    snprintf(path, sizeof path, "%s/probe.timefork", folder);
    snprintf(what, sizeof what, "Python %s", probed.version);
    char *record[] = {"debug",
                      "--quiet",
                      "-o",
                      path,
                      "--python",
                      (char *)exe,
                      "--goto-frame",
                      "end",
                      "--format",
                      "json",
                      "-c",
                      "import time, random\ndef f(n): return n if n < 2 else f(n-1) + f(n-2)\n"
                      "x = [time.time(), random.random(), f(15)]",
                      NULL};
    char *verify[] = {"verify", path, "--format", "json", NULL};
    int status = 0, step = 0;
    for (; step < 2 && status == 0; step++) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            if (!freopen("/dev/null", "w", stdout))
                _exit(99);
            int r = step == 0 ? tf_cmd_debug(12, record) : tf_cmd_verify(4, verify);
            fflush(stdout);
            _exit(r);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            status = -1;
        else
            status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    unlink(path);
    rmdir(folder);
    snprintf(detail, sizeof detail, "%s: %s", probed.exe,
             status ? "recording and replaying a small program failed" : "recorded, replayed, verified");
    char todo[128];
    snprintf(todo, sizeof todo, "%s ended with status %d: see the message above",
             step == 1 ? "timefork debug" : "timefork verify", status);
    line(status == 0, what, detail, todo);
}

#define PYTHONS_MAX 64

/* Tries an interpreter, unless it has been tried under another name. */
static void try_once(const char *name, bool must_be_there, const char *libdir, char (*tried)[PATH_MAX],
                     size_t *n)
{
    struct tf_probed probed;
    struct tf_err err = {0};
    char real[PATH_MAX] = "";
    /* Those that are not there are not a problem; python3 has to be. */
    bool works = tf_probe(name, environ, libdir, &probed, &err) == 0;
    if (!works && !must_be_there)
        return;
    if (works && !realpath(probed.exe, real))
        snprintf(real, sizeof real, "%s", probed.exe);
    for (size_t i = 0; works && i < *n; i++)
        if (strcmp(tried[i], real) == 0)
            return;
    if (works && *n < PYTHONS_MAX)
        memcpy(tried[(*n)++], real, sizeof real);
    try_python(name, libdir, environ);
}

/* The Pythons on the PATH, and those that this build was made for. */
static void try_all(const char *libdir)
{
    static const char *const names[] = {"python3",    "python3.11",       "python3.12",
                                        "python3.13", "/usr/bin/python3", "/usr/local/bin/python3"};
    static char tried[PYTHONS_MAX][PATH_MAX];
    char path[PATH_MAX + 16], text[PATH_MAX + 16];
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        try_once(names[i], i == 0, libdir, tried, &n);
    snprintf(path, sizeof path, "%s/pythons.txt", libdir);
    FILE *f = fopen(path, "re");
    while (f && fgets(text, sizeof text, f)) {
        text[strcspn(text, "\n")] = 0;
        char *exe = strchr(text, ';');
        if (exe)
            try_once(exe + 1, false, libdir, tried, &n);
    }
    if (f)
        fclose(f);
}

/* One way or the other it is not a problem: durable checkpoints are for those who want them. */
static void try_criu(void)
{
    struct tf_criu criu;
    struct tf_err err = {0};
    char detail[PATH_MAX + 256];
    if (tf_criu_find(&criu, &err)) {
        printf("%-4s %-22s %s\n", "--", "durable checkpoints", err.msg);
        return;
    }
    const char *who = criu.privileged ? "with privileges" : "in a user namespace";
    if (tf_criu_probe(&criu, &err) == 0) {
        snprintf(detail, sizeof detail, "%s %s dumps and restores a process, %s", criu.path, criu.version,
                 who);
        line(true, "durable checkpoints", detail, "");
    } else {
        printf("%-4s %-22s %s %s does not work here, %s\n", "--", "durable checkpoints", criu.path,
               criu.version, who);
        printf("     -> %s\n", err.msg);
    }
    tf_criu_clear(&criu);
}

static const char usage_text[] =
    "usage: timefork doctor [--python EXE]...\n"
    "\n"
    "Tries what timefork needs on this machine, and records and replays a small program with each Python: "
    "those\n"
    "on the PATH (python3, python3.11 to python3.13), in /usr/bin, and those that timefork was built with; "
    "or those\n"
    "that are named. Dumps and restores a process with CRIU, if there is one; what is marked -- is not a "
    "problem:\n"
    "timefork works without.\n"
    "\n"
    "Exit status: 0 if all is well, 1 if something does not work, 2 for a mistake in the command line.\n";

int tf_cmd_doctor(int argc, char **argv)
{
    struct utsname host;
    struct tf_err err = {0};
    struct rlimit stack;
    char libdir[PATH_MAX] = "", detail[PATH_MAX + 512];
    const char *given[64];
    size_t n = 0;
    int e;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage_text, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--python") == 0 && i + 1 < argc && n < 64) {
            given[n++] = argv[++i];
            continue;
        }
        fprintf(stderr, "timefork: doctor does not know what to do with '%s' ('timefork doctor --help')\n",
                argv[i]);
        return TF_EXIT_USAGE;
    }
    problems = 0;
    uname(&host);
    snprintf(detail, sizeof detail, "Linux %s on %s", host.release, host.machine);
    line(strcmp(host.machine, "x86_64") == 0, "machine", detail, "timefork runs on x86-64 only");
    e = in_child(try_dispatch);
    line(e == 0, "system call trapping", e ? strerror(e) : "the kernel has syscall user dispatch",
         "Linux 5.11 or later is needed, and a container must not filter prctl (gVisor does not have it)");
    e = in_child(try_filter);
    line(e == 0, "system call filter", e ? strerror(e) : "replays are held by seccomp, too",
         "a replay works without, but nothing guards it behind the trapping: a kernel with "
         "CONFIG_SECCOMP_FILTER "
         "is needed, and a container must not filter seccomp");
    e = in_child(try_personality);
    line(
        e == 0, "fixed addresses", e ? strerror(e) : "address space randomisation can be switched off",
        "a container needs --security-opt seccomp=unconfined (or a profile that allows personality 0x40000)");
    getrlimit(RLIMIT_STACK, &stack);
    if (stack.rlim_max == RLIM_INFINITY)
        snprintf(detail, sizeof detail, "the recorded program gets 1 GiB");
    else
        snprintf(detail, sizeof detail, "hard limit %llu MiB", (unsigned long long)(stack.rlim_max >> 20));
    line(stack.rlim_max == RLIM_INFINITY || stack.rlim_max >= 64ul << 20, "stack", detail,
         "deep recursion may end in a crash under the recorder: raise the hard limit (ulimit -Hs unlimited)");
    getrlimit(RLIMIT_AS, &stack);
    line(stack.rlim_cur == RLIM_INFINITY, "address space",
         stack.rlim_cur == RLIM_INFINITY ? "not limited" : "limited (ulimit -v)",
         "replay maps the log sparsely, 1 TiB of addresses: ulimit -v unlimited");
    if (tf_libdir(libdir, sizeof libdir, &err)) {
        line(false, "libraries", "missing", err.msg);
        return TF_EXIT_ERROR;
    }
    char engines[256];
    tf_probe_engines(libdir, engines, sizeof engines);
    snprintf(detail, sizeof detail, "for Python %s, in %s", engines, libdir);
    line(strcmp(engines, "none") != 0, "engines", detail, "install python3-dev and run ./setup again");
    try_criu();
    if (n == 0)
        try_all(libdir);
    for (size_t i = 0; i < n; i++)
        try_python(given[i], libdir, environ);
    printf(problems ? "%d problem%s\n" : "all is well\n", problems, problems == 1 ? "" : "s");
    return problems ? TF_EXIT_ERROR : 0;
}
