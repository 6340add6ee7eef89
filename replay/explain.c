/*
 * explain.c: what of a divergence (divergence.h) takes another replay to find out: the Python stack in front
 * of the first frame event that differs, and whether the same happens again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "replay/compare.h"
#include "replay/timeline_private.h"

#define STACK_TRIES 3
#define LINES_MANY (1ull << 40) /* more than there are between two events */
#define AGAIN_MAX 4u
#define AGAIN_MS 2000
#define STACK_TIMEOUT_MS 5000

struct lines {
    char *text;
    size_t len;
    FILE *f;
};

static int add_place(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct lines *l = ctx;
    uint32_t line;
    if (type == TF_ITEM_FRAME && len > 4) {
        memcpy(&line, data, 4);
        const char *file = (const char *)data + 4, *name = file + strnlen(file, len - 4) + 1;
        if ((const uint8_t *)name < data + len)
            fprintf(l->f, "%s%s:%u in %.*s", ftell(l->f) ? "\n" : "", file, line,
                    (int)(data + len - (const uint8_t *)name), name);
    }
    return 0;
}

/* The functions that the recording has on the stack after an event, for want of their lines. */
static void recorded_stack(struct tf_timeline *t, uint64_t frame, FILE *f)
{
    struct tf_frame *stack = NULL;
    struct tf_err ignored;
    size_t n = 0;
    const struct tf_codes *codes = tf_timeline_codes(t, NULL);
    tf_cursor_filter(t->cursor, NULL, 0);
    if (!codes || tf_cursor_stack(t->cursor, frame, &stack, &n, &ignored))
        n = 0;
    for (size_t i = 0; i < n; i++)
        if (stack[i].code > 0 && stack[i].code < codes->n)
            fprintf(f, "%s%s in %s", ftell(f) ? "\n" : "", codes->codes[stack[i].code].file,
                    codes->codes[stack[i].code].qualname);
    free(stack);
}

/* Replays to a place and says what it was: *rep, and the stack there in lines (which may be NULL). True if
 * the events up to there are the recorded ones. */
static bool look_at(struct tf_timeline *t, const struct tf_stop_req *req, struct tf_stop_rep *rep,
                    struct lines *lines)
{
    struct tf_runner runner, present = t->present;
    struct tf_checkpoint from;
    struct tf_err ignored;
    bool good, standing = t->standing;
    if (tf_run_start(t, req, req->frame, &runner, &from, &ignored))
        return false;
    good = tf_run_until_stop(t, &runner, rep, NULL, &ignored) == 0 &&
           (!lines || tf_run_check_prefix(t, &runner, rep, &ignored) == 0);
    if (good && lines) {
        t->present = runner;
        t->standing = t->aside = true;
        tf_timeline_inspect(t, &(struct tf_inspect_req){.what = TF_INSPECT_STACK}, NULL, STACK_TIMEOUT_MS,
                            add_place, lines, &ignored);
        t->present = present;
        t->standing = standing;
        t->aside = false;
    }
    tf_runner_end(&runner);
    return good;
}

/*
 * Goes to the line in which the first event that differs comes: counts the lines that begin after the event
 * before it, and then goes to the last of them. What made the program differ may do so earlier this time;
 * after a few tries, only the functions are named.
 */
void tf_divergence_locate(struct tf_timeline *t, struct tf_divergence *d)
{
    struct tf_divergence *last = tf_timeline_take_divergence(t); /* of these replays nobody is told */
    struct tf_err ignored;
    struct tf_frame event;
    struct lines lines = {0};

    if (d->located || d->kind != TF_DIVERGED_EVENT || d->frame < 1 ||
        !(lines.f = open_memstream(&lines.text, &lines.len)))
        goto out;
    d->located = true;
    /* A function that was just called is not on the stack before it starts. */
    tf_cursor_filter(t->cursor, NULL, 0);
    bool entered = tf_cursor_seek(t->cursor, d->frame, &ignored) == 0 &&
                   tf_cursor_next(t->cursor, &event, &ignored) == 1 &&
                   (event.event == TF_CALL || event.event == TF_RESUME);
    for (int tries = 0; tries < STACK_TRIES && !ftell(lines.f); tries++) {
        struct tf_stop_req req = {.frame = d->frame, .lines = LINES_MANY, .kind = TF_STOP_LINE};
        struct tf_stop_rep rep;
        if (t->cancel && *t->cancel)
            break;
        req.lines = look_at(t, &req, &rep, NULL) && rep.why == TF_STOPPED_SHORT ? rep.lines : 0;
        if (!req.lines && !entered)
            req.kind = TF_STOP_EVENT;
        look_at(t, &req, &rep, &lines);
    }
    if (!ftell(lines.f)) {
        recorded_stack(t, d->frame, lines.f);
        d->stack_recorded = true;
    }
    fclose(lines.f);
    if (lines.text) {
        free(d->stack);
        d->stack = lines.text;
    }
out:
    tf_divergence_free(tf_timeline_take_divergence(t));
    t->divergence = last;
}

/* Did both do the same, as far as both are known? */
static bool same(const struct tf_divergence *a, const struct tf_divergence *b)
{
    uint32_t n = a->words_n < b->words_n ? a->words_n : b->words_n;
    return a->kind == b->kind && a->frame == b->frame && a->call == b->call && a->print == b->print &&
           (!n || memcmp(a->words, b->words, n * sizeof *a->words) == 0);
}

/* Where a parked process has read the time stamp counter. */
static void ask_counter(struct tf_timeline *t, const struct tf_runner *runner, struct tf_divergence *d)
{
    struct tf_err ignored;
    struct tf_message *m = &t->message;
    if (tf_runner_send(runner, TF_REQ_COUNTER, NULL, 0, NULL, 0, &ignored) == 0 &&
        tf_runner_recv(runner, m, tf_now_ms() + 30000, &ignored) == 0 && m->op == TF_REP_COUNTER &&
        m->len > sizeof d->counter_first) {
        memcpy(&d->counter_first, m->data, sizeof d->counter_first);
        d->counter =
            strndup((const char *)m->data + sizeof d->counter_first, m->len - sizeof d->counter_first);
    }
}

/* One more replay, to behind the place. */
static int replay_again(struct tf_timeline *t, struct tf_divergence *d, struct tf_err *err)
{
    struct tf_run_req req = {.stop = tf_run_all(t), .watch_counter = 1};
    struct tf_runner runner;
    struct tf_stop_rep rep;
    /* As far as the first one came, so that there is as much to compare; and behind the event that differs.
     */
    uint64_t behind = d->frame + d->words_n + 2;
    if (req.stop.kind == TF_STOP_EVENT && behind < t->reach)
        req.stop.frame = behind;
    free(d->again_text);
    free(d->counter);
    d->again_text = d->counter = NULL;
    t->progress_from = 0;
    t->progress_to = behind;
    t->run_number++;
    struct tf_checkpoint from;
    const uint32_t *prefix = NULL;
    int r = tf_timeline_fork_start(t, &runner, &from, err);
    if (r == 0) {
        r = tf_run_place(t, &from, &req, &prefix, err);
        if (r == 0)
            r = tf_runner_send(&runner, TF_REQ_RUN, &req, sizeof req, prefix,
                               req.prefix_words * sizeof *prefix, err);
        if (r == 0)
            r = tf_run_until_stop(t, &runner, &rep, NULL, err);
        if (r == 0) {
            ask_counter(t, &runner, d);
            r = tf_run_check_prefix(t, &runner, &rep, err);
        }
        tf_runner_end(&runner);
    }
    struct tf_divergence *now = tf_timeline_take_divergence(t);
    if (r == TF_E_DIVERGENCE && now) {
        d->again = same(d, now) ? TF_AGAIN_SAME : TF_AGAIN_OTHER;
        if (!d->counter) {
            d->counter = now->counter;
            d->counter_first = now->counter_first;
            now->counter = NULL;
        }
        if (d->again == TF_AGAIN_OTHER && now->frame == d->frame && now->kind != TF_DIVERGED_EVENT &&
            now->did)
            d->again_text = tf_text("there it did %s", now->did);
        else if (d->again == TF_AGAIN_OTHER && now->frame == d->frame)
            d->again_text = tf_text("there it went on in another way");
        else
            d->again_text = tf_text("it was equal up to frame event %llu, and then: %s",
                                    (unsigned long long)now->frame, now->text ? now->text : "?");
        /* Uses behind the difference have not made it. */
        if (d->counter && d->counter_first > (now->frame < d->frame ? now->frame : d->frame)) {
            free(d->counter);
            d->counter = NULL;
        }
    } else if (r == 0 || r == TF_E_NOTFOUND) {
        d->again = TF_AGAIN_EQUAL;
        d->again_text =
            tf_text("it was equal up to frame event %llu", (unsigned long long)(r ? t->reach : rep.frame));
    } else if (r != TF_E_CANCELLED) {
        d->again = TF_AGAIN_FAILED;
        d->again_text = strdup(err->msg);
    }
    tf_divergence_free(now);
    return r == TF_E_CANCELLED ? r : 0;
}

/* What is left to chance may come out the same once: a short replay is repeated. */
int tf_divergence_again(struct tf_timeline *t, struct tf_divergence *d, struct tf_err *err)
{
    struct tf_divergence *last = tf_timeline_take_divergence(t);
    double began = tf_timeline_ms();
    int r = 0;
    if (d->kind == TF_DIVERGED_END) /* it is the end of the recording that differs, which nothing repeats */
        goto out;
    d->again_n = 0;
    do {
        r = replay_again(t, d, err);
        d->again_n++;
    } while (r == 0 && d->again == TF_AGAIN_SAME && d->again_n < AGAIN_MAX &&
             tf_timeline_ms() - began < AGAIN_MS);
out:
    t->divergence = last;
    return r;
}
