/* What a low-rank adapter is, as the file adapter_config.json of the PEFT library says it. */
#ifndef MZ_ADAPTERS_LORA_CONFIG_H
#define MZ_ADAPTERS_LORA_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_LORA_MAX_RANK = 4096, MZ_LORA_MAX_TARGETS = 100000 };

/* Filled by a caller, who keeps the texts, or by mz_lora_config_read, released then with
 * mz_lora_config_free. */
typedef struct mz_lora_config {
    int64_t rank; /* 1 to MZ_LORA_MAX_RANK */
    double alpha; /* above 0, finite; the scale is alpha / rank */
    bool rslora;  /* or alpha / sqrt(rank) (Kalajdzievski 2023) */
    /* Which linears: a name of the checkpoint without ".weight"; the end of one behind a dot
     * ("q_proj"), as in PEFT; a glob (core/glob.h) over whole names; "all-linear", which is every
     * linear of the model. PEFT leaves a language model's output layer out of the last. */
    const char *const *targets; /* [n_targets], one at least */
    int64_t n_targets;
    const char *base; /* base_model_name_or_path; NULL: not said */
} mz_lora_config;

/* What the product is multiplied with. */
float mz_lora_config_scale(const mz_lora_config *config);

/* Whether any target means the linear of this name, and whether target i does. */
bool mz_lora_config_has(const mz_lora_config *config, const char *name);
bool mz_lora_config_target_is(const mz_lora_config *config, int64_t i, const char *name);

/* Errors: ARG for a value outside its range, an empty target, no target, too many, or a base that
 * is no UTF-8. */
mz_status mz_lora_config_check(mz_error *err, const mz_lora_config *config);

/* A copy that owns its texts. Errors: NOMEM. */
mz_status mz_lora_config_copy(mz_context *ctx, const mz_lora_config *config, mz_lora_config *out);
void mz_lora_config_free(mz_context *ctx, mz_lora_config *config);

/* Reads DIR/adapter_config.json. What has no say in the values is passed over (dropout, dates of
 * training, how fresh values were drawn); any other field that this program does not know must be
 * null, false or empty.
 * Errors: MISSING (no such folder or file; a field), FORMAT, LIMIT; UNSUPPORTED for another kind of
 * adapter than LORA, for target_modules that are a regular expression, and naming a field that
 * changes the mathematics in a way that is not implemented (use_dora, modules_to_save, lora_bias,
 * rank_pattern, ...); IO; NOMEM. */
mz_status mz_lora_config_read(mz_context *ctx, const char *dir, mz_lora_config *out);

/* Writes DIR/adapter_config.json as PEFT does; `targets` [n_targets] instead of the config's own
 * where not NULL, for PEFT knows no globs. Errors: IO, NOMEM. */
mz_status mz_lora_config_write(mz_context *ctx, const mz_lora_config *config,
                               const char *const *targets, int64_t n_targets, const char *dir);

#ifdef __cplusplus
}
#endif
#endif
