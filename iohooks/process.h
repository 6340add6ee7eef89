/*
 * process.h: the state of timefork inside the recorded or replaying process, and what the files of iohooks/
 * and checkpoint/snapshot.c offer each other. One struct, no allocation; everything here runs in that
 * process.
 *
 * Nothing in these files may call a libc function that makes a system call: the program's calls are trapped,
 * and timefork's own must not be. tf_sys() is the only door to the kernel.
 */
#ifndef TF_PROCESS_H
#define TF_PROCESS_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include "engine/engine.h"
#include "store/outside.h"
#include "store/ring.h"
#include "checkpoint/proto.h"
#include "iohooks/calls.h"
#include "iohooks/turn.h"

enum tf_mode {
    TF_OFF,     /* nothing is logged; calls go to the kernel */
    TF_RECORDS, /* calls go to the kernel and to the ring */
    TF_REPLAYS, /* calls are answered from the log */
    TF_LOOSE,   /* recording, past a barrier: frame events are logged, outside calls are not */
    TF_ARMS,    /* replay: the engine prepares a stop; its own calls are none of the program's */
    TF_LOOKS,   /* in a thrown-away fork that answers a question */
};

#define TF_CLOCKS 12
struct tf_process {
    enum tf_mode mode;
    union {
        struct {
            uint32_t *p, *limit;
        };
        struct tf_cursor cursor; /* the same, as the engine sees it */
    };

    const struct tf_engine *engine;
    int first_fd; /* TIMEFORK=first_fd */
    int socket;   /* to the supervisor, or -1 */
    bool light; /* record: there are no frame events. Replay: the log is that of a light recording, which this
                   process completes (derive.c) */
    uint32_t next_code;
    uint32_t std_fds[32]; /* bit sets over descriptors below 1024: refers to standard output */
    uint32_t err_fds[32];

    /* record */
    struct tf_shm *shm;
    uint32_t *ring; /* words, mapped twice */
    uint32_t ring_words;
    uint64_t lap;           /* words written before ring[0] */
    uint64_t space_end;     /* absolute word number up to which may be written, as known */
    uint64_t last_tsc;      /* of the last TIME */
    uint64_t stamp_at;      /* absolute word number from which on the next event gets a time stamp */
    uint32_t stamp_every;   /* events between the last stamp and the next */
    uint64_t last_wake;     /* absolute word number at which the supervisor was last woken */
    uint64_t snapshot_from; /* TSC from which on the time to the next checkpoint counts */
    uint32_t snapshot_serial;
    bool is_child;            /* of the supervisor, directly */
    int pid;                  /* record: of this process, to know it from a child that is not recorded */
    uint64_t own_stack_limit; /* RLIMIT_STACK as timefork set it */
    char follow[96]; /* record --follow: the value of TIMEFORK= for programs that are executed; or empty */

    /* replay */
    const struct tf_replay_ctl *ctl;
    uint32_t *words;     /* the current block's event words, TF_BLOCK_FRAMES of them */
    uint64_t block_base; /* frame events before the current block */
    uint64_t offset;     /* of the next outside event */
    uint64_t valid_end;  /* the outside stream is loaded up to here */
    struct tf_run_req run;
    bool running, armed, scanning;
    bool filtered; /* the kernel's filter is installed */
    uint32_t
        forked_pid; /* replay: this process was forked, and has that pid; 0: it is the first of its lineage */
    bool moved;     /* the program changed its folder: paths that are not absolute mean something else here */
    bool fork_differs; /* record: a fork would not have all memory that the program has */
    bool files_passed; /* record: files have been shared with other processes, and which is not known */
    struct timespec last_clock[TF_CLOCKS]; /* what the program last read of each clock */
    uint64_t maps;                         /* calls that have changed what is mapped */
    uint64_t run_from;                     /* TSC from which on the time to the next checkpoint counts */
    uint32_t run_serial;                   /* checkpoints that this run has made */
};
extern struct tf_process tf;

/* ---- raw.S, trap.c ---- */
long tf_raw(long nr, long a, long b, long c, long d, long e, long f);
/* For calls of the program that may wait: see raw.S. */
long tf_raw_wait(long nr, long a, long b, long c, long d, long e, long f);
/* clone or clone3: child() runs in the new process, on the stack that the arguments name, and does not
 * return. */
long tf_raw_birth(long nr, long a, long b, long c, long d, long e, void (*child)(void));
void tf_on_stack(void (*fn)(void), void *top) __attribute__((noreturn));
/* tf_sys(number, up to six arguments): any integer or pointer. -errno on failure. */
#define TF_SYS_(nr, a, b, c, d, e, f, ...)                                                                   \
    tf_raw((long)(nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define tf_sys(...) TF_SYS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define TF_IS_ERR(r) ((unsigned long)(r) >= (unsigned long)-4095L)
/* Starts trapping system calls on this thread. 0 or -errno. To be called again in a fork. */
int tf_trap_on(void);
int tf_trap_install(void); /* the SIGSYS handler, once */

/* ---- filter.c: the kernel's own guard ---- */
struct tf_call;
int tf_filter_install(void); /* 0 or -errno. Copies inherit it; to be called once in each process line */
void tf_filter_stray(const struct tf_call *call) __attribute__((noreturn)); /* it has stopped this call */

/* ---- settle.c (checkpoint/): a parked copy becomes one that can be dumped, and back ---- */
void tf_settle_start(void); /* at the start of the process: finds out what is our own */
/* stack: an address on the stack; what is above it stays as it is until tf_revive_process(). False: the
 * memory could not be read. */
bool tf_settle_process(uintptr_t stack, bool own_namespace, struct tf_settled *out);
/* Takes the descriptors of the control page and the outside stream. False: this cannot go on. */
bool tf_revive_process(uintptr_t stack, int ctl, int log, struct tf_settled *out);

/* ---- mappings.c (checkpoint/): what is mapped, in any process ---- */
struct tf_mapping {
    uintptr_t from, to;
    int prot; /* PROT_* */
    bool shared;
};
/* Calls fn for each mapping of this process, by address, until it says false. True: it never did. Not from
 * within fn. */
bool tf_each_mapping(bool (*fn)(void *ctx, const struct tf_mapping *m), void *ctx);
/* In a copy of the recorded process: memory that it shares with that becomes its own, with the bytes that are
 * there now. False: some could not be copied. */
bool tf_unshare_memory(void);

/* ---- dispatch.c: what happens to a call ---- */
#define TF_NATIVE LONG_MIN /* let the program execute the call itself */
struct tf_call {
    unsigned nr;
    long a[6];
    ucontext_t *uc; /* the interrupted context; NULL when the call came through a door (clock.c) */
};
long tf_dispatch(struct tf_call *call);
/* Past this point nothing can be replayed: notes why, stops trapping. The program goes on. */
void tf_barrier(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same for what comes in no call and at no event. */
void tf_barrier_in_loop(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- turn.c, thread.c: threads (turn.h) ---- */

/* What is saved of a thread that does not run: raw.S knows the layout. */
struct tf_context {
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip, fs;
    uint32_t mxcsr, fpu;
};
/* As setjmp(): 0; 1 when the context goes on. fs is the caller's own. */
int tf_context_save(struct tf_context *ctx) __attribute__((returns_twice));
/* Saves the caller's and goes on with the other one. Returns when somebody goes on with the caller's. */
void tf_context_switch(struct tf_context *from, const struct tf_context *to);
/* Loads all registers but rcx and r11, and goes to the instruction whose address is in REG_RIP; rax is 0, as
 * behind a system call that has given a new thread. */
void tf_registers_enter(const greg_t *regs) __attribute__((noreturn));
void tf_on_stack_with(void (*fn)(void *), void *top, void *arg) __attribute__((noreturn));
extern uint32_t tf_has_fsgsbase; /* may the FS register be written by an instruction? */

#define TF_ARGS_MAX 12288
#define TF_PIECES_MAX 1030
#define TF_KEPT_MAX 512 /* signals */
#define TF_EXIT_STACK 16384

enum tf_thread_state {
    TF_T_FREE = 0, /* the place is nobody's */
    TF_T_RUNS,     /* record: its context is nowhere but in its registers. Replay: it can go on */
    TF_T_WAITS, /* record: it waits in the kernel, out of turn, and `resume` is where it goes on in a copy */
    TF_T_ENDED,
};
#define TF_T_FROZEN 0x100u /* record: a checkpoint is being taken; it must not go on */

/* One thread of the program. The first two members are known to raw.S and to the kernel. Written by the
 * thread itself, or in turn. */
struct tf_thread {
    volatile uint32_t pending; /* a signal came that has not been given to the program yet */
    char selector;             /* read by the kernel: 1 traps system calls, 0 lets them pass */
    bool python;               /* it has had the GIL */
    bool keeps;                /* it has the turn, and keeps it until it has had the GIL */
    bool given;                /* replay: its turn came before it asked for it; why_given */
    uint32_t why_given;
    uint32_t place, number;
    uint64_t ident;             /* pthread_t: the address of its thread control block, the FS register */
    int32_t tid;                /* as the program knows it */
    uint32_t state;             /* enum tf_thread_state, | TF_T_FROZEN */
    volatile uint32_t inside;   /* depth in our own code: no place to run a handler */
    const struct tf_call *call; /* the program's, while it is dealt with; else NULL */
    bool has_gil, named;
    bool drops;       /* record: it gives the GIL to another one that waits */
    bool stays;       /* replay: it drops the GIL, but keeps the turn */
    uint32_t natives; /* locks of native code that it has, out of turn */

    struct tf_context context;      /* where it goes on */
    struct tf_context call_context; /* record: the entry of the call that it is in */
    struct tf_call_copy {
        unsigned nr;
        long a[6];
    } call_copy;
    uint32_t call_inside;
    bool again;      /* in a copy: the call is made again, args are those that it was made with */
    size_t args_len; /* of the call, while it waits */

    uint32_t wake;          /* record: futex: it has been given the turn, or may try */
    bool queued, wants_gil; /* record: in the queue for the turn */
    struct tf_thread *next; /* in that queue */
    uint32_t thawed;        /* record: futex */

    const volatile uint32_t *blocked_on; /* replay: it sleeps in a futex, until this changes or it is woken */
    uint32_t blocked_value;
    bool woken, awaits; /* replay: awaits its turn */

    uint32_t *side;      /* record: events out of turn, as they will be in the ring */
    uint32_t side_words; /* of them */
    uint32_t side_events;
    uint64_t side_bytes; /* both modes: of events out of turn since the last turn */

    /* birth and end */
    greg_t regs[NGREG];
    uint64_t mask; /* of blocked signals */
    void *(*start)(void *);
    bool start_is_python;
    volatile uint32_t ended; /* futex */
    long rseq[4]; /* record: arguments of its rseq(2): the kernel writes there until it is told not to */
    int32_t *clear_tid; /* of the program's, cleared when it ends */
    int32_t kernel_tid; /* record: the kernel clears it when the thread is gone */

    int delivering; /* a signal that is being given to the program, or 0 */
    siginfo_t given_signal;
    uint32_t kept_head, kept_tail; /* count on; places are modulo TF_KEPT_MAX */
    uint64_t kept_set;             /* those that are not queued, but either there or not: bit per signal */
    uint32_t kept_lost;            /* there was no place for them */
    siginfo_t kept[TF_KEPT_MAX];

    uint8_t args[TF_ARGS_MAX];
    struct iovec pieces[TF_PIECES_MAX];
    uint32_t name_room[1024];
    char exit_stack[TF_EXIT_STACK] __attribute__((aligned(64)));
};
/* The thread of that place; NULL: nobody's. */
struct tf_thread *tf_thread_at(unsigned place);
unsigned tf_thread_places(void); /* all places in use are below */
void tf_thread_start(void);      /* the first thread */
void tf_thread_be(int32_t tid);  /* replay: it has the id of the recorded one, as far as libc can tell */
/* A new thread is about to begin: its place, in turn. NULL: there are too many. */
struct tf_thread *tf_thread_new(void);
/* In a forked child of the program's: the others are gone. */
void tf_thread_forked(void);
/* Record: stops trapping the calls of all threads. */
void tf_thread_untrap(void);

/* Both modes: waits for the turn, whose events (those out of turn) are then in the log, and gives the program
 * the signals that came. want_gil: not while another thread has the GIL. Returns what the log has to say:
 * enum tf_turn; `why` is what this thread knows, while recording. */
enum tf_turn tf_turn_take(bool want_gil, enum tf_turn why);
void tf_turn_release(void);
void tf_turn_give_back(void);  /* replay, before one in which the others run */
void tf_turn_take_again(void); /* record, behind a call for which it was given back */
void tf_turn_many(void);       /* the first thread is about to be started */
void tf_turn_forked(void);     /* in a child of the program's: there is one thread again */
/* Record: nothing more is recorded. Who waits for the turn goes on without it. */
void tf_turn_dissolve(void);
bool tf_turn_is_dissolved(void);
/* Both modes, out of turn, with an event of so many bytes: is it written at once, for which the turn is
 * taken? */
bool tf_turn_writes_between(size_t bytes);
/* Replay: waits until what comes next in the log is this thread's. */
void tf_turn_await(void);
/* Out of turn (gives it back, if need be): sleeps while *word is value, until the time. Record: PLAIN,
 * TIMEOUT or SIGNAL, which is for tf_turn_take(). Replay: PLAIN at once. until: of CLOCK_REALTIME if
 * realtime, else CLOCK_MONOTONIC; NULL: for ever. */
enum tf_turn tf_turn_sleep(const volatile uint32_t *word, uint32_t value, bool realtime,
                           const struct timespec *until);
/* Record, around a call that may wait: the thread's context is in memory while it lasts. */
void tf_turn_leave_for_call(void);
void tf_turn_back_from_call(void);
/* Record, off the stack of a thread that ends: gives the turn back. Uses no thread-local data. */
void tf_turn_leave(struct tf_thread *t);
/* Replay: the calling thread ends. */
void tf_turn_end(struct tf_thread *self) __attribute__((noreturn));
void tf_turn_wake(const volatile int32_t *word); /* replay: those that sleep in a futex there */
/* The calling thread's kernel thread: what it told the kernel by rseq(2) is taken back. */
void tf_thread_forget_rseq(const struct tf_thread *t);
/* Replay: if the log has it next that this thread drops the GIL in the middle of a function, asks Python to
 * look. */
void tf_turn_expect_preempt(void);
/* Of a thread that Python started: the interpreter is being ended by main, and lets no other thread go on. */
bool tf_thread_is_late(const struct tf_thread *t);
/* Of a thread that Python started: its thread state is gone. */
bool tf_thread_has_left_python(const struct tf_thread *t);
void tf_thread_find_python(void *function); /* one that is Python's */
void tf_thread_named(void *frame);          /* record: its first frame event, of this function */
/* How often the thread that had the turn last has taken it again since: part of where a signal came. Both
 * modes. */
uint64_t tf_turn_silent(void);
/* The thread that had the last frame event. */
extern uint32_t tf_running;
/* Replay: futex and sched_yield: the other threads run. */
long tf_turn_futex(const struct tf_call *call);
/* After a frame event, in slow(): the thread's time is over, or the log has it here that it was: gives the
 * GIL away. */
void tf_turn_slice(uint64_t now);
/* Record: stops all other threads for a fork. False: one of them cannot be copied now; nobody is stopped. */
bool tf_turn_freeze(void);
void tf_turn_thaw(void);
/* In the copy of a recording: from now on threads are contexts. */
void tf_turn_adopt(void);
int64_t tf_thread_of(uint64_t ident, int32_t *tid);
void tf_gil_at(void *mutex, void *cond, void *switch_mutex, void *switch_cond, const unsigned long *interval);
/* Is this address in the instructions of Python itself? */
bool tf_in_python(const void *address);
/* A thread other than this one has the GIL. */
bool tf_gil_is_others(void);
/* call_thread.c: the program starts a thread (clone with CLONE_THREAD). */
struct tf_thread_birth {
    uint64_t flags, stack, stack_size, tls;
    int32_t *parent_tid, *child_tid;
};
long tf_thread_clone(struct tf_call *call, const struct tf_thread_birth *birth, size_t args_len);

/* ---- args.c: encoding of arguments and results, from the call's row ---- */
size_t tf_args_encode(const struct tf_call_row *row, const struct tf_call *call,
                      uint8_t *out /* TF_ARGS_MAX */);
/* The pieces of memory that the call wrote. Returns their number (at most max); *total their bytes. */
int tf_outs(const struct tf_call_row *row, const struct tf_call *call, long result, struct iovec *pieces,
            int max, size_t *total, uint64_t *scratch /* 4 words that live as long as pieces */);
/* Gives the logged bytes to the program. False when they do not fit the call. */
bool tf_outs_restore(const struct tf_call_row *row, const struct tf_call *call, long result,
                     const uint8_t *data, uint64_t len);
/* An address that can be read, as far as can be told without asking: the kernel answers EFAULT for others. */
static inline bool tf_readable(const void *ptr)
{
    return (uintptr_t)ptr >= 4096 && (uintptr_t)ptr < 1ul << 47;
}
struct msghdr;
uint64_t tf_hash_msg(const struct msghdr *m);  /* what a message is */
uint64_t tf_hash_room(const struct msghdr *m); /* how much room there is for one */

/* ---- maps.c: what the recorded process has mapped that is not plain private memory ---- */
enum tf_map_kind {
    TF_MAP_PRIVATE_FILE = 1, /* its own copy of a file's bytes, page by page as it writes to them */
    TF_MAP_READ_FILE,        /* shared, but not writable */
    TF_MAP_OWN_FILE,         /* shared and writable: a file that only this process has */
    TF_MAP_ANONYMOUS,        /* shared, of no file */
    TF_MAP_SEMAPHORE,        /* of /dev/shm/sem.*: semaphore.c */
    TF_MAP_DROPPABLE,        /* private, of no file; zeros in a forked child */
};
struct tf_map {
    uintptr_t from, to;
    uint64_t device, inode, offset; /* of a file */
    enum tf_map_kind kind;
};
struct stat;
/* Descriptors that are open now are shared with another process: with a program that it becomes, or a copy.
 */
void tf_maps_pass(bool to_program);
bool tf_maps_add(uintptr_t from, size_t len, enum tf_map_kind kind, const struct stat *st, uint64_t offset);
void tf_maps_remove(uintptr_t from, size_t len);
void tf_maps_move(uintptr_t from, size_t len, uintptr_t to, size_t new_len);
/* The first that has a byte of the range; NULL: none. */
const struct tf_map *tf_maps_find(uintptr_t from, size_t len);
/* Would a map of this part of the file show what is written through another one? own: the new one is
 * TF_MAP_OWN_FILE. */
bool tf_maps_alias(const struct stat *st, uint64_t offset, size_t len, bool own);
bool tf_maps_own(void); /* is there a TF_MAP_OWN_FILE? */
/* Memory that a fork would share, and could write to. Semaphores aside. */
bool tf_map_is_shared(enum tf_map_kind kind);
size_t tf_maps_shared(void);                /* bytes */
bool tf_maps_passed(const struct stat *st); /* may others have a descriptor of it that they got from here? */
bool tf_maps_own_passed(void);              /* of a TF_MAP_OWN_FILE? */
struct tf_range {
    uint64_t from, len;
};
#define TF_MAPS_MAX 2048
/* In a forked child: TF_MAP_DROPPABLE maps become zeros. Returns how many there are, and where. */
int tf_maps_wipe(struct tf_range *wiped /* TF_MAPS_MAX */);
void tf_maps_loose(void);        /* nothing is recorded any more: the kernel wipes them */
void tf_maps_forget_fd(long fd); /* it is closed, or becomes another one; -1: any may be */
/* Does the call change the bytes of a file that is mapped, behind the map's back? */
bool tf_maps_written(const struct tf_call *call);

/* ---- lease.c: while recording, files that nobody else may open unnoticed ---- */
bool tf_lease_take(int fd, const struct stat *st); /* false: others have it open, or it cannot be had */
void tf_lease_drop(uint64_t device, uint64_t inode);
void tf_lease_drop_all(void);
bool tf_lease_broken(void);                       /* does somebody wait to open one? */
bool tf_lease_is(long first, long last);          /* is one of these descriptors a lease's? */
bool tf_lease_opened(const struct tf_call *call); /* does the program itself open one of the files again? */

/* ---- semaphore.c ---- */
void tf_semaphore_start(void);
bool tf_semaphore_map(uintptr_t from, size_t len); /* both modes: a semaphore of sem_open is mapped there */
void tf_semaphore_unmap(uintptr_t from, size_t len);

/* ---- special calls: each serves all modes ---- */
typedef long (*tf_special_fn)(const struct tf_call_row *row, struct tf_call *call);
/* The program's call itself, while recording. TF_RESTART: a signal came first; it is to be made again. */
#define TF_RESTART (-512L) /* what the kernel calls ERESTARTSYS inside */
long tf_true_call(const struct tf_call *call);
/* The ordinary course of a logged call, for specials that end in it: record or replay of `call` with its row.
 */
long tf_logged(const struct tf_call_row *row, struct tf_call *call);
long tf_run_again(const struct tf_call_row *row, struct tf_call *call);

/* ---- log.c ---- */
/* Record: appends an outside event. */
void tf_log_put(unsigned nr, unsigned flags, long result, const void *args, size_t args_len,
                const struct iovec *data, int pieces);
/* The same for a clock_gettime() that succeeded: nothing is encoded here, for programs ask often. */
void tf_log_clock(int clock, const struct timespec *now);
void tf_log_start(const struct tf_rec_start *start, const struct iovec *texts, int n);
uint64_t tf_frames(void); /* replay: frame events so far */
/* Replay: the next event, which must be this call with these arguments, or the replay stops. */
const struct tf_outside *tf_log_take(unsigned nr, const void *args, size_t args_len);
/* Replay: is this event of the log due here? */
static inline bool tf_log_is_here(const struct tf_outside *event)
{
    return tf.light || event->frame == tf_frames();
}
/* Replay of a light log, where memory may be elsewhere: as tf_log_take(), but the first `skip` bytes of the
 * arguments are not compared, and it is left to the caller to derive the event. */
const struct tf_outside *tf_log_take_moved(unsigned nr, const void *args, size_t args_len, size_t skip);
/* The next event of the log, whoever's it is; NULL: there is none. */
const struct tf_outside *tf_log_peek(void);
/* Passes over it. */
void tf_log_skip(const struct tf_outside *event);
/* Replay: the frame event after which the next thing in the log happens, if it is one that the program does
 * not call for: a signal, or, when all is to be compared, the mark of one that came in a loop (reported when
 * it is reached). Else UINT64_MAX. */
uint64_t tf_log_next_stop(void);
void tf_log_record(enum tf_record type, const void *head, size_t head_len, const void *tail, size_t tail_len);
void tf_log_mark(enum tf_mark kind, const char *text);
/* ---- call_memory.c ---- */
/* Of a call on memory: what is no argument, with these flags, may be anything; here it is always the same. */
void tf_memory_args(struct tf_call *call);

/* ---- derive.c: completing a light recording ---- */
/* A call that changes memory of the process's own: how often and where it is made may differ, so it is made
 * as if this were recording. args: as calls.h encodes them. */
bool tf_derive_is_free(unsigned nr, const void *args, size_t args_len);
/* Does the log have it that such a call was made, and that it succeeded? */
bool tf_derive_is_passed(const struct tf_outside *event);
/* What becomes known: an outside event, as it would have been recorded; a code object; the words of a block
 * that is full. */
void tf_derive_event(unsigned nr, unsigned flags, long result, const void *args, size_t args_len,
                     const struct iovec *data, int pieces);
/* That the program has come to this one of the log, with these arguments. */
void tf_derive_taken(const struct tf_outside *event, const void *args, size_t args_len);
void tf_derive_code(const struct tf_rec_code *code, const void *texts, size_t len);
void tf_derive_block(void);
/* Sends all that is known. */
void tf_derive_flush(void);
/* In front of a call that is free: does the log have it next, with a failure? Then it fails again, *result.
 * Ends here when it was not covered when it was recorded. */
bool tf_derive_fails(const struct tf_call_row *row, struct tf_call *call, long *result);
/* Behind a call: ends here when the log does so at no call. */
void tf_derive_end(void);

/* ---- emit.c: the ring and the block of words; what tf_core offers the engine ---- */
extern const struct tf_core tf_core;
/* Record: makes room for `words` more words and returns where they go; tf_ring_commit() publishes them. */
uint32_t *tf_ring_reserve(size_t words);
void tf_ring_commit(uint32_t first_word, size_t payload_words);
void tf_ring_stamp(uint64_t now); /* a time stamp, out of turn */
void tf_emit_start_record(void);
void tf_emit_start_child(void); /* record: a forked child begins to write to its own ring */
void tf_emit_start_replay(void);
void tf_emit_off(void);
/* Record: has the supervisor ended, or does it listen to this process no more? Its end of the socket tells,
 * also where its number is somebody else's by now. */
bool tf_supervisor_lost(void);
void tf_emit_off_again(void); /* off: back to the start of the memory that nobody reads */
void tf_emit_resume(void);    /* replay: the limit for the run that was asked for */
void tf_stop_at_all(void);
void tf_slow(uint32_t word, void *tstate, void *frame);
void tf_replay_end(void) __attribute__((noreturn)); /* the program exits */

/* ---- diverge.c: a replay that cannot go on ---- */
/* What is known of it besides the text. */
struct tf_difference {
    enum tf_diverged kind;
    unsigned call; /* of the program */
    const void *args;
    size_t args_len;
    const struct tf_outside *event; /* the recorded one, or NULL */
    int64_t result;
};
void tf_diverge_from(const struct tf_difference *difference, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
void tf_diverge(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* A call that is made again has another result than in the recording. */
void tf_diverge_result(const struct tf_outside *event, int64_t result, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
/* The words of the unfinished block do not have the recorded digest. */
void tf_diverge_block(void) __attribute__((noreturn));
void tf_replay_barrier(const char *text) __attribute__((noreturn));

/* ---- fault.c: faults of the program's own instructions ---- */
bool tf_fault_is_one(int sig); /* SIGSEGV and its kin */
/* Is this signal, left to its default action, caught here? Then so it is installed. */
bool tf_fault_is_ours(int sig);
/* Replay: takes the page away that has no file any more, if that is what comes next in the log. */
void tf_fault_prepare(void);
/* Both modes: before anything else is done with a fault. True: it is replaced by a SIGBUS, which comes next.
 */
bool tf_fault_of_page(int sig, siginfo_t *info, ucontext_t *uc);
/* While a stop is prepared: does not return. Else false. */
bool tf_fault_while_arming(int sig);
long tf_fault_install(int sig);
void tf_fault_start(void); /* for all that the program leaves to their default action */
/* From now on the time stamp counter is watched: uses of it are faults. */
void tf_fault_watch_counter(void);
/* Was the fault such a use? Then the instruction has been carried out. */
bool tf_fault_is_counter(int sig, const siginfo_t *info, ucontext_t *uc);
/* Where the last one was, as text; 0: there was none. *first: after which frame event the first one was. */
size_t tf_fault_counter_text(char *buf, size_t size, uint64_t *first);
/* The mapping that an address is in, as "FILE+0x1234". */
void tf_name_address(uint64_t address, char *out, size_t size);

/* ---- scan.c ---- */
/* Memory for a request of so many bytes; NULL: there is none. Once in a process. */
void *tf_scan_room(uint64_t size);
void tf_scan_begin(uint32_t word, void *tstate, void *frame);
void tf_scan_at(uint32_t word, void *tstate, void *frame); /* an event, where the limit was */
uint64_t tf_scan_limit(uint64_t here);                     /* the event of interest that comes next */
void tf_scan_block_ends(void);                             /* the words begin anew */
void tf_scan_end(void) __attribute__((noreturn));
/* What tf_core offers for it: see engine.h. */
bool tf_mapped(uint64_t address, size_t len);
uint64_t tf_scan_place(struct tf_scan_depth **stack);
void tf_scan_hit(const struct tf_scan_hit *hit);
int tf_scan_aside(void (*fn)(void *arg, struct tf_scan_aside *result), void *arg,
                  struct tf_scan_aside *result);
void tf_scan_log(uint32_t point, uint64_t frame, uint64_t lines, bool failed, const char *text, size_t len);

/* ---- clock.c ---- */
int tf_clock_install(void);

/* ---- signal.c ---- */
void tf_signal_start(void);
/* A place where handlers may run: gives the program what was kept (record) or what the log has here (replay).
 */
void tf_signal_safe_point(enum tf_moment moment);
/* Record: may this call be made again after a signal has cut it short, instead of failing with EINTR?
 * (signal(7)) */
bool tf_signal_restarts(unsigned nr);
/* Record: a signal was kept before the call had begun. Does it fail with EINTR, as if the signal had come
 * while it waited? If not, it is made again behind the handler. */
bool tf_signal_cuts(const struct tf_call *call);
void tf_signal_loose(void); /* from now on, handlers run when the kernel says */
bool tf_signal_has_handler(int sig);
/* The program ends here, by this signal: writes that (returns), or in replay, is told it by the log and ends.
 */
void tf_end_by_signal(int sig);
/* Replay: is that what the log has here? */
bool tf_ends_by_signal(int sig);
bool tf_signal_is_ignored(int sig);
/* Sends this process, and no other, a signal that looks as if it had sent it itself (SI_USER, SI_TKILL). */
void tf_signal_to_self(int sig, int code);
bool tf_signal_is_default(int sig);
bool tf_signal_would_end(int sig); /* the process, if it came now */

void tf_signal_forked(void); /* in a forked child: what was pending was its parent's */
/* While a child runs in this memory, the table of handlers is the child's; it is given back when that has
 * ended. */
void tf_signal_lend(void);
void tf_signal_give_back(void);
void tf_signal_clear(void); /* the child begins with no handlers (CLONE_CLEAR_SIGHAND) */

/* ---- call_child.c ---- */
/* Does a child run in the memory of its parent (vfork)? */
bool tf_child_borrows(void);
/* Replay: goes on as the parent when such a child was killed here. */
void tf_child_killed(void);
/* Recording ends at a barrier: with --follow, what this process executes from now on, untrapped, finds our
 * variables in the environment. */
void tf_child_loose(void);
/* Is this the end of such a child? Then it has been logged, and, in replay, does not return. */
bool tf_child_exits(const struct tf_call_row *row, struct tf_call *call);

/* ---- start.c ---- */
/* A copy of a descriptor at that number, which may be behind the program's limit; else at the highest number
 * that there is. Returns the number. Record; in replay the limit is high enough. */
long tf_dup_high(int fd, int to);
/* Maps the control page or the outside stream (TF_FD_CTL, TF_FD_LOG) from another descriptor. */
bool tf_map_again(uint32_t which, int fd);
/* Record: a child that is not recorded gets what it would have without timefork. */
void tf_make_plain(void);
const char *tf_own_path(void); /* of this library */
/* Record, in a forked child: joins the session that tf_ask_fork() got. False: it cannot be recorded. The
 * descriptors are taken. */
bool tf_join_child(int shm, int socket);

/* ---- look.c ---- */
long tf_look(struct tf_call *call);
long tf_look_clock(struct tf_call *call); /* clock_gettime, gettimeofday, time: as last told to the program */
void tf_look_flush(void);
void tf_look_mute(bool on);

/* ---- checkpoint/snapshot.c ---- */
void tf_serve(void); /* parks: returns only in a copy that was told to run */
void tf_snapshot_record(uint64_t now);
void tf_snapshot_replay(uint64_t now);
void tf_send(enum tf_op op, const void *head, size_t head_len, const void *body, size_t body_len);
void tf_send_parts(struct iovec *parts, int n); /* a whole message, its head included */
/* Record, before a fork: has the supervisor take all that this process has written, and prepare for its
 * child, whose socket is `other`. Returns a descriptor of the child's memory; -1: the child will not be
 * recorded. */
int tf_ask_fork(int other);
/* Record: a child could not be prepared for. */
void tf_say_left_out(uint32_t pid);
/* Record: the answer to a request that was sent on that socket, a head without payload; *fd: a descriptor
 * that came with it. False: the supervisor is gone. */
bool tf_answer(int socket, struct tf_msg *answer, int *fd);
void tf_need(uint64_t offset);
void tf_place(struct tf_place *place);
void tf_leave(int status) __attribute__((noreturn));

static inline uint64_t tf_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

#endif
