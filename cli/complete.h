/* complete.h: the frame events of a light recording (record --light), before anything that needs them. */
#ifndef TF_COMPLETE_H
#define TF_COMPLETE_H

#include "store/store.h"

/*
 * If the run is a light one: executes it again and adds its frame events, with progress on a terminal; *run
 * is then as it is in the store. Waits while another process does the same. reader: of tf_store_open(); after
 * an error it can only be closed. What fails leaves the light recording as it was. TF_E_DIVERGENCE: the
 * re-execution did something else.
 */
int tf_complete(struct tf_store *reader, struct tf_run *run, struct tf_err *err);

#endif
