/* query_frames.c: `timefork query --frames`: the frame events of a run, as they are in the recording. */
#include "cli/query.h"

#include <stdlib.h>
#include <string.h>

/* The texts of a code object as JSON, made when it is first met: a run has few functions and many events. */
struct texts {
    char *function, *file;
};

static int print_json(struct query *q, struct texts *texts, const struct tf_frame *f)
{
    const struct tf_code *code = &q->codes.codes[f->code];
    struct texts *t = &texts[f->code];
    if (f->event == TF_SWITCH && !f->depth) { /* no Python function goes on */
        printf("{\"frame\": %llu, \"event\": \"switch\", \"function\": null, \"file\": null, \"line\": null, "
               "\"depth\": 0, \"thread\": %u, \"time_ns\": %llu}\n",
               (unsigned long long)f->frame, f->thread, (unsigned long long)f->time_ns);
        return TF_EXIT_OK;
    }
    if (!t->function)
        t->function = query_json_text(code->qualname, strlen(code->qualname));
    if (!t->file)
        t->file = query_json_text(code->file, strlen(code->file));
    if (!t->function || !t->file) {
        tf_say("out of memory");
        return TF_EXIT_ERROR;
    }
    printf(
        "{\"frame\": %llu, \"event\": \"%s\", \"function\": %s, \"file\": %s, \"line\": %u, \"depth\": %u, "
        "\"thread\": %u, \"time_ns\": %llu}\n",
        (unsigned long long)f->frame, tf_event_name(f->event), t->function, t->file, code->first_line,
        f->depth, f->thread, (unsigned long long)f->time_ns);
    return TF_EXIT_OK;
}

static void print_text(struct query *q, const struct tf_frame *f)
{
    const struct tf_code *code = &q->codes.codes[f->code];
    printf("%10llu  %-6s  %12.6f  %6u  %6u  ", (unsigned long long)f->frame, tf_event_name(f->event),
           (double)f->time_ns / 1e9, f->thread, f->depth);
    if (f->event == TF_SWITCH && !f->depth) {
        puts("-");
        return;
    }
    tf_print_name(stdout, code->qualname);
    printf("%*s  ", (int)strlen(code->qualname) < 36 ? 36 - (int)strlen(code->qualname) : 0, "");
    tf_print_name(stdout, code->file);
    printf(":%u\n", code->first_line);
}

int query_frames(struct query *q)
{
    struct tf_err err;
    struct tf_cursor *cursor;
    struct tf_frame f;
    uint64_t matched = 0, printed = 0;
    int status = TF_EXIT_OK, rc;
    struct texts *texts = calloc(q->codes.n, sizeof *texts);
    if (!texts) {
        tf_say("out of memory");
        return TF_EXIT_ERROR;
    }
    if (tf_cursor_open(q->store, &q->run, &cursor, &err)) {
        free(texts);
        return tf_fail(&err);
    }
    if (q->narrowed)
        tf_cursor_filter(cursor, q->shown, q->codes.n);
    while ((rc = tf_cursor_next(cursor, &f, &err)) == 1) {
        if (f.code >= q->codes.n) {
            tf_say("%s is damaged: frame %llu names a code object that is not there", tf_store_path(q->store),
                   (unsigned long long)f.frame);
            status = TF_EXIT_ERROR;
            break;
        }
        if ((q->event >= 0 && (int)f.event != q->event) || (q->one_thread && f.thread != q->thread))
            continue;
        if (matched++ < q->offset)
            continue;
        if (printed == q->limit)
            break;
        if (!printed++ && !q->json)
            printf("%10s  %-6s  %12s  %6s  %6s  %-36s  %s\n", "FRAME", "EVENT", "SECONDS", "THREAD", "DEPTH",
                   "FUNCTION", "FILE:LINE");
        if (q->json)
            status = print_json(q, texts, &f);
        else
            print_text(q, &f);
        if (status || ferror(stdout))
            break;
    }
    if (rc < 0)
        status = tf_fail(&err);
    else if (!q->json && !status) {
        if (rc == 1 && printed == q->limit)
            tf_say("there are more; --offset %llu goes on from here",
                   (unsigned long long)(q->offset + printed));
        else if (!printed)
            tf_say(matched ? "there are only %llu such events" : "there is no such event (of %llu)",
                   (unsigned long long)(matched ? matched : q->run.frames));
        if (q->hides_library)
            tf_say("the standard library and installed packages are left out; --all shows them too");
    }
    for (size_t i = 0; i < q->codes.n; i++) {
        free(texts[i].function);
        free(texts[i].file);
    }
    free(texts);
    tf_cursor_close(cursor);
    return status;
}
