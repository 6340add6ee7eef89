/*
 * query_threads.c: `timefork query --list-threads`, and which thread --thread means.
 *
 * Two sources: what the process said of its threads, and its frame events. Recordings from before there were
 * threads have only the second.
 */
#include "cli/query.h"

#include <stdlib.h>
#include <string.h>

/* One thread: either may be missing. */
struct both {
    const struct tf_thread_row *row;
    const struct tf_thread_activity *did;
};

struct threads {
    struct tf_thread_row *rows;
    struct tf_thread_activity *did;
    struct both *v; /* by number */
    size_t n_rows, n_did, n;
};

static uint32_t number_of(const struct both *b)
{
    return b->row ? b->row->number : b->did->number;
}

static void clear(struct threads *t)
{
    tf_threads_free(t->rows, t->n_rows);
    free(t->did);
    free(t->v);
}

/* Puts together what is known; both lists are sorted by number. Returns the exit status. */
static int load(struct query *q, struct threads *t)
{
    struct tf_err err;
    *t = (struct threads){0};
    if (tf_store_threads(q->store, &q->run, &t->rows, &t->n_rows, &err))
        return tf_fail(&err);
    if (tf_store_thread_activity(q->store, &q->run, &t->did, &t->n_did, &err)) {
        clear(t);
        return tf_fail(&err);
    }
    t->v = calloc(t->n_rows + t->n_did, sizeof *t->v);
    if (!t->v) {
        clear(t);
        return query_no_memory();
    }
    for (size_t i = 0, k = 0; i < t->n_rows || k < t->n_did;) {
        struct both *b = &t->v[t->n++];
        bool both = i < t->n_rows && k < t->n_did;
        if (!both || t->rows[i].number <= t->did[k].number)
            b->row = i < t->n_rows ? &t->rows[i] : NULL;
        if (!both || t->did[k].number <= t->rows[i].number)
            b->did = k < t->n_did ? &t->did[k] : NULL;
        i += b->row != NULL;
        k += b->did != NULL;
    }
    return TF_EXIT_OK;
}

static void number_or_null(const char *key, bool known, uint64_t value)
{
    if (known)
        printf("\"%s\": %llu, ", key, (unsigned long long)value);
    else
        printf("\"%s\": null, ", key);
}

static int print_json(const struct query *q, const struct both *b)
{
    const struct tf_thread_row *row = b->row;
    char *name = row && *row->name ? query_json_text(row->name, strlen(row->name)) : strdup("null");
    if (!name)
        return query_no_memory();
    printf("{\"run\": \"%s\", \"process\": %u, \"thread\": %u, ", q->run.id, q->run.process, number_of(b));
    number_or_null("native_id", row, row ? (uint32_t)row->tid : 0);
    number_or_null("parent", row && row->number, row ? row->parent : 0);
    printf("\"name\": %s, ", name);
    number_or_null("began_frame", row, row ? row->born : 0);
    number_or_null("ended_frame", row && row->ended, row ? row->end : 0);
    number_or_null("first_frame", b->did, b->did ? b->did->first : 0);
    number_or_null("last_frame", b->did, b->did ? b->did->last : 0);
    printf("\"frames\": %llu}\n", (unsigned long long)(b->did ? b->did->frames : 0));
    free(name);
    return TF_EXIT_OK;
}

static const char *number_text(bool known, uint64_t value, char buf[24])
{
    snprintf(buf, 24, known ? "%llu" : "-", (unsigned long long)value);
    return buf;
}

static void print_text(const struct both *b)
{
    char text[6][24];
    const struct tf_thread_row *row = b->row;
    printf("%6u  %9s  %6s  %12s  %12s  %12s  %12s  %12s  ", number_of(b),
           number_text(row, row ? (uint32_t)row->tid : 0, text[0]),
           number_text(row && row->number, row ? row->parent : 0, text[1]),
           number_text(row, row ? row->born : 0, text[2]),
           number_text(row && row->ended, row ? row->end : 0, text[3]),
           number_text(b->did, b->did ? b->did->first : 0, text[4]),
           number_text(b->did, b->did ? b->did->last : 0, text[5]),
           number_text(true, b->did ? b->did->frames : 0, (char[24]){0}));
    tf_print_name(stdout, row && *row->name ? row->name : "-");
    putchar('\n');
}

int query_threads(struct query *q)
{
    struct threads t;
    int status = load(q, &t);
    if (status)
        return status;
    if (!q->json)
        printf("%6s  %9s  %6s  %12s  %12s  %12s  %12s  %12s  %s\n", "THREAD", "NATIVE ID", "PARENT",
               "FROM FRAME", "ENDED AT", "FIRST FRAME", "LAST FRAME", "OWN FRAMES", "NAME");
    for (size_t i = 0; i < t.n && !status; i++) {
        if (i < q->offset || i - q->offset >= q->limit)
            continue;
        if (q->json)
            status = print_json(q, &t.v[i]);
        else
            print_text(&t.v[i]);
    }
    clear(&t);
    return status;
}

/* "0 to 4", or "0, 2, 3": as many as fit. */
static void numbers(const struct threads *t, char *buf, size_t size)
{
    size_t len = 0;
    if (t->n > 1 && number_of(&t->v[t->n - 1]) == t->n - 1) {
        snprintf(buf, size, "0 to %zu", t->n - 1);
        return;
    }
    buf[0] = 0;
    for (size_t i = 0; i < t->n && len < size; i++)
        len += (size_t)snprintf(buf + len, size - len, "%s%u", i ? ", " : "", number_of(&t->v[i]));
}

int query_find_thread(struct query *q)
{
    struct threads t;
    char list[200], process[32] = "";
    if (q->thread == 0) /* main is always there */
        return TF_EXIT_OK;
    int status = load(q, &t);
    if (status)
        return status;
    for (size_t i = 0; i < t.n; i++)
        if (number_of(&t.v[i]) == q->thread) {
            clear(&t);
            return TF_EXIT_OK;
        }
    numbers(&t, list, sizeof list);
    if (q->run.process > 1)
        snprintf(process, sizeof process, "process %u of ", q->run.process);
    tf_say("%srun %.8s has no thread %u; it has %s", process, q->run.id, q->thread, list);
    clear(&t);
    return TF_EXIT_ERROR;
}
