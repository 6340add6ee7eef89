/*
 * criu.c: which criu there is, how it is started, and what its failures mean.
 *
 * Debian 12's criu (3.17) fails on newer kernels, and Ubuntu 24.04 has none. So ./setup unpacks a newer one
 * with the libraries that it needs into a folder of our own, where it is started by its own loader: nothing
 * of the system changes.
 *
 * An ordinary user may neither look into /proc/PID/map_files nor choose a pid. In a user namespace of his own
 * he has the capabilities for both, so criu (--unprivileged) is made a member of the process's namespace. His
 * own id is 0 there, as criu wants one, and an ordinary user can have no more than one: so the process sees
 * uid 0 as soon as it is settled. To everybody else it stays his.
 */
#include "checkpoint/criu_local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/launch.h"

#define NEEDED_MAJOR 4
#define NEEDED_MINOR 1
#define GET_ONE "run ./setup in timefork's folder, which brings one, or install criu 4.1 or later"

/* ---- starting it ---- */

void tf_criu_arg(struct tf_criu_args *args, const char *arg)
{
    if (args->n < TF_CRIU_ARGS - 1)
        args->v[args->n++] = arg;
    args->v[args->n] = NULL;
}

void tf_criu_args(struct tf_criu_args *args, const struct tf_criu *criu, const char *command,
                  const char *folder, const char *log)
{
    args->n = 0;
    for (char **arg = criu->argv; *arg; arg++)
        tf_criu_arg(args, *arg);
    tf_criu_arg(args, command);
    if (!folder)
        return;
    const char *const common[] = {"--no-default-config", "--images-dir", folder, "--work-dir", folder,
                                  "--log-file", log, "-v1",
                                  /* The process is alone in what it is part of; groups belong to the user. */
                                  "--manage-cgroups=ignore", "--network-lock=skip"};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        tf_criu_arg(args, common[i]);
    if (!criu->privileged)
        tf_criu_arg(args, "--unprivileged");
}

int tf_criu_child_files(const int *keep, int n)
{
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    int high[4];
    for (int i = 1; i < NSIG; i++)
        sigaction(i, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int i = 0; i < n; i++)
        if ((high[i] = fcntl(keep[i], F_DUPFD, 16)) < 0)
            return -errno;
    for (int i = 0; i < n; i++)
        if (dup2(high[i], 3 + i) < 0)
            return -errno;
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return -errno;
    return syscall(SYS_close_range, 3 + n, ~0u, 0) < 0 ? -errno : 0;
}

void tf_criu_exec(const struct tf_criu_args *args)
{
    /* Not what the user set for other programs (LD_PRELOAD); but the folder in which an unprivileged criu
     * keeps what it has found out about the kernel: half of what a start costs. (Root's is /run.) */
    char runtime[PATH_MAX];
    const char *folder = getenv("XDG_RUNTIME_DIR");
    char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL, NULL};
    if (folder && snprintf(runtime, sizeof runtime, "XDG_RUNTIME_DIR=%s", folder) < (int)sizeof runtime)
        env[1] = runtime;
    execve(args->v[0], (char *const *)args->v, env);
}

static int write_file(const char *folder, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, strlen(text));
    int rc = n < 0 ? -errno : 0;
    close(fd);
    return rc;
}

int tf_criu_map_ids(const char *proc, uid_t uid, gid_t gid)
{
    char text[64];
    int rc = write_file(proc, "setgroups", "deny");
    snprintf(text, sizeof text, "0 %u 1", uid);
    if (!rc)
        rc = write_file(proc, "uid_map", text);
    snprintf(text, sizeof text, "0 %u 1", gid);
    if (!rc)
        rc = write_file(proc, "gid_map", text);
    return rc;
}

/* ---- finding it ---- */

/* Root that is only one in a container or a user namespace is not one for criu. */
static bool is_privileged(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    unsigned long inside = 1, outside = 1, n = 0;
    FILE *map = fopen("/proc/self/uid_map", "re");
    if (map) {
        if (fscanf(map, "%lu %lu %lu", &inside, &outside, &n) != 3)
            n = 0;
        fclose(map);
    }
    if (inside != 0 || outside != 0 || n != UINT32_MAX || syscall(SYS_capget, &head, data) < 0)
        return false;
    return data[0].effective & 1u << CAP_SYS_ADMIN && data[0].effective & 1u << CAP_SYS_PTRACE;
}

/* What `criu --version` says behind "Version:". malloc'ed; NULL: nothing that is one. */
static char *ask_version(char *const *argv)
{
    struct tf_criu_args args = {0};
    char text[1024];
    size_t len = 0;
    int fds[2], status;
    for (; *argv; argv++)
        tf_criu_arg(&args, *argv);
    tf_criu_arg(&args, "--version");
    if (pipe2(fds, O_CLOEXEC) < 0)
        return NULL;
    pid_t pid = fork();
    if (pid == 0) {
        if (tf_criu_child_files(&fds[1], 1) == 0 && dup2(3, 1) == 1)
            tf_criu_exec(&args);
        _exit(127);
    }
    close(fds[1]);
    for (ssize_t n; pid > 0 && len < sizeof text - 1; len += (size_t)n)
        if ((n = read(fds[0], text + len, sizeof text - 1 - len)) <= 0)
            break;
    close(fds[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return NULL;
    text[len] = 0;
    char *at = strstr(text, "Version:");
    if (!at)
        return NULL;
    at += strlen("Version:") + strspn(at + strlen("Version:"), " ");
    at[strcspn(at, " \n")] = 0;
    return *at ? strdup(at) : NULL;
}

/* Fills in argv for a program, or for a folder as ./setup makes it. False: no such thing, or no memory. */
static bool argv_of(const char *path, struct tf_criu *out)
{
    char loader[PATH_MAX], lib[PATH_MAX], program[PATH_MAX];
    struct stat st;
    out->argv = calloc(5, sizeof *out->argv);
    if (!out->argv || stat(path, &st) < 0)
        return false;
    if (!S_ISDIR(st.st_mode)) {
        out->argv[0] = strdup(path);
        out->path = strdup(path);
        return S_ISREG(st.st_mode) && access(path, X_OK) == 0 && out->argv[0] && out->path;
    }
    if (snprintf(lib, sizeof lib, "%s/usr/lib/x86_64-linux-gnu", path) >= (int)sizeof lib ||
        snprintf(loader, sizeof loader, "%s/ld-linux-x86-64.so.2", lib) >= (int)sizeof loader ||
        snprintf(program, sizeof program, "%s/usr/sbin/criu", path) >= (int)sizeof program)
        return false;
    if (access(loader, X_OK) < 0 || access(program, X_OK) < 0)
        return false;
    out->argv[0] = strdup(loader);
    out->argv[1] = strdup("--library-path");
    out->argv[2] = strdup(lib);
    out->argv[3] = strdup(program);
    out->path = strdup(program);
    return out->argv[0] && out->argv[1] && out->argv[2] && out->argv[3] && out->path;
}

void tf_criu_clear(struct tf_criu *criu)
{
    for (char **arg = criu->argv; arg && *arg; arg++)
        free(*arg);
    free(criu->argv);
    free(criu->path);
    free(criu->version);
    *criu = (struct tf_criu){0};
}

/* 0: a usable one; 1: nothing there; negative: *err says what is wrong with what is there. */
static int try_one(const char *path, struct tf_criu *out, struct tf_err *err)
{
    int major = 0, minor = 0, rc = 1;
    if (!argv_of(path, out))
        goto out;
    out->version = ask_version(out->argv);
    if (!out->version) {
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s does not start ('%s --version' gives no version): " GET_ONE,
                        path, path);
        goto out;
    }
    if (sscanf(out->version, "%d.%d", &major, &minor) < 1 || major < NEEDED_MAJOR ||
        (major == NEEDED_MAJOR && minor < NEEDED_MINOR)) {
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s is version %s, which fails on newer kernels: " GET_ONE, path,
                        out->version);
        goto out;
    }
    out->privileged = is_privileged();
    rc = 0;
out:
    if (rc)
        tf_criu_clear(out);
    return rc;
}

static int in_path(struct tf_criu *out, struct tf_err *err)
{
    static const char sbin[] = "/usr/local/sbin:/usr/sbin:/sbin";
    const char *path = getenv("PATH");
    char *all = NULL, *rest = NULL, file[PATH_MAX];
    int rc = 1;
    if (asprintf(&all, "%s:%s", path ? path : "/usr/bin:/bin", sbin) < 0)
        return tf_err_set(err, TF_E_IO, "out of memory");
    /* One that is too old does not hide a better one behind it. */
    for (char *folder = strtok_r(all, ":", &rest); folder && rc; folder = strtok_r(NULL, ":", &rest)) {
        struct tf_err another = {0};
        if (*folder != '/' || snprintf(file, sizeof file, "%s/criu", folder) >= (int)sizeof file)
            continue;
        int r = try_one(file, out, &another);
        if (r < 0 && rc == 1 && err)
            *err = another;
        rc = r == 1 ? rc : r;
    }
    free(all);
    return rc;
}

int tf_criu_find(struct tf_criu *out, struct tf_err *err)
{
    const char *given = getenv(TF_CRIU_ENV);
    char libdir[PATH_MAX], ours[PATH_MAX + 16];
    *out = (struct tf_criu){0};
    if (given && !*given)
        return tf_err_set(err, TF_E_NOTFOUND, "criu is not used: " TF_CRIU_ENV " is empty");
    if (given) {
        int rc = try_one(given, out, err);
        return rc == 1 ? tf_err_set(err, TF_E_NOTFOUND,
                                    TF_CRIU_ENV " is %s, which is neither the program criu nor a folder as "
                                                "./setup makes it",
                                    given)
                       : rc;
    }
    if (tf_libdir(libdir, sizeof libdir, NULL) == 0) {
        snprintf(ours, sizeof ours, "%s/criu", libdir);
        int rc = try_one(ours, out, err);
        if (rc != 1)
            return rc;
    }
    int rc = in_path(out, err);
    return rc == 1 ? tf_err_set(err, TF_E_NOTFOUND, "there is no criu: " GET_ONE) : rc;
}

/* ---- failures ---- */

static const struct {
    const char *says, *means;
} meanings[] = {
    {"build-id", "a file that the process used has changed since"},
    {"has bad size", "a file that the process used has changed since"},
    {"kernel features detection", "parts of /proc are hidden, by a container for example"},
    {"has bad mode", "a file that the process used has changed since"},
    {"Can't open file", "a file that the process used is gone or cannot be read any more"},
    {"No space left", "the folder for images is full: TMPDIR names another one"},
    {"Cannot allocate memory", "there is not enough memory"},
    {"CAP_CHECKPOINT_RESTORE",
     "the capability is missing, also in a user namespace: a container must allow it"},
    {"vDSO", "this criu is too old for the kernel"},
    {"ptrace", "another process traces it already, or the system does not allow to trace it"},
    {"seize", "another process traces it already, or the system does not allow to trace it"},
    {"seccomp", "a system call filter is in the way, of a container for example"},
};

static const char *meaning(const char *said)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strstr(said, meanings[i].says))
            return meanings[i].means;
    return NULL;
}

/* Lines that are there in each failure, or in none. */
static bool says_nothing(const char *said)
{
    static const char *const empty[] = {"FAILED", "rlimit: Can't setup", "killed by signal"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        if (strstr(said, empty[i]))
            return true;
    return false;
}

/* The first error whose meaning is known, for the others follow from it; else the last one. */
static const char *find_error(const char *folder, const char *log, char *out, size_t size)
{
    char path[PATH_MAX], line[1024];
    const char *means = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, log);
    *out = 0;
    FILE *f = fopen(path, "re");
    while (f && !means && fgets(line, sizeof line, f)) {
        char *at = strstr(line, "Error (");
        if (!at || says_nothing(at))
            continue;
        char *colon = strstr(at, "): ");
        at = colon ? colon + 3 : at;
        at[strcspn(at, "\n")] = 0;
        snprintf(out, size, "%s", at);
        means = meaning(out);
    }
    if (f)
        fclose(f);
    return means;
}

const char *tf_criu_forbidden(void)
{
    /* Ubuntu lets everybody make a user namespace, but gives no rights in it. */
    int restricted = 0;
    FILE *f = fopen("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "re");
    if (f && fscanf(f, "%d", &restricted) != 1)
        restricted = 0;
    if (f)
        fclose(f);
    return restricted && geteuid() != 0
               ? "AppArmor gives an ordinary user no rights in his user namespace (sysctl "
                 "kernel.apparmor_restrict_unprivileged_userns is 1)"
               : "the system or the container does not allow it";
}

int tf_criu_failed(const char *folder, const char *log, int status, const char *doing, struct tf_err *err)
{
    char said[512], how[64];
    const char *means = find_error(folder, log, said, sizeof said);
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof how, "status %d", WEXITSTATUS(status));
    /* Harmless lines have this, too. */
    if (!means && (strstr(said, "not permitted") || strstr(said, "Permission denied")))
        means = tf_criu_forbidden();
    if (!*said)
        return tf_err_set(err, TF_E_IO, "%s: criu ended with %s and said nothing", doing, how);
    return tf_err_set(err, TF_E_IO, "%s: criu said \"%s\"%s%s", doing, said, means ? ": " : "",
                      means ? means : "");
}

int tf_criu_no_user_ns(int error, struct tf_err *err)
{
    return tf_err_set(
        err, TF_E_IO,
        "durable checkpoints need a user namespace when the user is not root, and here there is none: "
        "%s. See the settings kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces (sysctl); in a "
        "container, its seccomp profile",
        strerror(error));
}

pid_t tf_criu_sender(int socket)
{
    char byte;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * 4)];
    } control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(socket, &msg, MSG_PEEK | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    pid_t pid = 0;
    for (struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL; c; c = CMSG_NXTHDR(&msg, c)) {
        struct ucred who;
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&who, CMSG_DATA(c), sizeof who);
            pid = who.pid;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            /* A look makes descriptors, too; the message keeps its own. */
            for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                close(fd);
            }
        }
    }
    return pid;
}
