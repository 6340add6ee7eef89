/* prompt_look_outside.c: the commands output and calls: what the program said and heard by now. */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include "cli/prompt_look.h"
#include "iohooks/calls.h"

#define OUTPUT_LINES 20
#define CALLS_AROUND 5
#define PREVIEW 60 /* bytes of data */

/* The block that holds an offset of the outside stream, decompressed. data is malloc'ed; NULL if the stream
 * ends before it. */
static int load_at(struct tf_prompt *p, const struct tf_outside_block *blocks, size_t n, size_t which,
                   uint8_t **data, struct tf_err *err)
{
    *data = NULL;
    if (which >= n)
        return 0;
    *data = malloc(blocks[which].len);
    if (!*data)
        return tf_err_set(err, TF_E_IO, "out of memory");
    int r = tf_store_outside_read(p->store, p->run, &blocks[which], *data, err);
    if (r) {
        free(*data);
        *data = NULL;
    }
    return r;
}

static size_t block_of(const struct tf_outside_block *blocks, size_t n, uint64_t offset)
{
    size_t i = 0;
    while (i < n && blocks[i].offset + blocks[i].len <= offset)
        i++;
    return i;
}

/* ---- output ---- */

struct gather {
    uint64_t before; /* ordinal of the first outside event that has not happened yet */
    /* What was written, without what is certainly not among the last lines. */
    char *text;
    size_t len, room;
    uint64_t keep; /* lines */
    uint64_t dropped_lines;
    bool no_memory;
};

/* Keeps the text from growing without end: what stands before the last `keep` lines is dropped. */
static void drop_lines(struct gather *g)
{
    uint64_t lines = 0;
    size_t at = g->len;
    if (at && g->text[at - 1] == '\n')
        at--;
    while (at > 0) {
        if (g->text[at - 1] == '\n' && ++lines == g->keep)
            break;
        at--;
    }
    for (size_t i = 0; i < at; i++)
        g->dropped_lines += g->text[i] == '\n';
    memmove(g->text, g->text + at, g->len - at);
    g->len -= at;
}

static int on_output(void *ctx, const struct tf_output *output)
{
    struct gather *g = ctx;
    if (output->seq >= g->before)
        return 1;
    if (g->len + output->len > g->room) {
        if (g->len)
            drop_lines(g);
        size_t room = (g->len + output->len) * 2 + 65536;
        char *more = realloc(g->text, room);
        if (!more) {
            g->no_memory = true;
            return 1;
        }
        g->text = more;
        g->room = room;
    }
    memcpy(g->text + g->len, output->data, output->len);
    g->len += output->len;
    return 0;
}

/* The ordinal of the first outside event behind the present. */
static int present_seq(struct tf_prompt *p, uint64_t *seq, struct tf_err *err)
{
    struct tf_outside_block *blocks;
    uint8_t *data;
    size_t n;
    int r = tf_store_outside_blocks(p->store, p->run, &blocks, &n, err);
    if (r)
        return r;
    size_t which = block_of(blocks, n, p->here.offset);
    r = load_at(p, blocks, n, which, &data, err);
    if (r == 0 && !data)
        *seq = UINT64_MAX;
    if (r == 0 && data) {
        *seq = blocks[which].first_seq;
        for (uint64_t at = 0; at < p->here.offset - blocks[which].offset; (*seq)++)
            at += ((const struct tf_outside *)(data + at))->total_len;
    }
    free(data);
    free(blocks);
    return r;
}

int tf_look_output(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct gather g = {.keep = OUTPUT_LINES};
    if (!tf_look_number(args, "output [LINES]", 1, &g.keep, err))
        return err->code;
    int r = present_seq(p, &g.before, err);
    if (r == 0)
        r = tf_store_each_output(p->store, p->run, on_output, &g, err);
    if (r >= 0 && g.no_memory)
        r = tf_err_set(err, TF_E_IO, "out of memory");
    if (r >= 0) {
        if (g.len)
            drop_lines(&g);
        json_object_set_new(out, "text", tf_json_text(g.text ? g.text : "", g.len));
        json_object_set_new(out, "lines_before", json_integer((json_int_t)g.dropped_lines));
    }
    free(g.text);
    return r < 0 ? r : 0;
}

void tf_look_print_output(struct tf_prompt *p, json_t *result)
{
    json_t *text = json_object_get(result, "text");
    json_int_t before = json_integer_value(json_object_get(result, "lines_before"));
    size_t len = json_string_length(text);
    if (!len) {
        fprintf(p->out, "(nothing had been printed by now)\n");
        return;
    }
    if (before)
        fprintf(p->out, "(%lld line%s before; 'output N' shows the last N)\n", (long long)before,
                before == 1 ? "" : "s");
    fwrite(json_string_value(text), 1, len, p->out);
    if (json_string_value(text)[len - 1] != '\n')
        fputc('\n', p->out);
}

/* ---- calls ---- */

/* Events that are not worth showing: the recorder's own. */
static bool is_call(const struct tf_outside *e)
{
    return e->call < TF_CALL_ROWS || tf_call_row(e->call) || e->call == TF_CALL_SIGNAL ||
           e->call == TF_CALL_FAULT;
}

/* What is known of the data, for people: clocks as a number, bytes as text. */
static json_t *preview(const struct tf_outside *e)
{
    const uint8_t *data = tf_outside_data(e);
    const char *sig = e->call < TF_CALL_ROWS ? tf_call_rows[e->call].sig : NULL;
    if (!e->data_len)
        return NULL;
    if ((e->call == SYS_clock_gettime || e->call == SYS_gettimeofday) && e->data_len >= 16) {
        int64_t seconds, part;
        memcpy(&seconds, data, 8);
        memcpy(&part, data + 8, 8);
        return e->call == SYS_clock_gettime
                   ? json_sprintf("%lld.%09lld s", (long long)seconds, (long long)part)
                   : json_sprintf("%lld.%06lld s", (long long)seconds, (long long)part);
    }
    /* Of structures nothing is told: only bytes that the program reads or writes as such. */
    if (!(e->flags & (TF_OUT_STDOUT | TF_OUT_STDERR)) && (!sig || !strpbrk(sig, "rwcn")))
        return NULL;
    char text[PREVIEW * 4 + 8], *at = text;
    *at++ = '"';
    for (size_t i = 0; i < e->data_len && i < PREVIEW; i++) {
        if (data[i] == '\n')
            at += sprintf(at, "\\n");
        else if (data[i] == '"' || data[i] == '\\')
            at += sprintf(at, "\\%c", data[i]);
        else if (data[i] >= 32 && data[i] < 127)
            *at++ = (char)data[i];
        else
            at += sprintf(at, "\\x%02x", data[i]);
    }
    strcpy(at, e->data_len > PREVIEW ? "\"..." : "\"");
    return json_string(text);
}

static json_t *describe(const struct tf_outside *e, uint64_t seq, bool happened)
{
    char text[1024], name[64];
    json_t *o = json_object(), *data = preview(e);
    size_t n = tf_call_format(text, sizeof text, e);
    json_object_set_new(o, "seq", json_integer((json_int_t)seq));
    json_object_set_new(o, "frame", json_integer((json_int_t)e->frame));
    json_object_set_new(o, "happened", json_boolean(happened));
    json_object_set_new(o, "call", json_string(tf_call_name(e->call, name, sizeof name)));
    json_object_set_new(o, "text",
                        e->call >= TF_CALL_ROWS ? json_sprintf("signal %lld", (long long)e->result)
                                                : tf_json_text(text, n));
    json_object_set_new(o, "result", json_integer((json_int_t)e->result));
    if (data)
        json_object_set_new(o, "data", data);
    json_object_set_new(o, "data_len", json_integer((json_int_t)e->data_len));
    return o;
}

int tf_look_calls(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_outside_block *blocks;
    uint64_t around = CALLS_AROUND, after = 0;
    uint8_t *data;
    size_t n;
    if (!tf_look_number(args, "calls [N]", 1, &around, err))
        return err->code;
    int r = tf_store_outside_blocks(p->store, p->run, &blocks, &n, err);
    if (r)
        return r;
    json_t *calls = json_array();
    size_t here = block_of(blocks, n, p->here.offset), first = here < n ? here : n;
    uint64_t before = 0;
    /* Backward, block by block, until enough of them lie before the present; they are collected reversed. */
    json_t *reversed = json_array();
    for (size_t i = first < n ? first + 1 : n; r == 0 && i-- > 0 && before < around;) {
        json_t *of_block = json_array();
        r = load_at(p, blocks, n, i, &data, err);
        uint64_t seq = blocks[i].first_seq;
        for (uint64_t at = 0; data && at < blocks[i].len && blocks[i].offset + at < p->here.offset; seq++) {
            const struct tf_outside *e = (const void *)(data + at);
            at += e->total_len;
            if (is_call(e))
                json_array_append_new(of_block, describe(e, seq, true));
            if (json_array_size(of_block) > 2 * around + 64) {
                json_t *tail = json_array();
                for (size_t k = json_array_size(of_block) - around; k < json_array_size(of_block); k++)
                    json_array_append(tail, json_array_get(of_block, k));
                json_decref(of_block);
                of_block = tail;
            }
        }
        for (size_t k = json_array_size(of_block); k-- > 0 && before < around; before++)
            json_array_append(reversed, json_array_get(of_block, k));
        json_decref(of_block);
        free(data);
    }
    for (size_t k = json_array_size(reversed); k-- > 0;)
        json_array_append(calls, json_array_get(reversed, k));
    json_decref(reversed);
    for (size_t i = here; r == 0 && i < n && after < around; i++) {
        r = load_at(p, blocks, n, i, &data, err);
        uint64_t seq = blocks[i].first_seq;
        for (uint64_t at = 0; data && at < blocks[i].len && after < around; seq++) {
            const struct tf_outside *e = (const void *)(data + at);
            uint64_t offset = blocks[i].offset + at;
            at += e->total_len;
            if (offset < p->here.offset || !is_call(e))
                continue;
            json_array_append_new(calls, describe(e, seq, false));
            after++;
        }
        free(data);
    }
    free(blocks);
    json_object_set_new(out, "calls", calls);
    return r;
}

void tf_look_print_calls(struct tf_prompt *p, json_t *result)
{
    json_t *calls = json_object_get(result, "calls"), *call;
    bool marked = false;
    size_t i;
    json_array_foreach(calls, i, call)
    {
        bool happened = json_is_true(json_object_get(call, "happened"));
        if (!happened && !marked)
            fprintf(p->out, "%s-> here%s\n", tf_colour(p, TF_GREEN), tf_colour(p, TF_PLAIN));
        marked |= !happened;
        fprintf(p->out, "  #%-8lld %s", (long long)json_integer_value(json_object_get(call, "frame")),
                tf_prompt_text(call, "text"));
        if (json_object_get(call, "data"))
            fprintf(p->out, "  %s%s%s", tf_colour(p, TF_CYAN), tf_prompt_text(call, "data"),
                    tf_colour(p, TF_PLAIN));
        fprintf(p->out, "\n");
    }
    if (!marked)
        fprintf(p->out, "%s-> here%s, behind the last\n", tf_colour(p, TF_GREEN), tf_colour(p, TF_PLAIN));
}
