#include "apps/train/train_job.h"

mz_status mz_train_job_create(mz_context *ctx, const mz_train_recipe *recipe, mz_trainable **out) {
    (void)out;
    return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: job: this build cannot train a forecaster",
                   recipe->path);
}
