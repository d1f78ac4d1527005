#include "apps/zoo/zoo.h"

#include <stdio.h>
#include <string.h>

#include "adapters/lora.h"
#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/gguf_map.h"
#include "apps/zoo/patch_moe.h"
#include "apps/zoo/text_families.h"
#include "apps/zoo/time_moe.h"
#include "core/file.h"
#include "core/weights.h"

enum { MAX_CONFIG_BYTES = 64 << 20 };

const mz_family *mz_zoo_families(void) {
    static const mz_family families[] = {
        {"time_moe", "time-moe", "forecast", mz_time_moe_describe, mz_time_moe_load, NULL},
        {"patch_moe", "patch-moe", "forecast", mz_patch_moe_describe, mz_patch_moe_load, NULL},
        {"deepseek_v2", "deepseek-v2", "ask", NULL, NULL, mz_deepseek_v2_config},
        {"gemma3_text", "gemma3", "ask", NULL, NULL, mz_gemma3_config},
        {"llama", "llama", "ask", NULL, NULL, mz_llama_config},
        {"mistral", "mistral", "ask", NULL, NULL, mz_mistral_config},
        {"mixtral", "mixtral", "ask", NULL, NULL, mz_mixtral_config},
        {"olmoe", "olmoe", "ask", NULL, NULL, mz_olmoe_config},
        {"phi", "phi", "ask", NULL, NULL, mz_phi_config},
        {"qwen2", "qwen2", "ask", NULL, NULL, mz_qwen2_config},
        {"qwen2_moe", "qwen2-moe", "ask", NULL, NULL, mz_qwen2_moe_config},
        {"qwen3", "qwen3", "ask", NULL, NULL, mz_qwen3_config},
        {"qwen3_moe", "qwen3-moe", "ask", NULL, NULL, mz_qwen3_moe_config},
        {"stablelm", "stablelm", "ask", NULL, NULL, mz_stablelm_config},
        {NULL, NULL, NULL, NULL, NULL, NULL},
    };
    return families;
}

mz_status mz_zoo_find_family(mz_context *ctx, const char *path, const json_t *config,
                             const mz_family **out) {
    const mz_json_object o = {ctx, config, path};
    const char *model_type = NULL;
    char known[256];
    size_t used = 0;
    MZ_TRY(mz_json_string(&o, "model_type", &model_type));
    for (const mz_family *f = mz_zoo_families(); f->model_type != NULL; f++) {
        if (strcmp(f->model_type, model_type) == 0) {
            *out = f;
            return MZ_OK;
        }
        const int n = snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "",
                               f->model_type);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: model_type is \"%.64s\", known are: %s",
                   path, model_type, known);
}

bool mz_zoo_is_gguf(const char *path) {
    static const char ending[] = ".gguf";
    const size_t n = strlen(path);
    return n >= sizeof ending - 1 && strcmp(path + n - (sizeof ending - 1), ending) == 0 &&
           !mz_dir_exists(path);
}

mz_status mz_zoo_config_name(mz_context *ctx, const char *path, char **out) {
    return mz_zoo_is_gguf(path) ? mz_strdup(ctx, path, out)
                                : mz_path_join(ctx, path, "config.json", out);
}

static mz_status gguf_config(mz_context *ctx, const char *path, json_t **config) {
    mz_gguf *gguf = NULL;
    MZ_TRY(mz_gguf_open(ctx, path, &gguf));
    const mz_status status = mz_gguf_config(ctx, gguf, config);
    mz_gguf_close(ctx, gguf);
    return status;
}

static mz_status folder_config(mz_context *ctx, const char *dir, json_t **config) {
    char *path = NULL;
    if (!mz_dir_exists(dir)) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s: no such folder", dir);
    }
    MZ_TRY(mz_zoo_config_name(ctx, dir, &path));
    const mz_status status =
        mz_file_exists(path)
            ? mz_json_load(ctx, path, config)
            : mz_fail(&ctx->error, MZ_ERR_MISSING,
                      "%s: no config.json in it, so this is no checkpoint folder", dir);
    mz_free(ctx, path);
    return status;
}

mz_status mz_zoo_identify(mz_context *ctx, const char *path, const mz_family **family,
                          json_t **config) {
    json_t *object = NULL;
    char *name = NULL;
    mz_status status =
        mz_zoo_is_gguf(path) ? gguf_config(ctx, path, &object) : folder_config(ctx, path, &object);
    if (status == MZ_OK) {
        status = mz_zoo_config_name(ctx, path, &name);
    }
    if (status == MZ_OK) {
        status = mz_zoo_find_family(ctx, name, object, family);
    }
    mz_free(ctx, name);
    if (status != MZ_OK) {
        json_decref(object);
        return status;
    }
    *config = object;
    return MZ_OK;
}

/* Sizes and types of the files. */
static mz_status describe_weights(mz_context *ctx, const char *dir, mz_model_info *info) {
    mz_weights *weights = NULL;
    MZ_TRY(mz_weights_open(ctx, dir, &weights));
    info->n_tensors = mz_weights_count(weights);
    info->n_files = mz_weights_n_files(weights);
    for (int64_t i = 0; i < info->n_files; i++) {
        size_t n_bytes = 0;
        (void)mz_weights_file(weights, i, &n_bytes);
        info->n_bytes += (int64_t)n_bytes;
    }
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < info->n_tensors && status == MZ_OK; i++) {
        const char *name = NULL;
        mz_tensor t = {0};
        status = mz_weights_at(weights, i, &name, &t);
        const char *dtype = mz_dtype_get(t.dtype)->name;
        if (i > 0 && strcmp(info->dtype, dtype) != 0) {
            dtype = "mixed";
        }
        (void)snprintf(info->dtype, sizeof info->dtype, "%s", dtype);
    }
    mz_weights_close(ctx, weights);
    return status;
}

static mz_status describe_text(const mz_family *family, const mz_json_object *config,
                               mz_model_info *info) {
    mz_text_config c;
    MZ_TRY(family->read_text(config, &c));
    mz_text_count(&c, &info->n_parameters, &info->n_active);
    info->n_layers = (int32_t)c.n_layers;
    info->n_experts = c.router.n_experts;
    info->top_k = c.router.top_k;
    info->n_shared_experts = c.shared_width > 0 ? 1 : 0;
    info->d_model = c.d_model;
    info->max_positions = c.max_positions;
    info->patch_len = 1;
    return MZ_OK;
}

static mz_status describe_config(const mz_family *family, const mz_json_object *config,
                                 mz_model_info *info) {
    return family->read_text != NULL ? describe_text(family, config, info)
                                     : family->describe(config->ctx, config, info);
}

mz_status mz_zoo_describe(mz_context *ctx, const char *dir, mz_model_info *info) {
    const mz_family *family = NULL;
    json_t *config = NULL;
    char *name = NULL;
    MZ_TRY(mz_zoo_identify(ctx, dir, &family, &config));
    mz_model_info result = {0};
    (void)snprintf(result.family, sizeof result.family, "%s", family->name);
    (void)snprintf(result.job, sizeof result.job, "%s", family->job);
    mz_status status = mz_zoo_config_name(ctx, dir, &name);
    if (status == MZ_OK) {
        status = describe_config(family, &(mz_json_object){ctx, config, name}, &result);
    }
    if (status == MZ_OK) {
        status = describe_weights(ctx, dir, &result);
    }
    mz_free(ctx, name);
    json_decref(config);
    if (status == MZ_OK) {
        *info = result;
    }
    return status;
}

/* By the family's loader, with the adapter; `dir` NULL: fresh. */
static mz_status load_forecaster(const mz_family *family, const char *dir,
                                 const mz_json_object *config, const mz_load_options *options,
                                 mz_forecaster **out) {
    if (family->load_forecaster == NULL) {
        return mz_fail(&config->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: a model for %s, which cannot forecast",
                       dir != NULL ? dir : config->name, family->job);
    }
    mz_forecaster *f = NULL;
    MZ_TRY(family->load_forecaster(config->ctx, dir, config, options, &f));
    const mz_status status =
        options->adapter != NULL ? mz_forecaster_load_adapter(f, options->adapter) : MZ_OK;
    if (status != MZ_OK) {
        mz_forecaster_close(f);
        return status;
    }
    *out = f;
    return MZ_OK;
}

mz_status mz_zoo_create_forecaster(mz_context *ctx, const json_t *config, const char *name,
                                   const mz_load_options *options, mz_forecaster **out) {
    const mz_family *family = NULL;
    MZ_TRY(mz_zoo_find_family(ctx, name, config, &family));
    return load_forecaster(family, NULL, &(mz_json_object){ctx, config, name}, options, out);
}

mz_status mz_zoo_load_forecaster(mz_context *ctx, const char *dir, const mz_load_options *options,
                                 mz_forecaster **out) {
    const mz_family *family = NULL;
    json_t *config = NULL;
    char *name = NULL;
    MZ_TRY(mz_zoo_identify(ctx, dir, &family, &config));
    mz_status status = mz_zoo_config_name(ctx, dir, &name);
    if (status == MZ_OK) {
        status = load_forecaster(family, dir, &(mz_json_object){ctx, config, name}, options, out);
    }
    mz_free(ctx, name);
    json_decref(config);
    return status;
}

/* ---- merging ---- */

static mz_status copy_text(mz_context *ctx, const char *from, const char *to) {
    char *text = NULL;
    size_t n = 0;
    mz_output out;
    MZ_TRY(mz_file_read(ctx, from, MAX_CONFIG_BYTES, &text, &n));
    mz_status status = mz_output_open(ctx, to, &out);
    if (status == MZ_OK) {
        (void)fwrite(text, 1, n, out.stream); /* commit checks */
        status = mz_output_commit(ctx, &out);
    }
    mz_free(ctx, text);
    return status;
}

static mz_status merge_weights(mz_context *ctx, const char *base, const char *adapter,
                               const char *path) {
    const mz_load_options options = {0};
    mz_forecaster *f = NULL;
    mz_lora *lora = NULL;
    MZ_TRY(mz_zoo_load_forecaster(ctx, base, &options, &f));
    mz_status status = mz_lora_load(ctx, &mz_forecaster_parts_of(f)->loader, adapter, NULL, &lora);
    if (status == MZ_OK) {
        status = mz_lora_merge(lora, path);
    }
    mz_lora_destroy(lora);
    mz_forecaster_close(f);
    return status;
}

/* No model is replaced, and no link followed to one. */
static mz_status check_free(mz_context *ctx, const char *dir) {
    static const char *const names[] = {"config.json", "model.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool there = false;
        MZ_TRY(mz_dir_has_file(ctx, dir, names[i], &there));
        if (there) {
            return mz_fail(&ctx->error, MZ_ERR_ARG,
                           "%s: holds %s already; a merged checkpoint needs another folder", dir,
                           names[i]);
        }
    }
    return MZ_OK;
}

static mz_status merge_files(mz_context *ctx, const char *base, const char *adapter,
                             const char *dir, const char *const paths[3]) {
    if (mz_file_same(paths[0], paths[1])) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "%s: the merged checkpoint would replace its base",
                       base);
    }
    MZ_TRY(check_free(ctx, dir));
    MZ_TRY(merge_weights(ctx, base, adapter, paths[2]));
    const mz_status status = copy_text(ctx, paths[0], paths[1]);
    if (status != MZ_OK) { /* weights without a config are no checkpoint */
        (void)remove(paths[2]);
    }
    return status;
}

mz_status mz_zoo_merge(mz_context *ctx, const char *base, const char *adapter, const char *dir) {
    char *paths[3] = {NULL};
    mz_status status = mz_path_join(ctx, base, "config.json", &paths[0]);
    if (status == MZ_OK) {
        status = mz_path_join(ctx, dir, "config.json", &paths[1]);
    }
    if (status == MZ_OK) {
        status = mz_path_join(ctx, dir, "model.safetensors", &paths[2]);
    }
    if (status == MZ_OK) {
        status = merge_files(ctx, base, adapter, dir, (const char *const *)paths);
    }
    for (int i = 0; i < 3; i++) {
        mz_free(ctx, paths[i]);
    }
    return status;
}
