/*
 * criu_local.h: what the files about CRIU share. Internal to checkpoint/, in the supervisor.
 */
#ifndef TF_CRIU_LOCAL_H
#define TF_CRIU_LOCAL_H

#include "checkpoint/criu.h"

#define TF_CRIU_DUMP_LOG "dump.log"
#define TF_CRIU_RESTORE_LOG "restore.log"
/* A file of ours among the images: "socket INODE" and "pid PID", of the process as it was. */
#define TF_CRIU_FACTS "timefork.txt"

/* The arguments of one start of criu: those of struct tf_criu, then those that are added. */
#define TF_CRIU_ARGS 48
struct tf_criu_args {
    const char *v[TF_CRIU_ARGS];
    int n;
};
void tf_criu_args(struct tf_criu_args *args, const struct tf_criu *criu, const char *command,
                  const char *folder, const char *log);
void tf_criu_arg(struct tf_criu_args *args, const char *arg);
/* In a child, behind its fork: all descriptors are closed but the standard ones, which are /dev/null, and
 * keep[i] (at most 4), which becomes 3 + i and stays open over exec; signals are as at first. 0 or -errno.
 * Nothing is allocated. */
int tf_criu_child_files(const int *keep, int n);
/* In a child: becomes criu. Only returns if that failed. Nothing is allocated. */
void tf_criu_exec(const struct tf_criu_args *args);
/* Gives the new user namespace of /proc/PID (that folder) its ids: 0 is uid, and gid. 0 or -errno. Nothing is
 * allocated. */
int tf_criu_map_ids(const char *proc, uid_t uid, gid_t gid);

/* What criu said in a log, and what that means: fills *err with TF_E_IO. doing: "dumping process 12". */
int tf_criu_failed(const char *folder, const char *log, int status, const char *doing, struct tf_err *err);

/* What it means that something is not permitted. */
const char *tf_criu_forbidden(void);

#endif
