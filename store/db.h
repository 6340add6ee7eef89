/*
 * db.h: what the files of the store share: the open database, and the way from a SQLite result to struct
 * tf_err. Internal to store/.
 */
#ifndef TF_DB_H
#define TF_DB_H

#include <sqlite3.h>
#include "store/store.h"

#define TF_APPLICATION_ID 0x74666f72 /* "tfor" */
#define TF_FORMAT 1

struct tf_store {
    sqlite3 *db;
    char *path;
    bool writable, created; /* created: this process made the file */
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
/* Another process was in the way: what was tried can be tried again. */
bool tf_db_busy(const struct tf_store *store);

/* A copy of a text column, "" for NULL. NULL: no memory. */
char *tf_db_text(sqlite3_stmt *stmt, int column);

#endif
