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
int tf_db_prepare(struct tf_store *store, const char *sql, sqlite3_stmt **out, struct tf_err *err);
/* 1: a row; 0: done; negative: *err is filled in. */
int tf_db_step(struct tf_store *store, sqlite3_stmt *stmt, struct tf_err *err);
/* Steps a statement that gives no rows, and resets it. */
int tf_db_run(struct tf_store *store, sqlite3_stmt *stmt, struct tf_err *err);

/* Is there such a table? Recordings of older versions lack some. */
bool tf_db_has_table(struct tf_store *store, const char *name);
/* A copy of a text column, "" for NULL. NULL: no memory. */
char *tf_db_text(sqlite3_stmt *stmt, int column);

#endif
