/* Making a Time-MoE or patch-MoE checkpoint of any size from a recipe instead of storing it
 * (time-moe/README.md, "shape50m"). */
#ifndef MZ_TESTS_GOLDEN_MADE_CHECKPOINT_H
#define MZ_TESTS_GOLDEN_MADE_CHECKPOINT_H

#include "core/context.h"
#include "core/tensor.h"

/* Writes config.json and model.safetensors to the existing folder `out_dir`, for the sizes of
 * recipe_dir/config.json, with routers from recipe_dir/routers.safetensors where that exists.
 * `dtype` F32 widens the same bf16 values. The state and digest that recipe_dir/golden.json names
 * are checked. Errors: IO, MISSING, FORMAT (another state or digest), NOMEM. */
mz_status mz_made_checkpoint_write(mz_context *ctx, const char *recipe_dir, const char *out_dir,
                                   mz_dtype dtype);

#endif
