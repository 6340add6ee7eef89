/*
 * db.h: what the files of the store share: the open database, and the way from a SQLite result to struct
 * tf_err. Internal to store/.
 */
#ifndef TF_DB_H
#define TF_DB_H

#include <sqlite3.h>
#include "store/store.h"

#define TF_APPLICATION_ID 0x74666f72 /* "tfor" */
#define TF_FORMAT 5                  /* the highest that is read: of files that have had a light run */
#define TF_FORMAT_BASES 4            /* of files in which a run has a base */
#define TF_FORMAT_WHOLE 3            /* of files in which all runs begin at their start */

struct tf_store {
    sqlite3 *db;
    char *path;
    bool writable, created; /* created: this process made the file */
    int fd;                 /* live.c: of the file itself, or -1 */
    bool synced, full,
        last; /* live.c: SQLite forces to the disk what it must; each transaction; the next one ends a run */
    int64_t synced_ms;
};

/* Fills *err from the last SQLite error of the store and returns the TF_E code. doing: "reading", "writing".
 */
int tf_db_error(struct tf_store *store, struct tf_err *err, const char *doing);
/* The recording contradicts itself. */
int tf_db_damaged(struct tf_store *store, struct tf_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int tf_db_memory(struct tf_err *err);
int tf_db_exec(struct tf_store *store, const char *sql, struct tf_err *err);
/* How long to wait for other processes that are using the file, each time; TF_DB_BUSY_MS when it is opened.
 */
#define TF_DB_BUSY_MS 5000
void tf_db_patience(struct tf_store *store, int ms);
int tf_db_prepare(struct tf_store *store, const char *sql, sqlite3_stmt **out, struct tf_err *err);
/* 1: a row; 0: done; negative: *err is filled in. */
int tf_db_step(struct tf_store *store, sqlite3_stmt *stmt, struct tf_err *err);
/* Steps a statement that gives no rows, and resets it. */
int tf_db_run(struct tf_store *store, sqlite3_stmt *stmt, struct tf_err *err);

/* Out of WAL mode, if nobody else has the file open. Returns whether it is a single file now. */
bool tf_db_single_file(struct tf_store *store);
/* Is something else, or nothing, where the file was opened? */
bool tf_db_moved(const struct tf_store *store);
/* Another process was in the way: what was tried can be tried again. */
bool tf_db_busy(const struct tf_store *store);
/* live.c. The descriptor for locks and for forcing to the disk; open after SQLite's own, and closed after
 * them.
 */
void tf_db_open_fd(struct tf_store *store);
/* From now on until the store is closed, the row is of a run that is being recorded. */
void tf_db_hold(struct tf_store *store, int64_t rowid);
/* Of a store that writes: when it is opened; before each transaction (bulk: not in WAL mode; last: the run
 * ends with it); when it is closed and SQLite has done its part. */
void tf_db_sync_begin(struct tf_store *store);
int tf_db_sync(struct tf_store *store, bool bulk, bool last, struct tf_err *err);
void tf_db_sync_end(struct tf_store *store);
/* Is there one run at most in the file? */
bool tf_db_alone(struct tf_store *store);
/* Is there such a table? Recordings of older versions lack some. */
bool tf_db_has_table(struct tf_store *store, const char *name);
/* The format of the file as it is now: a writer may raise it while we have it open. Negative: *err is
 * filled in. */
int tf_db_format(struct tf_store *store, struct tf_err *err);
/* Makes a file of an older format one of TF_FORMAT_WHOLE. */
int tf_db_upgrade(struct tf_store *store, struct tf_err *err);

/*
 * Where the rows of a run are. Those of a process that was forked are its own, from the fork on; what was
 * before is with its parent, and so on: a lineage of processes, the eldest first, each of which gives what
 * lies behind its own fork and not behind that of the next one. Anything else is alone in its lineage.
 *
 * Frame events are given by whole blocks: the block in which a fork lies is the child's own, with the events
 * before the fork.
 */
struct tf_ancestor {
    int64_t run;
    uint32_t process, pid;
    uint64_t frame, fork_offset; /* where it was forked */
    /* what it gives: from here on, or from the base on .. */
    uint64_t first_block, offset, seq;
    uint32_t codes, marks, mapped; /* how many come before its own */
    /* .. up to what the next one gives; UINT64_MAX and UINT32_MAX for the last */
    uint64_t end_block, end_offset, end_seq;
    uint32_t end_codes, end_marks, end_mapped;
};
/*
 * A run that has a base (struct tf_base) has no blocks that lie wholly in front of it: those of frame events
 * begin with the one that holds event number base.frame, those of outside events at kept_offset. What is
 * there once for the whole run (code objects, sources, marks, mapped files) stays.
 *
 * The base of a lineage is that of the youngest process in it that has one: those that are older give no
 * blocks any more. That one is never behind the fork of the next, for a drop does not go further (drop.c).
 */
struct tf_lineage {
    struct tf_ancestor *v;
    size_t n;
    uint64_t frame, offset, seq, tick; /* the base; zeros: there is none */
    uint64_t kept_block, kept_offset,
        kept_seq; /* the first blocks that are there, and outside events before */
};
/* Free it with tf_lineage_free(), also after an error. */
int tf_lineage_load(struct tf_store *store, const struct tf_run *run, struct tf_lineage *out,
                    struct tf_err *err);
void tf_lineage_free(struct tf_lineage *lineage);
/* The block of frame events in which the last event before a fork lies: the first one that the child has
 * itself.
 */
static inline uint64_t tf_fork_block(uint64_t frame)
{
    return frame ? (frame - 1) / TF_BLOCK_FRAMES : 0;
}

/* Several statements that have to see the file at one moment: a recorder that drops blocks may be writing to
 * it. *began: pass it on to the end. */
void tf_db_moment_begin(struct tf_store *store, bool *began);
void tf_db_moment_end(struct tf_store *store, bool began);
/* What was to be read is not there: because it was dropped meanwhile, or because the file is damaged. */
int tf_db_missing(struct tf_store *store, const struct tf_lineage *lineage, struct tf_err *err,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* light.c. The run is a light one. */
int tf_light_mark(struct tf_store *store, int64_t rowid, struct tf_err *err);
enum tf_light tf_light_of(struct tf_store *store, int64_t rowid);
/* Number of the process to which the rows of a completion belong; nobody is shown it. */
#define TF_COMPLETING 2147483647

/* A copy of a text column, "" for NULL. NULL: no memory. */
char *tf_db_text(sqlite3_stmt *stmt, int column);

/* A row of "SELECT rowid, offset, len, first_seq, events, first_frame, last_frame FROM outside". */
struct tf_outside_block tf_outside_row(sqlite3_stmt *stmt, int64_t run);

#endif
