/* Checking a golden case folder: what the families share. */
#ifndef MZ_TESTS_GOLDEN_GOLDEN_CHECK_H
#define MZ_TESTS_GOLDEN_GOLDEN_CHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/backend.h"
#include "core/weights.h"

/* One case folder being checked. */
typedef struct mz_golden {
    mz_context *ctx;
    const mz_backend *backend;
    const char *dir;
    const json_t *json; /* golden.json */
    mz_weights *io;     /* io.safetensors, of this folder or of the one it must equal */
    bool verbose;       /* print every tensor, not only what differs */
    int64_t n_compared, n_failed;
    char first_failure[256]; /* the first tensor that differs; empty: none */
} mz_golden;

/* Compares n values, prints a line when they differ (or always when verbose): max absolute error,
 * relative L2, how many are not finite. Fails above `bound` on the relative L2 or on anything not
 * finite. */
void mz_golden_compare(mz_golden *g, const char *name, const float *actual, const float *expected,
                       int64_t n, double bound);

/* Notes a failure that is no numeric difference. */
void mz_golden_fail(mz_golden *g, const char *name, const char *why);

/* A tensor of io.safetensors, or false. */
bool mz_golden_find(mz_golden *g, const char *name, mz_tensor *out);

/* One family's checker: runs every sub-case. A status other than MZ_OK means that it could not run.
 */
typedef mz_status (*mz_golden_family)(mz_golden *g);
mz_status mz_golden_llm(mz_golden *g);
mz_status mz_golden_time_moe(mz_golden *g);
mz_status mz_golden_time_moe_train(mz_golden *g); /* its cases that have "steps" */

#endif
