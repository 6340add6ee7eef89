/* keep.c: see keep.h: where keepers are, and talking to them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "checkpoint/keep.h"
#include "checkpoint/launch.h"
#include "store/machine.h"

#define ANSWER_S 2  /* a keeper answers within */
#define END_MS 5000 /* and ends within */
#define SESSIONS_MAX 256

void tf_keep_build(char *out)
{
    char libdir[PATH_MAX], preload[PATH_MAX + 64], program[TF_BUILD_ID_TEXT], library[TF_BUILD_ID_TEXT] = "";
    tf_build_id("/proc/self/exe", program);
    if (tf_libdir(libdir, sizeof libdir, NULL) == 0) {
        snprintf(preload, sizeof preload, "%s/libtimefork-preload.so", libdir);
        tf_build_id(preload, library);
    }
    snprintf(out, TF_KEEP_BUILD, "%s+%s", program, library);
}

uint64_t tf_keep_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* ---- folders ---- */

/* Is it a folder that is ours, and not a link to one? */
static bool is_own(const char *path, mode_t others)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & others);
}

int tf_keep_folder(unsigned i, bool make, char *out, size_t size, struct tf_err *err)
{
    const char *given = getenv("XDG_RUNTIME_DIR");
    char base[PATH_MAX];
    int n;
    if (i > 2)
        return tf_err_set(err, TF_E_USAGE, "there are no more folders");
    if (i == 2) {
        n = snprintf(out, size, "/tmp/timefork-%u", (unsigned)geteuid());
    } else {
        if (i == 0)
            snprintf(base, sizeof base, "%s", given ? given : "");
        else
            snprintf(base, sizeof base, "/run/user/%u", (unsigned)geteuid());
        if (*base != '/' || !is_own(base, 022))
            return tf_err_set(err, TF_E_IO, "%s is no folder of this user", *base ? base : "XDG_RUNTIME_DIR");
        n = snprintf(out, size, "%s/timefork", base);
    }
    if (n < 0 || (size_t)n >= size || n > TF_KEEP_FOLDER_MAX)
        return tf_err_set(err, TF_E_IO, "the name of the folder %s is too long for a socket in it", out);
    if (make && mkdir(out, 0700) < 0 && errno != EEXIST)
        return tf_err_set(err, TF_E_IO, "cannot make the folder %s: %s", out, strerror(errno));
    if (!is_own(out, 077))
        return tf_err_set(
            err, TF_E_IO,
            "%s is not a folder of this user with mode 0700: nothing is put or looked for there", out);
    return 0;
}

/* ---- talking ---- */

/* -1 with errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = ANSWER_S};
    struct ucred peer;
    socklen_t size = sizeof peer;
    int room = 1 << 20, fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        goto fail;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        goto fail;
    if (peer.uid != geteuid()) {
        errno = EPERM;
        goto fail;
    }
    return fd;
fail:;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static pid_t peer_of(int fd)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

/* Descriptors that come with the answer go to fds, *n of them. NULL: none came, or nonsense. */
static json_t *ask(int connection, const char *what, int *fds, size_t *n)
{
    static char text[TF_KEEP_PACKET];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(TF_KEEP_MAX * sizeof(int))];
    } control;
    struct iovec part = {text, sizeof text};
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t r;
    *n = 0;
    if (send(connection, what, strlen(what), MSG_NOSIGNAL) < 0)
        return NULL;
    do
        r = recvmsg(connection, &msg, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r <= 0)
        return NULL;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds + *n, CMSG_DATA(c), got * sizeof(int)); /* there is one such part in a message */
            *n += got;
            break;
        }
    json_t *answer = msg.msg_flags & MSG_TRUNC ? NULL : json_loadb(text, (size_t)r, 0, NULL);
    for (size_t i = 0; !answer && i < *n; i++)
        close(fds[i]);
    return answer;
}

static const char *text_of(const json_t *state, const char *key)
{
    const char *text = json_string_value(json_object_get(state, key));
    return text ? text : "";
}

/* Says why replays here do not use it; "": they do. */
static void judge(const json_t *state, char *unfit, size_t size)
{
    char build[TF_KEEP_BUILD];
    tf_keep_build(build);
    *unfit = 0;
    if (strcmp(text_of(state, "build"), build) != 0)
        snprintf(unfit, size, "it was recorded by another build of timefork");
    else if ((uint64_t)json_integer_value(json_object_get(state, "pid_namespace")) != tf_keep_namespace())
        snprintf(unfit, size, "it runs in another pid namespace");
}

/* ---- the list ---- */

static bool is_run_id(const char *name)
{
    return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32;
}

/* False: there is nobody, and the socket has been removed. */
static bool look_at(const char *folder, const char *name, struct tf_kept_session *session)
{
    int fds[TF_KEEP_MAX];
    size_t n;
    *session = (struct tf_kept_session){0};
    snprintf(session->socket, sizeof session->socket, "%s/%s", folder, name);
    snprintf(session->run, sizeof session->run, "%s", name);
    int connection = connect_to(session->socket);
    if (connection < 0 && (errno == ECONNREFUSED || errno == ENOENT)) {
        unlink(session->socket);
        return false;
    }
    if (connection < 0) {
        snprintf(session->unfit, sizeof session->unfit, "it cannot be reached (%s)", strerror(errno));
        return true;
    }
    session->pid = peer_of(connection);
    session->state = ask(connection, "state", fds, &n);
    close(connection);
    if (session->state)
        judge(session->state, session->unfit, sizeof session->unfit);
    else
        snprintf(session->unfit, sizeof session->unfit, "it does not answer");
    return true;
}

int tf_keep_list(struct tf_kept_session **out, size_t *n, struct tf_err *err)
{
    char folder[128], first[128] = "";
    *n = 0;
    *out = calloc(SESSIONS_MAX, sizeof **out);
    if (!*out)
        return tf_err_set(err, TF_E_IO, "out of memory");
    for (unsigned i = 0; i <= 2; i++) {
        if (tf_keep_folder(i, false, folder, sizeof folder, NULL) || strcmp(folder, first) == 0)
            continue;
        if (i == 0)
            snprintf(first, sizeof first, "%s", folder);
        DIR *dir = opendir(folder);
        for (struct dirent *e; dir && (e = readdir(dir)) && *n < SESSIONS_MAX;)
            if (is_run_id(e->d_name) && look_at(folder, e->d_name, &(*out)[*n]))
                ++*n;
        if (dir)
            closedir(dir);
    }
    return 0;
}

void tf_keep_list_free(struct tf_kept_session *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_decref(v[i].state);
    free(v);
}

int tf_keep_end(const struct tf_kept_session *session, struct tf_err *err)
{
    int fds[TF_KEEP_MAX], connection = connect_to(session->socket);
    size_t n;
    if (connection < 0 && (errno == ECONNREFUSED || errno == ENOENT)) {
        unlink(session->socket);
        return 0;
    }
    if (connection < 0)
        return tf_err_set(err, TF_E_IO, "the keeper of run %.8s cannot be reached (%s): %s", session->run,
                          strerror(errno), session->socket);
    pid_t pid = peer_of(connection);
    int process = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    json_t *answer = ask(connection, "end", fds, &n);
    bool asked = answer != NULL;
    json_decref(answer);
    struct pollfd ended = {.fd = process, .events = POLLIN};
    int r = 0;
    if (process < 0)
        ended = (struct pollfd){.fd = connection};
    if ((!asked || poll(&ended, 1, END_MS) <= 0) && process >= 0) {
        syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0); /* its children end with it */
        poll(&ended, 1, END_MS);
        unlink(session->socket);
    } else if (!asked) {
        r = tf_err_set(err, TF_E_IO, "the keeper of run %.8s does not answer: %s", session->run,
                       session->socket);
    }
    if (process >= 0)
        close(process);
    close(connection);
    return r;
}

/* ---- using one ---- */

static int take(json_t *state, const int *fds, size_t fds_n, struct tf_kept_checkpoint *v, size_t max,
                size_t *n, struct tf_err *err)
{
    json_t *list = json_object_get(state, "checkpoints");
    if (json_array_size(list) != fds_n)
        return tf_err_set(err, TF_E_NOTFOUND, "the keeper answered nonsense");
    for (size_t i = 0; i < fds_n && *n < max; i++) {
        json_t *c = json_array_get(list, i);
        v[(*n)++] = (struct tf_kept_checkpoint){
            .frame = (uint64_t)json_integer_value(json_object_get(c, "frame")),
            .offset = (uint64_t)json_integer_value(json_object_get(c, "offset")),
            .work_ns = (uint64_t)json_integer_value(json_object_get(c, "work_ns")),
            .made_ms = json_integer_value(json_object_get(c, "made_ms")),
            .socket = fds[i],
        };
    }
    for (size_t i = *n; i < fds_n; i++)
        close(fds[i]);
    return 0;
}

/* The keeper at this socket, if it has what is wanted. */
static int use(const char *socket, const char *path, struct tf_kept_checkpoint *v, size_t max, size_t *n,
               int *connection, struct tf_err *err)
{
    char unfit[256];
    int fds[TF_KEEP_MAX], r;
    size_t fds_n;
    struct stat st;
    *connection = connect_to(socket);
    if (*connection < 0) {
        if (errno == ECONNREFUSED)
            unlink(socket);
        return tf_err_set(err, TF_E_NOTFOUND, "nobody keeps checkpoints of it");
    }
    json_t *state = ask(*connection, "state", fds, &fds_n);
    if (!state)
        r = tf_err_set(err, TF_E_NOTFOUND, "its keeper does not answer");
    else if (judge(state, unfit, sizeof unfit), *unfit)
        r = tf_err_set(err, TF_E_NOTFOUND, "its keeper cannot be used: %s", unfit);
    else if (stat(path, &st) < 0 ||
             (json_int_t)st.st_dev != json_integer_value(json_object_get(state, "device")) ||
             (json_int_t)st.st_ino != json_integer_value(json_object_get(state, "inode")))
        r = tf_err_set(err, TF_E_NOTFOUND, "its keeper is that of another file");
    else
        r = 0;
    json_decref(state);
    if (r == 0) {
        state = ask(*connection, "use", fds, &fds_n);
        r = state ? take(state, fds, fds_n, v, max, n, err)
                  : tf_err_set(err, TF_E_NOTFOUND, "its keeper does not answer");
        json_decref(state);
    }
    if (r) {
        close(*connection);
        *connection = -1;
    }
    return r;
}

int tf_keep_use(const char *run, const char *path, struct tf_kept_checkpoint *v, size_t max, size_t *n,
                int *connection, pid_t *keeper, struct tf_err *err)
{
    char folder[128], socket[256];
    int r = tf_err_set(err, TF_E_NOTFOUND, "nobody keeps checkpoints of it");
    *n = 0;
    *connection = -1;
    for (unsigned i = 0; i <= 2 && r && is_run_id(run); i++) { /* it comes from a file */
        if (tf_keep_folder(i, false, folder, sizeof folder, NULL))
            continue;
        snprintf(socket, sizeof socket, "%s/%s", folder, run);
        if (access(socket, F_OK) == 0)
            r = use(socket, path, v, max, n, connection, err);
    }
    if (r == 0)
        *keeper = peer_of(*connection);
    return r;
}
