/*
 * compare.h: the two sides of a divergence, as texts for people: a recorded outside event and what the
 * program did instead, argument by argument. In the supervisor.
 *
 * Texts are malloc'ed and the caller's; NULL when there was no memory, which is shown as if nothing was
 * known.
 */
#ifndef TF_COMPARE_H
#define TF_COMPARE_H

#include "replay/divergence.h"

char *tf_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "text" of bytes; more: they go on. */
char *tf_quoted(const uint8_t *data, size_t n, bool more);
char *tf_hex(const uint8_t *data, size_t n);
/* A recorded outside event. */
char *tf_outside_text(const struct tf_outside *e);
/* A call as tf_call_format_args() writes it, with the text of its data instead of <data>, if they are known.
 */
char *tf_with_data(const char *call, const uint8_t *data, size_t n, bool more);
/* The file and the qualified name in the arguments of a TF_CALL_CODE; "?" if they are damaged. */
void tf_code_names(const uint8_t *args, size_t len, const char **file, const char **name);

/* Takes the texts. */
void tf_add_unlike(struct tf_divergence *d, char *what, char *recorded, char *did);
/* Adds each argument in which the two differ. Returns how many are known by a hash only. *structures: nothing
 * differs but what structures hold that may have holes. */
size_t tf_compare_arguments(struct tf_divergence *d, unsigned call, const uint8_t *has, size_t has_len,
                            const uint8_t *did, size_t did_len, bool *structures);
/* Adds how two functions differ that ran first at the same place: arguments of TF_CALL_CODE. */
void tf_compare_codes(struct tf_divergence *d, const uint8_t *has, size_t has_len, const uint8_t *did,
                      size_t did_len);

#endif
