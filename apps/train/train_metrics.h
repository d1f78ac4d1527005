/* metrics.jsonl of a training: a line of JSON for each step and each evaluation. docs/train.md
 * shows one. */
#ifndef MZ_APPS_TRAIN_TRAIN_METRICS_H
#define MZ_APPS_TRAIN_TRAIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "apps/zoo/trainable.h"
#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Created by mz_train_metrics_open; one thread. All zero: not open. */
typedef struct mz_train_metrics {
    mz_context *ctx;
    char *path;
    FILE *stream; /* at its end */
} mz_train_metrics;

/* One step; those of one training are numbered from 1. */
typedef struct mz_train_step {
    int64_t step;
    const mz_train_report *report; /* means of its micro-batches, sums of their counts */
    double lr, grad_norm, seconds;
    bool with_experts;
} mz_train_step;

/* Opens `path` to go on behind step `n_steps`: lines of later steps and whatever is no whole line
 * of JSON, as a killed training leaves them, are cut off with all that follows; n_steps 0 empties
 * the file. Errors: IO, NOMEM. */
mz_status mz_train_metrics_open(mz_context *ctx, const char *path, int64_t n_steps,
                                mz_train_metrics *out);

/* Append a line and send it on its way. Errors: IO. */
mz_status mz_train_metrics_write_step(mz_train_metrics *m, const mz_train_step *step);
mz_status mz_train_metrics_write_evaluation(mz_train_metrics *m, int64_t step,
                                            const mz_train_report *report);

/* Makes the lines durable, so that a checkpoint never knows more steps than the file. Errors: IO.
 */
mz_status mz_train_metrics_sync(mz_train_metrics *m);

/* Accepts one that is not open. */
void mz_train_metrics_close(mz_train_metrics *m);

#ifdef __cplusplus
}
#endif
#endif
