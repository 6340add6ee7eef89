/* expr.c: expressions that are prepared at the present, for searches (search.h). */
#include <stdlib.h>
#include <string.h>
#include "replay/search.h"
#include "replay/timeline_private.h"

typedef struct tf_position position;

struct preparing {
    struct tf_expr *expr;
    uint32_t bits;
    uint64_t address;
    struct tf_err *err;
    bool answered;
};

static int on_prepared(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct preparing *p = ctx;
    if (type == TF_ITEM_ERROR)
        return tf_err_set(p->err, TF_E_USAGE, "%.*s", (int)len, (const char *)data);
    struct tf_prepared head;
    if (type != TF_ITEM_PROGRAM || len < sizeof head + 1)
        return 0;
    struct tf_expr *e = p->expr;
    memcpy(&head, data, sizeof head);
    const char *module = (const char *)data + sizeof head, *end = (const char *)data + len;
    size_t module_len = strnlen(module, len - sizeof head);
    const char *program = module + module_len + 1;
    if (program > end || head.program_len > (size_t)(end - program) ||
        head.place_len > (size_t)(end - program) - head.program_len)
        return tf_err_set(p->err, TF_E_REPLAY, "the expression could not be prepared");
    const char *place = program + head.program_len, *text = place + head.place_len;
    p->bits = head.bits;
    p->address = head.frame;
    e->object = head.object;
    e->object_type = head.type;
    e->module = strndup(module, module_len);
    e->program_len = head.program_len;
    e->program = malloc(head.program_len + 1ul);
    e->place_len = head.place_len;
    e->place = malloc(head.place_len + 1ul);
    e->place_text = strndup(text, (size_t)(end - text));
    if (!e->module || !e->program || !e->place || !e->place_text)
        return tf_err_set(p->err, TF_E_IO, "out of memory");
    memcpy(e->program, program, head.program_len);
    memcpy(e->place, place, head.place_len);
    p->answered = true;
    return 0;
}

/* The call that began the generator whose frame is at this address. */
static int find_generator(struct tf_timeline *t, struct tf_expr *e, uint32_t code, uint64_t address,
                          struct tf_err *err)
{
    struct tf_point point = {.kind = TF_POINT_CALL, .codes = &code, .codes_n = 1, .frame_address = address};
    struct tf_hit hit;
    struct tf_search_opts none = {0};
    position here = {t->here.frame, t->here.lines + 1};
    int r = tf_search_backward(t, here, (position){0}, &point, 1, &hit, &none, err);
    if (r == 0)
        r = tf_run_has_base(t->run)
                ? tf_err_set(
                      err, TF_E_USAGE,
                      "this generator was called before frame event %llu, where the run begins since its "
                      "oldest part was dropped: its variables cannot be followed",
                      (unsigned long long)tf_timeline_first(t))
                : tf_err_set(err, TF_E_REPLAY, "the call that began this generator was not found");
    if (r < 0)
        return r;
    e->entry = hit.position.frame;
    e->address = address;
    return 0;
}

int tf_expr_prepare(struct tf_timeline *t, const char *text, uint32_t frame, uint32_t thread,
                    struct tf_expr **out, struct tf_err *err)
{
    struct tf_expr *e = calloc(1, sizeof *e);
    struct tf_activation *v = NULL;
    struct tf_frame event;
    size_t n = 0;
    *out = NULL;
    if (!e || !(e->text = strdup(text))) {
        tf_expr_free(e);
        return tf_err_set(err, TF_E_IO, "out of memory");
    }
    struct preparing p = {.expr = e, .err = err};
    e->prepared = t->here;
    struct tf_inspect_req req = {.what = TF_INSPECT_PREPARE, .frame = frame, .thread = thread};
    int r = tf_timeline_inspect(t, &req, text, 10000, on_prepared, &p, err);
    if (r == 0 && !p.answered)
        r = tf_err_set(err, TF_E_REPLAY, "the expression could not be prepared");
    if (r == 0 && p.bits & TF_PROGRAM_LOCAL) {
        if (!thread) {
            tf_cursor_filter(t->cursor, NULL, 0);
            r = tf_cursor_seek(t->cursor, t->here.frame, err);
            r = r ? r : tf_cursor_next(t->cursor, &event, err);
            thread = r > 0 ? event.thread + 1 : 1;
        }
        r = r < 0 ? r : tf_thread_stack(t, thread - 1, t->here, &v, &n, &event, err);
        r = r < 0 ? r : 0;
        if (r == 0 && frame >= n)
            r = tf_err_set(err, TF_E_USAGE, "there is no function number %u on the stack", frame);
        if (r == 0) {
            e->entry = v[n - 1 - frame].entry;
            e->depth = (uint32_t)(n - frame);
            e->thread = thread - 1;
            e->code = v[n - 1 - frame].code;
            e->generator = p.bits & TF_PROGRAM_GENERATOR;
            if (e->generator)
                r = find_generator(t, e, e->code, p.address, err);
        }
    }
    free(v);
    if (r) {
        tf_expr_free(e);
        return r;
    }
    *out = e;
    return 0;
}

void tf_expr_free(struct tf_expr *e)
{
    if (!e)
        return;
    free(e->text);
    free(e->program);
    free(e->place);
    free(e->place_text);
    free(e->module);
    free(e);
}
