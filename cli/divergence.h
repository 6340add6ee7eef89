/*
 * divergence.h: the report of a divergence for people and for programs: one JSON object (docs/json.md), and
 * text made from it (docs/divergences.md).
 */
#ifndef TF_CLI_DIVERGENCE_H
#define TF_CLI_DIVERGENCE_H

#include <jansson.h>
#include <stdio.h>
#include "replay/divergence.h"

/* --on-divergence: the short form, or all of it, for which the run is replayed once more. */
enum tf_on_divergence { TF_ON_DIVERGENCE_STOP, TF_ON_DIVERGENCE_EXPLAIN };
/* --on-divergence and --divergence-calls, from argv[0] on. Returns how many arguments it took, 0 if it is
 * neither, -1 after a message. */
int tf_divergence_option(int argc, char **argv, enum tf_on_divergence *on, uint64_t *calls);
#define TF_DIVERGENCE_OPTIONS                                                                                \
    "  --on-divergence W  if the replay parts from the recording: stop says where, and the most likely\n"    \
    "                   cause; explain makes the full report (default stop)\n"                               \
    "  --divergence-calls N  outside calls before it that the report shows (default 5)\n"

/* Finds out what the report needs: where, and why; with explain, by a second replay and by reading all files.
 * Returns the report: a new reference. What cannot be found out is not in it. */
json_t *tf_divergence_report(struct tf_timeline *timeline, struct tf_divergence *divergence,
                             enum tf_on_divergence on);
/* The report as text. short: the sentence, the stack, up to where all is equal, the most likely cause.
 * The first line has no prefix. */
void tf_divergence_print(FILE *out, json_t *report, bool all);
/* The sentence and the stack, as one text: new reference. */
json_t *tf_divergence_text(json_t *report);

#endif
