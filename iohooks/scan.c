/*
 * scan.c: the core's side of a search (replay/search.h, engine/scan.c): a copy of a checkpoint that runs on,
 * reports the positions at which something is met, and is thrown away. What is here: where it stands (events,
 * depth of the stack), which hit is reported, and forks aside in which an expression may do what it likes.
 *
 * The scan's own memory is at TF_SCAN_ADDR, where nothing of the program is ever mapped, so that the
 * program's mappings stay where the recording has them.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "iohooks/process.h"

#define SHARED_SIZE 4096u
#define SCAN_MAX (TF_SCAN_SIZE - SHARED_SIZE)
#define shared ((struct tf_scan_aside *)TF_SCAN_ADDR) /* with the forks aside */
#define request ((struct tf_scan *)(TF_SCAN_ADDR + SHARED_SIZE))

static struct {
    uint32_t *seen;                /* the words in front of it are counted */
    struct tf_scan_depth *running; /* of the thread that runs */
    bool hit;                      /* last is one */
    struct tf_scan_hit last;
} scan;

/* By the number of the thread: numbers are not used again, and far fewer threads are there at a time. One
 * that takes the place of another is unknown, and is asked about again. */
#define STACKS (1u << 16)
static struct tf_scan_depth stacks[STACKS];

static struct tf_scan_depth *stack_of(uint32_t thread)
{
    struct tf_scan_depth *s = &stacks[thread % STACKS];
    if (s->thread != thread)
        *s = (struct tf_scan_depth){.thread = thread};
    return s;
}

void *tf_scan_room(uint64_t size)
{
    if (size < sizeof(struct tf_scan) || size > SCAN_MAX)
        return NULL;
    const int flags = MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
    if (TF_IS_ERR(tf_sys(SYS_mmap, shared, SHARED_SIZE, PROT_READ | PROT_WRITE, flags | MAP_SHARED, -1, 0)) ||
        TF_IS_ERR(tf_sys(SYS_mmap, request, SCAN_MAX, PROT_READ | PROT_WRITE, flags | MAP_PRIVATE, -1, 0)))
        return NULL;
    return request;
}

static void count_words(void)
{
    for (; scan.seen < tf.p; scan.seen++) {
        if (TF_IS_SWITCH(*scan.seen)) {
            scan.running = stack_of(TF_LOW(*scan.seen));
            continue;
        }
        scan.running->depth += TF_IS_ENTRY(*scan.seen) ? 1 : -1;
        if (scan.running->depth < scan.running->least)
            scan.running->least = scan.running->depth;
    }
}

void tf_scan_begin(uint32_t word, void *tstate, void *frame)
{
    scan.seen = tf.p;
    scan.running = stack_of(request->thread);
    scan.running->known = 1;
    scan.running->depth = scan.running->least = (int32_t)request->depth;
    if (request->thread == request->least_thread && request->least < request->depth)
        scan.running->least = (int32_t)request->least;
    tf.scanning = true;
    tf.mode = TF_ARMS;
    tf.engine->scan(request, tstate, frame, (int)TF_TAG(word));
    tf.mode = TF_REPLAYS;
}

void tf_scan_block_ends(void)
{
    count_words();
    scan.seen = tf.words;
}

void tf_scan_end(void)
{
    if (scan.hit)
        tf_send(TF_REP_HIT, &scan.last, sizeof scan.last, NULL, 0);
    struct tf_stop_rep rep = {.frame = tf_frames(), .offset = tf.offset};
    rep.words = (uint32_t)(tf.p - tf.words);
    rep.digest = XXH3_64bits(tf.words, rep.words * sizeof *tf.words);
    tf_send(TF_REP_SCANNED, &rep, sizeof rep, NULL, 0);
    tf_leave(0);
}

void tf_scan_at(uint32_t word, void *tstate, void *frame)
{
    if (request->every_event) {
        tf.mode = TF_ARMS;
        tf.engine->scan_event(word, tstate, frame);
        tf.mode = TF_REPLAYS;
    }
    /* The start of a function is a place of its own, that comes with the call. */
    if (tf_frames() > request->end_frame ||
        (tf_frames() == request->end_frame && request->end_lines == 0 && !TF_IS_ENTRY(word)))
        tf_scan_end();
}

uint64_t tf_scan_limit(uint64_t here)
{
    if (request->every_event)
        return here + 1;
    /* The event at which it ends, and the next, which ends the lines behind it. */
    return request->end_frame > here ? request->end_frame : here + 1;
}

uint64_t tf_scan_place(struct tf_scan_depth **stack)
{
    count_words();
    *stack = scan.running;
    return tf_frames();
}

void tf_scan_hit(const struct tf_scan_hit *hit)
{
    if (request->mode == TF_SCAN_EACH) {
        tf_send(TF_REP_HIT, hit, sizeof *hit, NULL, 0);
        return;
    }
    scan.last = *hit;
    scan.hit = true;
    if (request->mode == TF_SCAN_FIRST)
        tf_scan_end();
}

/* Asked often, for few addresses: the answer holds until the program maps or unmaps something. */
bool tf_mapped(uint64_t address, size_t len)
{
    static struct {
        uint64_t page, maps;
        bool answer;
    } known[64];
    uint64_t first = address & ~4095ul, last = (address + len - 1) & ~4095ul;
    for (uint64_t page = first; page <= last; page += 4096) {
        size_t i = (page >> 12) % 64;
        if (known[i].page != page || known[i].maps != tf.maps + 1) {
            unsigned char resident;
            known[i].page = page;
            known[i].maps = tf.maps + 1;
            known[i].answer = tf_sys(SYS_mincore, page, 4096, &resident) == 0;
        }
        if (!known[i].answer)
            return false;
    }
    return true;
}

/* In the fork: what tf_serve() does for a question. */
static void __attribute__((noreturn)) aside(void (*fn)(void *, struct tf_scan_aside *), void *arg)
{
    tf_sys(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (tf_self->selector)
        tf_trap_on();
    tf.mode = TF_LOOKS;
    tf_emit_off_again();
    tf.limit = tf.words + 65536;
    fn(arg, shared);
    tf_leave(0);
}

int tf_scan_aside(void (*fn)(void *arg, struct tf_scan_aside *result), void *arg,
                  struct tf_scan_aside *result)
{
    int fd = -1, status;
    count_words(); /* here, not in the fork, where events are none of the program's */
    *shared = (struct tf_scan_aside){0};
    long pid = tf_sys(SYS_clone, CLONE_PIDFD, 0, &fd, 0, 0);
    if (pid == 0)
        aside(fn, arg);
    if (TF_IS_ERR(pid))
        return -1;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    long r;
    do
        r = tf_sys(SYS_poll, &wait, 1, request->timeout_ms);
    while (r == -EINTR);
    if (r == 0)
        tf_sys(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0); /* by descriptor: it cannot reach another */
    tf_sys(SYS_wait4, pid, &status, __WALL, 0);
    tf_sys(SYS_close, fd);
    *result = *shared;
    return r == 0 ? -2 : shared->state ? 0 : -1;
}

void tf_scan_log(uint32_t point, uint64_t frame, uint64_t lines, bool failed, const char *text, size_t len)
{
    struct tf_scan_log head = {.point = point, .failed = failed, .frame = frame, .lines = lines};
    tf_send(TF_REP_LOG, &head, sizeof head, text, len);
}
