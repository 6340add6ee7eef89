/* info.h: checkpoints as the commands show them: `timefork info` those in a recording, the prompt's `info
 * checkpoints` those in memory. Command line only. */
#ifndef TF_CLI_INFO_H
#define TF_CLI_INFO_H

#include <jansson.h>
#include <stdio.h>
#include "checkpoint/set.h"

/* New reference: "frame", "kind", "bytes" (null: not known), "age_ms". */
json_t *tf_info_checkpoint(uint64_t frame, enum tf_checkpoint_kind kind, const uint64_t *bytes,
                           int64_t age_ms);
/* New reference: an array of them. Measures their memory. */
json_t *tf_info_checkpoints(struct tf_checkpoints *set);
/* A line for each, with `indent` in front. size: what the column of "bytes" is called. */
void tf_info_print_checkpoints(FILE *out, const json_t *checkpoints, const char *size, const char *indent);

#endif
