/* query.h: what the parts of `timefork query` share. Internal to cli/query*.c. */
#ifndef TF_QUERY_H
#define TF_QUERY_H

#include "cli/answer.h"
#include "cli/common.h"
#include "store/store.h"

struct query {
    struct tf_store *store;
    struct tf_run run;
    struct tf_codes codes; /* for frames and stats */
    uint8_t *shown;        /* bit set by code id: what the filters let through */
    bool narrowed;         /* not every code is shown */
    bool hides_library;    /* some of what is not shown is so only because it belongs to a library */
    const char *function, *file;
    int event;      /* enum tf_tag, -1: any */
    uint64_t limit; /* UINT64_MAX: none */
    uint64_t offset;
    bool all, json;
    bool one_thread; /* --thread: only this one */
    uint32_t thread;
};

static inline bool query_shows(const struct query *q, uint32_t code)
{
    return code < q->codes.n && (q->shown[code >> 3] >> (code & 7) & 1);
}

/* A string as JSON, quotes included; bytes that are no UTF-8 become U+FFFD. malloc'ed; NULL: no memory. */
char *query_json_text(const char *text, size_t len);
/* All return the exit status; they print their own errors. */
int query_frames(struct query *q);
int query_stats(struct query *q);
int query_processes(struct query *q);
int query_threads(struct query *q);
/* Is there the thread of --thread? If not, it says which there are. */
int query_find_thread(struct query *q);

/* "0", "signal 9", or "-" if it is not known. */
void query_exit_text(const struct tf_run *run, char *buf, size_t size);
/* `"exit_status": 0, "exit_signal": null, ` */
void query_exit_json(const struct tf_run *run);
/* Says on standard error that there is no memory; returns TF_EXIT_ERROR. */
int query_no_memory(void);

#endif
