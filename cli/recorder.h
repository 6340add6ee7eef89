/*
 * recorder.h: the supervisor while a program runs: it takes what the recorded processes write into their
 * rings, gives children rings of their own, and keeps the checkpoints that are taken. One recorder for one
 * run.
 */
#ifndef TF_CLI_RECORDER_H
#define TF_CLI_RECORDER_H

#include "checkpoint/launch.h"
#include "cli/record.h"
#include "cli/recorder_durable.h"

struct tf_recorder;

struct tf_recorder_opts {
    struct tf_store *store; /* borrowed */
    const char *command, *title, *source_text;
    bool follow;                         /* record interpreters that the program executes */
    bool light;                          /* no frame events; of the first process only */
    bool wait;                           /* go on until the last process has ended, not only the first */
    bool snapshots;                      /* take checkpoints of the first process, and keep them */
    enum tf_durable_mode durable;        /* make durable ones of it; not with follow */
    struct tf_bound_limits bound;        /* and drop what is before them */
    struct tf_timeline_opts checkpoints; /* with snapshots: what they may cost */
    uint64_t chaos;                      /* for struct tf_shm, or 0 */
    int64_t timeout_ms;                  /* the program is killed when it has run for so long; 0: never */
    bool ends_together; /* when a signal came that ends timefork, the program is killed, a little later */
    bool was_fixed;     /* address space randomisation is off here, too */
};

/* Prepares for one program: fills in launch->fds (lent: to be executed with) and *session, the value of
 * TIMEFORK= for it, which lives as long as the recorder. */
int tf_recorder_new(const struct tf_recorder_opts *opts, struct tf_launch *launch, const char **session,
                    struct tf_recorder **out, struct tf_err *err);
/*
 * The program was started: records until it has ended. A failure to write ends the recording, not the
 * program: there is a message, and what there is stays. *wait_status: as waitpid() says. *result gets the run
 * (its id is empty if nothing was recorded) and the checkpoints.
 */
void tf_recorder_run(struct tf_recorder *recorder, pid_t pid, int *wait_status,
                     struct tf_record_result *result);
/* The header of the first process: why nothing was recorded, if nothing was. */
/* The signal by which somebody wanted timefork to end since the first recorder was made (SIGINT, SIGTERM,
 * SIGHUP, SIGQUIT), or 0. Those do not end it from then on. */
int tf_recorder_interrupted(void);
const struct tf_shm *tf_recorder_header(const struct tf_recorder *recorder);
void tf_recorder_free(struct tf_recorder *recorder);

#endif
