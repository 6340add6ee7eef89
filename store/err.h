/*
 * err.h: the one way in which a function of the supervisor reports a failure.
 *
 * Functions return 0, or a negative TF_E code with *err filled in. The message says what happened, to what,
 * and where it helps what to do next; it has no trailing newline and no program name. Callers pass it up
 * unchanged or prefix it with tf_err_prefix(); only cli/ prints it.
 */
#ifndef TF_ERR_H
#define TF_ERR_H

enum {
    TF_E_USAGE = -1,      /* the request makes no sense (bad position, unknown run) */
    TF_E_IO = -2,         /* the system said no: files, sockets, processes */
    TF_E_FORMAT = -3,     /* the recording is damaged, not one, or of a newer format */
    TF_E_FULL = -4,       /* no space to write to */
    TF_E_DIVERGENCE = -5, /* the re-execution did something else than the recording */
    TF_E_NOTFOUND = -6,   /* no such run, frame, function, source */
    TF_E_TIMEOUT = -7,
    TF_E_REPLAY = -8,    /* a replaying process died or cannot go on */
    TF_E_CANCELLED = -9, /* the user has interrupted it */
};

struct tf_err {
    int code; /* 0 or one of TF_E */
    char msg[1024];
};

/* Fills *err (which may be NULL) and returns code. */
int tf_err_set(struct tf_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts a text in front of the message that is there; returns err->code. */
int tf_err_prefix(struct tf_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
