/* From a recipe to a model with its data. */
#ifndef MZ_APPS_TRAIN_TRAIN_JOB_H
#define MZ_APPS_TRAIN_TRAIN_JOB_H

#include "apps/train/recipe.h"
#include "apps/zoo/trainable.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the recipe's job makes of its model, data, loss and batch. `recipe` must outlive it.
 * Released with (*out)->destroy((*out)->self). Errors: those of the job. */
mz_status mz_train_job_create(mz_context *ctx, const mz_train_recipe *recipe, mz_trainable **out);

#ifdef __cplusplus
}
#endif
#endif
