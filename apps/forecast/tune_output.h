/* The folder that a tuning writes to: who may, and what lies there. */
#ifndef MZ_APPS_FORECAST_TUNE_OUTPUT_H
#define MZ_APPS_FORECAST_TUNE_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

#include "core/dir_lock.h"
#include "core/file.h"

/* Begun by mz_tune_output_open, ended by mz_tune_output_close. All zero: not open. */
typedef struct mz_tune_output {
    mz_context *ctx;
    const char *dir; /* borrowed */
    mz_lock lock;
} mz_tune_output;

/* Whether a tuning of the model in folder `model` may write to `dir`, without changing anything:
 * one that does not exist, is empty, or holds an earlier tuning (or anything, with `force`).
 * Errors: ARG, also for the model's own folder, force or not; IO. */
mz_status mz_tune_output_check(mz_context *ctx, const char *dir, const char *model, bool force);

/* The same, then makes the folder and takes it for this process until closed. Errors: those, and of
 * mz_dir_make and mz_dir_lock. */
mz_status mz_tune_output_open(mz_context *ctx, const char *dir, const char *model, bool force,
                              mz_tune_output *out);

/* Removes the two files of the adapter, or else of the model, that this tuning has written. Errors:
 * IO, NOMEM. */
mz_status mz_tune_output_remove(mz_tune_output *output, bool adapter);

/* Removes what an earlier tuning has written, which its report.json tells, and the report: what
 * else lies in the folder stays. Errors: IO, NOMEM. */
mz_status mz_tune_output_clear(mz_tune_output *output);

/* Accepts one that is not open. */
void mz_tune_output_close(mz_tune_output *output);

#endif
