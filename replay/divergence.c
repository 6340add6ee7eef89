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
#include "replay/timeline_private.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

#define EVENTS_BEFORE 4u
#define STACK_TRIES 3
#define STACK_TIMEOUT_MS 5000

/* ---- memory ---- */

/* Texts that could not be allocated are NULL: shown as if nothing was known. */
static char *vtext(const char *fmt, va_list ap)
{
    char *text;
    return vasprintf(&text, fmt, ap) < 0 ? NULL : text;
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *made = vtext(fmt, ap);
    va_end(ap);
    return made;
}

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
    free(d);
}

static void add_unlike(struct tf_divergence *d, char *what, char *recorded, char *did)
{
    struct tf_unlike *more = realloc(d->unlike, (d->unlike_n + 1) * sizeof *more);
    if (!more) {
        free(what);
        free(recorded);
        free(did);
        return;
    }
    d->unlike = more;
    d->unlike[d->unlike_n++] = (struct tf_unlike){what, recorded, did};
}

/* ---- bytes and calls, for people ---- */

/* "text" of bytes; more: they go on. */
static char *quoted(const uint8_t *data, size_t n, bool more)
{
    char *buf = malloc(n * 4 + 8), *at = buf;
    if (!buf)
        return NULL;
    *at++ = '"';
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\n')
            at = stpcpy(at, "\\n");
        else if (data[i] == '"' || data[i] == '\\')
            at += sprintf(at, "\\%c", data[i]);
        else if (data[i] >= 32 && data[i] < 127)
            *at++ = (char)data[i];
        else
            at += sprintf(at, "\\x%02x", data[i]);
    }
    strcpy(at, more ? "\"..." : "\"");
    return buf;
}

static char *hex(const uint8_t *data, size_t n)
{
    char *buf = malloc(n * 3 + 1), *at = buf;
    if (!buf)
        return NULL;
    *at = 0;
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, i ? " %02x" : "%02x", data[i]);
    return buf;
}

/* A call with the text of its data instead of <data>, if they are known. */
static char *with_data(const char *call, const uint8_t *data, size_t n, bool more)
{
    const char *mark = data && n ? strstr(call, "<data>") : NULL;
    char *quote = mark ? quoted(data, n, more) : NULL;
    char *made = quote ? text("%.*s%s%s", (int)(mark - call), call, quote, mark + 6) : strdup(call);
    free(quote);
    return made;
}

/* The file and the qualified name in the arguments of a TF_CALL_CODE. */
static void code_names(const uint8_t *args, size_t len, const char **file, const char **name)
{
    *file = *name = "?";
    const uint8_t *end = len > 8 ? memchr(args + 8, 0, len - 8) : NULL;
    if (!end)
        return;
    *file = (const char *)args + 8;
    size_t at = (size_t)(end + 1 - args);
    if (at < len && memchr(args + at, 0, len - at))
        *name = (const char *)args + at;
}

/* A recorded outside event. */
static char *event_text(const struct tf_outside *e)
{
    const char *file, *name;
    char buf[2048];
    switch (e->call) {
    case TF_CALL_MARK: {
        uint32_t kind = 0;
        int len = e->args_len > 8 ? (int)(e->args_len - 8) : 0;
        const char *said = (const char *)tf_outside_args(e) + 8;
        if (e->args_len >= 4)
            memcpy(&kind, tf_outside_args(e), 4);
        if (kind == TF_MARK_EXIT)
            return text("the end of the program (%s%.*s)",
                        len >= 6 && memcmp(said, "signal", 6) == 0 ? "" : "exit status ", len, said);
        return text("a mark: %.*s", len, said);
    }
    case TF_CALL_SIGNAL:
        return text("signal %lld, given to the program", (long long)e->result);
    case TF_CALL_CODE:
        code_names(tf_outside_args(e), e->args_len, &file, &name);
        return text("the first run of %s (%s)", name, file);
    default:
        tf_call_format(buf, sizeof buf, e);
        if (e->flags & (TF_OUT_STDOUT | TF_OUT_STDERR))
            return with_data(buf, tf_outside_data(e), e->data_len < TF_EXCERPT ? e->data_len : TF_EXCERPT,
                             e->data_len > TF_EXCERPT);
        return strdup(buf);
    }
}

/* ---- what differs in the arguments ---- */

static const char *letter_name(char letter)
{
    switch (letter) {
    case 's':
        return "text";
    case 'b':
        return "data";
    case 'v':
    case 'm':
        return letter == 'v' ? "data in several pieces" : "message";
    case 'A':
        return "socket address";
    case 'a':
    case 'o':
        return "room for the answer";
    case 'y':
    case 'f':
        return "descriptors to wait for";
    case 'p':
        return "address";
    case '*':
        return "pointer";
    case 'T':
    case 'M':
        return "time";
    case 'k':
        return "signals";
    case 'l':
        return "limit";
    case 'E':
        return "epoll event";
    case 'q':
        return "offset";
    default:
        return "number";
    }
}

/* Of these the log has a hash only. */
static bool is_hashed(char letter)
{
    return strchr("bvmAyf", letter) != NULL;
}

struct argument {
    const uint8_t *at; /* its bytes in the encoding; NULL: there are none */
    size_t len;
};

/* The next argument of an encoding; walks as tf_args_encode() wrote it. */
static struct argument next_argument(char letter, const uint8_t **at, const uint8_t *end)
{
    struct argument a = {NULL, 0};
    uint64_t v;
    if (!tf_call_is_read(letter) || end - *at < 8)
        return a;
    memcpy(&v, *at, 8);
    a.at = *at;
    a.len = 8;
    if (letter == 's' && (uint32_t)v != 0xffffffffu)
        a.len += (v + 7) & ~7ull;
    else if (tf_call_in_size(letter) && v)
        a.len += (tf_call_in_size(letter) + 7) & ~7ull;
    if (a.len > (size_t)(end - *at))
        a.len = (size_t)(end - *at);
    *at += a.len;
    return a;
}

static char *argument_text(char letter, struct argument a)
{
    int64_t v;
    if (!a.at)
        return strdup("nothing");
    memcpy(&v, a.at, 8);
    if (letter == 's' && (uint32_t)v == 0xffffffffu)
        return strdup("NULL");
    if (letter == 's')
        return quoted(a.at + 8, (size_t)v < a.len - 8 ? (size_t)v : a.len - 8, false);
    if (is_hashed(letter))
        return text("hash %016llx", (unsigned long long)v);
    if (tf_call_in_size(letter))
        return v ? hex(a.at + 8, a.len - 8) : strdup("NULL");
    if (letter == 'p')
        return v ? text("%#llx", (unsigned long long)v) : strdup("NULL");
    if (letter == '*')
        return strdup(v ? "a pointer" : "NULL");
    return text("%lld", (long long)v);
}

/* Adds each argument in which the two differ. Returns how many are known by a hash only. */
static size_t compare_arguments(struct tf_divergence *d, unsigned call, const uint8_t *has, size_t has_len,
                                const uint8_t *did, size_t did_len, bool *structures)
{
    const char *sig = call < TF_CALL_ROWS ? tf_call_rows[call].sig : NULL;
    const uint8_t *h = has, *h_end = has + has_len, *p = did, *p_end = did + did_len;
    size_t hashed = 0;
    *structures = true;
    for (size_t i = 0; sig && sig[i]; i++) {
        struct argument a = next_argument(sig[i], &h, h_end), b = next_argument(sig[i], &p, p_end);
        if (a.len == b.len && (!a.len || memcmp(a.at, b.at, a.len) == 0))
            continue;
        hashed += is_hashed(sig[i]);
        *structures &= sig[i] == 'm' || sig[i] == 'A';
        add_unlike(d, text("argument %zu (%s)", i + 1, letter_name(sig[i])), argument_text(sig[i], a),
                   argument_text(sig[i], b));
    }
    /* What a special call adds: the structure behind its pointer. */
    if (sig && (h_end - h != p_end - p || (h < h_end && memcmp(h, p, (size_t)(h_end - h)) != 0)))
        add_unlike(d, text("the structure that an argument points to"), hex(h, (size_t)(h_end - h)),
                   hex(p, (size_t)(p_end - p)));
    return hashed;
}

/* Two functions that ran first at the same place. */
static void compare_codes(struct tf_divergence *d, const uint8_t *has, size_t has_len, const uint8_t *did,
                          size_t did_len)
{
    const char *has_file, *has_name, *did_file, *did_name;
    code_names(has, has_len, &has_file, &has_name);
    code_names(did, did_len, &did_file, &did_name);
    if (strcmp(has_name, did_name) != 0)
        add_unlike(d, strdup("function"), strdup(has_name), strdup(did_name));
    if (strcmp(has_file, did_file) != 0)
        add_unlike(d, strdup("file"), strdup(has_file), strdup(did_file));
    if (!d->unlike_n && has_len >= 8 && did_len >= 8) {
        uint64_t a, b;
        memcpy(&a, has, 8);
        memcpy(&b, did, 8);
        add_unlike(d, strdup("its instructions, lines and names"),
                   text("hash %016llx", (unsigned long long)a), text("hash %016llx", (unsigned long long)b));
    }
}

/* ---- frame events ---- */

const char *tf_divergence_kind(enum tf_diverged kind)
{
    static const char *const names[] = {"?",      "call",   "arguments",  "data", "order", "frame event",
                                        "layout", "kernel", "stray call", "end",  "fault", "other"};
    return (size_t)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

static char *word_text(struct tf_timeline *t, uint32_t word, uint32_t left)
{
    static const char *const names[] = {"call", "return", "yield", "resume", "unwind"};
    uint32_t tag = TF_TAG(word), id = TF_IS_ENTRY(word) ? TF_LOW(word) : left;
    const struct tf_codes *codes = tf_timeline_codes(t, NULL);
    if (tag > TF_UNWIND)
        return text("an event %#x, which nobody knows", word);
    if (!codes || !id || id >= codes->n || !codes->codes[id].qualname)
        return strdup(names[tag]);
    return text("%s %s %s (%s:%u)", names[tag], TF_IS_ENTRY(word) ? "of" : "from", codes->codes[id].qualname,
                codes->codes[id].file, codes->codes[id].first_line);
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
    uint64_t from = frame > EVENTS_BEFORE ? frame - EVENTS_BEFORE : 1;
    struct tf_err ignored;

    d->events = calloc(EVENTS_BEFORE + 1, sizeof *d->events);
    if (!d->events || tf_cursor_open(t->store, t->run, &cursor, &ignored))
        return;
    if (tf_cursor_seek(cursor, from, &ignored) == 0)
        while (d->events_n < EVENTS_BEFORE && tf_cursor_next(cursor, &event, &ignored) == 1 &&
               event.frame < frame)
            d->events[d->events_n++] = (struct tf_event_pair){
                .frame = event.frame, .recorded = word_text(t, TF_WORD(event.event, event.code), event.code)};
    /* Who leaves, if one does: the innermost after the event before. */
    if (frame > 1 && tf_cursor_activations(cursor, frame - 1, &stack, &depth, &event, &ignored) == 0) {
        if (depth && event.event != TF_CALL && event.event != TF_RESUME)
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
    /* Among the events there are first runs of functions, which are no calls. */
    size_t want = t->report_calls, max = want * 4 + 256, n;
    uint64_t *offsets = want ? malloc(max * sizeof *offsets) : NULL;
    if (!offsets)
        return;
    n = tf_log_last(t->log, d->offset, d->frame, offsets, max);
    d->calls = calloc(want, sizeof *d->calls);
    uint64_t seq = n ? tf_log_events_before(t->log, offsets[n - 1]) + 1 : 0;
    for (size_t i = n; d->calls && i-- > 0 && d->calls_n < want; seq--) {
        const struct tf_outside *e = tf_log_event(t->log, offsets[i], NULL);
        if (!e || (e->call >= TF_CALL_ROWS && e->call != TF_CALL_SIGNAL))
            continue;
        d->calls[d->calls_n++] = (struct tf_call_before){seq, e->frame, event_text(e)};
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
    d->text = vtext(fmt, ap);
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
    d->print = i < n ? did[i] : 0;
    d->text = text("frame event %llu: the program did %s, the recording has %s", (unsigned long long)frame,
                   d->did ? d->did : "?", d->recorded ? d->recorded : "?");
    return d;
}

int tf_diverged_words(struct tf_timeline *t, uint64_t block, const uint32_t *did, uint32_t n, uint64_t offset,
                      struct tf_err *err)
{
    const uint32_t *has;
    uint32_t has_n;
    uint64_t frame;
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
    const char *text, *where;
};

static bool take_apart(const struct tf_message *m, struct parts *p)
{
    if (m->len < sizeof p->rep)
        return false;
    memcpy(&p->rep, m->data, sizeof p->rep);
    const uint8_t *at = m->data + sizeof p->rep;
    uint64_t left = m->len - sizeof p->rep;
    if (p->rep.words > TF_BLOCK_FRAMES ||
        left != p->rep.words * 4ull + p->rep.args_len + p->rep.data_len + p->rep.text_len + p->rep.where_len)
        return false;
    p->words = (const uint32_t *)at;
    p->args = at + p->rep.words * 4ull;
    p->data = p->args + p->rep.args_len;
    p->text = (const char *)p->data + p->rep.data_len;
    p->where = p->text + p->rep.text_len;
    return true;
}

/* The data of a call, where the log has them, too: the surroundings of the first byte that differs. */
static void compare_data(struct tf_divergence *d, const struct parts *p, const struct tf_outside *e)
{
    uint64_t from = p->rep.data_at, len = from < e->data_len ? e->data_len - from : 0;
    if (len > TF_EXCERPT)
        len = TF_EXCERPT;
    const uint8_t *has = tf_outside_data(e) + (len ? from : 0);
    char *a = quoted(has, len, from + len < e->data_len);
    char *b = quoted(p->data, p->rep.data_len, from + p->rep.data_len < p->rep.data_total);
    uint64_t at = p->rep.differs - from;
    char *ha = hex(has + (at < len ? at : len), at < len ? (len - at < 16 ? len - at : 16) : 0);
    char *hb = hex(p->data + (at < p->rep.data_len ? at : p->rep.data_len),
                   at < p->rep.data_len ? (p->rep.data_len - at < 16 ? p->rep.data_len - at : 16) : 0);
    if (a && b && ha && hb) {
        const char *lead = from ? "..." : "";
        add_unlike(d, text("the data, from byte %llu on", (unsigned long long)p->rep.differs),
                   text("%s%s; there: %s", lead, a, *ha ? ha : "the end"),
                   text("%s%s; there: %s", lead, b, *hb ? hb : "the end"));
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
        d->recorded = event_text(e);
    if (p->rep.kind == TF_DIVERGED_KERNEL) {
        if (!e)
            return;
        if (p->rep.result < 0 && p->rep.result > -4096)
            snprintf(buf, sizeof buf, "-1 (%s)", strerrorname_np((int)-p->rep.result));
        else
            snprintf(buf, sizeof buf, "%#llx", (unsigned long long)p->rep.result);
        d->did = text("the same call, and the kernel answered %s", buf);
        add_unlike(d, strdup("result"), text("%#llx", (unsigned long long)e->result), strdup(buf));
        return;
    }
    if (p->rep.call == TF_CALL_CODE) {
        const char *file, *name;
        code_names(p->args, p->rep.args_len, &file, &name);
        d->did = text("the first run of %s (%s)", name, file);
    } else if (p->rep.call == TF_CALL_MARK) {
        d->did = text("its end (%.*s)", p->rep.args_len > 8 ? (int)(p->rep.args_len - 8) : 0, p->args + 8);
    } else if (p->rep.call != TF_NO_CALL) {
        tf_call_format_args(buf, sizeof buf, p->rep.call, p->args, p->rep.args_len);
        if (p->rep.kind == TF_DIVERGED_STRAY)
            d->did = text("%s", tf_call_name(p->rep.call, buf, sizeof buf));
        else
            d->did = with_data(buf, p->rep.data_at ? NULL : p->data, p->rep.data_len,
                               p->rep.data_len < p->rep.data_total);
    }
    if (!e || e->call != p->rep.call)
        return;
    if (p->rep.kind == TF_DIVERGED_ORDER) {
        add_unlike(d, strdup("after frame event"), text("%llu", (unsigned long long)e->frame),
                   text("%llu", (unsigned long long)p->rep.place.frame));
        return;
    }
    if (p->rep.kind != TF_DIVERGED_ARGS)
        return;
    if (p->rep.call == TF_CALL_CODE) {
        compare_codes(d, tf_outside_args(e), e->args_len, p->args, p->rep.args_len);
        return;
    }
    hashed = compare_arguments(d, p->rep.call, tf_outside_args(e), e->args_len, p->args, p->rep.args_len,
                               &structures);
    d->in_structure = structures && d->unlike_n;
    if (hashed && hashed == d->unlike_n)
        d->kind = TF_DIVERGED_DATA;
    if (!hashed)
        return;
    if (p->rep.differs != UINT64_MAX)
        compare_data(d, p, e);
    else
        d->note = text("The recording has only a hash of these data, so what differs in them cannot be "
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
        if (at && r == TF_E_DIVERGENCE && t->divergence->kind == TF_DIVERGED_EVENT)
            at->frame = t->divergence->frame + 1;
        return r;
    }
    int r = part(t, block, p.words, p.rep.words, &has, &has_n, &frame, err);
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
    if (r) {
        if (m->op != TF_REP_BARRIER)
            d->then = text("after frame event %llu: %.*s", (unsigned long long)p.rep.place.frame,
                           (int)p.rep.text_len, p.text);
        if (at)
            at->frame = frame;
    }
    return keep(t, d, err);
}

/* ---- looking further ---- */

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

/*
 * Goes to the event before the first one that differs. What made the program differ may do so earlier this
 * time; after a few tries, only the functions are named.
 */
void tf_divergence_locate(struct tf_timeline *t, struct tf_divergence *d)
{
    struct tf_stop_req req = {.frame = d->frame, .kind = TF_STOP_EVENT};
    struct tf_runner runner, present = t->present;
    struct tf_divergence *last = tf_timeline_take_divergence(t); /* of these replays nobody is told */
    struct tf_checkpoint from;
    struct tf_stop_rep rep;
    struct tf_err ignored;
    struct tf_frame event;
    struct lines lines = {0};
    bool standing = t->standing;

    if (d->located || d->kind != TF_DIVERGED_EVENT || d->frame < 1 ||
        !(lines.f = open_memstream(&lines.text, &lines.len)))
        goto out;
    d->located = true;
    /* A function that was just called is not on the stack before it starts. */
    tf_cursor_filter(t->cursor, NULL, 0);
    if (tf_cursor_seek(t->cursor, d->frame, &ignored) == 0 &&
        tf_cursor_next(t->cursor, &event, &ignored) == 1 &&
        (event.event == TF_CALL || event.event == TF_RESUME))
        req.kind = TF_STOP_LINE;
    for (int tries = 0; tries < STACK_TRIES && !ftell(lines.f); tries++) {
        if (t->cancel && *t->cancel)
            break;
        if (tf_run_start(t, &req, d->frame, &runner, &from, &ignored))
            break;
        if (tf_run_until_stop(t, &runner, d->frame, &rep, NULL, &ignored) == 0 &&
            tf_run_check_prefix(t, &runner, &rep, &ignored) == 0) {
            t->present = runner;
            t->standing = true;
            tf_timeline_inspect(t, &(struct tf_inspect_req){.what = TF_INSPECT_STACK}, NULL, STACK_TIMEOUT_MS,
                                add_place, &lines, &ignored);
            t->present = present;
            t->standing = standing;
        }
        tf_runner_end(&runner);
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

static bool same(const struct tf_divergence *a, const struct tf_divergence *b)
{
    return a->kind == b->kind && a->frame == b->frame && a->call == b->call && a->print == b->print;
}

int tf_divergence_again(struct tf_timeline *t, struct tf_divergence *d, struct tf_err *err)
{
    struct tf_divergence *last = tf_timeline_take_divergence(t);
    struct tf_run_req req = {.stop = tf_run_all(t)};
    struct tf_runner runner;
    struct tf_place place;
    struct tf_stop_rep rep;
    uint64_t behind = d->frame + 2; /* at an event that differs: the one after it */
    if (req.stop.kind == TF_STOP_EVENT && behind < t->reach)
        req.stop.frame = behind;
    free(d->again_text);
    d->again_text = NULL;
    t->progress_from = 0;
    t->progress_to = behind;
    t->run_number++;
    int r = tf_runner_fork(&t->checkpoints[0].runner, &runner, &place, err);
    if (r == 0) {
        r = tf_runner_send(&runner, TF_REQ_RUN, &req, sizeof req, NULL, 0, err);
        if (r == 0)
            r = tf_run_until_stop(t, &runner, behind, &rep, NULL, err);
        if (r == 0)
            r = tf_run_check_prefix(t, &runner, &rep, err);
        tf_runner_end(&runner);
    }
    struct tf_divergence *now = tf_timeline_take_divergence(t);
    t->divergence = last;
    if (r == TF_E_DIVERGENCE && now) {
        d->again = same(d, now) ? TF_AGAIN_SAME : TF_AGAIN_OTHER;
        d->again_text =
            now->text ? text("after frame event %llu: %s", (unsigned long long)now->frame, now->text) : NULL;
    } else if (r == 0 || r == TF_E_NOTFOUND) {
        d->again = TF_AGAIN_EQUAL;
        d->again_text =
            text("it was equal up to frame event %llu", (unsigned long long)(r ? t->reach : rep.frame));
    } else if (r != TF_E_CANCELLED) {
        d->again = TF_AGAIN_FAILED;
        d->again_text = strdup(err->msg);
    }
    tf_divergence_free(now);
    return r == TF_E_CANCELLED ? r : 0;
}
