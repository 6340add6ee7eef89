/*
 * record.c: the recorder. It starts the program with the preload library, takes what the program writes into
 * the ring until it has ended and the ring is empty, and closes the run. It never stands between the program
 * and its terminal: input, output and signals are the program's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/launch.h"
#include "checkpoint/memory.h"
#include "checkpoint/policy.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/probe.h"
#include "cli/record.h"
#include "replay/prepare.h"

extern char **environ;

#define NUDGE_MS 500

static const char usage_text[] =
    "usage: timefork record [OPTIONS] (SCRIPT | -m MODULE | -c CODE | -- COMMAND) [ARGS...]\n"
    "\n"
    "Runs a Python program and records it. Its arguments, input, output and exit status are as without "
    "timefork.\n"
    "\n"
    "  -o FILE          the recording (default: ./<script>.timefork); further runs are added to it\n"
    "  --python EXE     the interpreter (default: python3)\n"
    "  --env NAME=VALUE set a variable for the program; may be repeated\n"
    "  --quiet          no line of summary at the end\n"
    "\n"
    "Exit status: the program's own, 128 + n if signal n ended it; 125 if it could not be recorded and was "
    "not run; 2 for a mistake\n"
    "in the command line.\n";

/* ---- the command line ---- */

void tf_record_opts_clear(struct tf_record_opts *opts)
{
    free(opts->argv);
    free(opts->env);
    free(opts->title);
    free(opts->command_line);
    *opts = (struct tf_record_opts){0};
}

static int bad(const char *fmt, const char *arg)
{
    fprintf(stderr, "timefork: ");
    fprintf(stderr, fmt, arg);
    fprintf(stderr, "\n");
    return TF_EXIT_USAGE;
}

/* A script has to be there before the recording is begun; Python itself judges what is in it. */
static int check_script(const char *script)
{
    struct stat st;
    char main_file[PATH_MAX];
    if (strcmp(script, "-") == 0)
        return 0;
    if (stat(script, &st) < 0) {
        fprintf(stderr, "timefork: %s: %s\n", script, strerror(errno));
        return TF_EXIT_USAGE;
    }
    if (S_ISDIR(st.st_mode)) {
        snprintf(main_file, sizeof main_file, "%s/__main__.py", script);
        if (access(main_file, R_OK) < 0)
            return bad("%s is a folder without __main__.py: name a script in it", script);
    } else if (access(script, R_OK) < 0) {
        fprintf(stderr, "timefork: %s: %s\n", script, strerror(errno));
        return TF_EXIT_USAGE;
    }
    return 0;
}

static char *stem(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base && base[1] ? base + 1 : path;
    size_t n = strlen(base);
    while (n > 1 && base[n - 1] == '/')
        n--;
    if (n > 3 && memcmp(base + n - 3, ".py", 3) == 0)
        n -= 3;
    return strndup(base, n);
}

static char *join_words(char *const *words, const char *first)
{
    size_t n = strlen(first) + 1;
    for (char *const *w = words; *w; w++)
        n += strlen(*w) + 3;
    char *text = malloc(n);
    if (!text)
        return NULL;
    char *at = stpcpy(text, first);
    for (char *const *w = words; *w; w++)
        at += sprintf(at, strpbrk(*w, " \t\n") || !**w ? "%s'%s'" : "%s%s", at == text ? "" : " ", *w);
    return text;
}

/*
 * `timefork debug SCRIPT ARGS... --goto-frame N ...`: from the first --goto-frame, --eval or --command on,
 * what follows the program is meant for timefork, unless -- stands in front of it. Returns where the
 * program's arguments end, or -1 after a message.
 */
static int take_tail(int from, int argc, char **argv, int (*own_option)(void *, int, char **), void *ctx)
{
    int end = from;
    while (end < argc && strcmp(argv[end], "--goto-frame") != 0 && strcmp(argv[end], "--eval") != 0 &&
           strcmp(argv[end], "--command") != 0) {
        if (strcmp(argv[end], "--") == 0)
            return argc;
        end++;
    }
    for (int i = end; i < argc;) {
        int n = own_option(ctx, argc - i, argv + i);
        if (n < 0)
            return -1;
        if (n == 0) {
            bad("%s after --goto-frame, --eval or --command is no option of replay: the program's own "
                "arguments come before them, or behind --",
                argv[i]);
            return -1;
        }
        i += n;
    }
    if (end < argc)
        argv[end] = NULL;
    return end;
}

int tf_record_parse(struct tf_record_opts *opts, int argc, char **argv,
                    int (*own_option)(void *, int, char **), void *ctx, const char *usage)
{
    int i = 1, status;
    *opts = (struct tf_record_opts){.python = "python3"};
    opts->env = calloc((size_t)argc + 1, sizeof *opts->env);
    opts->argv = calloc((size_t)argc + 4, sizeof *opts->argv);
    if (!opts->env || !opts->argv)
        return bad("out of memory%s", "");
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *a = argv[i];
        bool last = i + 1 >= argc;
        int own = own_option ? own_option(ctx, argc - i, argv + i) : 0;
        if (own < 0)
            return TF_EXIT_USAGE;
        if (own > 0) {
            i += own - 1;
            continue;
        }
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage, stdout);
            return -1;
        }
        if (strcmp(a, "--quiet") == 0 || strcmp(a, "-q") == 0) {
            opts->quiet = true;
            continue;
        }
        if (strcmp(a, "-m") == 0 || strcmp(a, "-c") == 0 || strcmp(a, "--") == 0)
            break;
        if (strcmp(a, "-o") && strcmp(a, "--output") && strcmp(a, "--python") && strcmp(a, "--env"))
            return bad("record knows no option %s ('timefork record --help' lists them)", a);
        if (last)
            return bad("%s needs a value", a);
        const char *value = argv[++i];
        if (strcmp(a, "--python") == 0) {
            opts->python = value;
            opts->python_given = true;
        } else if (strcmp(a, "--env") == 0) {
            if (!strchr(value, '=') || *value == '=')
                return bad("--env %s: NAME=VALUE is expected", value);
            opts->env[opts->env_n++] = (char *)value;
        } else {
            opts->output = value;
        }
    }
    if (i >= argc)
        return bad("what shall be run? SCRIPT, -m MODULE, -c CODE or -- COMMAND%s ('timefork record --help')",
                   "");
    int n = 0;
    if (strcmp(argv[i], "--") == 0) {
        if (++i >= argc)
            return bad("-- needs a COMMAND%s", "");
        opts->command = true;
        opts->title = stem(argv[i]);
    } else {
        opts->argv[n++] = (char *)opts->python;
        if (strcmp(argv[i], "-m") == 0 || strcmp(argv[i], "-c") == 0) {
            if (i + 1 >= argc)
                return bad("%s needs a value", argv[i]);
            opts->title = strdup(argv[i][1] == 'm' ? argv[i + 1] : "command");
            if (argv[i][1] == 'c')
                opts->source_text = argv[i + 1];
        } else {
            if ((status = check_script(argv[i])))
                return status;
            opts->title = strcmp(argv[i], "-") == 0 ? strdup("stdin") : stem(argv[i]);
        }
        if (own_option) {
            int program = i + (argv[i][0] == '-' && argv[i][1] ? 2 : 1);
            if ((argc = take_tail(program, argc, argv, own_option, ctx)) < 0)
                return TF_EXIT_USAGE;
        }
    }
    for (int k = i; k < argc; k++)
        opts->argv[n++] = argv[k];
    opts->command_line = join_words(argv + i, opts->command ? "" : "");
    if (!opts->title || !opts->command_line)
        return bad("out of memory%s", "");
    return 0;
}

/* ---- running ---- */

static volatile sig_atomic_t child_pid;

static void forward(int sig)
{
    if (child_pid > 0)
        kill((pid_t)child_pid, sig);
}

static void nothing(int sig)
{
    (void)sig;
}

/* The terminal sends Ctrl-C to program and recorder alike: only the program decides what it means. */
static void own_signals(void)
{
    static const struct {
        int sig;
        void (*handler)(int);
    } handlers[] = {{SIGINT, nothing}, {SIGQUIT, nothing}, {SIGCHLD, nothing}, {SIGTERM, forward},
                    {SIGHUP, forward}, {SIGXFSZ, nothing}, {SIGPIPE, nothing}};
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        struct sigaction before, action = {.sa_handler = handlers[i].handler};
        sigaction(handlers[i].sig, NULL, &before);
        if (before.sa_handler == SIG_IGN && handlers[i].sig != SIGCHLD)
            continue; /* nohup: the program inherits that */
        sigaction(handlers[i].sig, &action, NULL);
    }
}

struct session {
    struct tf_record_result *result;
    struct tf_shm_map map;
    struct tf_runner control;      /* the program's socket, for checkpoints */
    struct tf_checkpoint *waiting; /* checkpoints by serial, until the ring says where they stand */
    size_t waiting_n;
    unsigned fulls;
    int64_t waits_since; /* when a signal was first seen waiting for an event, ms; 0: none */
};

static int compare_frames(const void *a, const void *b)
{
    uint64_t x = ((const struct tf_checkpoint *)a)->frame, y = ((const struct tf_checkpoint *)b)->frame;
    return x < y ? -1 : x > y;
}

static bool too_much_memory(const struct tf_record_result *r)
{
    pid_t pids[TF_POLICY_MAX + 1];
    for (size_t i = 0; i < r->n; i++)
        pids[i] = r->checkpoints[i].runner.pid;
    return tf_memory_exceeds(pids, r->n, tf_memory_cap());
}

/* A checkpoint's place is known: keep it, and thin them if there are too many. */
static void on_snapshot(void *ctx, uint32_t serial, uint64_t frame, uint64_t offset)
{
    struct session *s = ctx;
    struct tf_record_result *r = s->result;
    if (serial < 1 || serial > s->waiting_n || s->waiting[serial - 1].runner.socket < 0)
        return;
    struct tf_checkpoint c = s->waiting[serial - 1];
    s->waiting[serial - 1].runner = TF_RUNNER_NONE;
    c.frame = frame;
    c.offset = offset;
    c.recorded = true;
    c.kind = TF_CHECKPOINT_FORK;
    struct tf_checkpoint *grown = realloc(r->checkpoints, (r->n + 1) * sizeof *grown);
    if (!grown) {
        tf_runner_end(&c.runner);
        return;
    }
    r->checkpoints = grown;
    r->checkpoints[r->n++] = c;
    qsort(r->checkpoints, r->n, sizeof *r->checkpoints, compare_frames);
    while (r->n >= TF_POLICY_MAX || (r->n > 1 && too_much_memory(r))) {
        uint64_t frames[TF_POLICY_MAX + 1] = {0};
        for (size_t i = 0; i < r->n; i++)
            frames[i + 1] = r->checkpoints[i].frame;
        size_t victim = tf_policy_victim(frames, r->n + 1, frame, frame) - 1;
        tf_runner_end(&r->checkpoints[victim].runner);
        memmove(&r->checkpoints[victim], &r->checkpoints[victim + 1],
                (r->n - victim - 1) * sizeof *r->checkpoints);
        r->n--;
        if (++s->fulls % (TF_POLICY_MAX / 2) == 0)
            s->map.shm->snapshot_min_ticks *= 2;
    }
}

/* Takes the checkpoints that the program has announced on its socket. */
static void take_snapshots(struct session *s, struct tf_message *message)
{
    struct tf_err err;
    while (s->control.socket >= 0) {
        struct tf_place place;
        int r = tf_runner_recv(&s->control, message, tf_now_ms(), &err);
        if (r == TF_E_TIMEOUT)
            return;
        if (r || message->op != TF_REP_SNAPSHOT || message->fd < 0 || message->len != sizeof place) {
            close(s->control.socket);
            s->control.socket = -1;
            return;
        }
        memcpy(&place, message->data, sizeof place);
        if (place.serial != s->waiting_n + 1) {
            close(message->fd);
            continue;
        }
        struct tf_checkpoint *grown = realloc(s->waiting, place.serial * sizeof *grown);
        if (!grown) {
            close(message->fd);
            return;
        }
        s->waiting = grown;
        s->waiting[s->waiting_n++] =
            (struct tf_checkpoint){.runner = {.socket = message->fd, .pid = (pid_t)place.pid}};
    }
}

/* Sleeps until the program has written a good deal, ended, or a few milliseconds have passed. */
static void sleep_for_more(struct tf_shm_map *map)
{
    struct timespec wait = {0, 5 * 1000 * 1000};
    __atomic_store_n(&map->shm->need_wake, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &map->shm->need_wake, FUTEX_WAIT, 1, &wait, NULL, 0);
    __atomic_store_n(&map->shm->need_wake, 0, __ATOMIC_SEQ_CST);
}

/* A signal that has waited for an event for half a second: the program is in a loop without any. */
static void nudge(struct session *s)
{
    if (!__atomic_load_n(&s->map.shm->pending, __ATOMIC_ACQUIRE)) {
        s->waits_since = 0;
    } else if (!s->waits_since) {
        s->waits_since = tf_now_ms();
    } else if (tf_now_ms() - s->waits_since > NUDGE_MS) {
        s->waits_since = 0;
        kill((pid_t)s->map.shm->program_pid, TF_NUDGE);
    }
}

/* Drains until the program has ended. A failure to write ends the recording, not the program. */
static int drain_until_end(struct session *s, struct tf_ingest *in, pid_t pid, int *wait_status,
                           struct tf_err *err)
{
    struct tf_message message = {0};
    bool ended = false;
    int failed = 0;
    for (;;) {
        struct tf_err drain_err = {0};
        int64_t n = 0;
        take_snapshots(s, &message);
        if (!failed) {
            n = tf_ingest_drain(in, &drain_err);
            if (n >= 0 && tf_ingest_tick(in, &drain_err) < 0)
                n = drain_err.code;
            if (n < 0) {
                failed = drain_err.code;
                *err = drain_err;
                __atomic_store_n(&s->map.shm->stop, 1, __ATOMIC_SEQ_CST);
                __atomic_add_fetch(&s->map.shm->space_futex, 1, __ATOMIC_SEQ_CST);
                syscall(SYS_futex, &s->map.shm->space_futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
                fprintf(stderr, "timefork: recording stops here, the program goes on: %s\n", err->msg);
            }
        }
        if (ended && n <= 0)
            break;
        nudge(s);
        if (!ended) {
            pid_t r = waitpid(pid, wait_status, WNOHANG);
            if (r == pid || (r < 0 && errno == ECHILD))
                ended = true; /* once more round: what it wrote last is in the ring */
            else if (n <= 0)
                sleep_for_more(&s->map);
        }
    }
    free(message.data);
    return failed;
}

static void default_path(const struct tf_record_opts *opts, char *path, size_t size)
{
    if (opts->output)
        snprintf(path, size, "%s", opts->output);
    else
        snprintf(path, size, "./%s.timefork", opts->title);
}

static char **program_env(const struct tf_record_opts *opts)
{
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    char **env = calloc(n + opts->env_n + 1, sizeof *env);
    for (size_t i = 0; env && i < n; i++) {
        bool replaced = false;
        size_t name = strcspn(environ[i], "=");
        for (size_t j = 0; j < opts->env_n; j++)
            replaced |= strncmp(environ[i], opts->env[j], name + 1) == 0;
        if (!replaced)
            env[k++] = environ[i];
    }
    for (size_t j = 0; env && j < opts->env_n; j++) {
        bool again = false;
        for (size_t l = j + 1; l < opts->env_n; l++)
            again |= strncmp(opts->env[j], opts->env[l], strcspn(opts->env[j], "=") + 1) == 0;
        if (!again) /* the last one counts */
            env[k++] = opts->env[j];
    }
    return env;
}

int tf_record_run(const struct tf_record_opts *opts, struct tf_record_result *result, struct tf_err *err)
{
    struct session s = {.result = result, .map = {.fd = -1}, .control = TF_RUNNER_NONE};
    struct tf_store *store = NULL;
    struct tf_ingest *in = NULL;
    char libdir[PATH_MAX], preload[PATH_MAX + 64];
    char **base = NULL, **env = NULL;
    int sockets[2] = {-1, -1}, wait_status = 0, r;
    struct rlimit stack;
    pid_t pid;

    *result = (struct tf_record_result){.shared = {.ctl_fd = -1, .log_fd = -1}};
    default_path(opts, result->path, sizeof result->path);
    base = program_env(opts);
    if (!base)
        return tf_err_set(err, TF_E_IO, "out of memory");
    if ((r = tf_libdir(libdir, sizeof libdir, err)))
        goto out;
    snprintf(preload, sizeof preload, "%s/libtimefork-preload.so", libdir);
    if (!opts->command && (r = tf_probe(opts->python, base, libdir, NULL, err)))
        goto out;
    if ((r = tf_store_create(result->path, &store, err)))
        goto out;
    if ((r = tf_shm_create(&s.map, TF_MODE_RECORD, TF_RING_WORDS, err)))
        goto out;
    if (getrlimit(RLIMIT_STACK, &stack) == 0)
        s.map.shm->stack_limit = stack.rlim_cur;
    struct tf_launch launch = {
        .file = opts->argv[0],
        .argv = opts->argv,
        .fds = {s.map.fd, -1, -1, -1},
        .first_fd = tf_launch_first_fd(),
        .stack_limit = tf_launch_stack(),
    };
    if (opts->snapshots) {
        if ((r = tf_shared_create(&result->shared, err)))
            goto out;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
            r = tf_err_set(err, TF_E_IO, "cannot make a socket: %s", strerror(errno));
            goto out;
        }
        launch.fds[TF_FD_CTL] = result->shared.ctl_fd;
        launch.fds[TF_FD_LOG] = result->shared.log_fd;
        launch.fds[TF_FD_SOCKET] = sockets[1];
        s.control = (struct tf_runner){.socket = sockets[0]};
        sockets[0] = -1;
        s.map.shm->snapshots = 1;
        s.map.shm->snapshot_min_ticks = (uint64_t)(TF_POLICY_MIN_NS * tf_prepare_ticks_per_ns());
    }
    if (!(env = tf_env_make(base, launch.first_fd, preload, err))) {
        r = err->code;
        goto out;
    }
    launch.envp = env;
    own_signals();
    if ((r = tf_launch(&launch, &pid, err)))
        goto out;
    child_pid = pid;
    if (sockets[1] >= 0)
        close(sockets[1]);
    sockets[1] = -1;
    struct tf_ingest_opts ingest = {
        .command = opts->command_line,
        .title = opts->title,
        .child_proc = pid,
        .source_text = opts->source_text,
        .on_snapshot = on_snapshot,
        .ctx = &s,
    };
    if ((r = tf_ingest_begin(store, s.map.shm, s.map.ring, &ingest, &in, err))) {
        /* The program runs already: it goes on, unrecorded. */
        __atomic_store_n(&s.map.shm->stop, 1, __ATOMIC_SEQ_CST);
        fprintf(stderr, "timefork: not recorded: %s\n", err->msg);
        while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR)
            ;
    } else {
        struct tf_err ignored;
        drain_until_end(&s, in, pid, &wait_status, &ignored);
        child_pid = 0;
        int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
        int sig = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
        struct tf_err end_err;
        if (tf_ingest_end(in, status, sig, &result->run, &end_err))
            fprintf(stderr, "timefork: the recording could not be closed: %s\n", end_err.msg);
    }
    child_pid = 0;
    result->status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
    r = 0;
    if (!result->run.id[0]) {
        if (s.map.shm->attach == TF_ATTACH_NO_ENGINE || s.map.shm->attach == TF_ATTACH_ERROR)
            r = tf_probe_explain(s.map.shm, opts->argv[0], libdir, err);
        else
            fprintf(stderr, "timefork: nothing was recorded: %s started no Python that timefork can record\n",
                    opts->argv[0]);
    }
out:
    for (size_t i = 0; i < s.waiting_n; i++)
        tf_runner_end(&s.waiting[i].runner);
    free(s.waiting);
    if (s.control.socket >= 0)
        close(s.control.socket);
    for (int i = 0; i < 2; i++)
        if (sockets[i] >= 0)
            close(sockets[i]);
    tf_env_free(env);
    free(base);
    tf_shm_destroy(&s.map);
    tf_store_close(store);
    if (r)
        tf_shared_destroy(&result->shared);
    return r;
}

/* The line at the end. */
void tf_record_summary(const struct tf_record_result *result)
{
    const struct tf_run *run = &result->run;
    struct stat st;
    char size[32] = "?", frames[32], outside[32], ended[64];
    if (stat(result->path, &st) == 0)
        tf_bytes_text((uint64_t)st.st_size, size, sizeof size);
    fprintf(stderr, "timefork: %s: run %.8s, %s frame events, %s outside calls, %.2f s, file %s%s%s%s\n",
            result->path, run->id, tf_count_text(run->frames, frames, sizeof frames),
            tf_count_text(run->outside, outside, sizeof outside), (double)run->duration_ns / 1e9, size,
            run->state == TF_RUN_COMPLETE ? "" : " (incomplete)", run->exit_signal ? ", ended by " : "",
            run->exit_signal ? tf_signal_text(run->exit_signal, ended, sizeof ended) : "");
    struct tf_store *store;
    struct tf_mark_row *marks;
    size_t n;
    if (tf_store_open(result->path, &store, NULL))
        return;
    if (tf_store_marks(store, run, &marks, &n, NULL) == 0) {
        for (size_t i = 0; i < n; i++)
            if (marks[i].kind == TF_MARK_BARRIER || marks[i].kind == TF_MARK_LOOP) {
                fprintf(stderr, "timefork: replay will be exact up to frame event %llu, and stop there: %s\n",
                        (unsigned long long)marks[i].frame, marks[i].text);
                break;
            }
        tf_marks_free(marks, n);
    }
    tf_store_close(store);
}

int tf_cmd_record(int argc, char **argv)
{
    struct tf_record_opts opts;
    struct tf_record_result result;
    struct tf_err err = {0};
    int status = tf_record_parse(&opts, argc, argv, NULL, NULL, usage_text);
    if (status) {
        tf_record_opts_clear(&opts);
        return status < 0 ? 0 : status;
    }
    if (tf_record_run(&opts, &result, &err)) {
        fprintf(stderr, "timefork: %s\n", err.msg);
        status = TF_EXIT_NO_RECORD;
    } else {
        status = result.status;
        if (result.run.id[0] && !opts.quiet)
            tf_record_summary(&result);
        tf_run_clear(&result.run);
    }
    tf_record_opts_clear(&opts);
    return status;
}
