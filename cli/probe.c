/* probe.c: see probe.h. What cannot be preloaded (static, setuid, not Python) is looked at from outside. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/launch.h"
#include "cli/probe.h"
#include "replay/runner.h"

#define PROBE_MS 20000

static int by_version(const struct dirent **a, const struct dirent **b)
{
    return strverscmp((*a)->d_name, (*b)->d_name);
}

static int is_engine(const struct dirent *e)
{
    return strncmp(e->d_name, "timefork-engine-", 16) == 0 && strstr(e->d_name, ".so");
}

void tf_probe_engines(const char *libdir, char *out, size_t size)
{
    struct dirent **found;
    int n = scandir(libdir, &found, is_engine, by_version);
    size_t len = 0;
    out[0] = 0;
    for (int i = 0; i < n; i++) {
        char *version = found[i]->d_name + 16;
        version[strcspn(version, "s") - 1] = 0;
        if (len < size)
            len += (size_t)snprintf(out + len, size - len, "%s%s", i ? ", " : "", version);
        free(found[i]);
    }
    if (n >= 0)
        free(found);
    if (!out[0])
        snprintf(out, size, "none");
}

int tf_probe_explain(const struct tf_shm *shm, const char *file, const char *libdir, struct tf_err *err)
{
    char engines[256];
    tf_probe_engines(libdir, engines, sizeof engines);
    if (shm->attach == TF_ATTACH_NO_ENGINE)
        return tf_err_set(
            err, TF_E_USAGE,
            "%s is Python %s, and timefork has no engine for that version (it has: %s). Engines are built "
            "for CPython 3.11 to "
            "3.13 when their headers are installed: run ./setup again, or cmake -DTIMEFORK_PYTHONS=%s",
            file, shm->python_version, engines, shm->exe[0] ? shm->exe : file);
    return tf_err_set(err, TF_E_USAGE, "%s cannot be recorded: %s", file, shm->error);
}

static int find_in_path(const char *file, char *out, size_t size)
{
    if (strchr(file, '/')) {
        snprintf(out, size, "%s", file);
        return access(out, X_OK);
    }
    const char *path = getenv("PATH");
    for (const char *at = path ? path : "/usr/local/bin:/usr/bin:/bin"; at && *at;) {
        size_t n = strcspn(at, ":");
        snprintf(out, size, "%.*s/%s", (int)n, n ? at : ".", file);
        if (access(out, X_OK) == 0)
            return 0;
        at += n + (at[n] == ':');
    }
    return -1;
}

/* Why nothing of ours ran in it. */
static int explain_silence(const char *python, int wait_status, struct tf_err *err)
{
    char path[PATH_MAX], real[PATH_MAX];
    struct stat st;
    Elf64_Ehdr header;
    if (find_in_path(python, path, sizeof path) < 0 || !realpath(path, real))
        return tf_err_set(err, TF_E_USAGE, "cannot run %s: %s", python, strerror(errno));
    if (stat(real, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)))
        return tf_err_set(err, TF_E_USAGE,
                          "%s is setuid or setgid: the loader does not let anything be preloaded into it. "
                          "Use a copy without that bit",
                          real);
    int fd = open(real, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        bool elf =
            read(fd, &header, sizeof header) == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0;
        bool dynamic = false;
        for (int i = 0; elf && i < header.e_phnum; i++) {
            Elf64_Phdr ph;
            if (pread(fd, &ph, sizeof ph, (off_t)(header.e_phoff + (uint64_t)i * sizeof ph)) == sizeof ph &&
                ph.p_type == PT_INTERP)
                dynamic = true;
        }
        close(fd);
        if (elf && !dynamic)
            return tf_err_set(err, TF_E_USAGE,
                              "%s is statically linked: timefork cannot be preloaded into it. Use a "
                              "dynamically linked Python",
                              real);
        if (elf)
            return tf_err_set(err, TF_E_USAGE,
                              "%s is not CPython (PyPy and other implementations cannot be recorded), or not "
                              "a Python at all",
                              real);
    }
    return tf_err_set(
        err, TF_E_USAGE,
        "%s started no CPython that timefork could look at (its exit status was %d); name one with --python",
        path, WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status));
}

int tf_probe(const char *python, char *const *env, const char *libdir, struct tf_probed *probed,
             struct tf_err *err)
{
    struct tf_shm_map map = {.fd = -1};
    char preload[PATH_MAX + 64];
    char *argv[] = {(char *)python, "-c", "", NULL};
    char session[16], **full = NULL;
    int wait_status = 0, r;
    pid_t pid;

    snprintf(preload, sizeof preload, "%s/libtimefork-preload.so", libdir);
    if ((r = tf_shm_create(&map, TF_MODE_PROBE, 0, err)))
        return r;
    struct tf_launch launch = {.file = python,
                               .argv = argv,
                               .fds = {map.fd, -1, -1, -1},
                               .first_fd = tf_launch_first_fd(),
                               .silent = true};
    snprintf(session, sizeof session, "%d", launch.first_fd);
    if (!(full = tf_env_make(env, session, preload, err))) {
        r = err->code;
        goto out;
    }
    launch.envp = full;
    if ((r = tf_launch(&launch, &pid, err))) {
        if (r == TF_E_IO && strncmp(err->msg, "cannot run", 10) == 0)
            err->code = r = TF_E_USAGE;
        goto out;
    }
    int64_t deadline = tf_now_ms() + PROBE_MS;
    while (waitpid(pid, &wait_status, WNOHANG) == 0) {
        if (tf_now_ms() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &wait_status, 0);
            r = tf_err_set(err, TF_E_USAGE, "%s does not start within %d seconds", python, PROBE_MS / 1000);
            goto out;
        }
        usleep(100);
    }
    if (map.shm->attach == TF_ATTACH_PROBED) {
        if (probed) {
            memcpy(probed->version, map.shm->python_version, sizeof probed->version);
            memcpy(probed->exe, map.shm->exe, sizeof probed->exe);
        }
    } else if (map.shm->attach == TF_ATTACH_NONE) {
        r = explain_silence(python, wait_status, err);
    } else {
        r = tf_probe_explain(map.shm, python, libdir, err);
    }
out:
    tf_env_free(full);
    tf_shm_destroy(&map);
    return r;
}
