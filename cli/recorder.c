/*
 * recorder.c: see recorder.h. It never stands between the program and its terminal: input, output and signals
 * are the program's own.
 *
 * Each recorded process has a ring and a socket of its own. A process that forks asks first, by its socket,
 * and waits: everything that it wrote is taken, so that what the child writes can go on exactly there. With
 * --follow, an interpreter that is executed connects to a socket that is found by name, for its parents may
 * have closed all descriptors.
 *
 * Only the first process is a child of the supervisor. That another has ended is told by its pidfd; its
 * socket, which closes on exec, tells that it became another program.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/memory.h"
#include "checkpoint/parent.h"
#include "checkpoint/policy.h"
#include "cli/recorder.h"
#include "replay/prepare.h"

#define NUDGE_MS 500
#define REAPED_MS 300               /* its parent will have waited for it by then, or does not */
#define STRAGGLER_MS 1000           /* children that end right after the first process are still recorded */
#define GRACE_MS 2000               /* to end by itself, for a program that was interrupted */
#define CHILD_RING_WORDS (1u << 20) /* 4 MiB: there may be many */
/* Words that are worth a round of their own. After fewer the recorder sleeps: behind a program that never
 * pauses there is always something in the ring, and who takes it word by word has a system call for a few
 * events, and gets from the program's cache, each time, the line that it is just writing. */
#define MUCH_WORDS (1u << 15)

struct process {
    struct tf_shm_map map;
    struct tf_ingest *in;     /* NULL: nothing more is taken */
    struct tf_runner control; /* its socket; the pid is not used, for it may be nobody's child here */
    pid_t pid;                /* 0: not known yet */
    int pidfd;
    int64_t over_since;  /* when it had ended, ms; 0: it has not, or it was told how at once */
    int64_t waits_since; /* when a signal was first seen waiting for an event, ms; 0: none */
};

struct tf_recorder {
    struct tf_recorder_opts opts;
    struct tf_record_result *result;
    struct pollfd *polled;      /* room for all that is waited for */
    struct process **processes; /* in the order in which they began; NULL: ended, but never the first */
    size_t n, live;
    int listener;
    char session[96]; /* value of TIMEFORK= */
    int first_fd;
    uint64_t stack_limit;
    int lent;   /* the first process's socket, until it has it */
    bool said;  /* that recording failed */
    bool noted; /* the seed of chaos */
    struct tf_message message;

    /* The checkpoint that was taken last, until both are known: its process, by the socket, and its place, by
     * the ring. The program takes the next one when it has been answered. */
    struct {
        struct tf_checkpoint checkpoint;
        struct tf_place place;
        uint32_t announced, placed; /* serials */
    } taken;
    struct tf_durables *durables; /* NULL: none are made */
    int64_t earliest_ms;          /* as the budget allows */
    uint32_t asked;               /* serial of the checkpoint that was asked for, for a durable one */
    bool refused;                 /* it was told why the program could not take one */
    struct tf_policy_cost cost;
    uint64_t fault_ns;
    uint64_t faults, pages; /* of the program at the one before: faults so far, resident pages */
};

/* ---- signals ---- */

static volatile sig_atomic_t child_pid, interrupted;

static void forward(int sig)
{
    interrupted = sig;
    if (child_pid > 0)
        kill((pid_t)child_pid, sig);
}

static void nothing(int sig)
{
    (void)sig;
}

static void interrupt(int sig)
{
    interrupted = sig;
}

int tf_recorder_interrupted(void)
{
    return (int)interrupted;
}

/* The terminal sends Ctrl-C to program and recorder alike: only the program decides what it means. */
static void own_signals(void)
{
    static const struct {
        int sig;
        void (*handler)(int);
    } handlers[] = {{SIGINT, interrupt}, {SIGQUIT, interrupt}, {SIGCHLD, nothing}, {SIGTERM, forward},
                    {SIGHUP, forward},   {SIGXFSZ, nothing},   {SIGPIPE, nothing}};
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        struct sigaction before, action = {.sa_handler = handlers[i].handler};
        sigaction(handlers[i].sig, NULL, &before);
        if (before.sa_handler == SIG_IGN && handlers[i].sig != SIGCHLD)
            continue; /* nohup: the program inherits that */
        sigaction(handlers[i].sig, &action, NULL);
    }
}

/* ---- checkpoints of the first process ---- */

/* Says when the next one is due. */
static void answer_snapshot(struct tf_recorder *rec, uint32_t serial)
{
    struct tf_shm *shm = rec->processes[0]->map.shm;
    uint64_t ns =
        tf_policy_spacing_ns(&rec->cost, rec->taken.place.cpu_ns, rec->opts.checkpoints.limits.max, 0);
    rec->earliest_ms = ns == UINT64_MAX ? INT64_MAX : tf_now_ms() + (int64_t)(ns / 1000000);
    if (!rec->opts.snapshots) /* only durable ones: want_snapshot() */
        ns = UINT64_MAX;
    double ticks = (double)ns * tf_prepare_ticks_per_ns();
    __atomic_store_n(&shm->snapshot_ticks, ticks < (double)(UINT64_MAX / 2) ? (uint64_t)ticks : UINT64_MAX,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&shm->snapshot_answered, serial, __ATOMIC_RELEASE);
}

static uint64_t written_by_all(const struct tf_recorder *rec)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < rec->n; i++)
        if (rec->processes[i] && rec->processes[i]->in)
            sum += tf_ingest_written(rec->processes[i]->in);
    return sum;
}

#define FIRST_LOOK_MS 50 /* between two looks whether the program has run for long enough */

/* The first one: by what the program has in memory, can it be within the budget? Without limits on the size:
 * with them, the file grows until there is one. */
static bool may_begin(struct tf_recorder *rec, pid_t program)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    tf_policy_expect(&rec->cost, tf_memory_resident(program) / page, rec->fault_ns);
    if (rec->cost.forks || tf_policy_may_begin(&rec->cost, tf_memory_cpu_ns(program)))
        return true;
    rec->earliest_ms = tf_now_ms() + FIRST_LOOK_MS;
    return false;
}

/* A durable checkpoint is wanted: the program forks at its next event. */
static void want_snapshot(struct tf_recorder *rec)
{
    struct process *first = rec->processes[0];
    struct tf_shm *shm = first->map.shm;
    if (rec->opts.snapshots || tf_now_ms() < rec->earliest_ms || rec->asked == rec->taken.announced + 1 ||
        rec->taken.announced != rec->taken.placed || /* the last one is still to be answered */
        !tf_durables_want(rec->durables, first->in, (pid_t)shm->program_pid, written_by_all(rec)) ||
        (!tf_bound_limited(&rec->opts.bound) && !may_begin(rec, (pid_t)shm->program_pid)))
        return;
    rec->asked = rec->taken.announced + 1;
    __atomic_store_n(&shm->snapshot_ticks, 1, __ATOMIC_RELAXED);
}

/* The program could not take one when it was to. */
static void look_at_refusal(struct tf_recorder *rec)
{
    static const char *const why[] = {
        [TF_SNAPSHOT_DIFFERS] = "the program has memory that a copy of it would not have (madvise)",
        [TF_SNAPSHOT_SHARED] =
            "the program has more than 64 MiB of memory that a copy would share (mmap, MAP_SHARED)",
        [TF_SNAPSHOT_UNSHARED] =
            "memory that a copy would share with the program (mmap, MAP_SHARED) could not be copied",
    };
    struct process *first = rec->n ? rec->processes[0] : NULL; /* --follow: none has asked yet */
    uint32_t reason = first && first->in ? first->map.shm->no_snapshot : TF_SNAPSHOT_CAN;
    if (rec->refused || reason == TF_SNAPSHOT_CAN || reason >= sizeof why / sizeof *why)
        return;
    rec->refused = true;
    if (rec->durables)
        tf_durables_give_up(rec->durables, first->in, why[reason]);
    if (rec->opts.snapshots)
        tf_say("no checkpoint is kept at the moment: %s", why[reason]);
    else
        __atomic_store_n(&first->map.shm->snapshot_ticks, UINT64_MAX, __ATOMIC_RELAXED);
}

/* Its process and its place are known: keeps it, thins them if there are too many. */
static void keep_snapshot(struct tf_recorder *rec)
{
    const struct tf_place *place = &rec->taken.place;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t pages = tf_memory_resident((pid_t)place->pid) / page;
    uint64_t since = place->faults > rec->faults ? place->faults - rec->faults : 0;
    const struct tf_checkpoint_view view = {.present_frame = UINT64_MAX, .total_ns = place->cpu_ns};
    if (rec->taken.announced != rec->taken.placed || rec->taken.checkpoint.runner.socket < 0)
        return;
    if (rec->durables)
        tf_durables_offer(rec->durables, &rec->taken.checkpoint, rec->processes[0]->in, (pid_t)place->pid,
                          written_by_all(rec));
    bool stays = true;
    if (rec->opts.snapshots) {
        tf_checkpoints_reap(&rec->result->checkpoints);
        stays = tf_checkpoints_add(&rec->result->checkpoints, &rec->taken.checkpoint,
                                   (since < pages ? since : pages) * page, &view);
        rec->taken.checkpoint.runner = TF_RUNNER_NONE;
    } else {
        tf_runner_end(&rec->taken.checkpoint.runner);
    }
    tf_policy_expect(&rec->cost, pages, rec->fault_ns);
    tf_policy_taken(&rec->cost, (uint64_t)((double)place->cost_ticks / tf_prepare_ticks_per_ns()), since,
                    rec->pages, rec->fault_ns, stays);
    rec->faults = place->faults;
    rec->pages = pages;
    answer_snapshot(rec, rec->taken.announced);
}

/* The ring says where a checkpoint stands. */
static void on_snapshot(void *ctx, uint32_t serial, uint64_t frame, uint64_t offset)
{
    struct tf_recorder *rec = ctx;
    rec->taken.checkpoint.frame = frame;
    rec->taken.checkpoint.offset = offset;
    rec->taken.placed = serial;
    keep_snapshot(rec);
}

/* The program says that it has taken one; takes the message's descriptor. */
static void on_announced(struct tf_recorder *rec)
{
    struct tf_checkpoint *c = &rec->taken.checkpoint;
    tf_runner_end(&c->runner); /* of one whose place has not come */
    memcpy(&rec->taken.place, rec->message.data, sizeof rec->taken.place);
    *c = (struct tf_checkpoint){
        .frame = c->frame,
        .offset = c->offset,
        .kind = TF_CHECKPOINT_FORK,
        .recorded = true,
        .runner = {.socket = rec->message.fd, .pid = (pid_t)rec->taken.place.pid},
        .work_ns = rec->taken.place.cpu_ns,
        .made_ms = tf_now_ms(),
    };
    rec->taken.announced = rec->taken.place.serial;
    keep_snapshot(rec);
}

/* ---- processes ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Memory for a process that is to be recorded; its ring and header are filled in. NULL with err. */
static struct process *process_new(struct tf_recorder *rec, uint32_t ring_words, int socket,
                                   struct tf_err *err)
{
    struct process *p = calloc(1, sizeof *p);
    struct process **grown = realloc(rec->processes, (rec->n + 1) * sizeof *grown);
    struct pollfd *polled = realloc(rec->polled, (2 * rec->n + 5) * sizeof *polled);
    if (grown)
        rec->processes = grown;
    if (polled)
        rec->polled = polled;
    if (!p || !grown || !polled) {
        free(p);
        tf_err_set(err, TF_E_IO, "out of memory");
        return NULL;
    }
    if (tf_shm_create(&p->map, TF_MODE_RECORD, ring_words, err)) {
        free(p);
        return NULL;
    }
    p->map.shm->stack_limit = rec->stack_limit;
    p->map.shm->was_fixed = rec->opts.was_fixed;
    p->map.shm->light = rec->opts.light;
    if (rec->opts.chaos) /* each process has its own; odd stays odd */
        p->map.shm->chaos = rec->opts.chaos + 2 * rec->n;
    if (rec->opts.follow)
        memcpy(p->map.shm->follow, rec->session, sizeof rec->session);
    p->control = (struct tf_runner){.socket = socket};
    p->pidfd = -1;
    rec->processes[rec->n++] = p;
    rec->live++;
    return p;
}

static void process_free(struct process *p)
{
    if (!p)
        return;
    close_fd(&p->control.socket);
    close_fd(&p->pidfd);
    tf_shm_destroy(&p->map);
    free(p);
}

static void wake_all(struct process *p)
{
    __atomic_store_n(&p->map.shm->stop, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&p->map.shm->space_futex, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &p->map.shm->space_futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Takes what is in the ring. Returns the words taken; when writing fails, recording this process ends. */
static int64_t drain(struct tf_recorder *rec, struct process *p)
{
    struct tf_err err = {0};
    if (!p->in || p->map.shm->stop)
        return 0;
    int64_t n = tf_ingest_drain(p->in, &err);
    if (n >= 0 && tf_ingest_tick(p->in, &err) < 0)
        n = -1;
    if (n >= 0)
        return n;
    wake_all(p);
    if (!rec->said) /* the others will meet the same */
        fprintf(stderr, "timefork: recording stops here, the program goes on: %s\n", err.msg);
    rec->said = true;
    return 0;
}

/* How a process that is nobody's child here has ended, where the kernel tells (Linux 6.15). */
static void exit_of(const struct process *p, int *status, int *sig)
{
    /* struct pidfd_info of <linux/pidfd.h>, first version: 64 bytes */
    struct {
        uint64_t mask, cgroup;
        uint32_t ids[11];
        int32_t exit_code;
    } info = {.mask = 1u << 3 /* PIDFD_INFO_EXIT */};
    *status = -1;
    *sig = 0;
    if (p->pidfd < 0 || ioctl(p->pidfd, _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, sizeof info), &info) < 0 ||
        !(info.mask & 1u << 3))
        return;
    if (WIFEXITED(info.exit_code))
        *status = WEXITSTATUS(info.exit_code);
    else if (WIFSIGNALED(info.exit_code))
        *sig = WTERMSIG(info.exit_code);
}

static void learn_pid(struct process *p)
{
    if (!p->pid && p->map.shm->attach == TF_ATTACH_OK && p->map.shm->program_pid) {
        p->pid = (pid_t)p->map.shm->program_pid;
        p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    }
}

static bool became(const struct process *p)
{
    return __atomic_load_n(&p->map.shm->became, __ATOMIC_ACQUIRE);
}

/* Has this process, which is not the launched one, ended, or become another program? */
static bool is_over(const struct tf_recorder *rec, struct process *p)
{
    learn_pid(p);
    if (p->pidfd >= 0) {
        struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};
        if (poll(&fd, 1, 0) > 0)
            return true;
    } else if (p->pid && kill(p->pid, 0) < 0 && errno == ESRCH) {
        return true;
    }
    /* With --follow, what it became may ask to be recorded, and is its child then. */
    return p->control.socket < 0 && (!p->pid || (!rec->opts.follow && became(p)));
}

/* Closes the process's part of the recording. */
static void finish(struct tf_recorder *rec, size_t i, int status, int sig, struct tf_run *run)
{
    struct process *p = rec->processes[i];
    struct tf_err err;
    if (p->in && tf_ingest_end(p->in, status, sig, run, &err))
        fprintf(stderr, "timefork: the recording could not be closed: %s\n", err.msg);
    p->in = NULL;
    rec->live--;
    if (i > 0) {
        process_free(p);
        rec->processes[i] = NULL;
    }
}

/* False: how it ended is not known yet; the kernel tells when somebody has waited for it. */
static bool finish_child(struct tf_recorder *rec, size_t i)
{
    struct process *p = rec->processes[i];
    int status, sig;
    exit_of(p, &status, &sig);
    if (status < 0 && !sig && p->in && p->pidfd >= 0 && !became(p) && !tf_ingest_knows_end(p->in)) {
        if (!p->over_since)
            p->over_since = tf_now_ms();
        if (tf_now_ms() - p->over_since < REAPED_MS)
            return false;
    }
    if (became(rec->processes[i])) { /* that was another program's */
        status = -1;
        sig = 0;
    }
    finish(rec, i, status, sig, NULL);
    return true;
}

/* ---- requests ---- */

/* Who does not hear it has gone; that is noticed otherwise. */
static void answer(const struct tf_runner *control, enum tf_op op, int fd)
{
    struct tf_err ignored;
    tf_runner_send_fd(control, op, fd, &ignored);
}

/* Says that a child is not recorded, now and in the recording. */
static void leave_out(struct process *parent, pid_t pid, const char *why)
{
    char text[512], who[32] = "";
    if (pid)
        snprintf(who, sizeof who, " (pid %d)", (int)pid);
    snprintf(text, sizeof text, "a child process%s is not recorded: %s", who, why);
    fprintf(stderr, "timefork: %s\n", text);
    if (parent->in)
        tf_ingest_note(parent->in, text);
}

/* The process is about to fork, and waits. Takes the message's descriptor. */
static void on_fork(struct tf_recorder *rec, struct process *parent)
{
    struct tf_err err = {0};
    struct process *child = NULL;
    int socket = rec->message.fd;
    while (drain(rec, parent) > 0)
        ;
    if (rec->opts.light)
        leave_out(parent, 0, "a light recording is of the first process only (record without --light)");
    else if (parent->in && !parent->map.shm->stop)
        child = process_new(rec, CHILD_RING_WORDS, socket, &err);
    if (child && tf_ingest_fork(parent->in, child->map.shm, child->map.ring, 0, &child->in, &err)) {
        rec->n--;
        rec->live--;
        child->control.socket = -1;
        process_free(child);
        child = NULL;
    }
    if (!child) {
        close(socket);
        if (err.code)
            leave_out(parent, 0, err.msg);
    }
    answer(&parent->control, TF_REQ_FORKED, child ? child->map.fd : -1);
    if (child)
        close_fd(&child->map.fd);
}

/* What a process says on its socket. */
static void hear(struct tf_recorder *rec, struct process *p)
{
    struct tf_err err;
    while (p->control.socket >= 0) {
        int r = tf_runner_recv(&p->control, &rec->message, tf_now_ms(), &err);
        if (r == TF_E_TIMEOUT)
            return;
        bool whole = rec->message.fd >= 0 && rec->message.len == sizeof(struct tf_place);
        if (!r && rec->message.op == TF_REP_WAKE)
            continue;
        if (!r && rec->message.op == TF_REP_SNAPSHOT && whole) {
            on_announced(rec);
        } else if (!r && rec->message.op == TF_REP_FORK && whole) {
            on_fork(rec, p);
        } else if (!r && rec->message.op == TF_REP_LEFT_OUT && rec->message.len == sizeof(struct tf_place)) {
            struct tf_place place;
            memcpy(&place, rec->message.data, sizeof place);
            leave_out(p, (pid_t)place.pid, "its parent had no descriptors left");
        } else {
            if (!r)
                close_fd(&rec->message.fd);
            close_fd(&p->control.socket);
        }
    }
}

/* The recorded process that this one was, or that it descends from; else the first; NULL: it is the first. */
static struct process *ancestor(struct tf_recorder *rec, pid_t pid)
{
    for (size_t i = 0; i < rec->n; i++)
        if (rec->processes[i])
            learn_pid(rec->processes[i]);
    for (int depth = 0; pid > 1 && depth < 64; depth++, pid = tf_parent_of(pid))
        for (size_t i = rec->n; i-- > 0;)
            if (rec->processes[i] && rec->processes[i]->in && rec->processes[i]->pid == pid)
                return rec->processes[i];
    return rec->n && rec->processes[0]->in ? rec->processes[0] : NULL;
}

static void begin(struct tf_recorder *rec, struct process *p, pid_t pid, struct process *parent,
                  struct tf_err *err)
{
    struct tf_ingest_opts opts = {
        .command = rec->opts.command,
        .title = rec->opts.title,
        .child_proc = pid,
        .source_text = rec->opts.source_text,
        .light = rec->opts.light,
        .on_snapshot = on_snapshot,
        .ctx = rec,
        .parent = parent ? parent->in : NULL,
    };
    p->pid = pid;
    if (tf_ingest_begin(rec->opts.store, p->map.shm, p->map.ring, &opts, &p->in, err)) {
        wake_all(p); /* it runs already: it goes on, unrecorded */
        fprintf(stderr, "timefork: not recorded: %s\n", err->msg);
    }
}

/* --follow: an interpreter asks to be recorded. */
static void on_connection(struct tf_recorder *rec)
{
    struct tf_err err;
    struct ucred peer;
    socklen_t size = sizeof peer;
    struct tf_runner control = {.socket = accept4(rec->listener, NULL, NULL, SOCK_CLOEXEC)};
    if (control.socket < 0)
        return;
    if (tf_runner_recv(&control, &rec->message, tf_now_ms() + 1000, &err) || rec->message.op != TF_REP_JOIN ||
        getsockopt(control.socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        close_fd(&rec->message.fd);
        close(control.socket);
        return;
    }
    /* What its ancestors have written tells at which event it began. */
    for (size_t i = 0; i < rec->n; i++)
        if (rec->processes[i])
            while (drain(rec, rec->processes[i]) > 0)
                ;
    struct process *parent = ancestor(rec, peer.pid);
    struct process *p = process_new(rec, rec->n ? CHILD_RING_WORDS : TF_RING_WORDS, control.socket, &err);
    if (!p) {
        fprintf(stderr, "timefork: a process is not recorded: %s\n", err.msg);
        close(control.socket);
        return;
    }
    begin(rec, p, peer.pid, parent, &err);
    p->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    answer(&control, TF_REQ_JOINED, p->map.fd);
    close_fd(&p->map.fd);
}

/* ---- the loop ---- */

/* A signal that has waited for an event for half a second: the program is in a loop without any. */
static void nudge(struct process *p)
{
    if (!__atomic_load_n(&p->map.shm->pending, __ATOMIC_ACQUIRE)) {
        p->waits_since = 0;
    } else if (!p->waits_since) {
        p->waits_since = tf_now_ms();
    } else if (tf_now_ms() - p->waits_since > NUDGE_MS) {
        p->waits_since = 0;
        kill((pid_t)p->map.shm->program_pid, TF_NUDGE);
    }
}

/* Ends what was launched, the Python that it started if it is none itself, and recorded children. */
static void kill_all(struct tf_recorder *rec, pid_t launched)
{
    pid_t program = rec->n ? (pid_t)rec->processes[0]->map.shm->program_pid : 0, ancestor = program;
    for (int depth = 0; ancestor > 1 && ancestor != launched && depth < 64; depth++)
        ancestor = tf_parent_of(ancestor);
    if (ancestor == launched) /* else it has ended: the number may be anybody's */
        kill(program, SIGKILL);
    kill(launched, SIGKILL);
    for (size_t i = 1; i < rec->n; i++)
        if (rec->processes[i] && rec->processes[i]->pidfd >= 0)
            syscall(SYS_pidfd_send_signal, rec->processes[i]->pidfd, SIGKILL, NULL, 0);
}

/* Is it time to kill the program? Says in the result why. */
static bool must_end(struct tf_recorder *rec, int64_t began, int64_t *interrupted_at)
{
    int64_t now = tf_now_ms();
    if (rec->opts.ends_together && interrupted && !rec->result->interrupted) {
        rec->result->interrupted = true;
        *interrupted_at = now;
    }
    if (rec->result->interrupted)
        return now - *interrupted_at > GRACE_MS;
    rec->result->timed_out = rec->opts.timeout_ms && now - began > rec->opts.timeout_ms;
    return rec->result->timed_out;
}

/* That threads are switched by chance, once there is a run to note it in. */
static void note_chaos(struct tf_recorder *rec)
{
    char text[128];
    if (!rec->opts.chaos || rec->noted || !rec->n || !rec->processes[0] || !rec->processes[0]->in ||
        !tf_ingest_started(rec->processes[0]->in))
        return;
    snprintf(text, sizeof text, TF_CHAOS_NOTE "%llu", (unsigned long long)(rec->opts.chaos >> 1));
    tf_ingest_note(rec->processes[0]->in, text);
    rec->noted = true;
}

/* Sleeps until a process has written a good deal, asks for something or has ended, or a few milliseconds have
 * passed.
 */
static void sleep_for_more(struct tf_recorder *rec)
{
    struct pollfd *fds = rec->polled;
    nfds_t n = 0;
    if (rec->listener >= 0)
        fds[n++] = (struct pollfd){.fd = rec->listener, .events = POLLIN};
    for (size_t i = 0; i < rec->n; i++) {
        struct process *p = rec->processes[i];
        if (!p)
            continue;
        __atomic_store_n(&p->map.shm->need_wake, 1, __ATOMIC_SEQ_CST);
        if (p->control.socket >= 0)
            fds[n++] = (struct pollfd){.fd = p->control.socket, .events = POLLIN};
        if (p->pidfd >= 0)
            fds[n++] = (struct pollfd){.fd = p->pidfd, .events = POLLIN};
    }
    bool at_once = false;
    if (rec->durables)
        fds[n++] = (struct pollfd){.fd = tf_durables_fd(rec->durables, &at_once), .events = POLLIN};
    poll(fds, n, at_once ? 0 : 5);
    for (size_t i = 0; i < rec->n; i++)
        if (rec->processes[i])
            __atomic_store_n(&rec->processes[i]->map.shm->need_wake, 0, __ATOMIC_SEQ_CST);
}

/* One round over all processes. Returns how many words were taken. */
static int64_t attend(struct tf_recorder *rec)
{
    int64_t taken = 0;
    struct pollfd fd = {.fd = rec->listener, .events = POLLIN};
    while (rec->listener >= 0 && poll(&fd, 1, 0) > 0)
        on_connection(rec);
    for (size_t i = 0; i < rec->n; i++) {
        struct process *p = rec->processes[i];
        if (!p)
            continue;
        bool over = i > 0 && is_over(rec, p); /* before its ring is looked at for the last time */
        hear(rec, p);
        int64_t n = drain(rec, p);
        taken += n;
        nudge(p);
        if (over && n <= 0)
            finish_child(rec, i);
    }
    return taken;
}

/* Processes that still run when the recording ends: they go on unrecorded. */
static void leave_behind(struct tf_recorder *rec)
{
    for (size_t i = 1; i < rec->n; i++) {
        struct process *p = rec->processes[i];
        if (!p)
            continue;
        if (is_over(rec, p)) {
            int status, sig;
            exit_of(p, &status, &sig);
            finish(rec, i, status, sig, NULL);
            continue;
        }
        wake_all(p);
        if (p->in && tf_ingest_process(p->in))
            fprintf(
                stderr,
                "timefork: process %u (pid %d) still runs: it is recorded up to here (--wait records until "
                "it ends)\n",
                tf_ingest_process(p->in), (int)p->pid);
        if (p->in)
            tf_ingest_leave(p->in, "the first process ended, and with it the recording");
        finish(rec, i, -1, 0, NULL);
    }
}

void tf_recorder_run(struct tf_recorder *rec, pid_t pid, int *wait_status, struct tf_record_result *result)
{
    struct tf_err err;
    bool ended = false, killed = false;
    int64_t until = 0, began = tf_now_ms(), interrupted_at = 0;
    struct rlimit files;
    rec->result = result;
    child_pid = pid;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* two for each process; the program has its own limit */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    close_fd(&rec->lent);
    if (rec->listener < 0)
        begin(rec, rec->processes[0], pid, NULL, &err);
    for (;;) {
        int64_t taken = attend(rec);
        if (rec->durables) {
            tf_durables_step(rec->durables, rec->processes[0]->in, written_by_all(rec));
            want_snapshot(rec);
        }
        look_at_refusal(rec);
        note_chaos(rec);
        if (ended && !taken) {
            if (!until)
                until = tf_now_ms() + STRAGGLER_MS;
            bool others = rec->live > 1 || (rec->live == 1 && !rec->processes[0]->in);
            if (!others || (!rec->opts.wait && tf_now_ms() > until))
                break;
        }
        if (!ended) {
            pid_t r = waitpid(pid, wait_status, WNOHANG);
            ended = r == pid ||
                    (r < 0 && errno == ECHILD); /* once more round: what it wrote last is in the ring */
        }
        if (!ended && !killed && must_end(rec, began, &interrupted_at)) {
            kill_all(rec, pid);
            killed = true;
        }
        if (taken < MUCH_WORDS && !(ended && !until))
            sleep_for_more(rec);
    }
    child_pid = 0;
    if (rec->durables)
        tf_durables_end(rec->durables, rec->processes[0]->in, written_by_all(rec));
    leave_behind(rec);
    if (rec->opts.ends_together && interrupted)
        result->interrupted = true;
    if (rec->n) {
        struct process *first = rec->processes[0];
        int status = WIFEXITED(*wait_status) ? WEXITSTATUS(*wait_status) : -1;
        int sig = WIFSIGNALED(*wait_status) ? WTERMSIG(*wait_status) : 0;
        if (first->pid != pid)
            exit_of(first, &status, &sig);
        finish(rec, 0, status, sig, &result->run);
    }
}

const struct tf_shm *tf_recorder_header(const struct tf_recorder *rec)
{
    return rec->n ? rec->processes[0]->map.shm : NULL;
}

/* ---- begin and end ---- */

static int listen_by_name(struct tf_recorder *rec, struct tf_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t random[2];
    char name[64];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return tf_err_set(err, TF_E_IO, "no random numbers: %s", strerror(errno));
    int len = snprintf(name, sizeof name, "timefork-%016llx%016llx", (unsigned long long)random[0],
                       (unsigned long long)random[1]);
    memcpy(address.sun_path + 1, name, (size_t)len);
    rec->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (rec->listener < 0 ||
        bind(rec->listener, (struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0 ||
        listen(rec->listener, 64) < 0)
        return tf_err_set(err, TF_E_IO, "cannot make a socket: %s", strerror(errno));
    snprintf(rec->session, sizeof rec->session, "@%s,%d", name, rec->first_fd);
    return 0;
}

int tf_recorder_new(const struct tf_recorder_opts *opts, struct tf_launch *launch, const char **session,
                    struct tf_recorder **out, struct tf_err *err)
{
    struct tf_recorder *rec = calloc(1, sizeof *rec);
    struct rlimit stack;
    int sockets[2], r;
    *out = NULL;
    if (!rec)
        return tf_err_set(err, TF_E_IO, "out of memory");
    *rec = (struct tf_recorder){
        .opts = *opts,
        .listener = -1,
        .first_fd = launch->first_fd,
        .lent = -1,
        .message = {.fd = -1},
        .taken.checkpoint.runner = TF_RUNNER_NONE,
    };
    if (!(rec->polled = calloc(4, sizeof *rec->polled))) {
        r = tf_err_set(err, TF_E_IO, "out of memory");
        goto out;
    }
    if (getrlimit(RLIMIT_STACK, &stack) == 0)
        rec->stack_limit = stack.rlim_cur;
    for (int i = 0; i < TF_FDS; i++)
        launch->fds[i] = -1;
    if (opts->follow) {
        r = listen_by_name(rec, err);
        goto out;
    }
    snprintf(rec->session, sizeof rec->session, "%d", launch->first_fd);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
        r = tf_err_set(err, TF_E_IO, "cannot make a socket: %s", strerror(errno));
        goto out;
    }
    rec->lent = sockets[1];
    struct process *p = process_new(rec, TF_RING_WORDS, sockets[0], err);
    if (!p) {
        close(sockets[0]);
        r = err->code;
        goto out;
    }
    launch->fds[TF_FD_SHM] = p->map.fd;
    launch->fds[TF_FD_SOCKET] = sockets[1];
    if (opts->snapshots || opts->durable) {
        struct tf_durables_opts durable = {.store = opts->store,
                                           .mode = opts->durable,
                                           .bound = opts->bound,
                                           .max = TF_DURABLE_EACH * opts->checkpoints.limits.max};
        if ((r = tf_durables_new(&durable, &rec->durables, err)))
            goto out;
        p->map.shm->snapshots = 1;
        rec->cost.budget = opts->checkpoints.budget;
        rec->fault_ns = tf_memory_fault_ns();
        answer_snapshot(rec, 0);
    }
    r = 0;
out:
    if (r) {
        tf_recorder_free(rec);
        return r;
    }
    own_signals();
    *session = rec->session;
    *out = rec;
    return 0;
}

void tf_recorder_free(struct tf_recorder *rec)
{
    if (!rec)
        return;
    for (size_t i = 0; i < rec->n; i++)
        process_free(rec->processes[i]);
    free(rec->processes);
    free(rec->polled);
    tf_runner_end(&rec->taken.checkpoint.runner);
    tf_durables_free(rec->durables);
    close_fd(&rec->lent);
    close_fd(&rec->listener);
    free(rec->message.data);
    free(rec);
}
