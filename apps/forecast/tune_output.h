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

/* Takes out model and adapter of an earlier tuning, so that nothing else than what its report.json
 * says lies in the folder. Errors: IO, NOMEM. */
mz_status mz_tune_output_clear(mz_tune_output *output);

/* Accepts one that is not open. */
void mz_tune_output_close(mz_tune_output *output);

#endif
