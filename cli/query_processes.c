/* query_processes.c: `timefork query --list-processes`. */
#include "cli/query.h"

#include <stdlib.h>
#include <string.h>

static const char *const origins[] = {
    [TF_STARTED] = "started", [TF_FORKED] = "forked", [TF_EXECUTED] = "executed"};

/* What it did itself: not what it has of its parent. */
static uint64_t own_frames(const struct tf_run *run)
{
    uint64_t before = run->origin == TF_FORKED ? run->fork_frame : 0;
    return run->frames > before ? run->frames - before : 0;
}

static uint64_t own_outside(const struct tf_run *run)
{
    return run->outside > run->fork_outside ? run->outside - run->fork_outside : 0;
}

static uint64_t own_ns(const struct tf_run *run)
{
    return run->duration_ns > run->fork_ns ? run->duration_ns - run->fork_ns : 0;
}

/* When it began, since the start of the run. The clock of an executed one is its own. */
static uint64_t began_ns(const struct tf_run *run, const struct tf_run *first)
{
    if (run->origin == TF_FORKED)
        return run->fork_ns;
    return run->started_unix_ns > first->started_unix_ns
               ? (uint64_t)(run->started_unix_ns - first->started_unix_ns)
               : 0;
}

/* The program that it became by execve; "" if it stayed what it was. NULL after a message. */
static char *became(struct query *q, const struct tf_run *run)
{
    struct tf_err err;
    struct tf_mark_row *marks;
    size_t n;
    char *path = NULL;
    if (tf_store_marks(q->store, run, &marks, &n, &err)) {
        tf_fail(&err);
        return NULL;
    }
    /* Who became another program did not fork afterwards: it is never a parent's mark. */
    size_t i = n;
    while (i && marks[i - 1].kind != TF_MARK_EXEC)
        i--;
    path = strdup(i ? marks[i - 1].text : "");
    tf_marks_free(marks, n);
    if (!path)
        query_no_memory();
    return path;
}

static int print_json(struct tf_store *store, const struct tf_run *run, const struct tf_run *first,
                      const char *path)
{
    char *command = query_json_text(run->command, strlen(run->command));
    char *exec = query_json_text(path, strlen(path));
    int status = TF_EXIT_OK;
    if (command && exec) {
        printf("{\"run\": \"%s\", \"process\": %u, \"pid\": %u, \"parent\": ", run->id, run->process,
               run->pid);
        if (run->parent)
            printf("%u", run->parent);
        else
            printf("null");
        printf(", \"origin\": \"%s\", \"state\": \"%s\", \"began_frame\": %llu, \"began_ns\": %llu, "
               "\"duration_ns\": %llu, \"frames\": %llu, \"own_frames\": %llu, \"outside\": %llu, "
               "\"own_outside\": %llu, ",
               origins[run->origin], tf_state_text(store, run), (unsigned long long)run->fork_frame,
               (unsigned long long)began_ns(run, first), (unsigned long long)own_ns(run),
               (unsigned long long)run->frames, (unsigned long long)own_frames(run),
               (unsigned long long)run->outside, (unsigned long long)own_outside(run));
        query_exit_json(run);
        printf("\"command\": %s, \"became\": %s}\n", command, *path ? exec : "null");
    } else {
        status = query_no_memory();
    }
    free(command);
    free(exec);
    return status;
}

static void print_row(struct tf_store *store, const struct tf_run *run, const char *path)
{
    char how[32], parent[16] = "-";
    query_exit_text(run, how, sizeof how);
    if (run->exit_status < 0 && !run->exit_signal)
        snprintf(how, sizeof how, "%s",
                 *path                              ? "another"
                 : run->state == TF_RUN_COMPLETE    ? "unknown"
                 : tf_store_is_recorded(store, run) ? "recording"
                                                    : "unfinished");
    if (run->parent)
        snprintf(parent, sizeof parent, "%u", run->parent);
    printf("%7u  %8u  %6s  %-8s  %12llu  %12llu  %12llu  %12llu  %12.6f  %-10s  ", run->process, run->pid,
           parent, origins[run->origin], (unsigned long long)run->fork_frame,
           (unsigned long long)own_frames(run), (unsigned long long)run->frames,
           (unsigned long long)own_outside(run), (double)own_ns(run) / 1e9, how);
    tf_print_name(stdout, run->command);
    if (*path) {
        fputs("  -> ", stdout);
        tf_print_name(stdout, path);
    }
    putchar('\n');
}

int query_processes(struct query *q)
{
    struct tf_err err;
    struct tf_run *runs;
    size_t n;
    int status = TF_EXIT_OK;
    if (tf_store_processes(q->store, &q->run, &runs, &n, &err))
        return tf_fail(&err);
    if (!q->json)
        printf("%7s  %8s  %6s  %-8s  %12s  %12s  %12s  %12s  %12s  %-10s  %s\n", "PROCESS", "PID", "PARENT",
               "ORIGIN", "FROM FRAME", "OWN FRAMES", "ALL FRAMES", "OWN CALLS", "SECONDS", "EXIT", "COMMAND");
    for (size_t i = 0; i < n && !status; i++) {
        if (i < q->offset || i - q->offset >= q->limit)
            continue;
        char *path = became(q, &runs[i]);
        if (!path)
            status = TF_EXIT_ERROR;
        else if (q->json)
            status = print_json(q->store, &runs[i], &runs[0], path);
        else
            print_row(q->store, &runs[i], path);
        free(path);
    }
    tf_runs_free(runs, n);
    return status;
}
