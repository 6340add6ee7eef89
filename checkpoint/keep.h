/*
 * keep.h: checkpoints that outlive the command which recorded them (`record --keep`). In the supervisor.
 *
 * The keeper is the recording process itself, gone into the background: it is the parent of the parked
 * processes, which end with it. It listens on a socket in a folder of the user's (mode 0700), named by the
 * id of the run. Who connects may ask for its state, for the sockets of its checkpoints, or that it ends:
 * one packet each way, the answer being a JSON object. A connection over which the checkpoints were asked
 * for stays open as long as they are used.
 *
 * Several replays share the socket of a checkpoint: all that they ever send there is TF_REQ_FORK, a message
 * that the kernel does not tear, and what answers is the copy, on a socket of its own. The copies are the
 * keeper's children.
 *
 * Errors: see err.h. What a function hands out is the caller's.
 */
#ifndef TF_KEEP_H
#define TF_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "store/err.h"

#define TF_KEEP_MAX 253 /* checkpoints: descriptors that go into one message (SCM_MAX_FD) */
#define TF_KEEP_DEFAULT_MS (10 * 60 * 1000ll)
#define TF_KEEP_PACKET 65536
#define TF_KEEP_FOLDER_MAX 74 /* letters: what the name of a socket in it leaves */

struct tf_kept_checkpoint {
    uint64_t frame, offset; /* where it stands: frame events, bytes of the outside stream */
    uint64_t work_ns;       /* CPU time from the start to here */
    int64_t made_ms;        /* CLOCK_MONOTONIC */
    int socket;
    pid_t pid; /* 0: of no child of ours */
};

/* ---- the keeper (keeper.c) ---- */

struct tf_keep_opts {
    const char *run, *path, *title; /* id of the run, its recording, what it is called; copied */
    int64_t duration_ms;            /* then it ends, unless a replay uses it: then, when that ends */
    uint64_t memory_cap;            /* bytes, all checkpoints together (PSS) */
    const char *build;              /* tf_keep_build(), as it was when recording began; copied */
};
struct tf_keeper;
/* Takes the checkpoints over (sorted by frame; drops those that are dead) and begins to listen. On an error
 * they are still the caller's. TF_E_NOTFOUND: there is none that lives. */
int tf_keeper_new(const struct tf_keep_opts *opts, const struct tf_kept_checkpoint *v, size_t n,
                  struct tf_keeper **out, struct tf_err *err);
size_t tf_keeper_checkpoints(const struct tf_keeper *keeper);
/* Leaves the terminal, its session and its folder, and every descriptor but its own and `spare`. */
void tf_keeper_detach(struct tf_keeper *keeper, int spare);
/* Serves until the time is over, the memory is too much, the recording or the socket is gone, or it is asked
 * to end. Ends all its children. */
void tf_keeper_run(struct tf_keeper *keeper);
void tf_keeper_free(struct tf_keeper *keeper);

/* What ps shows of this process. argv: as main() got it; before anything else is done with the environment.
 */
void tf_keep_title_init(int argc, char **argv);
void tf_keep_title(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- finding keepers (keep.c) ---- */

/* Build-ids of this timefork and its library: processes of another build do not speak our language. */
#define TF_KEEP_BUILD 260
void tf_keep_build(char *out /* TF_KEEP_BUILD */);
/* Folder number i of those in which sockets may stand, the best first. make: it is made if it is not there.
 * TF_E_USAGE: there is no such number; TF_E_IO: this one cannot be used. */
int tf_keep_folder(unsigned i, bool make, char *out, size_t size, struct tf_err *err);
uint64_t tf_keep_namespace(void); /* that our process numbers belong to; 0: not known */

/* One keeper that was found. */
struct tf_kept_session {
    char socket[256]; /* its path */
    char run[64];
    pid_t pid;
    json_t *state;   /* what it says of itself; NULL: it does not answer */
    char unfit[256]; /* why replays of this timefork do not use it; "": they do */
};
/* All there are; sockets behind which nobody is are removed. *out is malloc'ed: tf_keep_list_free(). */
int tf_keep_list(struct tf_kept_session **out, size_t *n, struct tf_err *err);
void tf_keep_list_free(struct tf_kept_session *v, size_t n);
/* Ends it, and waits until its checkpoints have ended; one that does not answer is killed. */
int tf_keep_end(const struct tf_kept_session *session, struct tf_err *err);

/* Asks the keeper of a run for its checkpoints. *connection has to stay open while they are used; their
 * sockets are the caller's, at most max of them; *keeper: its pid. TF_E_NOTFOUND: there is no keeper, or none
 * that fits. */
int tf_keep_use(const char *run, const char *path, struct tf_kept_checkpoint *v, size_t max, size_t *n,
                int *connection, pid_t *keeper, struct tf_err *err);

#endif
