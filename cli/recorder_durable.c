/* recorder_durable.c: see recorder_durable.h. */
#include <poll.h>
#include <stdlib.h>
#include "checkpoint/memory.h"
#include "cli/common.h"
#include "cli/recorder_durable.h"
#include "replay/durable.h"

#define FIRST_NS 1000000000u /* shorter runs are re-executed from their start */
/* Between two, at first: with what restoring takes, a goto takes less than a second. With limits: how often
 * it is asked whether one is wanted. */
#define SPACING_NS 500000000u
#define SHARE 8      /* making one takes an eighth of the time until the next, on another processor */
#define LAST_MS 1000 /* for one that is being made when the program ends */
#define AGAIN_MS 200
#define PATIENCE_MS 30000

struct tf_durables {
    struct tf_durables_opts opts;
    struct tf_criu criu;
    struct tf_maker *maker; /* NULL: not yet, or none any more: failed */
    bool failed;
    struct tf_bound bound;
    uint64_t spacing_ns, stored; /* stored: size of the images, about */
    int64_t next_ms;             /* not before */
    int64_t made_ms;             /* the last one */
    int64_t ask_limits_ms;       /* when to look what can be dropped; 0: it was looked */
    size_t n;                    /* images of this run */
    bool said;                   /* why the limits are not kept */
};

void tf_durables_give_up(struct tf_durables *d, struct tf_ingest *in, const char *why)
{
    char text[1200];
    d->failed = true;
    tf_maker_free(d->maker);
    d->maker = NULL;
    snprintf(text, sizeof text, "no more durable checkpoints: %s", why);
    if (d->opts.mode == TF_DURABLE_CRIU)
        tf_say("%s%s", text,
               tf_bound_limited(&d->opts.bound) ? ". The recording grows beyond its limits from here on"
                                                : "");
    if (in)
        tf_ingest_note(in, text);
}

int tf_durables_new(const struct tf_durables_opts *opts, struct tf_durables **out, struct tf_err *err)
{
    struct tf_err why;
    *out = NULL;
    if (opts->mode == TF_DURABLE_NONE)
        return 0;
    struct tf_durables *d = calloc(1, sizeof *d);
    if (!d)
        return tf_err_set(err, TF_E_IO, "out of memory");
    d->opts = *opts;
    d->spacing_ns = SPACING_NS;
    d->next_ms = tf_now_ms() + (int64_t)((tf_bound_limited(&opts->bound) ? SPACING_NS : FIRST_NS) / 1000000);
    tf_bound_init(&d->bound, &opts->bound, (uint64_t)tf_now_ms());
    if (opts->mode == TF_DURABLE_CRIU && (tf_criu_find(&d->criu, &why) || tf_criu_probe(&d->criu, &why))) {
        tf_say("no durable checkpoints: %s. The run is recorded without", why.msg);
        tf_durables_free(d);
        return 0;
    }
    *out = d;
    return 0;
}

/* The digests of the pages in the file are read anew: some may have gone. */
static int renew_maker(struct tf_durables *d, struct tf_err *err)
{
    tf_maker_free(d->maker);
    d->maker = NULL;
    return tf_maker_new(&d->criu, d->opts.store, &d->maker, err);
}

bool tf_durables_want(struct tf_durables *d, struct tf_ingest *in, pid_t program, uint64_t written)
{
    struct tf_err err;
    int64_t now = tf_now_ms();
    if (d->failed || now < d->next_ms || !in || !tf_ingest_started(in) ||
        (d->maker && tf_maker_busy(d->maker)))
        return false;
    if (tf_bound_limited(&d->opts.bound) && !tf_bound_due(&d->bound, written, (uint64_t)now))
        return false;
    if (d->opts.mode == TF_DURABLE_AUTO &&
        (tf_memory_resident(program) > TF_DURABLE_AUTO_MEMORY || d->stored > TF_DURABLE_AUTO_BYTES)) {
        tf_durables_give_up(
            d, in,
            "the program has so much in memory that they would take much of the disk (--checkpoints criu "
            "makes them)");
        return false;
    }
    int r = d->criu.argv ? 0 : tf_criu_find(&d->criu, &err);
    if (r == 0 && !d->maker)
        r = renew_maker(d, &err);
    if (r)
        tf_durables_give_up(d, in, err.msg);
    return r == 0;
}

void tf_durables_offer(struct tf_durables *d, const struct tf_checkpoint *c, struct tf_ingest *in,
                       pid_t program, uint64_t written)
{
    struct tf_err err;
    if (tf_durables_want(d, in, program, written) &&
        tf_maker_begin(d->maker, c, tf_ingest_run(in)->rowid, &err))
        tf_durables_give_up(d, in, err.msg);
}

/* There are as many as there may be: every second one goes, and from now on half as many are made. */
static int thin(struct tf_durables *d, const struct tf_run *run, struct tf_err *err)
{
    struct tf_image *images;
    size_t n;
    int r = tf_images_list(d->opts.store, run, &images, &n, err);
    if (r)
        return r;
    d->stored = 0;
    d->n = n;
    bool full = n >= d->opts.max;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (full && i % 2 == 1 && i + 1 < n) {
            r = tf_image_delete(d->opts.store, images[i].rowid, err);
            d->n--;
        } else {
            d->stored += images[i].own_bytes;
        }
    }
    tf_images_free(images, n);
    if (r || !full)
        return r;
    d->spacing_ns *= 2;
    return renew_maker(d, err);
}

/* With limits: what can be dropped now? What the image stands at is in the file a second later, at most, or
 * as soon as another process lets the recorder write. */
static void look_at_limits(struct tf_durables *d, struct tf_ingest *in, uint64_t written)
{
    struct tf_err err;
    int64_t now = tf_now_ms();
    if (!d->ask_limits_ms || now < d->ask_limits_ms)
        return;
    int r = tf_bound_added(&d->bound, d->opts.store, in, written, (uint64_t)now, &err);
    d->ask_limits_ms = r == TF_E_USAGE && now - d->made_ms < PATIENCE_MS ? now + AGAIN_MS : 0;
    if (r && !d->ask_limits_ms)
        tf_durables_give_up(d, in, err.msg);
    if (r == 0 && d->bound.why[0] && !d->said) {
        d->said = true;
        tf_say("the recording is larger than it was to be (--max-size, --last): %s", d->bound.why);
    }
}

static void on_made(struct tf_durables *d, struct tf_ingest *in)
{
    struct tf_err err;
    bool limited = tf_bound_limited(&d->opts.bound);
    int64_t took = tf_maker_took_ms(d->maker) * (limited ? 1 : SHARE),
            spacing = (int64_t)(d->spacing_ns / 1000000);
    d->made_ms = tf_now_ms();
    d->next_ms = d->made_ms - tf_maker_took_ms(d->maker) + (took > spacing ? took : spacing);
    if (limited)
        d->ask_limits_ms = d->made_ms;
    else if (thin(d, tf_ingest_run(in), &err))
        tf_durables_give_up(d, in, err.msg);
}

void tf_durables_step(struct tf_durables *d, struct tf_ingest *in, uint64_t written)
{
    const struct tf_image *image = NULL;
    struct tf_err err;
    if (d->failed || !d->maker || !in)
        return;
    int r = tf_maker_step(d->maker, &image, &err);
    if (r < 0) {
        tf_durables_give_up(d, in, err.msg);
        return;
    }
    if (image)
        on_made(d, in);
    if (!d->failed && !d->bound.dropping)
        look_at_limits(d, in, written);
    if (d->failed || !d->bound.dropping)
        return;
    bool idle = !tf_maker_busy(d->maker), images = d->bound.images;
    r = tf_bound_step(&d->bound, d->opts.store, in, idle, &err);
    if (r == 0 && images && !d->bound.images) /* some were removed */
        r = renew_maker(d, &err);
    if (r)
        tf_durables_give_up(d, in, err.msg);
}

int tf_durables_fd(const struct tf_durables *d, bool *at_once)
{
    bool busy = !d->failed && d->maker && tf_maker_busy(d->maker);
    int fd = busy ? tf_maker_fd(d->maker) : -1;
    *at_once = busy && fd < 0;
    return fd;
}

void tf_durables_end(struct tf_durables *d, struct tf_ingest *in, uint64_t written)
{
    int64_t until = tf_now_ms() + LAST_MS;
    while (!d->failed && d->maker && in && (tf_maker_busy(d->maker) || d->bound.dropping) &&
           tf_now_ms() < until) {
        tf_durables_step(d, in, written);
        bool at_once;
        struct pollfd fd = {.fd = tf_durables_fd(d, &at_once), .events = POLLIN};
        poll(&fd, 1, at_once ? 0 : 2);
    }
}

void tf_durables_free(struct tf_durables *d)
{
    if (!d)
        return;
    tf_maker_free(d->maker);
    tf_criu_clear(&d->criu);
    free(d);
}
