/*
 * writer.h: the rows of one run as they are written, queued until they are committed. Between the
 * ring (ingest.c) and SQLite. Nothing but tf_writer_run() and tf_writer_commit() writes to the file.
 * Internal to store/; used by the supervisor while it records.
 */
#ifndef TF_WRITER_H
#define TF_WRITER_H

#include "store/block.h"
#include "store/db.h"

#include <limits.h>

enum tf_writer_stmt {
    TF_W_FRAMES,
    TF_W_OUTSIDE,
    TF_W_CODE,
    TF_W_SOURCE,
    TF_W_TEXT,
    TF_W_FIND_TEXT,
    TF_W_MARK,
    TF_W_MAPPED,
    TF_W_BUILD,
    TF_W_FACT,
    TF_W_THREAD,
    TF_W_TOTALS,
    TF_W_COUNT
};

/* What the runs row says about the events: as of the rows that are written. */
struct tf_totals {
    uint64_t frames, outside, outside_bytes, duration_ns;
    uint64_t cal_tsc, cal_ns;
};

#define TF_W_HASTY INT_MIN   /* compressed only if that is as fast as copying */
#define TF_W_BULK (2u << 20) /* a queue of so many bytes is much */

struct tf_writer {
    struct tf_store *store;
    sqlite3_stmt *stmts[TF_W_COUNT];
    int64_t run;
    uint8_t *queue; /* rows that are not written yet */
    size_t len, cap;
    struct ZSTD_CCtx_s *zstd;
    uint64_t written; /* bytes of rows that were committed, also of those that were replaced since */
    bool no_memory;   /* the queue lacks something */
    bool bulk;        /* the file is not in WAL mode any more */
    uint32_t n_marks, n_mapped;
    int64_t unchanged_since; /* sources that were changed later are left out, ns of the wall clock; 0: none */
    /* Paths whose source was looked at already: a set of XXH3-64 hashes, open addressing, 0 is free. */
    uint64_t *seen;
    size_t n_seen, cap_seen;
};

int tf_writer_init(struct tf_writer *w, struct tf_store *store, struct tf_err *err);
/* Rolls back what was not committed. */
void tf_writer_free(struct tf_writer *w);
/* Writes the runs row; fills run->rowid and run->process, and run->id if it begins a run (TF_STARTED); an
 * executed process comes with the id, parent and fork_frame. argv and envp are blobs of strings, each with
 * its NUL. */
int tf_writer_run(struct tf_writer *w, struct tf_run *run, const char *argv, size_t argv_len,
                  const char *envp, size_t envp_len, struct tf_err *err);
/* Where a process was forked. */
struct tf_fork {
    int64_t run; /* row of the parent */
    uint32_t parent, codes, marks, mapped;
    uint64_t frame, offset, seq, tick;
};
/* Writes the runs row of a forked process, with what its parent's says of their common past; fills run->rowid
 * and run->process. The transaction stays open: tf_writer_commit() ends it, or tf_writer_rollback(). */
int tf_writer_fork(struct tf_writer *w, struct tf_run *run, const struct tf_fork *fork, uint32_t pid,
                   struct tf_err *err);
/* Sources that src has looked at need not be looked at again. */
int tf_writer_copy_seen(struct tf_writer *w, const struct tf_writer *src, struct tf_err *err);
/* Writes a block of frame events, or writes a longer version over the one that was written before. */
int tf_writer_frames(struct tf_writer *w, uint64_t block, uint32_t n, const struct tf_encoded *e,
                     struct tf_err *err);
/* Compresses and writes a block of the outside stream. Its rowid is not used. level: zstd's,
 * or TF_W_HASTY. */
int tf_writer_outside(struct tf_writer *w, const struct tf_outside_block *block, const void *raw, int level,
                      struct tf_err *err);
int tf_writer_code(struct tf_writer *w, const struct tf_rec_code *code, const char *file, const char *name,
                   struct tf_err *err);
/* Keeps the source of a file as it is now, once. A file that cannot be read is left out. proc: pid for
 * relative paths, 0: none; cwd: the folder when it is gone. */
int tf_writer_source(struct tf_writer *w, const char *file, int proc, const char *cwd, struct tf_err *err);
/* The source of this file is in the recording: it need not be looked at. */
int tf_writer_know(struct tf_writer *w, const char *file, struct tf_err *err);
int tf_writer_source_text(struct tf_writer *w, const char *file, const void *text, size_t len,
                          struct tf_err *err);
int tf_writer_mark(struct tf_writer *w, uint64_t frame, uint32_t kind, const char *text, size_t len,
                   struct tf_err *err);
/* Reads the whole file for its digest. One that cannot be read gets size 0 and digest 0. */
int tf_writer_mapped(struct tf_writer *w, const char *path, struct tf_err *err);
/* What is known of a thread now, in the place of what was known before. */
struct tf_known_thread {
    uint32_t number, parent;
    int32_t tid;
    char *name; /* "": none yet */
    uint64_t born;
    bool ended;
    uint64_t end, end_seq; /* frame events and outside events before its end */
};
int tf_writer_thread(struct tf_writer *w, const struct tf_known_thread *thread, struct tf_err *err);
/* What this machine is like (machine.h). */
int tf_writer_machine(struct tf_writer *w, struct tf_err *err);
int tf_writer_totals(struct tf_writer *w, const struct tf_totals *totals, int state, int exit_status,
                     int exit_signal, struct tf_err *err);
/* Writes what is queued. 1: another process is in the way, everything stays queued; not when patient: then it
 * waits, and fails if that takes too long. After a failure, as many rows as could be written have been, up to
 * the totals *saved (as they were, if none): the queue is empty. */
int tf_writer_commit(struct tf_writer *w, bool patient, struct tf_totals *saved, struct tf_err *err);
void tf_writer_rollback(struct tf_writer *w);

#endif
