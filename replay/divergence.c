/*
 * divergence.c: see divergence.h. What a diverging process sends is compared here with the recording, side by
 * side. The first difference counts: before the outside call at which a replay was stopped, a frame event may
 * have differed already, in the block that was not full yet.
 */
#include "replay/divergence.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "iohooks/calls.h"
#include "replay/compare.h"
#include "replay/timeline_private.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

#define EVENTS_BEFORE 4u

void tf_divergence_free(struct tf_divergence *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->unlike_n; i++) {
        free(d->unlike[i].what);
        free(d->unlike[i].recorded);
        free(d->unlike[i].did);
    }
    for (size_t i = 0; i < d->events_n; i++) {
        free(d->events[i].recorded);
        free(d->events[i].did);
    }
    for (size_t i = 0; i < d->calls_n; i++)
        free(d->calls[i].text);
    for (size_t i = 0; i < d->causes_n; i++) {
        free(d->causes[i].what);
        free(d->causes[i].basis);
    }
    free(d->unlike);
    free(d->events);
    free(d->calls);
    free(d->causes);
    free(d->text);
    free(d->then);
    free(d->recorded);
    free(d->did);
    free(d->note);
    free(d->stack);
    free(d->again_text);
    free(d->counter);
    free(d->words);
    free(d);
}

const char *tf_divergence_kind(enum tf_diverged kind)
{
    static const char *const names[] = {
        [TF_DIVERGED_CALL] = "call",         [TF_DIVERGED_ARGS] = "arguments",
        [TF_DIVERGED_DATA] = "data",         [TF_DIVERGED_ORDER] = "order",
        [TF_DIVERGED_FUNCTION] = "function", [TF_DIVERGED_EVENT] = "frame event",
        [TF_DIVERGED_LAYOUT] = "layout",     [TF_DIVERGED_KERNEL] = "kernel",
        [TF_DIVERGED_STRAY] = "stray call",  [TF_DIVERGED_END] = "end",
        [TF_DIVERGED_DIED] = "fault",        [TF_DIVERGED_OTHER] = "other",
    };
    return (size_t)kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "?";
}

/* ---- frame events ---- */

static char *word_text(struct tf_timeline *t, uint32_t word, uint32_t left)
{
    static const char *const names[] = {"call", "return", "yield", "resume", "unwind"};
    uint32_t tag = TF_TAG(word), id = TF_IS_ENTRY(word) ? TF_LOW(word) : left;
    const struct tf_codes *codes = tf_timeline_codes(t, NULL);
    if (TF_IS_SWITCH(word))
        return tf_text("switch to thread %u", TF_LOW(word));
    if (tag > TF_UNWIND)
        return tf_text("an event %#x, which nobody knows", word);
    if (!codes || !id || id >= codes->n || !codes->codes[id].qualname)
        return strdup(names[tag]);
    return tf_text("%s %s %s (%s:%u)", names[tag], TF_IS_ENTRY(word) ? "of" : "from",
                   codes->codes[id].qualname, codes->codes[id].file, codes->codes[id].first_line);
}

/* The events in front of the first that differs, and that one. `frame` is its number. has, did: NULL: there
 * is none on that side. */
static void list_events(struct tf_timeline *t, struct tf_divergence *d, uint64_t frame, const uint32_t *has,
                        const uint32_t *did)
{
    struct tf_cursor *cursor = NULL; /* one of our own: a search may be using the timeline's */
    struct tf_frame event;
    struct tf_activation *stack = NULL;
    size_t depth = 0;
    uint32_t top = 0;
    uint64_t from = frame > EVENTS_BEFORE ? frame - EVENTS_BEFORE : 1; /* the cursor knows a later start */
    struct tf_err ignored;

    d->events = calloc(EVENTS_BEFORE + 1, sizeof *d->events);
    if (!d->events || tf_cursor_open(t->store, t->run, &cursor, &ignored))
        return;
    if (tf_cursor_seek(cursor, from, &ignored) == 0)
        while (d->events_n < EVENTS_BEFORE && tf_cursor_next(cursor, &event, &ignored) == 1 &&
               event.frame < frame) {
            uint32_t low = event.event == TF_SWITCH ? event.thread : event.code;
            d->events[d->events_n++] = (struct tf_event_pair){
                .frame = event.frame, .recorded = word_text(t, TF_WORD(event.event, low), event.code)};
        }
    /* Who leaves, if one does: the innermost after the event before. */
    if (frame > 1 && tf_cursor_activations(cursor, frame - 1, &stack, &depth, &event, &ignored) == 0) {
        if (depth && TF_IS_EXIT(TF_WORD(event.event, 0)))
            depth--;
        top = depth ? stack[depth - 1].code : 0;
    }
    free(stack);
    tf_cursor_close(cursor);
    char *none = "nothing: it ends here";
    struct tf_event_pair *last = &d->events[d->events_n++];
    *last = (struct tf_event_pair){frame, has ? word_text(t, *has, top) : strdup(none),
                                   did ? word_text(t, *did, top) : strdup(none)};
    if (last->recorded && last->did) {
        d->recorded = strdup(last->recorded);
        d->did = strdup(last->did);
    }
}

/* ---- calls before it ---- */

static void list_calls(struct tf_timeline *t, struct tf_divergence *d)
{
    /* Among the events there are first runs of functions and turns of threads, which are no calls. */
    size_t want = t->report_calls, max = want * 16 + 1024, n;
    uint64_t *offsets = want ? malloc(max * sizeof *offsets) : NULL;
    if (!offsets)
        return;
    n = tf_log_last(t->log, d->offset, d->frame, offsets, max);
    d->calls = calloc(want, sizeof *d->calls);
    uint64_t seq = n ? tf_log_events_before(t->log, offsets[n - 1]) + 1 : 0;
    for (size_t i = n; d->calls && i-- > 0 && d->calls_n < want; seq--) {
        const struct tf_outside *e = tf_log_event(t->log, offsets[i], NULL);
        if (!e || (e->call >= TF_CALL_ROWS && !tf_call_row(e->call) && e->call != TF_CALL_SIGNAL))
            continue;
        d->calls[d->calls_n++] = (struct tf_call_before){seq, e->frame, tf_outside_text(e)};
    }
    for (size_t i = 0; i < d->calls_n / 2; i++) {
        struct tf_call_before other = d->calls[i];
        d->calls[i] = d->calls[d->calls_n - 1 - i];
        d->calls[d->calls_n - 1 - i] = other;
    }
    free(offsets);
}

/* ---- keeping it ---- */

struct tf_divergence *tf_timeline_divergence(struct tf_timeline *t)
{
    return t->divergence;
}

struct tf_divergence *tf_timeline_take_divergence(struct tf_timeline *t)
{
    struct tf_divergence *d = t->divergence;
    t->divergence = NULL;
    return d;
}

void tf_timeline_report_calls(struct tf_timeline *t, size_t n)
{
    t->report_calls = n < TF_DIVERGENCE_CALLS_MAX ? n : TF_DIVERGENCE_CALLS_MAX;
}

/* The calls before it, and what the caller is told: the sentence and the stack. Takes d. */
static int keep(struct tf_timeline *t, struct tf_divergence *d, struct tf_err *err)
{
    d->searching = t->scan != NULL;
    /* Calls that were compared behind an event that differs are not known to mean the same. */
    uint64_t last;
    d->outside = 0;
    if (tf_log_last(t->log, d->offset, d->frame, &last, 1))
        d->outside = tf_log_events_before(t->log, last) + 1;
    list_calls(t, d);
    tf_divergence_free(t->divergence);
    t->divergence = d;
    if (!d->searching)
        tf_timeline_drop_behind(t, d->frame);
    if (d->kind == TF_DIVERGED_EVENT || d->kind == TF_DIVERGED_END)
        return tf_err_set(err, TF_E_DIVERGENCE, "%s%s%s", d->text ? d->text : "", *d->stack ? "\n" : "",
                          d->stack);
    return tf_err_set(err, TF_E_DIVERGENCE, "after frame event %llu: %s%s%s", (unsigned long long)d->frame,
                      d->text ? d->text : "", *d->stack ? "\n" : "", d->stack);
}

static struct tf_divergence *new_divergence(enum tf_diverged kind, uint64_t frame, uint64_t offset,
                                            struct tf_err *err)
{
    struct tf_divergence *d = calloc(1, sizeof *d);
    if (d && !(d->stack = strdup(""))) {
        free(d);
        d = NULL;
    }
    if (!d) {
        tf_err_set(err, TF_E_IO, "out of memory");
        return NULL;
    }
    d->kind = kind;
    d->frame = frame;
    d->offset = offset;
    d->call = TF_NO_CALL;
    return d;
}

int tf_diverged(struct tf_timeline *t, enum tf_diverged kind, uint64_t frame, uint64_t offset,
                struct tf_err *err, const char *fmt, ...)
{
    struct tf_divergence *d = new_divergence(kind, frame, offset, err);
    va_list ap;
    if (!d)
        return err ? err->code : TF_E_IO;
    va_start(ap, fmt);
    if (vasprintf(&d->text, fmt, ap) < 0)
        d->text = NULL;
    va_end(ap);
    return keep(t, d, err);
}

/* Where the words part from the recorded ones. 1: they do, at event *frame; 0; negative with err. */
static int part(struct tf_timeline *t, uint64_t block, const uint32_t *did, uint32_t n, const uint32_t **has,
                uint32_t *has_n, uint64_t *frame, struct tf_err *err)
{
    uint32_t i = 0;
    *has_n = 0;
    *has = NULL;
    if (!n)
        return 0;
    if (block * TF_BLOCK_FRAMES < t->run->frames && !(*has = tf_run_block_words(t, block, has_n, err)))
        return err->code;
    while (i < n && i < *has_n && did[i] == (*has)[i])
        i++;
    *frame = block * TF_BLOCK_FRAMES + i + 1;
    return i < n;
}

/* Makes the divergence of frame event `frame`; the words are those of its block. */
static struct tf_divergence *event_divergence(struct tf_timeline *t, uint64_t frame, const uint32_t *has,
                                              uint32_t has_n, const uint32_t *did, uint32_t n,
                                              uint64_t offset, struct tf_err *err)
{
    uint32_t i = (uint32_t)((frame - 1) % TF_BLOCK_FRAMES);
    struct tf_divergence *d = new_divergence(TF_DIVERGED_EVENT, frame - 1, offset, err);
    if (!d)
        return NULL;
    list_events(t, d, frame, i < has_n ? &has[i] : NULL, i < n ? &did[i] : NULL);
    if (i < n && (d->words = malloc((n - i) * sizeof *d->words))) {
        d->words_n = n - i;
        memcpy(d->words, did + i, d->words_n * sizeof *d->words);
    }
    d->text = tf_text("frame event %llu: the program did %s, the recording has %s", (unsigned long long)frame,
                      d->did ? d->did : "?", d->recorded ? d->recorded : "?");
    return d;
}

int tf_diverged_words(struct tf_timeline *t, uint64_t block, const uint32_t *did, uint32_t n, uint64_t offset,
                      struct tf_err *err)
{
    const uint32_t *has;
    uint32_t has_n;
    uint64_t frame = 0;
    int r = part(t, block, did, n, &has, &has_n, &frame, err);
    if (r < 0)
        return r;
    if (r == 0)
        return tf_diverged(t, TF_DIVERGED_OTHER, block * TF_BLOCK_FRAMES + n, offset, err,
                           "the recording contradicts itself: the digest of frame events %llu to %llu is not "
                           "that of these events, which the replay has repeated",
                           (unsigned long long)(block * TF_BLOCK_FRAMES + 1),
                           (unsigned long long)(block * TF_BLOCK_FRAMES + n));
    struct tf_divergence *d = event_divergence(t, frame, has, has_n, did, n, offset, err);
    return d ? keep(t, d, err) : err->code;
}

/* ---- what a process says ---- */

struct parts {
    struct tf_diverge_rep rep;
    const uint32_t *words;
    const uint8_t *args, *data;
    const char *text, *where, *counter;
};

static bool take_apart(const struct tf_message *m, struct parts *p)
{
    if (m->len < sizeof p->rep)
        return false;
    memcpy(&p->rep, m->data, sizeof p->rep);
    const uint8_t *at = m->data + sizeof p->rep;
    uint64_t left = m->len - sizeof p->rep;
    if (p->rep.words > TF_BLOCK_FRAMES || left != p->rep.words * 4ull + p->rep.args_len + p->rep.data_len +
                                                      p->rep.text_len + p->rep.where_len + p->rep.counter_len)
        return false;
    p->words = (const uint32_t *)at;
    p->args = at + p->rep.words * 4ull;
    p->data = p->args + p->rep.args_len;
    p->text = (const char *)p->data + p->rep.data_len;
    p->where = p->text + p->rep.text_len;
    p->counter = p->where + p->rep.where_len;
    return true;
}

/* The data of a call, where the log has them, too: the surroundings of the first byte that differs. */
static void compare_data(struct tf_divergence *d, const struct parts *p, const struct tf_outside *e)
{
    uint64_t from = p->rep.data_at, len = from < e->data_len ? e->data_len - from : 0;
    if (len > TF_EXCERPT)
        len = TF_EXCERPT;
    const uint8_t *has = tf_outside_data(e) + (len ? from : 0);
    char *a = tf_quoted(has, len, from + len < e->data_len);
    char *b = tf_quoted(p->data, p->rep.data_len, from + p->rep.data_len < p->rep.data_total);
    uint64_t at = p->rep.differs - from;
    char *ha = tf_hex(has + (at < len ? at : len), at < len ? (len - at < 16 ? len - at : 16) : 0);
    char *hb = tf_hex(p->data + (at < p->rep.data_len ? at : p->rep.data_len),
                      at < p->rep.data_len ? (p->rep.data_len - at < 16 ? p->rep.data_len - at : 16) : 0);
    if (a && b && ha && hb) {
        while (d->unlike_n) { /* of which only a hash is known otherwise */
            struct tf_unlike *last = &d->unlike[--d->unlike_n];
            free(last->what);
            free(last->recorded);
            free(last->did);
        }
        const char *lead = from ? "..." : "";
        tf_add_unlike(d, tf_text("the data, from byte %llu on", (unsigned long long)p->rep.differs),
                      tf_text("%s%s; there: %s", lead, a, *ha ? ha : "the end"),
                      tf_text("%s%s; there: %s", lead, b, *hb ? hb : "the end"));
    }
    free(a);
    free(b);
    free(ha);
    free(hb);
}

/* Both sides of a call. */
static void compare_call(struct tf_timeline *t, struct tf_divergence *d, const struct parts *p)
{
    char buf[2048];
    size_t hashed = 0;
    bool structures = false;
    const struct tf_outside *e = p->rep.event == UINT64_MAX ? NULL : tf_log_event(t->log, p->rep.event, NULL);
    if (e)
        d->recorded = tf_outside_text(e);
    if (p->rep.kind == TF_DIVERGED_KERNEL) {
        if (!e)
            return;
        if (p->rep.result < 0 && p->rep.result > -4096)
            snprintf(buf, sizeof buf, "-1 (%s)", strerrorname_np((int)-p->rep.result));
        else
            snprintf(buf, sizeof buf, "%#llx", (unsigned long long)p->rep.result);
        d->did = tf_text("the same call, and the kernel answered %s", buf);
        tf_add_unlike(d, strdup("result"), tf_text("%#llx", (unsigned long long)e->result), strdup(buf));
        return;
    }
    if (p->rep.call == TF_CALL_CODE) {
        const char *file, *name;
        tf_code_names(p->args, p->rep.args_len, &file, &name);
        d->did = tf_text("the first run of %s (%s)", name, file);
    } else if (p->rep.call == TF_CALL_MARK) {
        d->did = tf_text("its end (%.*s)", p->rep.args_len > 8 ? (int)(p->rep.args_len - 8) : 0, p->args + 8);
    } else if (p->rep.call != TF_NO_CALL) {
        tf_call_format_args(buf, sizeof buf, p->rep.call, p->args, p->rep.args_len);
        if (p->rep.kind == TF_DIVERGED_STRAY)
            d->did = tf_text("%s", tf_call_name(p->rep.call, buf, sizeof buf));
        else
            d->did = tf_with_data(buf, p->rep.data_at ? NULL : p->data, p->rep.data_len,
                                  p->rep.data_len < p->rep.data_total);
    }
    if (!e || e->call != p->rep.call)
        return;
    if (p->rep.kind == TF_DIVERGED_ORDER) {
        tf_add_unlike(d, strdup("after frame event"), tf_text("%llu", (unsigned long long)e->frame),
                      tf_text("%llu", (unsigned long long)p->rep.place.frame));
        return;
    }
    if (p->rep.kind == TF_DIVERGED_FUNCTION) {
        tf_compare_codes(d, tf_outside_args(e), e->args_len, p->args, p->rep.args_len);
        return;
    }
    if (p->rep.kind != TF_DIVERGED_ARGS)
        return;
    hashed = tf_compare_arguments(d, p->rep.call, tf_outside_args(e), e->args_len, p->args, p->rep.args_len,
                                  &structures);
    d->in_structure = structures && d->unlike_n;
    if (hashed && hashed == d->unlike_n)
        d->kind = TF_DIVERGED_DATA;
    if (!hashed)
        return;
    if (p->rep.differs != UINT64_MAX && hashed == d->unlike_n)
        compare_data(d, p, e);
    else
        d->note = tf_text("The recording has only a hash of these data, so what differs in them cannot be "
                          "shown%s.",
                          p->rep.data_len ? "; what the program has now is shown with its call" : "");
}

/* The sentence of a process, and what both sides of the call are. */
static struct tf_divergence *call_divergence(struct tf_timeline *t, const struct parts *p, struct tf_err *err)
{
    struct tf_divergence *d = new_divergence(p->rep.kind, p->rep.place.frame, p->rep.place.offset, err);
    if (!d)
        return NULL;
    free(d->stack);
    d->text = strndup(p->text, p->rep.text_len);
    d->stack = strndup(p->where, p->rep.where_len);
    if (!d->stack) {
        tf_divergence_free(d);
        tf_err_set(err, TF_E_IO, "out of memory");
        return NULL;
    }
    for (size_t n = strlen(d->stack); n && d->stack[n - 1] == '\n'; n--)
        d->stack[n - 1] = 0;
    d->call = p->rep.call;
    d->located = true;
    d->print = XXH3_64bits(p->args, p->rep.args_len + p->rep.data_len) + (uint64_t)p->rep.result;
    if (p->rep.kind == TF_DIVERGED_KERNEL) /* its event has been taken */
        d->offset = p->rep.event;
    compare_call(t, d, p);
    return d;
}

static void tell_counter(struct tf_divergence *d, const struct parts *p)
{
    d->counter = strndup(p->counter, p->rep.counter_len);
    d->counter_first = p->rep.counter_first;
}

int tf_diverged_message(struct tf_timeline *t, const struct tf_message *m, struct tf_place *at,
                        struct tf_err *err)
{
    struct parts p;
    const uint32_t *has;
    uint32_t has_n;
    uint64_t frame = 0;
    struct tf_err local;
    if (!err)
        err = &local;
    if (!take_apart(m, &p))
        return tf_err_set(err, TF_E_REPLAY, "the replaying process answered nonsense");
    uint64_t block = (p.rep.place.frame - p.rep.words) / TF_BLOCK_FRAMES;
    if (at)
        *at = p.rep.place;
    if (p.rep.kind == TF_DIVERGED_EVENT) {
        int r = tf_diverged_words(t, block, p.words, p.rep.words, p.rep.place.offset, err);
        if (r == TF_E_DIVERGENCE && p.rep.counter_len)
            tell_counter(t->divergence, &p);
        if (at && r == TF_E_DIVERGENCE && t->divergence->kind == TF_DIVERGED_EVENT)
            at->frame = t->divergence->frame + 1;
        return r;
    }
    /* A light run has no events to be compared. */
    int r =
        t->run->light == TF_LIGHT_ONLY ? 0 : part(t, block, p.words, p.rep.words, &has, &has_n, &frame, err);
    if (r < 0)
        return r;
    if (r == 0 && m->op == TF_REP_BARRIER)
        return tf_err_set(err, TF_E_NOTFOUND, "after frame event %llu: %.*s%s%.*s",
                          (unsigned long long)p.rep.place.frame, (int)p.rep.text_len, p.text,
                          p.rep.where_len ? "\n" : "", (int)p.rep.where_len, p.where);
    struct tf_divergence *d =
        r ? event_divergence(t, frame, has, has_n, p.words, p.rep.words, p.rep.place.offset, err)
          : call_divergence(t, &p, err);
    if (!d)
        return err->code;
    if (p.rep.counter_len)
        tell_counter(d, &p);
    if (r) {
        if (m->op != TF_REP_BARRIER)
            d->then = tf_text("after frame event %llu: %.*s", (unsigned long long)p.rep.place.frame,
                              (int)p.rep.text_len, p.text);
        if (at)
            at->frame = frame;
    }
    return keep(t, d, err);
}
