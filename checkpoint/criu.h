/*
 * criu.h: durable checkpoints, made and brought back by CRIU (https://criu.org), an optional program. In the
 * supervisor.
 *
 * What is dumped is a parked copy of a process (proto.h) that has been made ready for it (TF_REQ_SETTLE): it
 * shares no memory, traps no system calls, has no filter, and holds one descriptor, the socket to the
 * supervisor. It is dumped while the program goes on. What is restored is that copy, in a pid namespace of
 * its own, so that any number of them can run, from the same image too.
 *
 * Images are a folder of files while CRIU handles them; in the recording they are rows (store/images.h).
 */
#ifndef TF_CRIU_H
#define TF_CRIU_H

#include <stdbool.h>
#include <sys/types.h>
#include "store/err.h"

/* The program that is used. */
struct tf_criu {
    char **argv; /* how it is started, without arguments of its own: it may need a loader and libraries of its
                    own. malloc'ed, NULL-terminated */
    char *version;   /* as it says, "4.1.1" */
    bool privileged; /* else it works in a user namespace, with --unprivileged */
};
/* Finds one: TIMEFORK_CRIU, then the one that ./setup brings beside the libraries, then PATH. TF_E_NOTFOUND:
 * says what to install. Does not try it. */
int tf_criu_find(struct tf_criu *out, struct tf_err *err);
void tf_criu_clear(struct tf_criu *criu);
/* Dumps and restores a tiny child, about 0.1 s: does it work here, for this user? The error says what CRIU
 * said and what that means. */
int tf_criu_probe(const struct tf_criu *criu, struct tf_err *err);

/* A dump that is going on, as a child process. */
struct tf_criu_dump {
    pid_t pid;
    char *folder; /* mode 0700, made by tf_criu_dump_start(); removed by tf_criu_dump_end() */
};
/* Starts to dump the settled process `pid`, whose only socket is the peer of `socket` (ours). The process
 * ends when it has been dumped. */
int tf_criu_dump_start(const struct tf_criu *criu, pid_t pid, int socket, struct tf_criu_dump *out,
                       struct tf_err *err);
/* Has it ended? 1: the images are in the folder; 0: not yet; or an error with what CRIU said. wait: until it
 * has. */
int tf_criu_dump_poll(struct tf_criu_dump *dump, bool wait, struct tf_err *err);
void tf_criu_dump_end(struct tf_criu_dump *dump); /* ends it if it is going on, and removes the folder */

/* Restores the images of a folder in a new pid namespace. *socket: our end of the restored process's socket;
 * *keeper: the first process of the namespace, a child of ours: when it is killed, all in it end. The folder
 * is not needed any more when this returns. */
int tf_criu_restore(const struct tf_criu *criu, const char *folder, int *socket, pid_t *keeper,
                    struct tf_err *err);

#endif
