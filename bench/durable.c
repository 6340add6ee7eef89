/*
 * durable.c: what durable checkpoints cost without Python: `bench-durable [MB [DUMPS [RESTORES]]]`, 100, 10
 * and 20 if not given. A process of that size is copied, dumped and put into a recording; between two dumps
 * one page in a hundred changes. Then the last one is brought back again and again. Its memory is made to
 * look like a heap of Python objects, and packs about as well as one.
 *
 * Built with `ninja bench-durable`; finds criu as timefork does (TIMEFORK_CRIU).
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/criu.h"
#include "store/db.h"
#include "store/images.h"

#define PAGE 4096u
#define DUMPS_MAX 64
#define RESTORES_MAX 1000

static uint64_t seed = 88172645463325252u;
static uint64_t random_number(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void check(int rc, const struct tf_err *err)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench-durable: %s\n", err->msg);
    exit(1);
}

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench-durable: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *what, double *ms, int n)
{
    qsort(ms, (size_t)n, sizeof *ms, by_size);
    printf("%-34s %7.1f ms at best, %7.1f in the median, %7.1f at worst, of %d\n", what, ms[0], ms[n / 2],
           ms[n - 1], n);
}

/* 64 bytes as they lie in a heap of Python's: a count, a type, pointers, a length, a name, and a number. */
static void object(uint64_t *at, size_t place)
{
    uint64_t random = random_number();
    at[0] = 1 + random % 3;
    at[1] = 0x7ffff7d00000u + random / 3 % 6 * 416;
    at[2] = 0x555555a00000u + place * 8;
    at[3] = 0x555555a00000u + random % 64 * 48;
    at[4] = random % 30;
    snprintf((char *)(at + 5), 16, "item %u", (unsigned)(place / 8));
    at[7] = random % 16 ? random >> 60 : random;
}

/* A settled copy: see checkpoint/criu.h. Answers each byte with a sum over its pages. */
static _Noreturn void copy(int socket, const uint64_t *memory, size_t words, bool user_ns)
{
    char byte = 0;
    setsid();
    if (chdir("/") < 0 || dup2(socket, 0) < 0)
        _exit(1);
    close_range(1, ~0u, 0);
    if (user_ns && unshare(CLONE_NEWUSER) < 0)
        _exit(1);
    while (write(0, &byte, 1) == 1 && read(0, &byte, 1) == 1)
        for (size_t i = 0; i < words; i += PAGE / 8)
            byte = (char)(byte + memory[i]);
    _exit(0);
}

/* The program: for each byte on its socket it changes a page in a hundred, copies itself, and says how long
 * that took. Its copies have nothing of what the benchmark has allocated. */
struct made {
    double ms;
    pid_t pid;
};
static _Noreturn void program(int commands, int (*sockets)[2], size_t words, bool user_ns)
{
    uint64_t *memory = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char which;
    must(memory != MAP_FAILED, "memory");
    for (size_t i = 0; i + 8 <= words; i += 8)
        object(memory + i, i);
    signal(SIGCHLD, SIG_IGN);
    while (read(commands, &which, 1) == 1) {
        for (size_t i = 0; which && i < words / (PAGE / 8) / 100; i++)
            memory[random_number() % words]++;
        struct made made = {.ms = now_ms()};
        made.pid = fork();
        if (made.pid == 0)
            copy(sockets[which][1], memory, words, user_ns);
        made.ms = now_ms() - made.ms;
        if (write(commands, &made, sizeof made) != sizeof made)
            break;
    }
    _exit(0);
}

static uint64_t stored(struct tf_store *store)
{
    sqlite3_stmt *stmt;
    struct tf_err err;
    check(tf_db_prepare(store,
                        "SELECT (SELECT sum(length(data) + length(digests)) FROM page_groups)"
                        " + (SELECT sum(length(data)) FROM image_files)",
                        &stmt, &err),
          &err);
    check(tf_db_step(store, stmt, &err), &err);
    uint64_t bytes = (uint64_t)sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return bytes;
}

static void put(struct tf_store *store, const char *folder, struct tf_image *image, double *pack_ms,
                double *put_ms)
{
    struct tf_page_set *known;
    struct tf_image_pack *pack;
    struct tf_err err;
    double began = now_ms();
    int rc;
    check(tf_page_set_load(store, &known, &err), &err);
    check(tf_image_pack(folder, known, &pack, &err), &err);
    *pack_ms = now_ms() - began;
    began = now_ms();
    do
        check(rc = tf_image_put(store, image, pack, 1u << 20, &err), &err);
    while (rc == 0);
    *put_ms = now_ms() - began;
    tf_image_pack_free(pack);
    tf_page_set_free(known);
}

static double restore(const struct tf_criu *criu, struct tf_store *store, const struct tf_image *image)
{
    struct tf_extract *extract;
    struct tf_err err;
    char *folder, byte = 0;
    pid_t keeper;
    int socket;
    double began = now_ms();
    check(tf_criu_folder(image->pages * PAGE, &folder, &err), &err);
    check(tf_image_extract_start(store, image->rowid, folder, &extract, &err), &err);
    check(tf_criu_restore_unless(criu, folder, tf_image_extract_failed(extract), &socket, &keeper, &err),
          &err);
    check(tf_image_extract_finish(extract, &err), &err);
    must(write(socket, &byte, 1) == 1 && read(socket, &byte, 1) == 1, "the restored process");
    double ms = now_ms() - began;
    tf_criu_folder_remove(folder);
    kill(keeper, SIGKILL);
    waitpid(keeper, NULL, 0);
    close(socket);
    return ms;
}

int main(int argc, char **argv)
{
    size_t mb = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;
    int dumps = argc > 2 ? atoi(argv[2]) : 10, restores = argc > 3 ? atoi(argv[3]) : 20;
    static int sockets[DUMPS_MAX][2];
    static double forks[DUMPS_MAX], criu_ms[DUMPS_MAX], packs[DUMPS_MAX], puts_ms[DUMPS_MAX],
        back[RESTORES_MAX];
    char folder[] = "/tmp/timefork-bench-XXXXXX", path[64];
    struct tf_criu criu;
    struct tf_store *store;
    struct tf_image image = {.run = 1};
    struct tf_err err;
    uint64_t first = 0;
    int commands[2];

    must(mb > 0 && dumps > 0 && dumps <= DUMPS_MAX && restores > 0 && restores <= RESTORES_MAX, "arguments");
    check(tf_criu_find(&criu, &err), &err);
    for (int i = 0; i < dumps; i++)
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets[i]) == 0, "socketpair");
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, commands) == 0, "socketpair");
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        close(commands[0]);
        program(commands[1], sockets, (mb << 20) / 8, !criu.privileged);
    }
    close(commands[1]);
    must(mkdtemp(folder) != NULL, folder);
    snprintf(path, sizeof path, "%s/x.timefork", folder);
    check(tf_store_create(path, &store, &err), &err);
    check(tf_db_exec(
              store,
              "INSERT INTO runs(id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes,"
              " exit_status, exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version,"
              " exe, execfn, cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp)"
              " VALUES('bench', 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, '', '', '', '', '', '', '', '', '',"
              " '', x'00', x'00')",
              &err),
          &err);
    for (int i = 0; i < dumps; i++) {
        unsigned char which = (unsigned char)i;
        struct made made;
        struct tf_criu_dump dump;
        char byte;
        must(write(commands[0], &which, 1) == 1 && read(commands[0], &made, sizeof made) == sizeof made &&
                 read(sockets[i][0], &byte, 1) == 1,
             "the program");
        forks[i] = made.ms;
        criu_ms[i] = now_ms();
        check(tf_criu_dump_start(&criu, made.pid, &dump, &err), &err);
        check(tf_criu_dump_poll(&dump, true, &err), &err);
        criu_ms[i] = now_ms() - criu_ms[i];
        image.frame = (uint64_t)i;
        put(store, dump.folder, &image, &packs[i], &puts_ms[i]);
        tf_criu_dump_end(&dump);
        if (i == 0)
            first = stored(store);
    }
    printf("criu %s, %s; %llu MB of pages\n", criu.version,
           criu.privileged ? "with privileges" : "ordinary user",
           (unsigned long long)(image.pages * PAGE >> 20));
    report("the program waits for the fork", forks, dumps);
    report("dump, beside the program", criu_ms, dumps);
    printf("%-34s %7.1f ms, %.1f ms\n", "the first: packing, putting", packs[0], puts_ms[0]);
    if (dumps > 1) {
        report("the others: packing", packs + 1, dumps - 1);
        report("the others: putting", puts_ms + 1, dumps - 1);
    }
    printf("%-34s %7.2f MB for the first, %.2f for %d: %.2f times\n", "space", (double)first / 1e6,
           (double)stored(store) / 1e6, dumps, (double)stored(store) / (double)first);
    for (int i = 0; i < restores; i++)
        back[i] = restore(&criu, store, &image);
    report("from the recording to an answer", back, restores);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    tf_store_close(store);
    unlink(path);
    rmdir(folder);
    tf_criu_clear(&criu);
    return 0;
}
