/*
 * harness.c: a preload library that plays the core, so that the engine can be tested alone. It collects the
 * frame events in memory and does with them what the environment says:
 *
 * - HARNESS_ENGINE=PATH: the engine to load
 * - HARNESS_DUMP=PATH: at exit, all events as text: "C 12", "R", "Y", "S 12", "U", "T 1"; code ids defined as
 *   "D id line hash file\tname"
 * - HARNESS_STOP=F:L:K:E: arm after event number F: L lines, kind K (0 line, 1 exit), exit event E;
 *   F:L:K:E,... gives several, each served by a fork of its own, so that one run answers them all
 * - HARNESS_EVAL=TEXT: expression to evaluate at the stop (expressions apart by \x1e)
 * - HARNESS_ASK=PATH: a file of questions to ask at the stops, W:F:C:N:TEXT: enum tf_inspect, from, count,
 *   frame, text (apart by \x1e); item 103 comes in front of the answers to each one
 * - HARNESS_PURE=F:N:TEXT: after event F, prepare TEXT (several are apart by \x1e) in a fork and evaluate it
 *   often (N times) in the program's own timeline; item 102 holds the results
 * - HARNESS_OUT=PATH: where the answers go
 * - HARNESS_WRAP=1: events are counted no more, but written around in 64 KiB, for measuring
 * - HARNESS_WHERE=F: the where() text after event F
 * - HARNESS_THREADS=1: threads are told apart, by their events; "N 1 name" when thread 1 begins
 * - HARNESS_YIELD=K: the GIL is given away after each K-th event, if that is a call or resume
 * - HARNESS_DROP=1: another thread asks for the GIL now and then, until the program ends
 * - HARNESS_PLACE=F: behind event F, the place is noted ("P frame instruction fingerprint") whenever the
 *   interpreter looks whether somebody wants the GIL
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "engine/engine.h"
#include "store/ring.h"

#define CAPACITY ((size_t)64 << 20) /* words */
#define WRAP_WORDS 16384

static uint32_t *words;
static struct tf_cursor at;
static uint32_t scratch[1024];
static const struct tf_engine *engine;
static struct {
    struct tf_stop_req req;
} stops[4096];
static size_t stop_count, stop_next;
static FILE *out;
static FILE *codes;
static char *codes_text;
static size_t codes_size;
static uint32_t next_code = 1;
static uint64_t events;   /* frame events before `counted` */
static uint32_t *counted; /* words in front of it are counted */
static int armed, wrap;
static uint64_t where_at;
static pid_t main_pid;
static char *eval_text, *dump_path, *ask_text, *pure_text;
static uint64_t pure_at;
static unsigned long pure_times;
static int program_fd = -1; /* where a program that was prepared goes */
static int threads, drop;
static unsigned long yield_every, place_at;
static struct {
    void *mutex, *cond, *switch_cond;
} gil;
static bool noting;
static __thread bool yielding;
static int (*pure_test)(const uint8_t *, size_t, void *, _Bool *, uint64_t *);

/* The program's environment is the same whatever is asked, so that its objects are at the same addresses. */
static char *take_env(const char *name)
{
    char *value = getenv(name);
    if (value)
        value = strdup(value);
    unsetenv(name);
    return value;
}

static uint64_t count_events(void)
{
    for (; counted < at.p; counted++)
        events += TF_IS_FRAME(*counted);
    return events;
}

/* The engine calls slow() at every event from here on only when a stop is near: otherwise in one after so
 * many words. */
static void set_limit(void)
{
    uint64_t next = UINT64_MAX;
    if (place_at > events)
        next = place_at;
    if (threads || yield_every || noting)
        next = events + 1;
    if (stop_next < stop_count)
        next = stops[stop_next].req.frame;
    if (where_at && where_at > events && where_at < next)
        next = where_at;
    if (pure_at > events && pure_at < next)
        next = pure_at;
    at.limit = words + CAPACITY - 16;
    if (next != UINT64_MAX && counted + (next - events) < at.limit)
        at.limit = counted + (next - events);
}

static void emit_text(int type, const void *a, size_t al, const void *b, size_t bl, const void *c, size_t cl)
{
    uint64_t total = al + bl + cl;
    int32_t t = type;
    fwrite(&t, sizeof(t), 1, out);
    fwrite(&total, sizeof(total), 1, out);
    fwrite(a, 1, al, out);
    fwrite(b, 1, bl, out);
    fwrite(c, 1, cl, out);
    fflush(out);
}

static void core_item(int type, const void *a, size_t al, const void *b, size_t bl, const void *c, size_t cl)
{
    if (program_fd >= 0) {
        const struct tf_prepared *head = a;
        const char *program = b ? (const char *)b + strlen(b) + 1 : NULL; /* behind the module's name */
        if (type == TF_ITEM_PROGRAM &&
            write(program_fd, program, head->program_len) != (ssize_t)head->program_len)
            _exit(1);
        return;
    }
    emit_text(type, a, al, b, bl, c, cl);
}

static void ask_about(struct tf_inspect_req req, const char *text)
{
    pid_t pid = fork();
    if (pid == 0) {
        at.p = scratch;
        at.limit = scratch + 1000;
        engine->inspect(&req, text, text ? strlen(text) : 0);
        fflush(out);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status)
        emit_text(99, &status, sizeof(status), NULL, 0, NULL, 0);
}

static void core_mute(bool on)
{
    (void)on;
}

static void ask(int what, const char *text)
{
    ask_about((struct tf_inspect_req){.what = (uint32_t)what}, text);
}

/* Text up to \x1e; the rest is what comes behind it, NULL at the end. Allocates nothing. */
static char *next_text(char **rest)
{
    char *one = *rest, *end = one ? strchr(one, '\x1e') : NULL;
    if (end)
        *end = 0;
    *rest = end ? end + 1 : NULL;
    return one;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* other programs may be busy */
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* 102: result, truth, fingerprint, nanoseconds for one evaluation. Nothing here allocates in the program. */
static void evaluate_here(const char *text, void *frame)
{
    static uint8_t program[65536];
    int ends[2], status;
    struct {
        int32_t result, truth;
        uint64_t fingerprint;
        double time;
    } answer = {.result = -1};
    if (pipe2(ends, O_CLOEXEC))
        _exit(94);
    pid_t pid = fork();
    if (pid == 0) {
        at.p = scratch;
        at.limit = scratch + 1000;
        program_fd = ends[1];
        engine->inspect(&(struct tf_inspect_req){.what = TF_INSPECT_PREPARE}, text, strlen(text));
        _exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    for (ssize_t n; (n = read(ends[0], program + size, sizeof(program) - size)) > 0;)
        size += (size_t)n;
    close(ends[0]);
    waitpid(pid, &status, 0);
    double start = now();
    for (unsigned long i = 0; size && i < pure_times; i++) {
        _Bool truth = 0;
        answer.result = pure_test(program, size, frame, &truth, i ? NULL : &answer.fingerprint);
        answer.truth = truth;
    }
    answer.time = pure_times ? (now() - start) / (double)pure_times : 0;
    emit_text(102, &answer, sizeof(answer), NULL, 0, NULL, 0);
}

/* 100: position; then the answers. */
static void core_stopped(int why, uint64_t lines)
{
    int64_t head[4] = {(int64_t)stops[stop_next].req.frame, (int64_t)stops[stop_next].req.lines, why,
                       (int64_t)lines};
    emit_text(100, head, sizeof(head), NULL, 0, NULL, 0);
    if (why == TF_STOPPED_AT) {
        ask(TF_INSPECT_STACK, NULL);
        ask(TF_INSPECT_LOCALS, NULL);
        if (eval_text) {
            for (char *one = strtok(strdup(eval_text), "\x1e"); one; one = strtok(NULL, "\x1e"))
                ask(TF_INSPECT_EVAL, one);
        }
        for (char *one; (one = next_text(&ask_text));) {
            struct tf_inspect_req req = {0};
            int at = 0;
            sscanf(one, "%u:%u:%u:%u:%n", &req.what, &req.from, &req.count, &req.frame, &at);
            emit_text(103, one, strlen(one), NULL, 0, NULL, 0);
            ask_about(req, one + at);
        }
    }
    fflush(out);
    _exit(0);
}

/* ---- threads ---- */

static void *ask_now_and_then(void *arg)
{
    for (;;) {
        usleep(2000);
        engine->ask_to_drop(true);
    }
    return arg;
}

static void core_gil(void *mutex, void *cond, void *switch_mutex, void *switch_cond,
                     const unsigned long *interval)
{
    (void)switch_mutex, (void)interval;
    gil.mutex = mutex;
    gil.cond = cond;
    gil.switch_cond = switch_cond;
    pthread_t asks;
    if (drop && pthread_create(&asks, NULL, ask_now_and_then, NULL))
        _exit(93);
}

/* Threads by the kernel's numbers, in the order of their first events. */
static uint32_t number_of_thread(void *frame)
{
    static pid_t tids[1024];
    static uint32_t count;
    pid_t tid = gettid();
    for (uint32_t i = 0; i < count; i++)
        if (tids[i] == tid)
            return i;
    char name[256];
    if (codes && frame && count && engine->thread_name(frame, name, sizeof(name)))
        fprintf(codes, "N %u %s\n", count, name);
    if (count == 1024)
        _exit(94);
    tids[count++] = tid;
    return count - 1;
}

/* What the core knows when the GIL is taken is found out at the first event behind it. */
static void tell_thread(uint32_t word, void *frame)
{
    static uint32_t last;
    uint32_t number = number_of_thread(frame);
    if (number != last) {
        at.p[-1] = TF_WORD(TF_SWITCH, number);
        *at.p++ = word;
        last = number;
    }
}

int pthread_cond_signal(pthread_cond_t *cond) __attribute__((visibility("default")));
int pthread_cond_signal(pthread_cond_t *cond)
{
    static int (*real)(pthread_cond_t *);
    if (!real)
        real = (int (*)(pthread_cond_t *))dlvsym(RTLD_NEXT, "pthread_cond_signal", "GLIBC_2.3.2");
    if (noting && cond == gil.cond) {
        struct tf_preempt place;
        engine->place(&place, true);
        fprintf(codes, "P %lx %lx %lx\n", place.frame, place.instruction, place.fingerprint);
    }
    return real(cond);
}

/* Who gave the GIL away because it was asked waits until another thread has it. If nobody wants it, that
 * would be for ever. */
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) __attribute__((visibility("default")));
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *);
    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *))dlvsym(RTLD_NEXT, "pthread_cond_wait",
                                                                    "GLIBC_2.3.2");
    if ((!noting && !drop) || cond != gil.switch_cond)
        return real(cond, mutex);
    pthread_mutex_unlock(mutex);
    if (drop)
        usleep(1000);
    return pthread_mutex_lock(mutex);
}

/* The thread has taken the GIL again, and is asked again. */
int pthread_mutex_unlock(pthread_mutex_t *mutex) __attribute__((visibility("default")));
int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    static int (*real)(pthread_mutex_t *);
    static bool given;
    if (!real)
        real = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    if (noting && mutex == gil.mutex && (given = !given) == false)
        engine->ask_to_drop(true);
    int result = real(mutex);
    if (yielding && mutex == gil.mutex) { /* others shall have the time to take it */
        yielding = false;
        usleep(50);
    }
    return result;
}

/* From event place_at to the next. */
static void note_places(void)
{
    bool noted = noting;
    noting = events == place_at;
    if (noting || noted)
        engine->ask_to_drop(noting);
}

/* Under the GIL, which is given away last of all. */
static void yield_now_and_then(void)
{
    static unsigned long count;
    yielding = yield_every && ++count % yield_every == 0;
    if (yielding)
        engine->yield();
    yielding = false;
}

static void core_slow(uint32_t word, void *tstate, void *frame)
{
    if (at.p >= scratch && at.p <= scratch + 1024) {
        at.p = scratch;
        return;
    }
    if (wrap) {
        at.p = words;
        return;
    }
    if (armed)
        core_stopped(TF_STOPPED_SHORT, engine->lines_seen());
    if (threads)
        tell_thread(word, frame);
    count_events();
    if (place_at)
        note_places();
    if (events == where_at) {
        char text[8192];
        size_t n = engine->where(text, sizeof(text));
        emit_text(101, text, n, NULL, 0, NULL, 0);
    }
    if (pure_at && events == pure_at) {
        for (char *one; (one = next_text(&pure_text));)
            evaluate_here(one, frame);
        pure_at = 0;
    }
    while (stop_next < stop_count && stops[stop_next].req.frame == events) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            armed = 1;
            at.limit = at.p;
            engine->arm(&stops[stop_next].req, tstate, frame, (int)TF_TAG(word));
            return;
        }
        int status;
        waitpid(pid, &status, 0);
        if (status) {
            int64_t head[3] = {(int64_t)stops[stop_next].req.frame, (int64_t)stops[stop_next].req.lines,
                               status};
            emit_text(98, head, sizeof(head), NULL, 0, NULL, 0);
        }
        stop_next++;
    }
    if (at.p >= words + CAPACITY - 16) {
        fprintf(stderr, "harness: too many events\n");
        _exit(9);
    }
    set_limit();
    yield_now_and_then();
}

static uint32_t core_code(uint64_t hash, uint32_t line, uint32_t flags, const char *file, size_t file_len,
                          const char *name, size_t name_len)
{
    if (codes)
        fprintf(codes, "D %u %u %016llx %x %.*s\t%.*s\n", next_code, line, (unsigned long long)hash, flags,
                (int)file_len, file, (int)name_len, name);
    return next_code++;
}

static void core_divergence(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    _exit(97);
}

static bool core_records_light(void)
{
    return false;
}

static const struct tf_core core = {
    .abi = TF_ENGINE_ABI,
    .cursor = &at,
    .slow = core_slow,
    .records_light = core_records_light,
    .code = core_code,
    .stopped = (void *)core_stopped,
    .item = core_item,
    .mute = core_mute,
    .gil = core_gil,
    .divergence = (void *)core_divergence,
};

static void dump(void)
{
    if (!dump_path || getpid() != main_pid)
        return;
    FILE *f = fopen(dump_path, "w");
    fflush(codes);
    fwrite(codes_text, 1, codes_size, f);
    for (uint32_t *w = words; w < at.p; w++) {
        switch (TF_TAG(*w)) {
        case TF_CALL:
            fprintf(f, "C %u\n", TF_LOW(*w));
            break;
        case TF_RESUME:
            fprintf(f, "S %u\n", TF_LOW(*w));
            break;
        case TF_RETURN:
            fprintf(f, "R\n");
            break;
        case TF_YIELD:
            fprintf(f, "Y\n");
            break;
        case TF_UNWIND:
            fprintf(f, "U\n");
            break;
        case TF_SWITCH:
            fprintf(f, "T %u\n", TF_LOW(*w));
            break;
        }
    }
    fclose(f);
}

int __libc_start_main(int (*m)(int, char **, char **), int argc, char **argv, void (*i)(void),
                      void (*f)(void), void (*r)(void), void *e) __attribute__((visibility("default")));

static int (*real_main)(int, char **, char **);

static int wrapped_main(int argc, char **argv, char **envp)
{
    if (!dlsym(RTLD_DEFAULT, "Py_GetVersion") || !getenv("HARNESS_ENGINE"))
        return real_main(argc, argv, envp);
    unsetenv("LD_PRELOAD");
    void *handle = dlopen(take_env("HARNESS_ENGINE"), RTLD_NOW);
    if (!handle) {
        fprintf(stderr, "harness: %s\n", dlerror());
        return 96;
    }
    tf_engine_init_fn init = (tf_engine_init_fn)dlsym(handle, TF_ENGINE_INIT);
    wrap = take_env("HARNESS_WRAP") != NULL;
    eval_text = take_env("HARNESS_EVAL");
    dump_path = take_env("HARNESS_DUMP");
    char *ask_path = take_env("HARNESS_ASK");
    FILE *ask_file = ask_path ? fopen(ask_path, "r") : NULL;
    if (ask_file) {
        static char text[4 << 20];
        ask_text = text;
        text[fread(text, 1, sizeof(text) - 1, ask_file)] = 0;
        fclose(ask_file);
    }
    threads = take_env("HARNESS_THREADS") != NULL;
    drop = take_env("HARNESS_DROP") != NULL;
    char *yield_text = take_env("HARNESS_YIELD"), *place_text = take_env("HARNESS_PLACE");
    yield_every = yield_text ? strtoul(yield_text, NULL, 10) : 0;
    place_at = place_text ? strtoul(place_text, NULL, 10) : 0;
    pure_text = take_env("HARNESS_PURE");
    if (pure_text) {
        pure_test = (int (*)(const uint8_t *, size_t, void *, _Bool *, uint64_t *))dlsym(
            handle, "tf_engine_pure_test");
        pure_at = strtoull(pure_text, &pure_text, 10);
        pure_times = strtoul(pure_text + 1, &pure_text, 10);
        pure_text++;
    }
    char *out_path = take_env("HARNESS_OUT"), *where_text = take_env("HARNESS_WHERE"),
         *stop_text = take_env("HARNESS_STOP");
    main_pid = getpid();
    words = mmap((void *)TF_RING_ADDR, CAPACITY * 4, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    at.p = counted = words;
    engine = init(&core);
    if (!engine) {
        fprintf(stderr, "harness: the engine is for another Python\n");
        return 95;
    }
    if (out_path)
        out = fopen(out_path, "w");
    codes = wrap ? NULL : open_memstream(&codes_text, &codes_size);
    if (where_text)
        where_at = strtoull(where_text, NULL, 10);
    for (char *one = stop_text ? strtok(stop_text, ",") : NULL; one; one = strtok(NULL, ",")) {
        struct tf_stop_req *r = &stops[stop_count++].req;
        unsigned long long frame, lines;
        sscanf(one, "%llu:%llu:%u:%u", &frame, &lines, &r->kind, &r->exit_event);
        r->frame = frame;
        r->lines = lines;
    }
    set_limit();
    if (wrap)
        at.limit = words + WRAP_WORDS;
    atexit(dump);
    return engine->main(argc, argv);
}

int __libc_start_main(int (*m)(int, char **, char **), int argc, char **argv, void (*i)(void),
                      void (*f)(void), void (*r)(void), void *e)
{
    typedef int start_fn(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                         void (*)(void), void *);
    real_main = m;
    start_fn *real = (start_fn *)dlsym(RTLD_NEXT, "__libc_start_main");
    return real(wrapped_main, argc, argv, i, f, r, e);
}
