/*
 * start.c: how timefork gets into the user's own interpreter. The library is preloaded and stands in front of
 * __libc_start_main, so it runs when all libraries are loaded and before the program's first instruction of
 * its own. If the program is a Python (it exports Py_GetVersion) the engine for its version is loaded, the
 * session is joined, and Python's main is replaced by the engine's, which does the same. Any other program is
 * left alone, with the environment untouched, so that a shell script that ends in `exec python` is recorded
 * too.
 *
 * Up to the moment where trapping begins, the process talks to the kernel itself, in record and replay alike:
 * it loads the same libraries at the same addresses. That they are the same is checked by a digest.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "iohooks/process.h"
#include "iohooks/start.h"

typedef int main_fn(int, char **, char **);
typedef int start_fn(main_fn *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

#define WORDS_ADDR 0x5d0000000000ul
#define WORDS_SIZE ((65536ul + 1024) * 4)

static char own_path[PATH_MAX], engine_path[PATH_MAX + 64];
static uintptr_t engine_from, engine_to;

bool tf_in_engine(uintptr_t address)
{
    return address >= engine_from && address < engine_to;
}

void tf_leave(int status)
{
    for (;;)
        tf_sys(SYS_exit_group, status);
}

static void say(const char *text)
{
    tf_sys(SYS_write, 2, text, strlen(text));
}

static void fail(const char *what)
{
    if (tf.shm) {
        tf.shm->attach = TF_ATTACH_ERROR;
        snprintf(tf.shm->error, sizeof tf.shm->error, "%s", what);
    } else {
        say("timefork: ");
        say(what);
        say("\n");
    }
    tf_leave(125);
}

static void *map_fd(int fd, uintptr_t at, size_t len, int prot, size_t offset)
{
    long r = tf_sys(SYS_mmap, at, len, prot, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, offset);
    return TF_IS_ERR(r) || (uintptr_t)r != at ? NULL : (void *)at;
}

bool tf_map_again(uint32_t which, int fd)
{
    bool ctl = which == TF_FD_CTL;
    uintptr_t at = ctl ? TF_CTL_ADDR : TF_LOG_ADDR;
    return (ctl || which == TF_FD_LOG) && tf_sys(SYS_mmap, at, ctl ? TF_CTL_SIZE : TF_LOG_SIZE, PROT_READ,
                                                 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == (long)at;
}

/* Maps the shared header, and the ring if there is one. */
static bool map_session(int fd)
{
    tf.shm = map_fd(fd, TF_SHM_ADDR, TF_SHM_HEADER, PROT_READ | PROT_WRITE, 0);
    if (!tf.shm || tf.shm->magic != TF_SHM_MAGIC || tf.shm->version != TF_SHM_VERSION)
        return false;
    tf.ring_words = tf.shm->ring_words;
    size_t bytes = tf.ring_words * 4ul;
    tf.ring = NULL;
    if (!bytes)
        return true;
    tf.ring = map_fd(fd, TF_RING_ADDR, bytes, PROT_READ | PROT_WRITE, TF_SHM_HEADER);
    return tf.ring && map_fd(fd, TF_RING_ADDR + bytes, bytes, PROT_READ | PROT_WRITE, TF_SHM_HEADER);
}

long tf_dup_high(int fd, int to)
{
    struct rlimit files, raised;
    long r = tf_sys(SYS_dup3, fd, to, O_CLOEXEC);
    if (r != -EBADF || TF_IS_ERR(tf_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &files)))
        return r;
    raised = files;
    raised.rlim_cur = files.rlim_max;
    tf_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, 0);
    r = tf_sys(SYS_dup3, fd, to, O_CLOEXEC);
    /* The hard limit is lower than that, too. */
    for (long top = (long)raised.rlim_cur - 1; r == -EBADF && top > 2 && top < to; top--)
        if (tf_sys(SYS_fcntl, top, F_GETFD) == -EBADF)
            r = tf_sys(SYS_dup3, fd, top, O_CLOEXEC);
    tf_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, 0);
    return r;
}

void tf_make_plain(void)
{
    struct rlimit stack;
    long persona = tf_sys(SYS_personality, 0xffffffffu);
    if (tf.follow[0])
        return; /* its descendants may be recorded again */
    if (tf.shm->stack_limit && !TF_IS_ERR(tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, 0, &stack)) &&
        stack.rlim_cur == tf.own_stack_limit) {
        stack.rlim_cur = tf.shm->stack_limit;
        tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, &stack, 0);
    }
    if (!TF_IS_ERR(persona) && !tf.shm->was_fixed)
        tf_sys(SYS_personality, persona & ~ADDR_NO_RANDOMIZE);
}

bool tf_join_child(int shm, int socket)
{
    tf_sys(SYS_munmap, TF_RING_ADDR, 2 * tf.ring_words * 4ul);
    tf_sys(SYS_munmap, TF_SHM_ADDR, TF_SHM_HEADER);
    bool mapped = map_session(shm);
    tf_sys(SYS_close, shm);
    long r = tf_dup_high(socket, tf.socket);
    tf_sys(SYS_close, socket);
    if (r != tf.socket) /* else the parent's went with that */
        tf_sys(SYS_close, tf.socket);
    if (!mapped || TF_IS_ERR(r))
        return false;
    tf.socket = (int)r;
    tf.shm->attach = TF_ATTACH_OK;
    tf_emit_start_child();
    return true;
}

/* record --follow: asks the supervisor at its socket (TF_ENV=@NAME,N) for a session. False: it is gone, and
 * this process runs as if there were none. */
static bool ask_session(const char *name, int *own_shm, int *own_socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct tf_place place = {.pid = (uint32_t)tf_sys(SYS_getpid)};
    struct {
        struct tf_msg head;
        struct tf_place place;
    } join = {{.op = TF_REP_JOIN, .len = sizeof place}, place};
    struct tf_msg answer;
    size_t len = strcspn(name, ",");
    int shm = -1;
    if (len >= sizeof address.sun_path)
        return false;
    memcpy(address.sun_path + 1, name, len);
    long fd = tf_sys(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (TF_IS_ERR(fd))
        return false;
    long r = tf_sys(SYS_connect, fd, &address, offsetof(struct sockaddr_un, sun_path) + 1 + len);
    if (!TF_IS_ERR(r))
        r = tf_sys(SYS_write, fd, &join, sizeof join);
    if (TF_IS_ERR(r) || !tf_answer((int)fd, &answer, &shm) || answer.op != TF_REQ_JOINED || shm < 0) {
        tf_sys(SYS_close, fd);
        return false;
    }
    long socket = tf_dup_high((int)fd, tf.first_fd + TF_FD_SOCKET);
    tf_sys(SYS_close, fd);
    if (TF_IS_ERR(socket)) {
        tf_sys(SYS_close, shm);
        return false;
    }
    *own_shm = shm;
    *own_socket = (int)socket;
    return true;
}

/* Joins the session whose descriptors begin at tf.first_fd; or, if they were asked for, these. False: another
 * process has. */
static bool join(int shm, int socket)
{
    int fd = tf.first_fd;
    bool asked = shm >= 0;
    tf.socket = -1;
    if (!map_session(asked ? shm : fd + TF_FD_SHM)) {
        tf.shm = NULL;
        fail("cannot join the session: its descriptors did not get here");
    }
    if (tf.shm->mode == TF_MODE_RECORD) {
        uint32_t none = TF_ATTACH_NONE;
        if (!__atomic_compare_exchange_n(&tf.shm->attach, &none, TF_ATTACH_JOINED, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            tf_sys(SYS_munmap, TF_RING_ADDR, 2 * tf.ring_words * 4ul);
            tf_sys(SYS_munmap, TF_SHM_ADDR, TF_SHM_HEADER);
            tf.shm = NULL;
            return false;
        }
        memcpy(tf.follow, tf.shm->follow, sizeof tf.follow);
        tf.socket = asked ? socket : fd + TF_FD_SOCKET;
        tf_sys(SYS_fcntl, tf.socket, F_SETFD, FD_CLOEXEC);
    }
    if (tf.shm->mode == TF_MODE_REPLAY || tf.shm->snapshots) {
        tf.ctl = (void *)TF_CTL_ADDR;
        /* What is recorded may limit its address space, or lock all of it: only copies get them (SHARED). */
        if (tf.shm->mode == TF_MODE_REPLAY &&
            (!map_fd(fd + TF_FD_CTL, TF_CTL_ADDR, TF_CTL_SIZE, PROT_READ, 0) ||
             !map_fd(fd + TF_FD_LOG, TF_LOG_ADDR, TF_LOG_SIZE, PROT_READ, 0)))
            fail("cannot map the log: is the address space limited (ulimit -v)?");
        tf.socket = fd + TF_FD_SOCKET;
        tf_sys(SYS_fcntl, tf.socket, F_SETFD, FD_CLOEXEC);
    }
    long r = tf_sys(SYS_mmap, WORDS_ADDR, WORDS_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (TF_IS_ERR(r))
        fail("cannot map memory for the event words");
    tf.words = (uint32_t *)WORDS_ADDR;
    if (asked)
        tf_sys(SYS_close, shm);
    for (int i = 0; i < TF_FDS && !asked; i++)
        if (fd + i != tf.socket)
            tf_sys(SYS_close, fd + i);
    return true;
}

/* The build without a GIL has no turns to record, its objects are laid out otherwise, and no engine is made
 * for it. */
static void refuse_free_threaded(const char *all)
{
    if (strstr(all, "free-threading"))
        fail("it is a free-threaded build of Python (without a GIL): timefork records builds with a GIL "
             "only. Name "
             "one with --python, such as python3.13 in place of python3.13t");
}

/* The minor version of the running Python, "3.12"; full gets all of it, "3.12.1". */
static void python_version(const char *all, char *minor, size_t size, char *full, size_t full_size)
{
    size_t n = strcspn(all, " ");
    snprintf(full, full_size, "%.*s", (int)n, all);
    snprintf(minor, size, "%s", full);
    char *dot = strchr(minor, '.');
    if (dot && (dot = strchr(dot + 1, '.')))
        *dot = 0;
    minor[strcspn(minor, "abrc+")] = 0;
}

static int find_text(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    if (!info->dlpi_name || strcmp(info->dlpi_name, ctx) != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            engine_from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            engine_to = engine_from + info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

static void load_engine(const char *minor)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", own_path);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    snprintf(engine_path, sizeof engine_path, "%s/timefork-engine-%s.so", folder, minor);
    if (TF_IS_ERR(tf_sys(SYS_access, engine_path, R_OK))) {
        tf.shm->attach = TF_ATTACH_NO_ENGINE;
        tf_leave(125);
    }
    void *handle = dlopen(engine_path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        fail(dlerror());
    tf_engine_init_fn init = (tf_engine_init_fn)dlsym(handle, TF_ENGINE_INIT);
    const struct tf_engine *engine = init ? init(&tf_core) : NULL;
    if (!engine || engine->abi != TF_ENGINE_ABI) {
        snprintf(tf.shm->error, sizeof tf.shm->error, "%.400s was not built for this Python (%.31s)",
                 engine_path, tf.shm->python_version);
        tf.shm->attach = TF_ATTACH_ERROR;
        tf_leave(125);
    }
    tf.engine = engine;
    dl_iterate_phdr(find_text, engine_path);
}

/* ---- what the recording must hold to start the same process again ---- */

static int add_layout(struct dl_phdr_info *info, size_t size, void *ctx)
{
    uint64_t *digest = ctx;
    (void)size;
    *digest = XXH3_64bits_withSeed(info->dlpi_name, strlen(info->dlpi_name), *digest);
    *digest = XXH3_64bits_withSeed(&info->dlpi_addr, sizeof info->dlpi_addr, *digest);
    return 0;
}

static int note_mapped(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    if (info->dlpi_name[0] == '/')
        tf_log_record(TF_REC_MAPPED, info->dlpi_name, strlen(info->dlpi_name) + 1, NULL, 0);
    return 0;
}

static uint64_t layout_digest(void)
{
    uint64_t digest = 0;
    dl_iterate_phdr(add_layout, &digest);
    return digest;
}

/* The blob of TF_REC_START as pieces; what does not fit the first record follows in TF_REC_DATA. */
static struct iovec start_pieces[65536];
static int start_n;
static size_t start_len;

static bool add_text(const char *text)
{
    if (start_n == (int)(sizeof start_pieces / sizeof *start_pieces))
        return false;
    start_pieces[start_n].iov_base = (void *)text;
    start_pieces[start_n].iov_len = strlen(text) + 1;
    start_len += start_pieces[start_n++].iov_len;
    return true;
}

/* Lowers the limit with which this process was executed, if it was only for the places of its maps. Returns
 * it. */
static uint64_t take_stack_limit(void)
{
    struct rlimit stack = {0, 0};
    tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, 0, &stack);
    uint64_t executed = stack.rlim_cur;
    if (executed == TF_STACK_EXEC) {
        stack.rlim_cur = TF_STACK;
        tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, &stack, 0);
    }
    tf.own_stack_limit = stack.rlim_cur;
    return executed;
}

static void record_start(int argc, char **argv, char **envp, uint64_t stack_limit)
{
    struct tf_rec_start start = {
        .pid = (uint32_t)tf_sys(SYS_getpid), .argc = (uint32_t)argc, .stack_limit = stack_limit};
    char cwd[PATH_MAX] = "";
    bool fits;

    tf_sys(SYS_getcwd, cwd, sizeof cwd);
    start.layout_digest = layout_digest();
    fits = add_text(tf.shm->python_version) && add_text(tf.shm->exe) &&
           add_text((const char *)getauxval(AT_EXECFN)) && add_text(cwd) && add_text("");
    for (int i = 0; fits && i < argc; i++)
        fits = add_text(argv[i]);
    for (char **env = envp; fits && *env; env++, start.envc++)
        fits = add_text(*env);
    if (!fits)
        fail("the command line and environment have more than 65,000 entries");
    start.blob_len = (uint32_t)start_len;
    tf_log_start(&start, start_pieces, start_n);
    tf_log_record(TF_REC_MAPPED, tf.shm->exe, strlen(tf.shm->exe) + 1, NULL, 0);
    dl_iterate_phdr(note_mapped, NULL);
}

/* ---- the environment that Python sees: as the user set it ---- */

static void remove_at(char **env)
{
    do
        env[0] = env[1];
    while (*env++);
}

static void clean_environment(char **envp)
{
    for (char **env = envp; *env;) {
        if (strncmp(*env, TF_ENV "=", sizeof TF_ENV) == 0) {
            remove_at(env);
            continue;
        }
        if (strncmp(*env, "LD_PRELOAD=", 11) == 0) {
            /* Ours comes first; what the user had, if anything, follows behind a colon. */
            size_t n = strcspn(*env + 11, ": ");
            char *rest = *env + 11 + n;
            if (!*rest) {
                remove_at(env);
                continue;
            }
            memmove(*env + 11, rest + 1, strlen(rest + 1) + 1);
        }
        env++;
    }
}

/* A child that was forked behind a barrier is not recorded, and must not write to its parent's ring. */
static void forked(void)
{
    if ((tf.mode != TF_RECORDS && tf.mode != TF_LOOSE) || tf_sys(SYS_getpid) == tf.pid)
        return;
    tf_emit_off();
    tf_sys(SYS_close, tf.socket);
}

const char *tf_own_path(void)
{
    return own_path;
}

static main_fn *real_main;

static int engine_main(int argc, char **argv, char **envp)
{
    (void)envp;
    return tf.engine->main(argc, argv);
}

/*
 * Checkpoint 0. Everything that this process has still to ask of the kernel by libc's functions was asked
 * before: from here on only raw.S can reach it. Comes back in a copy that is to run.
 */
static void park(void)
{
    tf.shm->filter_error = -tf_filter_install();
    tf_serve();
    if (tf.ctl->layout_digest != layout_digest())
        tf_diverge_from(
            &(struct tf_difference){.kind = TF_DIVERGED_LAYOUT, .call = TF_NO_CALL},
            "the interpreter and its libraries are loaded at other addresses than in the recording: one "
            "of them, or the kernel, has changed, or the recording was made by a timefork that stands in "
            "another folder (%s here)",
            own_path);
}

static void attach(int argc, char **argv, char **envp, const char *session)
{
    const char *(*version)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "Py_GetVersion");
    char minor[32];
    Dl_info self;

    if (!version)
        return; /* not a Python */
    tf_thread_start();
    tf_thread_find_python((void *)version);
    const char *number = strchr(session, ',');
    tf.first_fd = atoi(number ? number + 1 : session);
    int shm = -1, socket = -1;
    if (*session == '@' && !ask_session(session + 1, &shm, &socket))
        return;
    if (!join(shm, socket)) { /* another one is recorded */
        clean_environment(envp);
        for (int i = 0; i < TF_FDS; i++)
            tf_sys(SYS_close, tf.first_fd + i);
        return;
    }
    long n = tf_sys(SYS_readlink, "/proc/self/exe", tf.shm->exe, sizeof tf.shm->exe - 1);
    tf.shm->exe[TF_IS_ERR(n) ? 0 : n] = 0;
    python_version(version(), minor, sizeof minor, tf.shm->python_version, sizeof tf.shm->python_version);
    refuse_free_threaded(version());
    if (!dladdr((void *)attach, &self) || !realpath(self.dli_fname, own_path))
        fail("cannot find my own file");
    tf_settle_start();
    load_engine(minor);
    if (tf.shm->mode == TF_MODE_PROBE) {
        tf.shm->attach = TF_ATTACH_PROBED;
        tf_leave(0);
    }
    tf.light = tf.shm->light;
    tf.std_fds[0] = 1u << 1;
    tf.err_fds[0] = 1u << 2;
    uint64_t stack_limit = take_stack_limit();
    if (tf.shm->mode == TF_MODE_RECORD) {
        tf_emit_start_record();
        tf.mode = TF_RECORDS;
        record_start(argc, argv, envp, stack_limit);
        tf.shm->attach = TF_ATTACH_OK;
    } else {
        tf.mode = TF_REPLAYS;
        tf_emit_start_replay();
        tf_thread_be((int32_t)tf.ctl->pid);
    }
    clean_environment(envp);
    pthread_atfork(NULL, NULL, forked);
    if (tf.shm->stack_limit && tf.shm->stack_limit != RLIM_INFINITY) {
        /* Threads get the stack that they would have without timefork's larger limit for the main thread. */
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        if (pthread_attr_setstacksize(&attr, tf.shm->stack_limit & ~4095ul) == 0)
            pthread_setattr_default_np(&attr);
        pthread_attr_destroy(&attr);
    }
    tf_semaphore_start();
    if (tf.mode == TF_RECORDS)
        tf_maps_pass(false); /* what it was started with */
    int r = tf_clock_install();
    if (r == 0)
        r = tf_trap_install();
    if (r == 0 && tf.mode == TF_REPLAYS)
        park();
    if (r == 0) {
        tf_signal_start();
        r = tf_trap_on();
    }
    if (r)
        fail("the kernel does not let this process trap its system calls (PR_SET_SYSCALL_USER_DISPATCH, "
             "Linux 5.11)");
    real_main = engine_main;
    tf_self->selector = 1;
}

__attribute__((visibility("default"))) int __libc_start_main(main_fn *main, int argc, char **argv,
                                                             void (*init)(void), void (*fini)(void),
                                                             void (*rtld_fini)(void), void *stack_end)
{
    start_fn *real = (start_fn *)dlsym(RTLD_NEXT, "__libc_start_main");
    char **envp = argv + argc + 1;
    const char *session = NULL;
    for (char **env = envp; *env; env++)
        if (strncmp(*env, TF_ENV "=", sizeof TF_ENV) == 0)
            session = *env + sizeof TF_ENV;
    real_main = main;
    if (session)
        attach(argc, argv, envp, session);
    return real(real_main, argc, argv, init, fini, rtld_fini, stack_end);
}
