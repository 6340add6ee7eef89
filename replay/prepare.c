/* prepare.c: see prepare.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/launch.h"
#include "replay/prepare.h"
#include "store/machine.h"

bool tf_prepare_own_library(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    return strncmp(base, "timefork-engine-", 16) == 0 || strcmp(base, "libtimefork-preload.so") == 0;
}

static const char *when(int64_t mtime_ns, char *buf, size_t size)
{
    time_t t = (time_t)(mtime_ns / 1000000000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(buf, size, "?");
    return buf;
}

bool tf_prepare_file_differs(const struct tf_mapped *file, bool thorough, char *how, size_t how_size)
{
    char build_id[TF_BUILD_ID_TEXT], then[32], now[32];
    uint64_t digest = 0, size = 0;
    int64_t mtime_ns = 0;
    struct stat st;
    *how = 0;
    if (stat(file->path, &st) < 0) {
        snprintf(how, how_size, "it cannot be found (%s)", strerror(errno));
        return true;
    }
    if (!file->size && !file->digest) {
        snprintf(how, how_size, "it could not be read when the program was recorded");
        return true;
    }
    tf_build_id(file->path, build_id);
    bool other_build = *file->build_id && strcmp(file->build_id, build_id) != 0;
    if (!thorough && !other_build && (uint64_t)st.st_size == file->size &&
        st.st_mtim.tv_sec * 1000000000l + st.st_mtim.tv_nsec == file->mtime_ns)
        return false;
    if (tf_file_digest(file->path, &digest, &size, &mtime_ns)) {
        snprintf(how, how_size, "it cannot be read (%s)", strerror(errno));
        return true;
    }
    if (digest == file->digest)
        return false;
    if (other_build)
        snprintf(how, how_size, "build-id %s then, %s now; changed %s then, %s now", file->build_id,
                 *build_id ? build_id : "none", when(file->mtime_ns, then, sizeof then),
                 when(mtime_ns, now, sizeof now));
    else
        snprintf(how, how_size, "%s%s%sXXH3 %016llx then, %016llx now; changed %s then, %s now",
                 *file->build_id ? "the same build-id (" : "", file->build_id, *file->build_id ? "), " : "",
                 (unsigned long long)file->digest, (unsigned long long)digest,
                 when(file->mtime_ns, then, sizeof then), when(mtime_ns, now, sizeof now));
    return true;
}

int tf_prepare_check(struct tf_store *store, const struct tf_run *run, struct tf_err *err)
{
    struct tf_mapped *mapped = NULL;
    size_t n = 0;
    int r = tf_store_mapped(store, run, &mapped, &n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct stat st;
        char how[512];
        /* timefork's own libraries may be newer than the recording: what they do is checked by the replay
         * itself. */
        if (tf_prepare_own_library(mapped[i].path))
            continue;
        if (stat(mapped[i].path, &st) < 0)
            r = tf_err_set(err, TF_E_REPLAY,
                           "%s, which the program used, cannot be found (%s). A replay needs the interpreter "
                           "and libraries of the recording.",
                           mapped[i].path, strerror(errno));
        else if (tf_prepare_file_differs(&mapped[i], false, how, sizeof how))
            r = tf_err_set(err, TF_E_REPLAY,
                           "%s is not the file that the program used when it was recorded (%s). A replay "
                           "needs the interpreter and libraries of the recording.",
                           mapped[i].path, how);
    }
    tf_mapped_free(mapped, n);
    return r;
}

double tf_prepare_ticks_per_ns(void)
{
    static double ratio;
    if (ratio == 0) {
        struct timespec a, b;
        uint64_t from = __builtin_ia32_rdtsc();
        clock_gettime(CLOCK_MONOTONIC, &a);
        do
            clock_gettime(CLOCK_MONOTONIC, &b);
        while ((b.tv_sec - a.tv_sec) * 1000000000l + b.tv_nsec - a.tv_nsec < 2000000);
        ratio = (double)(__builtin_ia32_rdtsc() - from) /
                (double)((b.tv_sec - a.tv_sec) * 1000000000l + b.tv_nsec - a.tv_nsec);
    }
    return ratio;
}

/*
 * The stack of a process begins with the path that was executed, so its length is part of every address on
 * it. The recorded path is used if it leads to the same file; else (a script with #!) the interpreter's, with
 * slashes in front to make it as long.
 */
static void choose_file(const struct tf_run *run, char *file, size_t size)
{
    char joined[PATH_MAX * 2], real[PATH_MAX];
    const char *execfn = run->execfn ? run->execfn : "";
    snprintf(joined, sizeof joined, "%s%s%s", *execfn == '/' ? "" : run->cwd, *execfn == '/' ? "" : "/",
             execfn);
    if (realpath(joined, real) && strcmp(real, run->exe) == 0) {
        snprintf(file, size, "%s", execfn);
        return;
    }
    size_t want = strlen(execfn), have = strlen(run->exe), pad = want > have ? want - have : 0;
    if (pad + have + 1 > size)
        pad = 0;
    memset(file, '/', pad);
    snprintf(file + pad, size - pad, "%s", run->exe);
}

int tf_prepare_start(const struct tf_run *run, const struct tf_shared *shared, bool filtered,
                     struct tf_runner *runner, int *filter_error, struct tf_err *err)
{
    struct tf_shm_map map = {.fd = -1};
    int sockets[2] = {-1, -1};
    char libdir[PATH_MAX], preload[PATH_MAX + 64], file[PATH_MAX * 2];
    char **env = NULL, *own = NULL, *session = NULL;
    int first_fd = -1, r;

    *runner = TF_RUNNER_NONE;
    if ((r = tf_libdir(libdir, sizeof libdir, err)) || (r = tf_shm_create(&map, TF_MODE_REPLAY, 0, err)))
        return r;
    snprintf(preload, sizeof preload, "%s/libtimefork-preload.so", libdir);
    size_t n = 0;
    while (run->envp[n])
        n++;
    env = calloc(n + 1, sizeof *env);
    if (!env) {
        r = tf_err_set(err, TF_E_IO, "out of memory");
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        env[i] = run->envp[i];
        if (strncmp(env[i], TF_ENV "=", sizeof TF_ENV) == 0) {
            const char *number = strchr(env[i], ',');
            first_fd = atoi(number ? number + 1 : env[i] + sizeof TF_ENV);
            if (env[i][sizeof TF_ENV] == '@') { /* nobody is to be asked: the descriptors are there */
                if (!(session = strdup(env[i]))) {
                    r = tf_err_set(err, TF_E_IO, "out of memory");
                    goto out;
                }
                session[sizeof TF_ENV] = '=';
                env[i] = session;
            }
        }
        if (strncmp(env[i], "LD_PRELOAD=", 11) == 0) {
            size_t len = strcspn(env[i] + 11, ": ");
            if (strlen(preload) == len && memcmp(env[i] + 11, preload, len) == 0)
                continue;
            /* Recorded by a timefork that stood elsewhere. */
            if (asprintf(&own, "LD_PRELOAD=%s%s", preload, env[i] + 11 + len) < 0) {
                own = NULL;
                r = tf_err_set(err, TF_E_IO, "out of memory");
                goto out;
            }
            env[i] = own;
        }
    }
    if (first_fd < 3) {
        r = tf_err_set(err, TF_E_FORMAT, "the environment in the recording is damaged");
        goto out;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
        r = tf_err_set(err, TF_E_IO, "cannot make a socket: %s", strerror(errno));
        goto out;
    }
    shared->ctl->filter_len = 0;
    if (filtered &&
        (r = tf_filter_build(first_fd + TF_FD_SOCKET, shared->ctl->filter, &shared->ctl->filter_len, err)))
        goto out;
    map.shm->light = run->light == TF_LIGHT_ONLY;
    map.shm->stack_limit = 8ul << 20; /* of threads, of which there are none in replay */
    choose_file(run, file, sizeof file);
    struct tf_launch launch = {
        .file = file,
        .argv = run->argv,
        .envp = env,
        .cwd = run->cwd && *run->cwd ? run->cwd : "/",
        .fds = {map.fd, shared->ctl_fd, shared->log_fd, sockets[1]},
        .first_fd = first_fd,
        .stack_limit = run->stack_limit,
        .silent = true,
    };
    r = tf_launch(&launch, &runner->pid, err);
    if (r)
        goto out;
    runner->socket = sockets[0];
    sockets[0] = -1;
    /* It parks when it has loaded everything; until then it may fail in ways that the header tells. */
    close(sockets[1]);
    sockets[1] = -1;
    struct tf_runner copy;
    struct tf_place place;
    r = tf_runner_fork(runner, &copy, &place, err);
    tf_runner_end(&copy);
    if (r) {
        if (map.shm->attach == TF_ATTACH_ERROR)
            r = tf_err_set(err, TF_E_REPLAY, "%s", map.shm->error);
        else if (map.shm->attach == TF_ATTACH_NO_ENGINE)
            r = tf_err_set(err, TF_E_REPLAY,
                           "there is no engine for Python %s: build timefork with its headers installed",
                           map.shm->python_version);
        else
            tf_err_prefix(err, "the interpreter did not start for the replay: ");
        tf_runner_end(runner);
    } else if ((*filter_error = map.shm->filter_error)) {
        shared->ctl->filter_len = 0; /* nor will others get it: checkpoints that were taken while recording */
    }
out:
    for (int i = 0; i < 2; i++)
        if (sockets[i] >= 0)
            close(sockets[i]);
    tf_shm_destroy(&map);
    free(env);
    free(own);
    free(session);
    return r;
}
