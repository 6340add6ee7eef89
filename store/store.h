/*
 * store.h: the recording, a SQLite file. Used by the supervisor and the command line only, never in the
 * recorded process. Not thread-safe; one process writes, any number read.
 *
 * Ownership: what a function returns through `**` belongs to the caller and is freed with the named function;
 * `const char *` inside a struct that the store handed out lives as long as that struct.
 * Units: frame numbers start at 1; times are nanoseconds since the start of the run; lengths are bytes.
 * Errors: see err.h.
 */
#ifndef TF_STORE_H
#define TF_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/err.h"
#include "store/ring.h"
#include "store/outside.h"

#define TF_BLOCK_FRAMES                                                                                      \
    65536u /* block b holds the frame events b*65536+1 .. (b+1)*65536; only the last is shorter */

struct tf_store;

/* Opens for appending a run; makes the file (mode 0600) if it is missing or empty. A file that is not a
 * recording is refused, never overwritten. A file that was made here and holds no run when it is closed is
 * removed again. */
int tf_store_create(const char *path, struct tf_store **out, struct tf_err *err);
/* Opens for reading. Works on read-only media, unless the recording was cut off and its -wal or -journal file
 * still has to be merged: then the folder must be writable. */
int tf_store_open(const char *path, struct tf_store **out, struct tf_err *err);
void tf_store_close(struct tf_store *store);
/* Of a store of tf_store_open(): lets go of the file, so that another store can write to it undisturbed, and
 * opens it again. In between, and after an error, it can only be closed. */
void tf_store_pause(struct tf_store *store);
int tf_store_resume(struct tf_store *store, struct tf_err *err);
const char *tf_store_path(const struct tf_store *store);

/* ---- runs ---- */

enum tf_run_state { TF_RUN_INCOMPLETE = 0, TF_RUN_COMPLETE = 1 };

/* Was it recorded without frame events (record --light)? */
enum tf_light {
    TF_LIGHT_NOT = 0,
    TF_LIGHT_ONLY, /* and there are none yet: only the outside stream, with times in place of them (outside.h)
                    */
    TF_LIGHT_COMPLETED, /* they were added since (tf_store_complete): it is as any other */
};

/*
 * A run is one process or several: the one that record started, its children that were recorded, theirs, and
 * what they became by exec. Each has a row of its own (struct tf_run), and every function below that takes a
 * run takes any of them.
 *
 * A forked process is read as if it had run from the very start: its events up to the fork are its parent's
 * (the store finds them there), and its numbers go on from the parent's. So a position before the fork means
 * the same in both, and a replay of it runs the parent's past, and then its own. Its totals count both.
 */
enum tf_origin {
    TF_STARTED = 0, /* by record */
    TF_FORKED = 1,  /* from its parent, at fork_frame */
    TF_EXECUTED =
        2, /* an interpreter that its parent started or became: with a start of its own (record --follow) */
};

/*
 * Where a run begins that does not begin at its start any more: its oldest part was dropped (drop.h). Numbers
 * go on as if it were there. All zero: nothing was dropped.
 *
 * It is a place at which a replay can begin: `frame` frame events and `outside` outside events, which take
 * `offset` bytes, had happened. So the first event that can be asked for is frame + 1; event `frame` itself
 * can still be read (what runs at the place follows from it), nothing before that.
 */
struct tf_base {
    uint64_t frame, offset, outside;
    uint64_t ns; /* when that was, since the start of the run, at most */
};

struct tf_run {
    int64_t rowid;
    uint32_t process; /* number in the run, from 1, in the order in which they began */
    uint32_t parent;  /* process number; 0: none */
    enum tf_origin origin;
    uint64_t fork_frame;   /* frame events of the parent when this process began. TF_FORKED: its own are those
                              behind it */
    uint64_t fork_outside; /* TF_FORKED: outside events before the fork */
    uint64_t fork_ns;      /* TF_FORKED: when that was */
    char id[33];           /* 32 hex digits, random */
    enum tf_light light;
    enum tf_run_state state; /* incomplete: still recorded (tf_store_is_recorded), or the recorder was lost */
    int64_t started_unix_ns; /* wall clock at the start */
    uint64_t cal_tsc, cal_ns; /* so many ticks of the TSC took so many nanoseconds: see tf_run_ns() */
    uint64_t duration_ns;
    uint64_t frames, outside, outside_bytes; /* totals (of what is stored, when incomplete), with what was
                                                dropped: the number of the last event */
    struct tf_base base;                     /* of a forked process its parent's, if it has none of its own */
    int exit_status;                         /* -1: unknown */
    int exit_signal;                         /* 0: none */
    char *python_version, *exe, *execfn, *cwd, *stdlib;
    char *kernel, *host, *python_file_digest; /* uname -r, host name, XXH3-64 of exe in hex */
    char **argv;                              /* NULL-terminated */
    char **envp;                              /* NULL-terminated, complete environment at exec */
    uint32_t pid;
    uint64_t stack_limit, layout_digest;
    char *command; /* what the user typed after `record`, for people */
    char *title;   /* script name, -m name, or "-c": for people */
};
void tf_run_clear(struct tf_run *run);
/* Was its oldest part dropped? */
static inline bool tf_run_has_base(const struct tf_run *run)
{
    return run->base.frame || run->base.offset;
}
/* The first frame event that can be asked for. */
static inline uint64_t tf_run_first(const struct tf_run *run)
{
    return run->base.frame + 1;
}
/* Ticks (16 TSC ticks each) since the start of the run, in nanoseconds. */
uint64_t tf_run_ns(const struct tf_run *run, uint64_t ticks);
/* The first process of each run (the first one there is, in a damaged file), oldest first. */
int tf_store_runs(struct tf_store *store, struct tf_run **runs, size_t *n, struct tf_err *err);
void tf_runs_free(struct tf_run *runs, size_t n);
/* id: NULL for the last one, or a unique prefix. Ambiguous, unknown, none at all: TF_E_NOTFOUND with a
 * message that lists the candidates. */
int tf_store_find_run(struct tf_store *store, const char *id, struct tf_run *out, struct tf_err *err);
/* All processes of the run to which `run` belongs, by number; tf_runs_free(). */
int tf_store_processes(struct tf_store *store, const struct tf_run *run, struct tf_run **out, size_t *n,
                       struct tf_err *err);
/* As tf_store_find_run(), but process number `process` of that run. TF_E_NOTFOUND names those that there are.
 */
int tf_store_find_process(struct tf_store *store, const char *id, uint32_t process, struct tf_run *out,
                          struct tf_err *err);
/* The process id at a place of the outside stream: of a forked process that of its parent, up to the fork. */
int tf_store_pid(struct tf_store *store, const struct tf_run *run, uint64_t offset, uint32_t *pid,
                 struct tf_err *err);
/* Is it being recorded just now, by whoever? False also where the file system has no locks. */
bool tf_store_is_recorded(struct tf_store *store, const struct tf_run *run);
/* This process completes the run from now on, until it closes *fd: after each store of this file that it has
 * open. 1: another one does; TF_E_IO: the file cannot be written to. */
int tf_store_hold(const char *path, const struct tf_run *run, int *fd, struct tf_err *err);
/* Puts what a completion has written (struct tf_ingest_opts: completes), when that has ended, in the place of
 * what the light run had. */
int tf_store_complete(struct tf_store *store, int64_t light, int64_t completion, struct tf_err *err);
/* What a run, with all its processes, takes up in the file, about. Sources that other runs have too are not
 * counted. */
int tf_store_run_bytes(struct tf_store *store, int64_t rowid, uint64_t *bytes, struct tf_err *err);
/* Removes a run, all its processes, and gives its space back to the file, for the next run. Only in a store
 * of tf_store_create(), and never one that is being recorded (TF_E_USAGE).
 */
int tf_store_delete_run(struct tf_store *store, int64_t rowid, struct tf_err *err);
/* Gives the file's unused space back to the disk. Needs as much free space as the file has contents. */
int tf_store_compact(struct tf_store *store, struct tf_err *err);

/* ---- code objects and sources ---- */

struct tf_code {
    uint32_t id;
    uint32_t first_line;
    uint32_t flags;
    uint64_t hash;
    const char *file, *qualname;
    const char *name; /* last component of qualname */
    bool library;     /* standard library, site-packages, frozen: hidden unless --all */
};
/* codes[0] is unused, codes[i].id == i. */
struct tf_codes {
    struct tf_code *codes;
    size_t n; /* highest id + 1 */
};
int tf_store_codes(struct tf_store *store, const struct tf_run *run, struct tf_codes *out,
                   struct tf_err *err);
void tf_codes_free(struct tf_codes *codes);

/* The text of a source file as it was at recording. TF_E_NOTFOUND if it was not kept. malloc'ed, with a NUL
 * behind it. */
int tf_store_source(struct tf_store *store, const struct tf_run *run, const char *file, char **text,
                    size_t *len, struct tf_err *err);

/* ---- frame events ---- */

struct tf_frame {
    uint64_t frame;
    enum tf_tag event; /* TF_CALL .. TF_UNWIND, TF_SWITCH */
    uint32_t code;
    uint32_t depth;  /* of the function concerned, outermost = 1; a return has the depth of its call; 0 and no
                        code for an exit of a function that was entered before recording began. Of a switch: of
                        the function that goes on, the top of the new thread's stack; 0 and no code if there is
                        none */
    uint32_t thread; /* whose event it is; of a switch: the one that goes on */
    uint64_t time_ns;
    uint64_t entry; /* frame number of the call or resume that began this activation; == frame for those, and
                       where there is no function */
};

/* A cursor over frame events; decodes one block at a time and skips blocks where it can. It begins at
 * tf_run_first(). TF_E_NOTFOUND: what is asked for was dropped, perhaps while it was read. */
struct tf_cursor;
int tf_cursor_open(struct tf_store *store, const struct tf_run *run, struct tf_cursor **out,
                   struct tf_err *err);
void tf_cursor_close(struct tf_cursor *cursor);
/* Only events of these code ids from here on (bit set, n bits; NULL: all). Blocks without them are not
 * decoded. The bits stay the caller's and must live as long as they are used. */
void tf_cursor_filter(struct tf_cursor *cursor, const uint8_t *code_bits, size_t n);
/* The next tf_cursor_next() gives the first event with a number >= frame. In a run with a base the event at
 * the base (tf_base.frame) can be asked for; what is before that leads to tf_run_first(). */
int tf_cursor_seek(struct tf_cursor *cursor, uint64_t frame, struct tf_err *err);
/* 1 and *out; 0 at the end; negative on error. */
int tf_cursor_next(struct tf_cursor *cursor, struct tf_frame *out, struct tf_err *err);
/* The activations on the stack after `frame` happened for its thread, innermost first: their entry events.
 * For a return, yield or unwind the frame that is being left is still included (it is the first). An
 * activation whose entry event was dropped is a TF_CALL at time 0. */
int tf_cursor_stack(struct tf_cursor *cursor, uint64_t frame, struct tf_frame **out, size_t *n,
                    struct tf_err *err);

/* The same without their events, outermost first (depth 1): cheap. The last one is being left when the event
 * is an exit. *out is malloc'ed. */
struct tf_activation {
    uint64_t entry; /* call or resume that began it */
    uint32_t code;
};
int tf_cursor_activations(struct tf_cursor *cursor, uint64_t frame, struct tf_activation **out, size_t *n,
                          struct tf_frame *event, struct tf_err *err);

/* Calls fn for each activation that was on a stack at the run's base, thread by thread, outermost first, and
 * says who ran. Not at all if there is no base. */
int tf_cursor_base_stacks(struct tf_cursor *cursor,
                          int (*fn)(void *ctx, uint32_t thread, const struct tf_activation *a), void *ctx,
                          uint32_t *running, struct tf_err *err);

/* The event words (ring.h: tag and code id) of one block, for comparing with a replay. words holds
 * TF_BLOCK_FRAMES. */
int tf_store_block_words(struct tf_store *store, const struct tf_run *run, uint64_t block, uint32_t *words,
                         uint32_t *n, struct tf_err *err);
/* XXH3-64 of each block's words, by number of block; those that were dropped are 0. digests is malloc'ed, n
 * blocks. */
int tf_store_digests(struct tf_store *store, const struct tf_run *run, uint64_t **digests, size_t *n,
                     struct tf_err *err);

/* ---- outside events ---- */

struct tf_outside_block {
    int64_t rowid;
    int64_t owner;                    /* rowid of the process whose row it is */
    uint64_t offset, len;             /* in the outside stream */
    uint64_t first_seq, events;       /* ordinal of its first event, from 1; how many */
    uint64_t first_frame, last_frame; /* tf_outside.frame of the first and last event */
};
/* All blocks in order, from the one on in which the base lies; malloc'ed. */
int tf_store_outside_blocks(struct tf_store *store, const struct tf_run *run, struct tf_outside_block **out,
                            size_t *n, struct tf_err *err);
/* Decompresses a block into buf (len bytes) and checks its digest. */
int tf_store_outside_read(struct tf_store *store, const struct tf_run *run,
                          const struct tf_outside_block *block, void *buf, struct tf_err *err);

/* What the program wrote to its standard output and error, in order. */
struct tf_output {
    uint64_t frame, seq;
    uint32_t thread;
    int fd;           /* 1 or 2 */
    const void *data; /* valid during the call */
    size_t len;
};
/* Calls fn for each, from the base on; stops and returns its value when it is not 0. */
int tf_store_each_output(struct tf_store *store, const struct tf_run *run,
                         int (*fn)(void *ctx, const struct tf_output *output), void *ctx, struct tf_err *err);

/* Places that a replay cannot pass, and notes, in order; malloc'ed array, texts inside. */
struct tf_mark_row {
    uint64_t frame;
    uint32_t kind; /* enum tf_mark */
    char *text;
};
int tf_store_marks(struct tf_store *store, const struct tf_run *run, struct tf_mark_row **out, size_t *n,
                   struct tf_err *err);
void tf_marks_free(struct tf_mark_row *marks, size_t n);

/* ---- threads ---- */

struct tf_thread_row {
    uint32_t number; /* 0: the main thread */
    uint32_t parent; /* number of who started it; of 0: 0 */
    int32_t tid;     /* the kernel's id, threading.get_native_id() */
    char *name;      /* as threading.Thread calls it; "": none of Python's, or it had not begun to run */
    uint64_t born;   /* frame events before it was started */
    bool ended;      /* it has ended, or was left behind by the fork that made this process */
    uint64_t end;    /* frame events before that */
};
/* The threads of a process, by number; of a forked one with those that its parent had before the fork, of
 * which only the one that forked lived on. There is always 0. tf_threads_free(). */
int tf_store_threads(struct tf_store *store, const struct tf_run *run, struct tf_thread_row **out, size_t *n,
                     struct tf_err *err);
void tf_threads_free(struct tf_thread_row *threads, size_t n);

/* What the frame events themselves say of a thread. */
struct tf_thread_activity {
    uint32_t number;
    uint64_t frames;      /* events of its */
    uint64_t first, last; /* their first and last number */
};
/* Of each thread that has an event from the base on, by number; malloc'ed. Reads all blocks, but walks over
 * none. */
int tf_store_thread_activity(struct tf_store *store, const struct tf_run *run,
                             struct tf_thread_activity **out, size_t *n, struct tf_err *err);

/* Files that the program mapped (interpreter, libraries), with what they were like. */
struct tf_mapped {
    char *path;
    uint64_t size;
    int64_t mtime_ns;
    uint64_t digest; /* XXH3-64 of the whole file */
    char *build_id;  /* hexadecimal; "": it had none, or it was not kept */
};
int tf_store_mapped(struct tf_store *store, const struct tf_run *run, struct tf_mapped **out, size_t *n,
                    struct tf_err *err);
void tf_mapped_free(struct tf_mapped *mapped, size_t n);

/* ---- recording ---- */

/*
 * The supervisor's side of the ring: takes items from it, packs them, writes them. Everything is written in
 * transactions of about a second or 4 MiB, and at the end.
 */
struct tf_ingest;
struct tf_ingest_opts {
    const char *command, *title;
    int child_proc; /* pid, to resolve relative source paths by /proc/PID/cwd; 0: none */
    const char
        *source_text; /* text of the program given with -c, kept as the source of "<string>", or NULL */
    /* Called when a TF_REC_SNAPSHOT item is met: the serial and the frame number and outside offset it stands
     * at. */
    void (*on_snapshot)(void *ctx, uint32_t serial, uint64_t frame, uint64_t outside_offset);
    void *ctx;
    bool light;                     /* there will be no frame events: a light run */
    const struct tf_run *completes; /* what comes completes this light run: no START. Not used after
                                       tf_ingest_begin() */
    const struct tf_ingest *parent; /* this process was executed by that one (TF_EXECUTED); NULL: it begins a
                                       run. Not used after tf_ingest_begin() */
};
/* TF_E_USAGE: opts->parent has no row yet (tf_ingest_process() is 0). */
int tf_ingest_begin(struct tf_store *store, struct tf_shm *shm, uint32_t *ring,
                    const struct tf_ingest_opts *opts, struct tf_ingest **out, struct tf_err *err);
/*
 * The process of `parent` is about to fork, waits for it, and everything that it wrote has been drained:
 * *child takes what the new process will write to the ring of `shm`. Its row is written when the first item
 * comes (its pid is shm->program_pid then), so a fork that failed leaves no trace: end it all the same.
 * child_proc 0: shm->program_pid, when the first item comes.
 * command, title and source_text are the parent's; TF_REC_SNAPSHOT items of the child are passed over. Ends
 * and failures of the two do not depend on each other, except that what is committed of the child never
 * refers to what is not committed of the parent: this commits the parent up to the fork. If that fails, so
 * does the parent's recording. A parent whose recording has failed, or has not begun, has no recorded
 * children: the error is the parent's own, or TF_E_USAGE.
 */
int tf_ingest_fork(struct tf_ingest *parent, struct tf_shm *shm, uint32_t *ring, int child_proc,
                   struct tf_ingest **child, struct tf_err *err);
/* Nothing more will be taken, though the process runs on: text says why. It stays incomplete, with a
 * TF_MARK_STOPPED row. */
void tf_ingest_leave(struct tf_ingest *in, const char *text);
/* A TF_MARK_NOTE row for people, at the present end. */
void tf_ingest_note(struct tf_ingest *in, const char *text);
/* Has the process said how it ends (TF_MARK_EXIT)? */
bool tf_ingest_knows_end(const struct tf_ingest *in);
/* The process's number in its run; 0: it has no row yet. */
uint32_t tf_ingest_process(const struct tf_ingest *in);
/* Takes what is in the ring now (at most the whole of it once). Returns the number of words taken (0: empty)
 * or a TF_E; after an error nothing more can be taken (the caller sets shm->stop, for the producer may be
 * waiting for space), but tf_ingest_end() still closes the run with what it has: it stays incomplete and ends
 * with a TF_MARK_STOPPED row. */
int64_t tf_ingest_drain(struct tf_ingest *in, struct tf_err *err);
/* Commits what is pending if the last commit is older than a second. */
int tf_ingest_tick(struct tf_ingest *in, struct tf_err *err);
/* tf_store_drop_before() (drop.h) while the process is recorded, between two drains: 1 done; 0 not all, call
 * again at the next occasion (the place may not be in the file yet, or another process is in the way); or an
 * error, of which only a failed write ends the recording (tf_ingest_tick() says so then, too). */
int tf_ingest_drop_before(struct tf_ingest *in, uint64_t frame, uint64_t offset, struct tf_err *err);
/* Frame events that have come. */
uint64_t tf_ingest_frames(const struct tf_ingest *in);
/* Bytes that were written of this process, about: to see how fast the recording grows. */
uint64_t tf_ingest_written(const struct tf_ingest *in);
/* What the functions that take a run need to know of it, and nothing else. The ingest's; NULL: it has no row
 * yet. */
const struct tf_run *tf_ingest_run(const struct tf_ingest *in);
/* Has a run row been written (a TF_REC_START seen)? */
bool tf_ingest_started(const struct tf_ingest *in);
/* Ends the run, or this process of it: takes nothing more from the ring (drain it first), writes totals,
 * exit, state complete. exit_status -1 and exit_signal 0: not known from outside; what the program's own last
 * mark (TF_MARK_EXIT) said is taken, if there was one. run (may be NULL) gets the closed run. Frees in. When
 * nothing was started, no run is left in the store. */
int tf_ingest_end(struct tf_ingest *in, int exit_status, int exit_signal, struct tf_run *run,
                  struct tf_err *err);

#endif
