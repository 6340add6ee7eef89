/* budget.h: the options that say what checkpoints may cost, for the commands that make some. Command line
 * only. */
#ifndef TF_CLI_BUDGET_H
#define TF_CLI_BUDGET_H

#include "replay/timeline.h"

struct tf_checkpoint_opts {
    struct tf_timeline_opts cost;
    const char *given; /* the last of these options that was given, or NULL */
};
struct tf_checkpoint_opts tf_checkpoint_opts_default(void);

/* Takes --checkpoint-budget, --max-checkpoints or --checkpoint-memory from argv[0] on. Returns how many
 * arguments it took, 0 if it is none of them, -1 after a message. */
int tf_checkpoint_option(int argc, char **argv, struct tf_checkpoint_opts *opts);

/* Bytes from "512M": a number, with K, M or G for powers of 1024. False if it is anything else. */
bool tf_size_parse(const char *text, uint64_t *bytes);

#define TF_CHECKPOINT_OPTIONS                                                                                \
    "  --checkpoint-budget PERCENT  share of the run time that checkpoints may take (default 5; 0: none "    \
    "are\n"                                                                                                  \
    "                   made)\n"                                                                             \
    "  --max-checkpoints N  at most so many, the start among them (default 32)\n"                            \
    "  --checkpoint-memory SIZE  memory that they may take together, as 512M or 2G (default 2G, but at\n"    \
    "                   most a quarter of the machine's)\n"

#endif
