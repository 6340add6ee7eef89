/*
 * items.c: the records of the ring (ring.h) other than frame events and times: what they mean and where they
 * go. Most of them become outside events, which are gathered in in->out until a block is full; an event whose
 * data comes in several records stands at the end of it, behind in->out_whole.
 */
#include "store/ingest.h"
#include "store/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#define OUTSIDE_MAX (UINT32_MAX - 4096ull) /* outside.h: an event is below 4 GiB */

/* ---- outside events ---- */

static int out_room(struct tf_ingest *in, size_t more, struct tf_err *err)
{
    if (in->out_cap - in->out_len >= more)
        return 0;
    size_t cap = in->out_cap ? in->out_cap : 2 * TF_OUTSIDE_BLOCK;
    while (cap - in->out_len < more)
        cap *= 2;
    if (more > TF_OUTSIDE_LARGE)
        cap = in->out_len + more + 8; /* a very large event, all of it is known */
    uint8_t *out = realloc(in->out, cap);
    if (!out)
        return tf_db_memory(err);
    in->out = out;
    in->out_cap = cap;
    return 0;
}

/* The last event has all its data. */
static int end_event(struct tf_ingest *in, struct tf_err *err)
{
    if (in->out_len & 7) {
        int rc = out_room(in, 8, err);
        if (rc)
            return rc;
        while (in->out_len & 7)
            in->out[in->out_len++] = 0;
    }
    struct tf_outside_block *b = &in->out_block;
    const struct tf_outside *e = (const void *)(in->out + in->out_whole);
    if (!b->events++)
        b->first_frame = e->frame;
    b->last_frame = e->frame;
    in->out_whole = in->out_len;
    return in->out_whole >= TF_OUTSIDE_BLOCK ? ingest_write_outside(in, err) : 0;
}

static int add_data(struct tf_ingest *in, const void *data, size_t len, struct tf_err *err)
{
    if (len > in->missing)
        len = in->missing; /* padding */
    int rc = out_room(in, len, err);
    if (rc)
        return rc;
    memcpy(in->out + in->out_len, data, len);
    in->out_len += len;
    in->missing -= len;
    return in->missing ? 0 : end_event(in, err);
}

/* Where it stands: after how many frame events. */
static uint64_t place(const struct tf_ingest *in)
{
    return in->opts.light ? in->now - in->start : in->block.first_frame - 1 + in->block.n;
}

/* Begins an event; data (may be less than data_len) is what has come of it. */
static int add_event(struct tf_ingest *in, const struct tf_rec_outside *rec, const void *args,
                     const void *data, size_t data_here, struct tf_err *err)
{
    uint64_t args_size = (rec->args_len + 7ull) & ~7ull;
    if (rec->data_len > OUTSIDE_MAX - args_size - sizeof(struct tf_outside))
        return tf_err_set(err, TF_E_FULL, "a single call returned %llu bytes, more than a recording can hold",
                          (unsigned long long)rec->data_len);
    uint64_t total = sizeof(struct tf_outside) + args_size + ((rec->data_len + 7) & ~7ull);
    int rc = 0;
    if (total > TF_OUTSIDE_LARGE) /* what came before is safe if this one cannot be stored */
        rc = ingest_commit(in, false, TF_RUN_INCOMPLETE, -1, 0, err);
    if (!rc && in->out_whole && in->out_whole + total > TF_OUTSIDE_BLOCK)
        rc = ingest_write_outside(in, err);
    if (!rc)
        rc = out_room(in, sizeof(struct tf_outside) + args_size, err);
    if (rc)
        return rc;
    struct tf_outside *e = (void *)(in->out + in->out_len);
    *e = (struct tf_outside){
        .total_len = (uint32_t)total,
        .call = rec->call,
        .thread = (uint16_t)in->thread,
        .thread_high = (uint16_t)(in->thread >> 16),
        .frame = place(in),
        .result = rec->result,
        .args_len = rec->args_len,
        .flags = rec->flags,
        .data_len = rec->data_len,
    };
    memcpy(e + 1, args, rec->args_len);
    memset((uint8_t *)(e + 1) + rec->args_len, 0, args_size - rec->args_len);
    in->out_len += sizeof *e + args_size;
    in->missing = rec->data_len;
    if (!in->missing)
        return end_event(in, err);
    if ((rc = out_room(in, rec->data_len, err)))
        return rc;
    return data_here ? add_data(in, data, data_here, err) : 0;
}

/* ---- items ---- */

int ingest_senseless(const char *what, struct tf_err *err)
{
    return tf_err_set(err, TF_E_FORMAT, "the recorded process sent something that makes no sense (%s)", what);
}

static int item_code(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_code rec;
    if (len < sizeof rec)
        return ingest_senseless("short code object", err);
    memcpy(&rec, p, sizeof rec);
    const char *file = (const char *)p + sizeof rec;
    len -= sizeof rec;
    if ((uint64_t)rec.file_len + rec.name_len + 2 > len || file[rec.file_len] != 0)
        return ingest_senseless("code object's names", err);
    const char *name = file + rec.file_len + 1;
    if (name[rec.name_len] != 0 || rec.id != in->n_codes || rec.id > TF_LOW(UINT32_MAX))
        return ingest_senseless("code object's id", err);

    int rc = tf_writer_code(&in->w, &rec, file, name, err);
    if (rc)
        return rc;
    in->n_codes++;
    if (strcmp(file, "<string>") != 0)
        rc = tf_writer_source(&in->w, file, in->opts.child_proc, in->run.cwd, err);
    if (rc)
        return rc;

    struct tf_rec_outside event = {.call = TF_CALL_CODE, .args_len = 8 + rec.file_len + 1 + rec.name_len + 1};
    uint8_t *args = malloc(event.args_len);
    if (!args)
        return tf_db_memory(err);
    memcpy(args, &rec.hash, 8);
    memcpy(args + 8, file, rec.file_len + rec.name_len + 2);
    rc = add_event(in, &event, args, NULL, 0, err);
    free(args);
    return rc;
}

/* "3", or "signal 9": how the program says that it ends. */
static void note_exit(struct tf_ingest *in, const char *text, size_t len)
{
    char copy[32];
    int number;
    snprintf(copy, sizeof copy, "%.*s", (int)(len < 31 ? len : 31), text);
    if (sscanf(copy, "signal %d", &number) == 1)
        in->said_signal = number;
    else if (sscanf(copy, "%d", &number) == 1)
        in->said_status = number & 0xff; /* as wait() gives it */
}

static int item_mark(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_mark rec;
    if (len < sizeof rec)
        return ingest_senseless("short mark", err);
    memcpy(&rec, p, sizeof rec);
    if (rec.text_len > len - sizeof rec)
        return ingest_senseless("mark's text", err);
    uint8_t *args = malloc(8 + rec.text_len);
    if (!args)
        return tf_db_memory(err);
    const uint32_t head[2] = {rec.kind, 0};
    if (rec.kind == TF_MARK_EXIT)
        note_exit(in, (const char *)p + sizeof rec, rec.text_len);
    memcpy(args, head, 8);
    memcpy(args + 8, p + sizeof rec, rec.text_len);
    struct tf_rec_outside event = {.call = TF_CALL_MARK, .args_len = 8 + rec.text_len};
    int rc = tf_writer_mark(&in->w, in->block.first_frame - 1 + in->block.n, rec.kind, (const char *)args + 8,
                            rec.text_len, err);
    if (!rc)
        rc = add_event(in, &event, args, NULL, 0, err);
    free(args);
    return rc;
}

static int item_outside(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_outside rec;
    if (len < sizeof rec)
        return ingest_senseless("short outside event", err);
    memcpy(&rec, p, sizeof rec);
    size_t args_size = (rec.args_len + 7ull) & ~7ull;
    p += sizeof rec;
    len -= sizeof rec;
    if (rec.args_len > len)
        return ingest_senseless("outside event's arguments", err);
    int rc = in->opts.light ? ingest_light_source(in, &rec, p, err) : 0;
    if (rc)
        return rc;
    size_t at = args_size < len ? args_size : len;
    return add_event(in, &rec, p, p + at, len - at, err);
}

/*
 * An event of a kind of which there are very many, made in one piece: all of it is known.
 * size: of the event, a multiple of 8, with arguments and data behind the head that need no padding.
 */
static int add_short(struct tf_ingest *in, struct tf_outside *head, size_t size, struct tf_err *err)
{
    int rc = 0;
    if (in->out_whole + size > TF_OUTSIDE_BLOCK)
        rc = ingest_write_outside(in, err);
    if (!rc)
        rc = out_room(in, size, err);
    if (rc)
        return rc;
    head->total_len = (uint32_t)size;
    head->thread = (uint16_t)in->thread;
    head->thread_high = (uint16_t)(in->thread >> 16);
    head->frame = place(in);
    memcpy(in->out + in->out_len, head, size);
    in->out_len += size;
    return end_event(in, err);
}

/* The turn goes to a thread: whose the outside events are from here on, this one included. */
static int item_turn(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_turn rec;
    struct {
        struct tf_outside head;
        uint64_t why;
    } event;
    _Static_assert(sizeof event == sizeof(struct tf_outside) + 8, "no holes");
    if (len < sizeof rec)
        return ingest_senseless("short turn", err);
    memcpy(&rec, p, sizeof rec);
    if (rec.thread > TF_LOW(UINT32_MAX))
        return ingest_senseless("turn's thread", err);
    in->thread = rec.thread;
    event.head =
        (struct tf_outside){.call = TF_CALL_TURN, .result = rec.thread, .args_len = sizeof event.why};
    event.why = rec.why;
    return add_short(in, &event.head, sizeof event, err);
}

/* A time that was asked for: as the event that iohooks/args.c would have made of it. */
static int item_clock(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_clock rec;
    struct {
        struct tf_outside head;
        int64_t clock;
        int64_t time[2];
    } event;
    _Static_assert(sizeof event == sizeof(struct tf_outside) + 24, "no holes");
    if (len < sizeof rec)
        return ingest_senseless("short clock", err);
    memcpy(&rec, p, sizeof rec);
    event.head = (struct tf_outside){
        .call = SYS_clock_gettime, .args_len = sizeof event.clock, .data_len = sizeof event.time};
    event.clock = rec.clock;
    event.time[0] = rec.sec;
    event.time[1] = rec.nsec;
    return add_short(in, &event.head, sizeof event, err);
}

/* All of the blob is there: the run begins. */
static int start_run(struct tf_ingest *in, struct tf_err *err)
{
    const struct tf_rec_start *rec = &in->start_rec;
    const char *p = (const char *)in->start_blob, *end = p + rec->blob_len;
    const char *first[5];
    size_t want = 5ull + rec->argc + rec->envc, n = 0;
    const char *argv = end, *envp = end;

    for (const char *s = p; s < end; s += strlen(s) + 1, n++) {
        if (n < 5)
            first[n] = s;
        if (n == 5)
            argv = s;
        if (n == 5ull + rec->argc)
            envp = s;
    }
    if (rec->argc == 0)
        argv = envp;
    if (n != want || (rec->blob_len && end[-1] != 0))
        return ingest_senseless("start", err);

    struct utsname uts = {0};
    char digest[17] = "";
    uint64_t hash, size, tsc, ns;
    int64_t mtime;
    uname(&uts);
    if (!tf_file_digest(first[1], &hash, &size, &mtime))
        snprintf(digest, sizeof digest, "%016llx", (unsigned long long)hash);
    ingest_calibrate(in);
    ingest_clocks(&tsc, &ns);
    uint64_t ago = in->start << TF_TIME_UNIT_SHIFT;
    ago = ago >= in->begin_tsc && ago <= tsc ? (tsc - ago) >> TF_TIME_UNIT_SHIFT : 0;

    struct tf_run run = in->run;
    run.python_version = (char *)first[0];
    run.exe = (char *)first[1];
    run.execfn = (char *)first[2];
    run.cwd = (char *)first[3];
    run.stdlib = (char *)first[4];
    run.kernel = uts.release;
    run.host = uts.nodename;
    run.python_file_digest = digest;
    run.command = (char *)in->opts.command;
    run.title = (char *)in->opts.title;
    run.pid = rec->pid;
    run.stack_limit = rec->stack_limit;
    run.layout_digest = rec->layout_digest;
    run.started_unix_ns = (int64_t)(ingest_clock_ns(CLOCK_REALTIME) - tf_run_ns(&in->run, ago));
    int rc = tf_writer_run(&in->w, &run, argv, (size_t)(envp - argv), envp, (size_t)(end - envp), err);
    if (rc)
        return rc;
    in->run.rowid = run.rowid;
    in->threads.main_tid = (int32_t)run.pid;
    in->run.process = run.process;
    memcpy(in->run.id, run.id, sizeof run.id);
    in->run.cwd = strdup(run.cwd);
    if (!in->run.cwd)
        return tf_db_memory(err);
    in->started = true;
    free(in->start_blob);
    in->start_blob = NULL;
    if (in->opts.light && (rc = tf_light_mark(in->store, in->run.rowid, err)))
        return rc;
    if ((rc = tf_writer_machine(&in->w, err)))
        return rc;
    if (in->opts.source_text) {
        rc = tf_writer_source_text(&in->w, "<string>", in->opts.source_text, strlen(in->opts.source_text),
                                   err);
        if (rc)
            return rc;
    }
    return ingest_commit(in, true, TF_RUN_INCOMPLETE, -1, 0, err);
}

static int add_start(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    size_t want = in->start_rec.blob_len - in->start_len;
    if (len > want)
        len = want;
    memcpy(in->start_blob + in->start_len, p, len);
    in->start_len += len;
    in->more_start = in->start_len < in->start_rec.blob_len;
    return in->more_start ? 0 : start_run(in, err);
}

static int item_start(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    if (in->started || in->start_blob || len < sizeof in->start_rec)
        return ingest_senseless("start", err);
    memcpy(&in->start_rec, p, sizeof in->start_rec);
    if (in->start_rec.blob_len > 1u << 28)
        return ingest_senseless("start", err);
    in->start_blob = malloc(in->start_rec.blob_len + 1ull);
    if (!in->start_blob)
        return tf_db_memory(err);
    return add_start(in, p + sizeof in->start_rec, len - sizeof in->start_rec, err);
}

int ingest_record(struct tf_ingest *in, enum tf_record type, const uint8_t *p, size_t len, struct tf_err *err)
{
    uint64_t tsc;
    uint32_t number;
    if (type == TF_REC_DATA) {
        if (in->more_start)
            return add_start(in, p, len, err);
        return in->missing ? add_data(in, p, len, err) : ingest_senseless("data without an event", err);
    }
    if (!in->started && type != TF_REC_TIME && type != TF_REC_START)
        return ingest_senseless("an event before the start", err);
    if (in->missing && (type == TF_REC_OUTSIDE || type == TF_REC_CLOCK || type == TF_REC_TURN ||
                        type == TF_REC_CODE || type == TF_REC_MARK))
        return ingest_senseless("an event whose data is missing", err);
    switch (type) {
    case TF_REC_TIME:
        if (len < sizeof tsc)
            return ingest_senseless("short time", err);
        memcpy(&tsc, p, sizeof tsc);
        return ingest_set_time(in, tsc >> TF_TIME_UNIT_SHIFT, err);
    case TF_REC_TURN:
        return item_turn(in, p, len, err);
    case TF_REC_PULSE:
        if (len < sizeof number || !in->opts.light)
            return ingest_senseless("pulse", err);
        memcpy(&in->thread, p, sizeof in->thread);
        return 0;
    case TF_REC_THREAD:
        return ingest_thread(in, p, len, err);
    case TF_REC_CODE:
        return item_code(in, p, len, err);
    case TF_REC_OUTSIDE:
        return item_outside(in, p, len, err);
    case TF_REC_CLOCK:
        return item_clock(in, p, len, err);
    case TF_REC_START:
        return item_start(in, p, len, err);
    case TF_REC_MARK:
        return item_mark(in, p, len, err);
    case TF_REC_MAPPED:
        if (!memchr(p, 0, len))
            return ingest_senseless("mapped file", err);
        return tf_writer_mapped(&in->w, (const char *)p, err);
    case TF_REC_SNAPSHOT:
        if (len < sizeof number)
            return ingest_senseless("short snapshot", err);
        memcpy(&number, p, sizeof number);
        if (in->opts.on_snapshot) /* a forked process has none */
            in->opts.on_snapshot(in->opts.ctx, number, in->block.first_frame - 1 + in->block.n,
                                 in->out_block.offset + in->out_len);
        return 0;
    default:
        return ingest_senseless("unknown record", err);
    }
}
