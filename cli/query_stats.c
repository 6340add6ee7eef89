/*
 * query_stats.c: `timefork query --stats`: calls and times of each function.
 *
 * Own ("self") time is the time in which a function was the innermost one of the running thread: what lies
 * between two events belongs to the top of the stack of the thread that the first of them left running: after
 * a switch, that of the thread which goes on. Total time runs from the outermost activation of a function on
 * its thread to its end, so recursion counts once. A generator is on the stack from a resume to the next
 * yield only: the time in which it is suspended is not its own.
 */
#include "cli/query.h"

#include <stdlib.h>
#include <string.h>

struct row {
    uint32_t code;
    uint64_t calls, resumes, self, total;
};

struct activation {
    uint32_t code;
    uint64_t since;
};
struct thread {
    uint32_t id;
    struct activation *stack;
    size_t n, cap;
    uint32_t *active; /* by code: how many activations are on the stack */
};
struct stats {
    struct query *q;
    struct row *rows; /* by code */
    struct thread *threads;
    size_t n_threads;
    size_t running; /* index of the thread */
    uint64_t last;
};

/* Index of a thread; SIZE_MAX: no memory. Who has nothing on its stack may have ended: its place is used
 * again, so that a program that starts a thread for everything it does costs no more than one with a few. */
static size_t find_thread(struct stats *s, uint32_t id)
{
    size_t empty = SIZE_MAX;
    for (size_t i = 0; i < s->n_threads; i++) {
        if (s->threads[i].id == id)
            return i;
        if (!s->threads[i].n)
            empty = i;
    }
    if (empty != SIZE_MAX) {
        s->threads[empty].id = id;
        return empty;
    }
    struct thread *more = realloc(s->threads, (s->n_threads + 1) * sizeof *more);
    if (!more)
        return SIZE_MAX;
    s->threads = more;
    struct thread *t = &s->threads[s->n_threads];
    *t = (struct thread){.id = id, .active = calloc(s->q->codes.n, sizeof *t->active)};
    if (!t->active)
        return SIZE_MAX;
    return s->n_threads++;
}

/* Is it to be counted? */
static bool counts(const struct stats *s, const struct thread *t)
{
    return !s->q->one_thread || t->id == s->q->thread;
}

static void spend(struct stats *s, uint64_t now)
{
    const struct thread *t = s->n_threads ? &s->threads[s->running] : NULL;
    if (t && t->n && now > s->last && counts(s, t))
        s->rows[t->stack[t->n - 1].code].self += now - s->last;
    s->last = now;
}

static void leave(struct stats *s, struct thread *t, uint64_t now)
{
    struct activation *a = &t->stack[--t->n];
    if (--t->active[a->code] == 0 && counts(s, t))
        s->rows[a->code].total += now - a->since;
}

static int push(struct thread *t, uint32_t code, uint64_t now)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct activation *stack = realloc(t->stack, cap * sizeof *stack);
        if (!stack)
            return -1;
        t->stack = stack;
        t->cap = cap;
    }
    t->stack[t->n++] = (struct activation){.code = code, .since = now};
    t->active[code]++;
    return 0;
}

static int switch_to(struct stats *s, uint32_t thread)
{
    if (s->n_threads && s->threads[s->running].id == thread)
        return 0;
    size_t found = find_thread(s, thread);
    if (found == SIZE_MAX)
        return -1;
    s->running = found;
    return 0;
}

/* In a run whose oldest part was dropped, functions run already; their time counts from there on. */
static int add_running(void *ctx, uint32_t thread, const struct tf_activation *a)
{
    struct stats *s = ctx;
    if (a->code >= s->q->codes.n || switch_to(s, thread))
        return 1;
    return push(&s->threads[s->running], a->code, s->last) ? 1 : 0;
}

static int begin_at_base(struct stats *s, struct tf_cursor *cursor, struct tf_err *err)
{
    uint32_t running;
    s->last = s->q->run.base.ns;
    int rc = tf_cursor_base_stacks(cursor, add_running, s, &running, err);
    if (rc == 0 && s->q->run.base.frame && switch_to(s, running))
        rc = 1;
    return rc > 0 ? tf_err_set(err, TF_E_IO, "out of memory, or what is on a stack makes no sense") : rc;
}

static int count(struct stats *s, const struct tf_frame *f)
{
    spend(s, f->time_ns);
    if (switch_to(s, f->thread))
        return -1;
    struct thread *t = &s->threads[s->running];
    if (f->event == TF_SWITCH)
        return 0;
    if (f->event != TF_CALL && f->event != TF_RESUME) {
        if (t->n)
            leave(s, t, f->time_ns);
        return 0;
    }
    if (counts(s, t) && f->event == TF_CALL)
        s->rows[f->code].calls++;
    else if (counts(s, t))
        s->rows[f->code].resumes++;
    return push(t, f->code, f->time_ns);
}

/* Functions that never returned ran until the end. */
static void finish(struct stats *s, uint64_t end)
{
    if (end < s->last)
        end = s->last;
    spend(s, end);
    for (size_t i = 0; i < s->n_threads; i++) {
        struct thread *t = &s->threads[i];
        while (t->n)
            leave(s, t, end);
    }
}

static int by_self(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->self != y->self)
        return x->self < y->self ? 1 : -1;
    return (x->code > y->code) - (x->code < y->code);
}

static int print_row(struct query *q, const struct row *row)
{
    const struct tf_code *code = &q->codes.codes[row->code];
    if (q->json) {
        char *function = query_json_text(code->qualname, strlen(code->qualname));
        char *file = query_json_text(code->file, strlen(code->file));
        if (function && file)
            printf("{\"function\": %s, \"file\": %s, \"line\": %u, \"calls\": %llu, \"resumes\": %llu, "
                   "\"total_ns\": %llu, \"self_ns\": %llu}\n",
                   function, file, code->first_line, (unsigned long long)row->calls,
                   (unsigned long long)row->resumes, (unsigned long long)row->total,
                   (unsigned long long)row->self);
        bool ok = function && file;
        free(function);
        free(file);
        return ok ? 0 : -1;
    }
    printf("%12.6f  %12.6f  %10llu  %10llu  ", (double)row->self / 1e9, (double)row->total / 1e9,
           (unsigned long long)row->calls, (unsigned long long)row->resumes);
    tf_print_name(stdout, code->qualname);
    printf("%*s  ", (int)strlen(code->qualname) < 36 ? 36 - (int)strlen(code->qualname) : 0, "");
    tf_print_name(stdout, code->file);
    printf(":%u\n", code->first_line);
    return 0;
}

int query_stats(struct query *q)
{
    struct tf_err err;
    struct tf_cursor *cursor = NULL;
    struct tf_frame f;
    struct stats s = {.q = q, .rows = calloc(q->codes.n, sizeof *s.rows)};
    int status = TF_EXIT_ERROR, rc;
    if (!s.rows)
        goto memory;
    for (size_t i = 0; i < q->codes.n; i++)
        s.rows[i].code = (uint32_t)i;
    if (tf_cursor_open(q->store, &q->run, &cursor, &err) || begin_at_base(&s, cursor, &err)) {
        tf_fail(&err);
        goto out;
    }
    while ((rc = tf_cursor_next(cursor, &f, &err)) == 1) {
        if (f.code >= q->codes.n) {
            tf_say("%s is damaged: frame %llu names a code object that is not there", tf_store_path(q->store),
                   (unsigned long long)f.frame);
            goto out;
        }
        if (count(&s, &f))
            goto memory;
    }
    if (rc < 0) {
        tf_fail(&err);
        goto out;
    }
    finish(&s, q->run.duration_ns);
    qsort(s.rows, q->codes.n, sizeof *s.rows, by_self);
    if (!q->json)
        printf("%12s  %12s  %10s  %10s  %-36s  %s\n", "SELF s", "TOTAL s", "CALLS", "RESUMES", "FUNCTION",
               "FILE:LINE");
    uint64_t matched = 0, printed = 0;
    for (size_t i = 0; i < q->codes.n; i++) {
        const struct row *row = &s.rows[i];
        if (row->code == 0 || !query_shows(q, row->code) || row->calls + row->resumes + row->total == 0 ||
            matched++ < q->offset || printed == q->limit)
            continue;
        printed++;
        if (print_row(q, row))
            goto memory;
    }
    if (!q->json) {
        if (matched > q->offset + printed)
            tf_say("%llu more functions; --limit says how many are shown",
                   (unsigned long long)(matched - q->offset - printed));
        if (q->hides_library)
            tf_say("the standard library and installed packages are left out; --all shows them too");
    }
    status = TF_EXIT_OK;
    goto out;
memory:
    tf_say("out of memory");
out:
    for (size_t i = 0; i < s.n_threads; i++) {
        free(s.threads[i].stack);
        free(s.threads[i].active);
    }
    free(s.threads);
    free(s.rows);
    tf_cursor_close(cursor);
    return status;
}
