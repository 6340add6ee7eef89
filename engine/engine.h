/*
 * engine.h: the border between the preload library (core: iohooks/, checkpoint/) and the engine of one Python
 * version. Both are in the recorded or replaying process. The core calls the engine through struct tf_engine;
 * the engine calls the core through struct tf_core. Everything runs on the thread that holds the GIL, where
 * nothing else is said.
 *
 * At a SWITCH the thread has just taken the GIL and is not yet the interpreter's current one: tstate and
 * frame are NULL, and PyGILState_GetThisThreadState() knows it. It stands in the C function that gave the GIL
 * away, called by the top of its stack.
 *
 * The rule above all: in the program's own timeline (mode record, and mode replay until a stop) the engine
 * allocates nothing from Python's allocators or malloc and creates no object, except the once-only co_extra
 * of a code object, so that addresses, and with them id() and set order, are those of the recording. After a
 * stop, the process serves questions in forks that are thrown away: there everything is allowed.
 */
#ifndef TF_ENGINE_H
#define TF_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/outside.h"

#define TF_ENGINE_ABI 4

/* Where a runner shall stop. */
enum tf_stop_kind {
    TF_STOP_LINE = 0, /* `lines` lines after event `frame`; 0 for calls and resumes: at the start of the
                         function, locals bound */
    TF_STOP_EVENT =
        2, /* right after event `frame`, in the hook: for verification; handled by the core, not armed */
    TF_STOP_ALL =
        3, /* when every event of the recording has happened, of one that was cut off; handled by the core */
    TF_STOP_SCAN = 4, /* begin to scan after event `frame`; handled by the core */
    TF_STOP_EXIT =
        1, /* the current function is about to leave (return, yield or unwind): that is the event behind
              `frame`, but for at most `lines` of what is called while it leaves: trace functions, __del__ */
};
struct tf_stop_req {
    uint64_t frame; /* let this event happen (0: none, the very start), then watch the innermost frame */
    uint64_t lines;
    uint32_t kind;       /* enum tf_stop_kind */
    uint32_t exit_event; /* for TF_STOP_EXIT: TF_RETURN, TF_YIELD or TF_UNWIND, as the recording has it */
};
/* Why it stopped. */
enum tf_stopped {
    TF_STOPPED_AT = 0, /* where it was asked to */
    TF_STOPPED_SHORT =
        1,              /* the next frame event came before so many lines; `lines` says how many there were */
    TF_STOPPED_END = 2, /* the program ended first */
};

/* Items that the engine sends when it inspects. */
enum tf_item {
    TF_ITEM_FRAME = 1, /* one per stack entry, innermost first: u32 line, file\0, qualname\0 */
    TF_ITEM_LOCAL, /* name\0, type\0, repr\0 (each UTF-8; repr may hold NUL bytes only if it is last: it is)
                    */
    TF_ITEM_VALUE, /* expression's value: type\0, repr */
    TF_ITEM_ERROR, /* text: what went wrong, as "ValueError: no such order" */
    TF_ITEM_RETURNED, /* type\0, repr: the value a function is about to return or yield */
    TF_ITEM_RAISED,   /* type\0, text: the exception that leaves the function */
    TF_ITEM_OUTPUT,   /* u32 fd, bytes: written to standard output or error while evaluating */
    TF_ITEM_DONE,     /* no more */
    TF_ITEM_TRIES,    /* name\0, type\0: the LOCAL or CHILD that comes next, whose repr may hang */
    TF_ITEM_CHILD,    /* label\0, type\0, repr: one child of an object; the label is what is put behind the
                         expression to get it, as "[3]", "['key']" or ".name"; else a text in "<>" */
    TF_ITEM_COUNT,    /* u64: how many children there are */
    TF_ITEM_NAME,     /* a name, for completion */
    TF_ITEM_PROGRAM,  /* an expression that was prepared: struct tf_prepared, then its texts */
    TF_ITEM_THREAD,   /* u32 number, u32 1 if it is the one that runs, u64 tid, u32 line, name\0, file\0,
                         qualname\0   of where it is; file is empty when it runs no Python function */
};
/* What is known of an expression that was prepared in a function. */
enum tf_program {
    TF_PROGRAM_PURE = 1,  /* the program that follows can be evaluated without running Python code, as far as
                             can be told from the text; else it is empty */
    TF_PROGRAM_LOCAL = 2, /* it uses variables of the function itself */
    TF_PROGRAM_GENERATOR = 4, /* the function is a generator or coroutine */
};
enum tf_inspect {
    TF_INSPECT_STACK = 1, /* FRAME items, then RETURNED or RAISED if the stop is at an exit, DONE */
    TF_INSPECT_LOCALS,    /* LOCAL items from number `from` on (for resuming after one that hung), DONE */
    TF_INSPECT_EVAL,      /* VALUE or ERROR, DONE: text is an expression */
    TF_INSPECT_ARGS,      /* as LOCALS: the parameters only, in their order */
    TF_INSPECT_PRETTY,    /* as EVAL; the VALUE's repr is broken into lines as by pprint */
    TF_INSPECT_EXPAND,    /* VALUE, then `count` CHILD items from number `from` on, COUNT; or ERROR; DONE */
    TF_INSPECT_NAMES,   /* NAME items: text is "" (variables, globals, builtins) or an expression (attributes)
                         */
    TF_INSPECT_PREPARE, /* PROGRAM or ERROR, DONE: text is an expression, see engine/pure.h */
    TF_INSPECT_PURE,    /* VALUE: for tests, what engine/pure.c says of an expression and what Python says */
    TF_INSPECT_THREADS, /* THREAD items of all threads that have a Python state, by number, DONE */
};
/* An expression that was prepared. module\0, program, program of the place, its text\0 follow. */
struct tf_prepared {
    uint32_t bits; /* enum tf_program */
    uint32_t program_len, place_len;
    uint32_t reserved;
    uint64_t frame; /* address of the function's frame */
    /* Of an attribute or item, BASE.name or BASE[key]: the object that BASE is now, whose attribute or item
     * can be asked for at other times, too, under other names. 0: the expression is none, or it cannot be
     * asked for without running code. */
    uint64_t object, type;
};
/* A question. */
struct tf_inspect_req {
    uint32_t what;  /* enum tf_inspect */
    uint32_t from;  /* LOCALS, ARGS, EXPAND: the first to send */
    uint32_t count; /* EXPAND: how many at most */
    uint32_t frame; /* which function of the stack: 0 is the innermost. Not there: ERROR, DONE */
    uint32_t
        thread; /* whose stack: the thread's number plus 1; 0: of the one that runs. Not there: ERROR, DONE */
    uint32_t reserved;
    uint64_t object,
        type; /* EVAL: if there is an object of this type at this address, `_` is it, else: ERROR */
};

/*
 * A search (replay/search.h): while a copy of a checkpoint runs on, positions are reported at which one of
 * its points is met. One piece of memory, read only: this head, then what it points to (byte offsets from its
 * start; a length of 0 means that there is none).
 */
enum tf_scan_mode {
    TF_SCAN_FIRST, /* report the first hit and end */
    TF_SCAN_LAST,  /* go to the end, report the last hit */
    TF_SCAN_EACH,  /* report each */
};
enum tf_scan_kind { TF_SCAN_LINE = 1, TF_SCAN_CALL, TF_SCAN_RAISE, TF_SCAN_WATCH };
#define TF_SCAN_POINTS 60
#define TF_SCAN_LINES (1ul << 63) /* in a mask: this function gets line events */
struct tf_scan_text {
    uint32_t at, len;
};
struct tf_scan_point {
    uint32_t kind; /* enum tf_scan_kind */
    uint32_t first_line, last_line, depth;
    uint32_t on_stack; /* LINE: the function at `depth`, or one below it, that has been on the stack since the
                          scan began */
    uint32_t thread;   /* LINE: in this thread only; UINT32_MAX: in any. WATCH: whose variables */
    struct tf_scan_text condition, condition_program; /* text, and program of engine/pure.h */
    struct tf_scan_text log, type;
    struct tf_scan_text watch, watch_program, module;
    uint64_t hit_first, hit_last, hit_every; /* hits are counted from where the scan begins */
    /* WATCH: whose variables. entry: the call that began the activation (0: globals of `module`); depth: its
     * depth. frame_address: of a generator's frame, entry is 0 then. */
    uint64_t entry, frame_address;
    /* WATCH of an attribute or item of an object: watch_program asks for it, whatever the object is called.
     */
    uint64_t object, object_type;
    uint32_t skip_unset; /* WATCH: a value that was not there before is no change */
    uint32_t births;     /* WATCH of an object: only that it comes to be is a hit */
};
struct tf_scan {
    uint64_t size;                   /* of it all */
    uint64_t from_frame, from_lines; /* hits count behind this position */
    uint64_t end_frame, end_lines;   /* up to this one; end_lines UINT64_MAX: until the next event */
    uint32_t mode;                   /* enum tf_scan_mode */
    uint32_t thread;                 /* that runs at the event at which the scan begins */
    uint32_t depth;                  /* of its stack after that event */
    uint32_t timeout_ms;             /* for one expression that needs a fork */
    uint32_t points, points_at;      /* struct tf_scan_point[points] */
    uint32_t codes, masks_at;        /* uint64_t[codes], by code id: bit i: points[i] is concerned */
    uint32_t every_event;            /* scan_event() is wanted at each event */
    uint32_t least_thread, least;    /* least depth of this thread's stack since the search began */
    uint32_t raise_at_from;          /* from_frame is an exit: what is raised right behind it counts, too */
};
struct tf_scan_hit {
    uint64_t frame, lines;               /* lines UINT64_MAX: not counted in this function */
    uint64_t before_frame, before_lines; /* WATCH: where the line that changed it began; frame 0: unknown */
    uint64_t old_frame, old_lines;       /* WATCH: the last place with the old value; frame 0: unknown */
    uint64_t points, failed;
    uint32_t line; /* LINE: of the source */
    uint32_t reserved;
};
/* The stack of a thread, as far as the events since the scan began tell. */
struct tf_scan_depth {
    uint32_t thread;
    uint32_t known; /* 0: depth and least are those since then; the engine finds out what they began from */
    int32_t depth, least; /* of the stack; the least since the scan began */
};
/* What a fork finds that evaluates something aside. */
struct tf_scan_aside {
    uint32_t state; /* 0: nothing (it died), 1: false, 2: true, 3: raised */
    uint64_t fingerprint;
};

/* Where the next event word goes, and from where on slow() is called. Process-wide, under the GIL. */
struct tf_cursor {
    uint32_t *p, *limit;
};

struct tf_core {
    uint32_t abi;
    /* Emit: the engine's fast path is `*cursor->p++ = word; if (cursor->p >= cursor->limit) slow(word)`. */
    struct tf_cursor *cursor;
    /* Limit reached after the event `word` was put. Called in record mode (time stamps, space, checkpoints),
     * replay mode (block ends, digests, checkpoints, targets) and off mode. tstate and frame are as the hook
     * got them; for exits frame is NULL (it is gone). May call engine->arm(). */
    void (*slow)(uint32_t word, void *tstate, void *frame);
    /* Gives the next code id; logs the definition (record) or compares it with the log (replay). Strings are
     * UTF-8. */
    uint32_t (*code)(uint64_t hash, uint32_t first_line, uint32_t flags, const char *file, size_t file_len,
                     const char *name, size_t name_len);
    /* Is this a light recording? Then there is no frame hook. */
    bool (*records_light)(void);
    /* The id that code() gives next. */
    uint32_t (*next_code)(void);
    /* Once, before there are threads: where the GIL is (struct _gil_runtime_state), and its interval in
     * microseconds, which the program may change. */
    void (*gil)(void *mutex, void *cond, void *switch_mutex, void *switch_cond,
                const unsigned long *interval);
    /* The thread whose pthread_t is `ident`; *tid: the kernel's id that it had in the recording. -1: none. */
    int64_t (*thread_of)(uint64_t ident, int32_t *tid);
    /* A stop was reached: parks the process and serves questions. Never returns. */
    void (*stopped)(int why /* enum tf_stopped */, uint64_t lines) __attribute__((noreturn));
    /* Sends one item to who asked. parts are concatenated. */
    void (*item)(int type, const void *part1, size_t len1, const void *part2, size_t len2, const void *part3,
                 size_t len3);
    /* Looking: what is written to standard output from now on is thrown away (true) or sent (false). */
    void (*mute)(bool on);
    /* Scanning: how many events have happened, and the stack of the thread that runs; *stack holds until the
     * next event. */
    uint64_t (*scan_place)(struct tf_scan_depth **stack);
    /* Scanning: a hit. Does not return when it ends the scan. */
    void (*scan_hit)(const struct tf_scan_hit *hit);
    /* Scanning: nothing more is of interest. */
    void (*scan_end)(void) __attribute__((noreturn));
    /* Is this memory mapped? */
    bool (*mapped)(uint64_t address, size_t len);
    /* Scanning: runs fn in a fork, which may do what it likes and writes its answer to *result. 0; -1: it
     * died, -2: it did not end in time. */
    int (*scan_aside)(void (*fn)(void *arg, struct tf_scan_aside *result), void *arg,
                      struct tf_scan_aside *result);
    /* Scanning, in such a fork: text that a log point makes at the present hit. */
    void (*scan_log)(uint32_t point, uint64_t frame, uint64_t lines, bool failed, const char *text,
                     size_t len);
    /* Replay cannot go on; the message names what and where. Never returns. */
    void (*divergence)(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
};

struct tf_engine {
    uint32_t abi;
    int python_hex; /* PY_VERSION_HEX it was built for */
    /* Runs the program as Python's own main does; returns the exit status. */
    int (*main)(int argc, char **argv);
    /* Makes the innermost frame stop as req says. Called from slow(), with the hook's tstate; frame is the
     * frame that is about to be evaluated (call, resume), or NULL when the innermost frame on the stack is
     * meant. event is the word's tag. */
    void (*arm)(const struct tf_stop_req *req, void *tstate, void *frame, int event);
    /* Lines seen since arm(), for a process that meets another event before its stop. */
    uint64_t (*lines_seen)(void);
    /* Begins to scan. As arm(): called from slow(); the event is the last that has happened. */
    void (*scan)(const struct tf_scan *scan, void *tstate, void *frame, int event);
    /* Each later event, if the scan wants it. */
    void (*scan_event)(uint32_t word, void *tstate, void *frame);
    /* Right after a frame event: gives the GIL away and takes it again. May run other threads. When a
     * generator has just been left it does nothing (every time): no other thread may enter it there. */
    void (*yield)(void);
    /* Asks the thread that has the GIL to give it away at its next check (on), or not any more. Any thread.
     */
    void (*ask_to_drop)(bool on);
    /* Where the thread that has the GIL is, in the middle of a check: frame, instruction, and, if `full`, the
     * fingerprint. Allocates nothing. */
    void (*place)(struct tf_preempt *place, bool full);
    /* What threading calls the thread that is about to evaluate this frame, its first: as where(). 0: not
     * known. */
    size_t (*thread_name)(void *frame, char *buf, size_t size);
    /* A hash of where the program stands (engine/pulse.c). Both modes, in any call that the program makes;
     * allocates nothing. */
    uint32_t (*pulse)(void);
    /* Questions; in a fork of a stopped process. Sends items and TF_ITEM_DONE. */
    void (*inspect)(const struct tf_inspect_req *req, const char *text, size_t text_len);
    /* Writes "file:line in function" of the innermost Python frames, one a line, for messages. Allocates
     * nothing, is safe at any point at which the GIL is held. Returns the length written (at most size - 1;
     * NUL-terminated). */
    size_t (*where)(char *buf, size_t size);
};

/* Exported by timefork-engine-X.Y.so. Returns NULL if the running Python is not the one it was built for. */
typedef const struct tf_engine *(*tf_engine_init_fn)(const struct tf_core *core);
#define TF_ENGINE_INIT "tf_engine_init"

#endif
