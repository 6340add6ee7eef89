/* probe.h: can this interpreter be recorded? Asked before anything of the user's runs. */
#ifndef TF_PROBE_H
#define TF_PROBE_H

#include <stddef.h>
#include <sys/types.h>
#include "checkpoint/launch.h"
#include "store/err.h"
#include "store/ring.h"

struct tf_probed {
    char version[32], exe[1024];
};
/* Starts the interpreter just far enough to see its version. 0, or TF_E_USAGE with a message that says what
 * it is and what to do. */
int tf_probe(const char *python, char *const *env, const char *libdir, struct tf_probed *probed,
             struct tf_err *err);
/* The same in two steps: something else can be done between them. After a success of begin, end has to be
 * called. The texts live that long. */
struct tf_probing {
    struct tf_shm_map map;
    pid_t pid;
    const char *python, *libdir;
};
int tf_probe_begin(struct tf_probing *p, const char *python, char *const *env, const char *libdir,
                   struct tf_err *err);
int tf_probe_end(struct tf_probing *p, struct tf_probed *probed, struct tf_err *err);
/* Why a process that was started under timefork did not record; fills err, returns its code. */
int tf_probe_explain(const struct tf_shm *shm, const char *file, const char *libdir, struct tf_err *err);
/* "3.11, 3.12": the versions that engines were built for. */
void tf_probe_engines(const char *libdir, char *out, size_t size);

#endif
