/* keep.c: see keep.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/evict.h"
#include "cli/keep.h"

#define LONGEST_MS (30 * 86400000ll)

bool tf_duration_parse(const char *text, int64_t *ms)
{
    uint64_t ns;
    if (!tf_age_parse(text, &ns) || ns / 1000000 > (uint64_t)LONGEST_MS)
        return false;
    *ms = (int64_t)(ns / 1000000);
    return true;
}

const char *tf_duration_text(int64_t ms, char *buf, size_t size)
{
    long long s = ms / 1000;
    if (s < 60)
        snprintf(buf, size, "%llds", s);
    else if (s < 3600)
        snprintf(buf, size, s % 60 ? "%lldm %llds" : "%lldm", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, size, s / 60 % 60 ? "%lldh %lldm" : "%lldh", s / 3600, s / 60 % 60);
    else
        snprintf(buf, size, s / 3600 % 24 ? "%lldd %lldh" : "%lldd", s / 86400, s / 3600 % 24);
    return buf;
}

/* ---- the command in the foreground ---- */

struct report {
    int status;
    bool stays;
};

static volatile sig_atomic_t recorder;

/* It knows the program, which is what the signal is for. */
static void forward(int sig)
{
    kill((pid_t)recorder, sig);
}

static void nothing(int sig)
{
    (void)sig;
}

/* What the terminal sends reaches the program and its recorder anyway (recorder.c). */
static void own_signals(void)
{
    static const struct {
        int sig;
        void (*handler)(int);
    } handlers[] = {{SIGINT, nothing}, {SIGQUIT, nothing}, {SIGTERM, forward}, {SIGHUP, forward}};
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        struct sigaction before, action = {.sa_handler = handlers[i].handler};
        sigaction(handlers[i].sig, NULL, &before);
        if (before.sa_handler != SIG_IGN)
            sigaction(handlers[i].sig, &action, NULL);
    }
}

static _Noreturn void wait_for(pid_t pid, int from)
{
    struct report report;
    int how = 0;
    ssize_t n;
    do
        n = read(from, &report, sizeof report);
    while (n < 0 && errno == EINTR);
    if (n == sizeof report && report.stays)
        _exit(report.status);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        ;
    if (n == sizeof report)
        _exit(report.status);
    if (WIFSIGNALED(how)) {
        char text[64];
        tf_say("the recorder was ended by %s: what it had written until then is in the recording, and the "
               "program goes on without it",
               tf_signal_text(WTERMSIG(how), text, sizeof text));
        _exit(128 + WTERMSIG(how));
    }
    _exit(WEXITSTATUS(how));
}

int tf_stay_begin(struct tf_staying *staying, struct tf_err *err)
{
    int ends[2];
    sigset_t all, before;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return tf_err_set(err, TF_E_IO, "cannot make a pipe: %s", strerror(errno));
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    if (pid > 0) {
        recorder = pid;
        own_signals();
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid > 0) {
        close(ends[1]);
        wait_for(pid, ends[0]);
    }
    close(ends[0]);
    if (pid < 0) {
        close(ends[1]);
        return tf_err_set(err, TF_E_IO, "cannot start a process: %s", strerror(errno));
    }
    staying->report = ends[1];
    tf_keep_build(staying->build);
    return 0;
}

/* ---- the recorder, afterwards ---- */

static void report(const struct tf_staying *staying, int status, bool stays)
{
    struct report report = {.status = status, .stays = stays};
    ssize_t n;
    do
        n = write(staying->report, &report, sizeof report);
    while (n < 0 && errno == EINTR); /* if nobody hears it, nobody waits */
}

/* NULL: nothing is kept, and it was said why. */
static struct tf_keeper *take(const struct tf_staying *staying, const struct tf_record_opts *opts,
                              struct tf_record_result *result)
{
    struct tf_keep_opts keep = {.run = result->run.id,
                                .path = result->path,
                                .title = opts->title,
                                .duration_ms = opts->keep_ms,
                                .memory_cap = opts->checkpoints.cost.limits.bytes,
                                .build = staying->build};
    struct tf_keeper *keeper = NULL;
    struct tf_err err;
    char text[32];
    struct tf_checkpoints *set = &result->checkpoints;
    struct tf_kept_checkpoint *v = calloc(set->n + 1, sizeof *v);
    for (size_t i = 0; v && i < set->n; i++)
        v[i] = (struct tf_kept_checkpoint){.frame = set->v[i].frame,
                                           .offset = set->v[i].offset,
                                           .work_ns = set->v[i].work_ns,
                                           .made_ms = set->v[i].made_ms,
                                           .socket = set->v[i].runner.socket,
                                           .pid = set->v[i].runner.pid};
    int r = v ? tf_keeper_new(&keep, v, set->n, &keeper, &err) : tf_err_set(&err, TF_E_IO, "out of memory");
    free(v);
    for (size_t i = 0; i < set->n && !r; i++)
        set->v[i].runner = TF_RUNNER_NONE; /* they are the keeper's */
    tf_checkpoints_clear(set);
    if (r == TF_E_NOTFOUND && !opts->quiet)
        tf_say("nothing is kept: %s; a replay begins at the start", err.msg);
    else if (r && r != TF_E_NOTFOUND)
        tf_say("nothing is kept: %s", err.msg);
    else if (!r && !opts->quiet)
        tf_say(
            "%zu checkpoint%s kept for %s, for 'timefork replay' ('timefork sessions' lists and ends them)",
            tf_keeper_checkpoints(keeper), tf_keeper_checkpoints(keeper) == 1 ? " is" : "s are",
            tf_duration_text(opts->keep_ms, text, sizeof text));
    return keeper;
}

void tf_stay_end(const struct tf_staying *staying, const struct tf_record_opts *opts,
                 struct tf_record_result *result, int status)
{
    struct tf_keeper *keeper = result->run.id[0] ? take(staying, opts, result) : NULL;
    tf_shared_destroy(&result->shared);
    tf_run_clear(&result->run);
    if (!keeper) {
        report(staying, status, false);
        _exit(status);
    }
    tf_keeper_detach(keeper, staying->report);
    report(staying, status, true);
    close(staying->report);
    tf_keeper_run(keeper);
    tf_keeper_free(keeper);
    _exit(0);
}
