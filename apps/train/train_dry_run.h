/* What a training would be: parameters, data, work, memory and time, from a few micro-batches. */
#ifndef MZ_APPS_TRAIN_TRAIN_DRY_RUN_H
#define MZ_APPS_TRAIN_TRAIN_DRY_RUN_H

#include <stdio.h>

#include "apps/train/recipe.h"
#include "apps/zoo/trainable.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Times micro-batches for a second or two and one step of the optimizer, which changes the
 * trainable but no file, and writes a report for people or (`json`) one object. Errors: those of
 * the trainable and the optimizer. */
mz_status mz_train_dry_run(mz_context *ctx, const mz_train_recipe *recipe, mz_trainable *trainable,
                           bool json, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
