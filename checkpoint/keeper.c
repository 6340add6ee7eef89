/* keeper.c: the process that holds checkpoints after a recording (keep.h). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/keep.h"
#include "checkpoint/memory.h"
#include "checkpoint/parent.h"

#define CLIENTS_MAX 64
#define LOOK_MS 1000     /* at the recording and the socket */
#define MEASURE_MS 10000 /* the memory */
#define EXPENDABLE "800" /* oom_score_adj: these go first when memory is short */

struct client {
    int fd;
    pid_t pid;
    bool uses; /* has the checkpoints */
};

struct tf_keeper {
    char run[64], path[PATH_MAX], *title, build[TF_KEEP_BUILD];
    char socket[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    struct stat recording, bound; /* of the files at path and socket */
    int64_t began_ms, duration_ms;
    uint64_t memory_cap;
    int listener;
    struct tf_kept_checkpoint v[TF_KEEP_MAX];
    size_t n;
    struct client clients[CLIENTS_MAX];
    size_t clients_n;
    bool ending;
};

/* A suspended machine's time counts: who comes back to it the next day does not look for these any more. */
static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

/* ---- what ps shows ---- */

static char *title_at;
static size_t title_room;

void tf_keep_title_init(int argc, char **argv)
{
    extern char **environ;
    if (argc < 1 || !argv[0])
        return;
    char *end = argv[0];
    for (int i = 0; i < argc && argv[i] == end; i++)
        end = argv[i] + strlen(argv[i]) + 1;
    for (char **e = environ; *e && *e == end; e++) /* they stand behind the arguments */
        end = *e + strlen(*e) + 1;
    title_at = argv[0];
    title_room = (size_t)(end - argv[0]);
}

void tf_keep_title(const char *fmt, ...)
{
    static char *none[] = {NULL};
    extern char **environ;
    va_list ap;
    prctl(PR_SET_NAME, "timefork-keeper");
    if (!title_room)
        return;
    environ = none; /* its strings are written over */
    va_start(ap, fmt);
    memset(title_at, 0, title_room);
    vsnprintf(title_at, title_room, fmt, ap);
    va_end(ap);
}

/* ---- checkpoints ---- */

static bool hung_up(int socket)
{
    struct pollfd fd = {.fd = socket};
    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLHUP | POLLERR | POLLNVAL));
}

/* Each is a child that nobody else waits for, or, where the program was started by another one, nobody's
 * here: closing its socket ends it, too. */
static void drop(struct tf_keeper *k, size_t i)
{
    pid_t pid = k->v[i].pid;
    close(k->v[i].socket);
    if (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    memmove(&k->v[i], &k->v[i + 1], (k->n - i - 1) * sizeof *k->v);
    k->n--;
}

static void drop_dead(struct tf_keeper *k)
{
    for (size_t i = k->n; i-- > 0;)
        if (hung_up(k->v[i].socket))
            drop(k, i);
}

static uint64_t memory(const struct tf_keeper *k)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < k->n; i++) {
        struct tf_memory_use use;
        tf_memory_measure(k->v[i].pid, &use);
        sum += use.shared;
    }
    return sum;
}

/* The one that leaves the least gap. */
static size_t least(const struct tf_keeper *k)
{
    size_t victim = 0;
    uint64_t gap = UINT64_MAX;
    for (size_t i = 0; i < k->n; i++) {
        uint64_t before = i ? k->v[i - 1].frame : 0;
        uint64_t behind = i + 1 < k->n ? k->v[i + 1].frame : UINT64_MAX;
        if (behind - before < gap) {
            gap = behind - before;
            victim = i;
        }
    }
    return victim;
}

static void thin(struct tf_keeper *k)
{
    while (k->n && memory(k) > k->memory_cap)
        drop(k, least(k));
}

/* ---- children ---- */

/* Kills all children, or only those that are no checkpoints: copies whose replay has gone may be in an
 * endless loop. Returns how many. */
static size_t kill_children(const struct tf_keeper *k, bool checkpoints)
{
    DIR *dir = opendir("/proc");
    size_t killed = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strspn(e->d_name, "0123456789") != strlen(e->d_name) || tf_parent_of(atoi(e->d_name)) != getpid())
            continue;
        pid_t pid = (pid_t)atoi(e->d_name);
        bool kept = false;
        for (size_t i = 0; i < k->n && !checkpoints; i++)
            kept |= k->v[i].pid == pid;
        if (!kept && kill(pid, SIGKILL) == 0) /* not waited for yet: the number is still its own */
            killed++;
    }
    if (dir)
        closedir(dir);
    return killed;
}

static void reap(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void end_children(struct tf_keeper *k)
{
    /* A copy that is just being made may be missed: then once more. What is left ends with its parent. */
    for (int round = 0; round < 10 && kill_children(k, true); round++)
        while (waitpid(-1, NULL, 0) > 0)
            ;
}

/* ---- requests ---- */

static bool is_used(const struct tf_keeper *k)
{
    for (size_t i = 0; i < k->clients_n; i++)
        if (k->clients[i].uses)
            return true;
    return false;
}

/* Names need not be UTF-8, JSON has to be. */
static json_t *name(const char *bytes)
{
    json_t *text = json_string(bytes);
    char *plain = text ? NULL : strdup(bytes);
    if (!plain)
        return text;
    for (char *at = plain; *at; at++)
        if ((unsigned char)*at > 127)
            *at = '?';
    text = json_string(plain);
    free(plain);
    return text;
}

static json_t *state_of(const struct tf_keeper *k)
{
    json_t *checkpoints = json_array(), *users = json_array();
    int64_t age = now_ms() - k->began_ms, left = k->duration_ms - age;
    for (size_t i = 0; i < k->n; i++)
        json_array_append_new(
            checkpoints, json_pack("{s:I, s:I, s:I, s:I, s:i}", "frame", (json_int_t)k->v[i].frame, "offset",
                                   (json_int_t)k->v[i].offset, "work_ns", (json_int_t)k->v[i].work_ns,
                                   "made_ms", (json_int_t)k->v[i].made_ms, "pid", (int)k->v[i].pid));
    for (size_t i = 0; i < k->clients_n; i++)
        if (k->clients[i].uses)
            json_array_append_new(users, json_integer(k->clients[i].pid));
    return json_pack("{s:s, s:o, s:o, s:s, s:I, s:I, s:I, s:i, s:I, s:I, s:o, s:o}", "run", k->run, "file",
                     name(k->path), "title", name(k->title), "build", k->build, "device",
                     (json_int_t)k->recording.st_dev, "inode", (json_int_t)k->recording.st_ino,
                     "pid_namespace", (json_int_t)tf_keep_namespace(), "pid", (int)getpid(), "age_ms",
                     (json_int_t)age, "left_ms", (json_int_t)(left > 0 ? left : 0), "checkpoints",
                     checkpoints, "used_by", users);
}

/* Adds what each takes, and all together. */
static void measure(const struct tf_keeper *k, json_t *state)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < k->n; i++) {
        struct tf_memory_use use;
        tf_memory_measure(k->v[i].pid, &use);
        sum += use.shared;
        json_object_set_new(json_array_get(json_object_get(state, "checkpoints"), i), "bytes",
                            json_integer((json_int_t)use.shared));
    }
    json_object_set_new(state, "memory", json_integer((json_int_t)sum));
}

/* False: the client is gone, or does not listen. */
static bool answer(const struct tf_keeper *k, int fd, json_t *object, bool with_sockets)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(TF_KEEP_MAX * sizeof(int))];
    } control = {0};
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    struct iovec part = {text, text ? strlen(text) : 0};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    bool good = false;
    if (with_sockets && k->n) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(k->n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(k->n * sizeof(int));
        for (size_t i = 0; i < k->n; i++)
            memcpy(CMSG_DATA(c) + i * sizeof(int), &k->v[i].socket, sizeof(int));
    }
    if (text && part.iov_len <= TF_KEEP_PACKET)
        good = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)part.iov_len;
    free(text);
    json_decref(object);
    return good;
}

/* False: it has gone. */
static bool hear(struct tf_keeper *k, struct client *client)
{
    char text[16];
    ssize_t n = recv(client->fd, text, sizeof text - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    text[n] = 0;
    if (strcmp(text, "state") == 0) {
        drop_dead(k);
        json_t *state = state_of(k);
        measure(k, state);
        return answer(k, client->fd, state, false);
    }
    if (strcmp(text, "use") == 0) {
        drop_dead(k);
        client->uses = true;
        return answer(k, client->fd, state_of(k), true);
    }
    if (strcmp(text, "end") == 0) {
        k->ending = true;
        return answer(k, client->fd, json_object(), false);
    }
    return false;
}

static void accept_one(struct tf_keeper *k)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    int room = 1 << 20, fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (k->clients_n == CLIENTS_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
        (peer.uid != geteuid() && peer.uid != 0)) {
        close(fd);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    k->clients[k->clients_n++] = (struct client){.fd = fd, .pid = peer.pid};
}

static void leave(struct tf_keeper *k, size_t i)
{
    bool used = k->clients[i].uses;
    close(k->clients[i].fd);
    k->clients[i] = k->clients[--k->clients_n];
    if (used && !is_used(k))
        kill_children(k, false);
}

/* ---- the loop ---- */

static volatile sig_atomic_t asked_to_end;

static void on_signal(int sig)
{
    if (sig != SIGCHLD)
        asked_to_end = 1;
}

/* Signals come while it sleeps only; *sleeping: the mask to sleep with. */
static void own_signals(sigset_t *sleeping)
{
    static const int signals[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT};
    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before, action = {.sa_handler = on_signal};
        sigaddset(&ours, signals[i]);
        sigaction(signals[i], NULL, &before);
        if (before.sa_handler != SIG_IGN || signals[i] == SIGCHLD) /* nohup */
            sigaction(signals[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &ours, NULL);
    sigemptyset(sleeping);
}

static bool same_file(const char *path, const struct stat *as)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_dev == as->st_dev && st.st_ino == as->st_ino;
}

/* Is there a reason to go on? */
static bool wanted(const struct tf_keeper *k)
{
    return k->n && !k->ending && !asked_to_end && same_file(k->path, &k->recording) &&
           same_file(k->socket, &k->bound) && (is_used(k) || now_ms() - k->began_ms < k->duration_ms);
}

static int64_t sleep_ms(const struct tf_keeper *k)
{
    int64_t left = k->began_ms + k->duration_ms - now_ms();
    return left > 0 && left < LOOK_MS ? left : LOOK_MS;
}

/* Sleeps until somebody wants something, a child has ended, or it is time to look after things. */
static void attend(struct tf_keeper *k, const sigset_t *sleeping)
{
    struct pollfd fds[1 + CLIENTS_MAX];
    size_t clients = k->clients_n;
    int64_t ms = sleep_ms(k);
    struct timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    fds[0] = (struct pollfd){.fd = k->listener, .events = POLLIN};
    for (size_t i = 0; i < clients; i++)
        fds[i + 1] = (struct pollfd){.fd = k->clients[i].fd, .events = POLLIN};
    int ready = ppoll(fds, 1 + clients, &limit, sleeping);
    reap();
    if (ready <= 0)
        return;
    for (size_t i = clients; i-- > 0;)
        if (fds[i + 1].revents && !hear(k, &k->clients[i]))
            leave(k, i);
    if (fds[0].revents)
        accept_one(k);
}

/* Those that all keepers of this user hold count together: the oldest end. */
static void end_others(const struct tf_keeper *k)
{
    struct tf_kept_session *all;
    size_t n;
    if (tf_keep_list(&all, &n, NULL))
        return;
    for (;;) {
        uint64_t sum = memory(k);
        struct tf_kept_session *oldest = NULL;
        json_int_t age = -1;
        for (size_t i = 0; i < n; i++) {
            if (!all[i].state || strcmp(all[i].run, k->run) == 0)
                continue;
            sum += (uint64_t)json_integer_value(json_object_get(all[i].state, "memory"));
            json_int_t its = json_integer_value(json_object_get(all[i].state, "age_ms"));
            if (its > age && !json_array_size(json_object_get(all[i].state, "used_by"))) {
                age = its;
                oldest = &all[i];
            }
        }
        if (sum <= k->memory_cap || !oldest)
            break;
        tf_keep_end(oldest, NULL);
        json_decref(oldest->state);
        oldest->state = NULL;
    }
    tf_keep_list_free(all, n);
}

void tf_keeper_run(struct tf_keeper *k)
{
    sigset_t sleeping;
    int64_t measured = 0;
    own_signals(&sleeping);
    pid_t aside = fork(); /* two that ask each other would wait for each other */
    if (aside == 0) {
        end_others(k);
        _exit(0);
    }
    tf_keep_title("timefork: keeps checkpoints of run %.8s of %s (timefork sessions)", k->run, k->path);
    while (wanted(k)) {
        if (!measured || now_ms() - measured > MEASURE_MS) {
            thin(k);
            measured = now_ms();
            continue;
        }
        attend(k, &sleeping);
        drop_dead(k);
    }
    if (same_file(k->socket, &k->bound))
        unlink(k->socket);
    close(k->listener);
    k->listener = -1;
    end_children(k);
}

/* ---- begin and end ---- */

static int listen_at(struct tf_keeper *k, struct tf_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[128];
    int r = TF_E_IO;
    for (unsigned i = 0; i <= 2 && r; i++)
        r = tf_keep_folder(i, true, folder, sizeof folder, err);
    if (r)
        return tf_err_prefix(err, "there is no folder for the socket: ");
    snprintf(k->socket, sizeof k->socket, "%.*s/%.32s", TF_KEEP_FOLDER_MAX, folder, k->run);
    memcpy(address.sun_path, k->socket, sizeof k->socket);
    k->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    r = k->listener < 0 || bind(k->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(k->listener, 16) < 0 || stat(k->socket, &k->bound) < 0;
    int error = errno;
    umask(mask);
    return r ? tf_err_set(err, TF_E_IO, "cannot listen at %s: %s", k->socket, strerror(error)) : 0;
}

static void make_expendable(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, EXPENDABLE, sizeof EXPENDABLE - 1) < 0) {
        /* Where that is not allowed they are like others. */
    }
    close(fd);
}

int tf_keeper_new(const struct tf_keep_opts *opts, const struct tf_kept_checkpoint *v, size_t n,
                  struct tf_keeper **out, struct tf_err *err)
{
    struct tf_keeper *k = calloc(1, sizeof *k);
    int r = 0;
    *out = NULL;
    if (!k || !(k->title = strdup(opts->title))) {
        free(k);
        return tf_err_set(err, TF_E_IO, "out of memory");
    }
    k->listener = -1;
    snprintf(k->run, sizeof k->run, "%s", opts->run);
    snprintf(k->build, sizeof k->build, "%s", opts->build);
    k->began_ms = now_ms();
    k->duration_ms = opts->duration_ms;
    k->memory_cap = opts->memory_cap;
    for (size_t i = 0; i < n && k->n < TF_KEEP_MAX; i++)
        if (!hung_up(v[i].socket))
            k->v[k->n++] = v[i];
    if (!k->n)
        r = tf_err_set(err, TF_E_NOTFOUND,
                       n ? "its checkpoints have ended" : "no checkpoint was taken while it ran");
    else if (!realpath(opts->path, k->path) || stat(k->path, &k->recording) < 0)
        r = tf_err_set(err, TF_E_IO, "the recording %s cannot be found: %s", opts->path, strerror(errno));
    else
        r = listen_at(k, err);
    if (r) {
        k->n = 0;
        tf_keeper_free(k);
        return r;
    }
    for (size_t i = 0; i < n; i++) { /* what has ended, and what is too much */
        bool taken = false;
        for (size_t j = 0; j < k->n; j++)
            taken |= k->v[j].socket == v[i].socket;
        if (!taken)
            close(v[i].socket);
    }
    for (size_t i = 0; i < k->n; i++)
        make_expendable(k->v[i].pid);
    *out = k;
    return 0;
}

size_t tf_keeper_checkpoints(const struct tf_keeper *k)
{
    return k->n;
}

void tf_keeper_free(struct tf_keeper *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < k->n; i++)
        close(k->v[i].socket);
    if (k->listener >= 0)
        close(k->listener);
    free(k->title);
    free(k);
}

static bool is_ours(const struct tf_keeper *k, int fd)
{
    bool ours = fd == k->listener;
    for (size_t i = 0; i < k->n; i++)
        ours |= fd == k->v[i].socket;
    return ours;
}

void tf_keeper_detach(struct tf_keeper *k, int spare)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    /* What was open when recording began (a lock, a pipe) is not for the background. */
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        int fd = atoi(e->d_name);
        if (fd > 2 && fd != spare && fd != dirfd(dir) && !is_ours(k, fd))
            close(fd);
    }
    if (dir)
        closedir(dir);
    if (chdir("/") < 0) {
        /* Then it stays where it is. */
    }
    malloc_trim(0);
}
