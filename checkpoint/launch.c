/*
 * launch.c: the fork and exec, and the memory that the new process joins. Errors between fork and exec come
 * back through a pipe that closes on exec.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/launch.h"

extern char **environ;

int tf_launch_first_fd(void)
{
    struct rlimit limit;
    long top = 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        /* Best behind all that the program can have, or at the end of it. Not very far, for the kernel copies
         * the table at each fork. */
        if (limit.rlim_cur <= 65536 && limit.rlim_max >= limit.rlim_cur + 24)
            return (int)limit.rlim_cur;
        if (limit.rlim_cur <= 65536)
            top = (long)limit.rlim_cur;
    }
    return (int)top - 24; /* room for these, and for where they are parked before (tf_launch) */
}

uint64_t tf_launch_stack(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0)
        return 0;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= TF_STACK)
        return limit.rlim_cur;
    if (limit.rlim_max >= TF_STACK_EXEC)
        return TF_STACK_EXEC;
    return limit.rlim_max < TF_STACK ? limit.rlim_max : TF_STACK;
}

/* What failed in the child, before the exec. */
struct failure {
    int error;
    char what[160];
};

static void child(const struct tf_launch *launch, int report)
{
    struct failure failure = {0};
    struct rlimit limit;
    sigset_t none;

#define TRY(what_, call)                                                                                     \
    do {                                                                                                     \
        if ((call) < 0) {                                                                                    \
            failure.error = errno;                                                                           \
            snprintf(failure.what, sizeof failure.what, "%s", what_);                                        \
            goto out;                                                                                        \
        }                                                                                                    \
    } while (0)

    TRY("cannot switch off address space randomisation (a container needs --security-opt seccomp=unconfined "
        "for it)",
        personality(ADDR_NO_RANDOMIZE));
    if (launch->stack_limit) {
        TRY("getrlimit", getrlimit(RLIMIT_STACK, &limit));
        limit.rlim_cur = launch->stack_limit;
        TRY("the stack limit of the recording cannot be set", setrlimit(RLIMIT_STACK, &limit));
    }
    /* The numbers may be behind what the program's own limit allows. In replay that limit is only told. */
    struct rlimit files, raised;
    TRY("getrlimit", getrlimit(RLIMIT_NOFILE, &files));
    raised = files;
    raised.rlim_cur = files.rlim_max;
    TRY("setrlimit", setrlimit(RLIMIT_NOFILE, &raised));
    /* First out of the way of the numbers that they shall get. */
    int parked[TF_FDS];
    for (int i = 0; i < TF_FDS; i++) {
        parked[i] = -1;
        if (launch->fds[i] >= 0)
            TRY("dup", parked[i] = fcntl(launch->fds[i], F_DUPFD_CLOEXEC, launch->first_fd + TF_FDS));
    }
    for (int i = 0; i < TF_FDS; i++)
        if (parked[i] >= 0)
            TRY("too many open files (ulimit -n)", dup2(parked[i], launch->first_fd + i));
    if (!launch->silent)
        TRY("setrlimit", setrlimit(RLIMIT_NOFILE, &files));
    if (launch->silent || launch->muted) {
        int null = open("/dev/null", O_RDWR);
        TRY("/dev/null", null);
        for (int fd = 0; fd < 3; fd++)
            TRY("dup", dup2(null, fd));
        if (null > 2)
            close(null);
    }
    if (launch->silent)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (launch->cwd && chdir(launch->cwd) < 0) {
        /* The folder may be gone: in replay nothing but the loading of libraries depends on it. */
        TRY("/", chdir("/"));
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvpe(launch->file, launch->argv, launch->envp);
    failure.error = errno;
    snprintf(failure.what, sizeof failure.what, "exec");
out:
    if (write(report, &failure, sizeof failure) < 0)
        _exit(126);
    _exit(127);
}

int tf_launch(const struct tf_launch *launch, pid_t *pid, struct tf_err *err)
{
    int report[2];
    struct failure failure;
    if (pipe2(report, O_CLOEXEC) < 0)
        return tf_err_set(err, TF_E_IO, "cannot make a pipe: %s", strerror(errno));
    /* Out of the way of the program's descriptors. */
    int high = fcntl(report[1], F_DUPFD_CLOEXEC, launch->first_fd + TF_FDS);
    if (high >= 0) {
        close(report[1]);
        report[1] = high;
    }
    *pid = fork();
    if (*pid == 0) {
        close(report[0]);
        child(launch, report[1]);
    }
    int fork_error = errno;
    close(report[1]);
    if (*pid < 0) {
        close(report[0]);
        return tf_err_set(err, TF_E_IO, "cannot start a process: %s", strerror(fork_error));
    }
    ssize_t n;
    do
        n = read(report[0], &failure, sizeof failure);
    while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == sizeof failure) {
        waitpid(*pid, NULL, 0);
        if (strcmp(failure.what, "exec") == 0)
            return tf_err_set(err, TF_E_IO, "cannot run %s: %s", launch->file, strerror(failure.error));
        return tf_err_set(err, TF_E_IO, "%s: %s", failure.what, strerror(failure.error));
    }
    return 0;
}

int tf_shm_create(struct tf_shm_map *map, enum tf_shm_mode mode, uint32_t ring_words, struct tf_err *err)
{
    size_t bytes = ring_words * 4ul;
    *map = (struct tf_shm_map){.fd = -1, .ring_words = ring_words};
    map->fd = memfd_create("timefork", MFD_CLOEXEC);
    if (map->fd < 0 || ftruncate(map->fd, (off_t)(TF_SHM_HEADER + bytes)) < 0)
        goto fail;
    map->shm = mmap(NULL, TF_SHM_HEADER, PROT_READ | PROT_WRITE, MAP_SHARED, map->fd, 0);
    if (map->shm == MAP_FAILED) {
        map->shm = NULL;
        goto fail;
    }
    if (ring_words) {
        uint8_t *at = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            goto fail;
        map->ring = (uint32_t *)at;
        for (int i = 0; i < 2; i++)
            if (mmap(at + (size_t)i * bytes, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, map->fd,
                     TF_SHM_HEADER) == MAP_FAILED)
                goto fail;
    }
    map->shm->magic = TF_SHM_MAGIC;
    map->shm->version = TF_SHM_VERSION;
    map->shm->mode = mode;
    map->shm->ring_words = ring_words;
    map->shm->supervisor_pid = getpid();
    return 0;
fail:;
    int code = tf_err_set(err, TF_E_IO, "cannot make shared memory of %zu bytes: %s", TF_SHM_HEADER + bytes,
                          strerror(errno));
    tf_shm_destroy(map);
    return code;
}

void tf_shm_destroy(struct tf_shm_map *map)
{
    if (map->ring)
        munmap(map->ring, 2ul * map->ring_words * 4);
    if (map->shm)
        munmap(map->shm, TF_SHM_HEADER);
    if (map->fd >= 0)
        close(map->fd);
    *map = (struct tf_shm_map){.fd = -1};
}

char **tf_env_make(char *const *base, const char *session, const char *preload, struct tf_err *err)
{
    size_t n = 0, k = 0;
    const char *others = NULL;
    while (base[n])
        n++;
    char **env = calloc(n + 3, sizeof *env);
    if (!env)
        goto fail;
    for (size_t i = 0; i < n; i++)
        if (strncmp(base[i], "LD_PRELOAD=", 11) == 0)
            others = base[i] + 11;
    if (asprintf(&env[k++], "%s=%s", TF_ENV, session) < 0)
        goto fail;
    if (asprintf(&env[k++], "LD_PRELOAD=%s%s%s", preload, others && *others ? ":" : "",
                 others ? others : "") < 0)
        goto fail;
    for (size_t i = 0; i < n; i++)
        if (strncmp(base[i], "LD_PRELOAD=", 11) != 0 && strncmp(base[i], TF_ENV "=", sizeof TF_ENV) != 0)
            env[k++] = base[i];
    return env;
fail:
    free(env);
    tf_err_set(err, TF_E_IO, "out of memory");
    return NULL;
}

void tf_env_free(char **env)
{
    if (!env)
        return;
    free(env[0]);
    free(env[1]);
    free(env);
}

int tf_libdir(char *out, size_t size, struct tf_err *err)
{
    char exe[PATH_MAX];
    static const char *const places[] = {"", "/../lib/timefork", "/../lib/x86_64-linux-gnu/timefork"};
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0)
        return tf_err_set(err, TF_E_IO, "cannot find my own file: %s", strerror(errno));
    exe[n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char file[PATH_MAX + 64];
        snprintf(file, sizeof file, "%s%s/libtimefork-preload.so", exe, places[i]);
        if (access(file, R_OK) == 0) {
            char joined[PATH_MAX + 64], real[PATH_MAX];
            snprintf(joined, sizeof joined, "%s%s", exe, places[i]);
            if (!realpath(joined, real))
                continue;
            snprintf(out, size, "%s", real);
            return 0;
        }
    }
    return tf_err_set(
        err, TF_E_IO,
        "libtimefork-preload.so is neither in %s nor in %s/../lib/timefork: build or install timefork again",
        exe, exe);
}
