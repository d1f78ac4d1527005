/* The zoo: which families of checkpoints there are, and loading any of them.
 *
 * A family file (apps/zoo/FAMILY.c) maps a published config and its tensor names onto the blocks of
 * the lower rooms and holds no maths. */
#ifndef MZ_APPS_ZOO_ZOO_H
#define MZ_APPS_ZOO_ZOO_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/zoo/forecaster.h"
#include "apps/zoo/text_config.h"
#include "core/backend.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a checkpoint is, without loading it whole. */
typedef struct mz_model_info {
    char family[32]; /* "time-moe" */
    char job[32];    /* "forecast" */
    char dtype[32];  /* stored type of the weights, "mixed" where they differ */
    int64_t n_parameters;
    int64_t n_active;                                     /* parameters used per token */
    int32_t n_layers, n_experts, top_k, n_shared_experts; /* experts 0 for a dense model */
    int64_t d_model;
    int64_t max_positions; /* points seen in training, 0 if unknown */
    int64_t patch_len;     /* points of a token; 1: every point is one */
    int32_t n_levels;      /* quantile levels that it answers; 0: points */
    double levels[MZ_MAX_MODEL_LEVELS];
    int64_t n_tensors;
    int64_t n_files;
    int64_t n_bytes; /* of the weight files */
} mz_model_info;

/* One row of the registry: a forecaster has `describe` and `load_forecaster`, a language model
 * `read_text` alone. */
typedef struct mz_family {
    const char *model_type; /* value of config.json's model_type */
    const char *name;
    const char *job;
    mz_status (*describe)(mz_context *ctx, const mz_json_object *config, mz_model_info *info);
    mz_status (*load_forecaster)(mz_context *ctx, const char *dir, const mz_json_object *config,
                                 const mz_load_options *options, mz_forecaster **out);
    mz_status (*read_text)(const mz_json_object *config, mz_text_config *out);
} mz_family;

/* All families, ending with a row whose model_type is NULL. */
const mz_family *mz_zoo_families(void);

/* Opens DIR/config.json, or makes one from the metadata of a GGUF file (apps/zoo/gguf_map.h), and
 * finds the family. *config is released with json_decref.
 * Errors: MISSING (no config.json; no model_type), UNSUPPORTED (unknown model_type, naming the
 * known ones), FORMAT, IO; those of mz_gguf_open and mz_gguf_config. */
mz_status mz_zoo_identify(mz_context *ctx, const char *path, const mz_family **family,
                          json_t **config);

/* Whether `path` is called like a GGUF file. */
bool mz_zoo_is_gguf(const char *path);

/* The name by which messages call the config of `path`, released with mz_free: that of a GGUF file
 * is the file. Errors: NOMEM. */
mz_status mz_zoo_config_name(mz_context *ctx, const char *path, char **out);

/* The family that `config`, called `name` in messages, asks for. Errors: MISSING, UNSUPPORTED as
 * for mz_zoo_identify. */
mz_status mz_zoo_find_family(mz_context *ctx, const char *name, const json_t *config,
                             const mz_family **out);

/* Errors: those of mz_zoo_identify and of opening the weights. */
mz_status mz_zoo_describe(mz_context *ctx, const char *dir, mz_model_info *info);

/* Loads the forecaster in DIR. Errors: those of mz_zoo_identify; UNSUPPORTED for a model of another
 * job; everything a checkpoint can be wrong in. */
mz_status mz_zoo_load_forecaster(mz_context *ctx, const char *dir, const mz_load_options *options,
                                 mz_forecaster **out);

/* A fresh forecaster of the family that `config` (a config.json in memory, called `name` in
 * messages) asks for; options->weights.init and .parameters say how. Errors: those of
 * mz_zoo_load_forecaster but for files. */
mz_status mz_zoo_create_forecaster(mz_context *ctx, const json_t *config, const char *name,
                                   const mz_load_options *options, mz_forecaster **out);

/* Writes the checkpoint in folder `base` with the adapter in folder `adapter` worked into its
 * weights (mz_lora_merge) to the existing folder `dir`: config.json and model.safetensors. Errors:
 * ARG where that is the base's folder or holds a model or an adapter; those of loading either and
 * of writing. Then nothing is left behind. */
mz_status mz_zoo_merge(mz_context *ctx, const char *base, const char *adapter, const char *dir);

#ifdef __cplusplus
}
#endif
#endif
