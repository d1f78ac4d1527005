/* The patch-MoE family: model_type "patch_moe" (docs/models/patch-moe.md). */
#ifndef MZ_APPS_ZOO_PATCH_MOE_H
#define MZ_APPS_ZOO_PATCH_MOE_H

#include "apps/zoo/zoo.h"

/* The functions of its row in the registry; contracts in apps/zoo/zoo.h. */
mz_status mz_patch_moe_describe(mz_context *ctx, const mz_json_object *config, mz_model_info *info);
mz_status mz_patch_moe_load(mz_context *ctx, const char *dir, const mz_json_object *config,
                            const mz_load_options *options, mz_forecaster **out);

#endif
