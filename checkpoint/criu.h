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
#include <stdint.h>
#include <sys/types.h>
#include "store/err.h"

/*
 * What a process does before it can be dumped (TF_REQ_SETTLE): it has one thread; setsid(); chdir("/");
 * closes everything but its socket; unmaps what it shares with others; switches the trapping of system calls
 * off. It has never had a filter. If the supervisor says so (struct tf_criu: !privileged),
 * unshare(CLONE_NEWUSER) besides, last: an ordinary user has the right to dump a process only in a user
 * namespace that is his own.
 *
 * A restored process has the pid, the session and the descriptor that it had. Copies of it are made with
 * clone(CLONE_PARENT | SIGCHLD): they become children of the keeper, which reaps them. Copies that are
 * children of their own maker would have to be reaped by it, and become the keeper's when it ends.
 */

/* The program that is used. */
struct tf_criu {
    char **argv; /* how it is started, without arguments of its own: it may need a loader and libraries of its
                    own. malloc'ed, NULL-terminated */
    char *path;  /* of the program, for people */
    char *version;   /* as it says, "4.1.1" */
    bool privileged; /* else it works in a user namespace, with --unprivileged */
};
#define TF_CRIU_ENV "TIMEFORK_CRIU"
/* Finds one: TIMEFORK_CRIU (the program, or a folder as ./setup makes it; empty: none), then the one that
 * ./setup brings beside the libraries, then PATH and the sbin folders. Starts it to learn its version.
 * TF_E_NOTFOUND: there is none, or it is older than 4.1; says what to do. Does not try whether it works. */
int tf_criu_find(struct tf_criu *out, struct tf_err *err);
void tf_criu_clear(struct tf_criu *criu);
/* Dumps and restores a tiny child, about 0.1 s: does it work here, for this user? The error says what CRIU
 * said and what that means. */
int tf_criu_probe(const struct tf_criu *criu, struct tf_err *err);

/* For a process whose unshare(CLONE_NEWUSER) has failed with that errno: says what that means. TF_E_IO. */
int tf_criu_no_user_ns(int error, struct tf_err *err);

/* Makes a folder of mode 0700 for images of about so many bytes: in /dev/shm if it and the memory have room
 * for twice as much, else in TMPDIR, else in /tmp. *out is malloc'ed. Those that processes left there which
 * were killed are removed. */
int tf_criu_folder(uint64_t bytes, char **out, struct tf_err *err);
/* Removes it with the files in it, and frees the name, also of NULL. */
void tf_criu_folder_remove(char *folder);

/* A dump that is going on. The folder is removed by a process of its own, so also when the supervisor is
 * killed. */
struct tf_criu_dump {
    pid_t pid;    /* of that process, a child of ours */
    int control;  /* socket to it */
    char *folder; /* mode 0700; what is in it counts when tf_criu_dump_poll() has said 1 */
    int result;   /* of criu: -1 not known yet, else its status as of waitpid() */
};
/* Starts to dump the settled process `pid`, which has no descriptor but one socket. The process is killed
 * when it has been dumped, and goes on if that failed. Who its parent is, has to reap it. */
int tf_criu_dump_start(const struct tf_criu *criu, pid_t pid, struct tf_criu_dump *out, struct tf_err *err);
/* Has it ended? 1: the images are in the folder; 0: not yet; or an error with what CRIU said. wait: until it
 * has. `control` becomes readable then. */
int tf_criu_dump_poll(struct tf_criu_dump *dump, bool wait, struct tf_err *err);
/* Ends it if it is going on (waits for criu, which must not be killed in the middle: the process would stay
 * behind), and removes the folder. May be called on one that was never started, if it is zeros. */
void tf_criu_dump_end(struct tf_criu_dump *dump);

/* Restores the images of a folder in a new pid namespace. *socket: our end of the restored process's socket,
 * close on exec, with SO_PASSCRED; *keeper: the first process of the namespace, a child of ours: when it is
 * killed, all in it end; it ends by itself when no other is left, and when the thread that called this ends.
 * The folder is not needed any more when this returns. TF_E_TIMEOUT after two minutes. */
int tf_criu_restore(const struct tf_criu *criu, const char *folder, int *socket, pid_t *keeper,
                    struct tf_err *err);
/* The same, but given up when `cancel` becomes readable (TF_E_CANCELLED): what is in the folder will not be
 * complete (store/images.h). */
int tf_criu_restore_unless(const struct tf_criu *criu, const char *folder, int cancel, int *socket,
                           pid_t *keeper, struct tf_err *err);
/* The pid, here, of who sent what is to be read next from a socket that had SO_PASSCRED when that was sent:
 * so a process in a namespace can be named from outside. Waits for something to be there; 0: it cannot be
 * known. */
pid_t tf_criu_sender(int socket);

#endif
