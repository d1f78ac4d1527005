#include "adapters/lora_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/glob.h"
#include "core/json.h"

static const char FILE_NAME[] = "adapter_config.json";
static const char ALL_LINEAR[] = "all-linear";
static const double MAX_ALPHA = 1e9;

float mz_lora_config_scale(const mz_lora_config *config) {
    const double rank = (double)config->rank;
    return (float)(config->alpha / (config->rslora ? sqrt(rank) : rank));
}

bool mz_lora_config_target_is(const mz_lora_config *config, int64_t i, const char *name) {
    const char *target = config->targets[i];
    const size_t n = strlen(name);
    const size_t n_target = strlen(target);
    if (strcmp(target, ALL_LINEAR) == 0) {
        return true;
    }
    if (strpbrk(target, "*?") != NULL) {
        return mz_glob_match(target, name);
    }
    return n >= n_target && strcmp(name + n - n_target, target) == 0 &&
           (n == n_target || name[n - n_target - 1] == '.');
}

bool mz_lora_config_has(const mz_lora_config *config, const char *name) {
    for (int64_t i = 0; i < config->n_targets; i++) {
        if (mz_lora_config_target_is(config, i, name)) {
            return true;
        }
    }
    return false;
}

/* Whether it can be written into a JSON file. */
static bool is_utf8(const char *text) {
    json_t *value = json_string(text);
    const bool is_text = value != NULL;
    json_decref(value);
    return is_text;
}

mz_status mz_lora_config_check(mz_error *err, const mz_lora_config *config) {
    if (config->rank < 1 || config->rank > MZ_LORA_MAX_RANK) {
        return mz_fail(err, MZ_ERR_ARG, "adapter: rank %lld, expected 1 to %d",
                       (long long)config->rank, (int)MZ_LORA_MAX_RANK);
    }
    if (!(config->alpha > 0 && config->alpha <= MAX_ALPHA)) {
        return mz_fail(err, MZ_ERR_ARG, "adapter: alpha %g, expected above 0 and at most %g",
                       config->alpha, MAX_ALPHA);
    }
    if (config->n_targets < 1 || config->n_targets > MZ_LORA_MAX_TARGETS) {
        return mz_fail(err, MZ_ERR_ARG, "adapter: %lld targets, expected 1 to %d",
                       (long long)config->n_targets, (int)MZ_LORA_MAX_TARGETS);
    }
    for (int64_t i = 0; i < config->n_targets; i++) {
        if (config->targets[i][0] == '\0') {
            return mz_fail(err, MZ_ERR_ARG, "adapter: target %lld is empty", (long long)i);
        }
    }
    if (config->base != NULL && !is_utf8(config->base)) {
        return mz_fail(err, MZ_ERR_ARG,
                       "adapter: the path of its base, %s, is no UTF-8, as its config needs it",
                       config->base);
    }
    return MZ_OK;
}

/* ---- texts ---- */

/* Fills `copy`, whose fields own what they hold so far. */
static mz_status copy_texts(mz_context *ctx, const mz_lora_config *config, mz_lora_config *copy) {
    void *targets = NULL;
    char *text = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)config->n_targets, sizeof(char *), "targets", &targets));
    char **list = targets;
    copy->targets = (const char *const *)list;
    for (int64_t i = 0; i < config->n_targets; i++) {
        MZ_TRY(mz_strdup(ctx, config->targets[i], &list[i]));
        copy->n_targets = i + 1;
    }
    if (config->base != NULL) {
        MZ_TRY(mz_strdup(ctx, config->base, &text));
        copy->base = text;
    }
    return MZ_OK;
}

mz_status mz_lora_config_copy(mz_context *ctx, const mz_lora_config *config, mz_lora_config *out) {
    mz_lora_config copy = *config;
    copy.targets = NULL;
    copy.n_targets = 0;
    copy.base = NULL;
    const mz_status status = copy_texts(ctx, config, &copy);
    if (status != MZ_OK) {
        mz_lora_config_free(ctx, &copy);
        return status;
    }
    *out = copy;
    return MZ_OK;
}

void mz_lora_config_free(mz_context *ctx, mz_lora_config *config) {
    for (int64_t i = 0; i < config->n_targets; i++) {
        mz_free(ctx, (char *)config->targets[i]);
    }
    mz_free(ctx, (void *)config->targets);
    mz_free(ctx, (char *)config->base);
    *config = (mz_lora_config){0};
}

/* ---- reading ---- */

/* Fields that have no say in what a trained adapter computes, and those that are read. */
static const char *const passed_over[] = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "loftq_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
};

static bool is_passed_over(const char *key) {
    for (size_t i = 0; i < sizeof passed_over / sizeof passed_over[0]; i++) {
        if (strcmp(key, passed_over[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_off(const json_t *value) {
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static mz_status refuse(const mz_json_object *o, const char *key, const char *why) {
    return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED, "%s: %s %s", o->name, key, why);
}

/* Ways to start from which the base comes out changed: the adapter fits the changed one only. */
static mz_status check_start(const mz_json_object *o) {
    static const char *const plain[] = {"gaussian", "orthogonal", "eva", "true", "false"};
    const json_t *value = json_object_get(o->object, "init_lora_weights");
    if (is_off(value) || json_is_true(value)) {
        return MZ_OK;
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), plain[i]) == 0) {
            return MZ_OK;
        }
    }
    return refuse(o, "init_lora_weights", "names a start that changes the base's own weights");
}

static mz_status check_fields(const mz_json_object *o) {
    const char *key = NULL;
    const char *peft_type = NULL;
    const char *bias = NULL;
    json_t *value = NULL;
    MZ_TRY(mz_json_string(o, "peft_type", &peft_type));
    MZ_TRY(mz_json_string_or(o, "bias", "none", &bias));
    if (strcmp(peft_type, "LORA") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: peft_type is \"%s\", only \"LORA\" is known", o->name, peft_type);
    }
    if (strcmp(bias, "none") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: bias is \"%s\", only \"none\" is known", o->name, bias);
    }
    if (!is_off(json_object_get(o->object, "rank_pattern")) ||
        !is_off(json_object_get(o->object, "alpha_pattern"))) {
        return refuse(o, "rank_pattern or alpha_pattern",
                      "is not empty: one rank and one alpha for all targets are known");
    }
    MZ_TRY(check_start(o));
    json_object_foreach((json_t *)o->object, key, value) {
        if (!is_passed_over(key) && !is_off(value)) {
            return refuse(o, key, "is set, which this program does not know how to compute");
        }
    }
    return MZ_OK;
}

/* The texts of `c` are those of the document. `list` has room for all entries. */
static mz_status read_targets(const mz_json_object *o, const json_t *value, const char **list,
                              mz_lora_config *c) {
    mz_error *err = &o->ctx->error;
    c->targets = list;
    if (json_is_string(value)) {
        if (strcmp(json_string_value(value), ALL_LINEAR) != 0) {
            return mz_fail(err, MZ_ERR_UNSUPPORTED,
                           "%s: target_modules is the regular expression \"%s\", only a list of "
                           "names or \"%s\" is known",
                           o->name, json_string_value(value), ALL_LINEAR);
        }
        list[c->n_targets++] = ALL_LINEAR;
        return MZ_OK;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *text = json_string_value(json_array_get(value, i));
        if (text == NULL || text[0] == '\0') {
            return mz_fail(err, MZ_ERR_FORMAT, "%s: target_modules[%zu] is no name", o->name, i);
        }
        list[c->n_targets++] = text;
    }
    return MZ_OK;
}

static mz_status read_config(const mz_json_object *o, mz_lora_config *out) {
    mz_lora_config c = {0};
    void *list = NULL;
    const json_t *targets = json_object_get(o->object, "target_modules");
    const size_t n = json_is_array(targets) ? json_array_size(targets) : 1;
    MZ_TRY(check_fields(o));
    MZ_TRY(mz_json_int(o, "r", 1, MZ_LORA_MAX_RANK, &c.rank));
    MZ_TRY(mz_json_number_or(o, "lora_alpha", 8, 1e-9, MAX_ALPHA, &c.alpha));
    MZ_TRY(mz_json_bool_or(o, "use_rslora", false, &c.rslora));
    MZ_TRY(mz_json_string_or(o, "base_model_name_or_path", NULL, &c.base));
    if (!json_is_string(targets) && !json_is_array(targets)) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: target_modules is missing, or neither a list nor a string", o->name);
    }
    if (n < 1 || n > MZ_LORA_MAX_TARGETS) {
        return mz_fail(&o->ctx->error, MZ_ERR_LIMIT,
                       "%s: target_modules has %zu entries, expected 1 to %d", o->name, n,
                       (int)MZ_LORA_MAX_TARGETS);
    }
    MZ_TRY(mz_calloc(o->ctx, n, sizeof(char *), "targets", &list));
    mz_status status = read_targets(o, targets, list, &c);
    if (status == MZ_OK) {
        status = mz_lora_config_copy(o->ctx, &c, out);
    }
    mz_free(o->ctx, list);
    return status;
}

mz_status mz_lora_config_read(mz_context *ctx, const char *dir, mz_lora_config *out) {
    char *path = NULL;
    json_t *document = NULL;
    if (!mz_dir_exists(dir)) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s: no such folder", dir);
    }
    MZ_TRY(mz_path_join(ctx, dir, FILE_NAME, &path));
    mz_status status = MZ_OK;
    if (!mz_file_exists(path)) {
        status = mz_fail(&ctx->error, MZ_ERR_MISSING,
                         "%s: no %s in it, so this is no adapter's folder", dir, FILE_NAME);
    } else {
        status = mz_json_load(ctx, path, &document);
    }
    if (status == MZ_OK) {
        status = read_config(&(mz_json_object){ctx, document, path}, out);
    }
    json_decref(document);
    mz_free(ctx, path);
    return status;
}

/* ---- writing ---- */

static json_t *describe(const mz_lora_config *c, const char *const *targets, int64_t n_targets) {
    json_t *list = json_array();
    const bool whole = c->alpha == floor(c->alpha);
    for (int64_t i = 0; i < n_targets; i++) {
        if (json_array_append_new(list, json_string(targets[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:s, s:I, s:o, s:o, s:b, s:s, s:n, s:s?, s:b, s:b, s:{}, s:{}, s:f, s:b}",
                     "peft_type", "LORA", "r", (json_int_t)c->rank, "lora_alpha",
                     whole ? json_integer((json_int_t)c->alpha) : json_real(c->alpha),
                     "target_modules", list, "use_rslora", c->rslora ? 1 : 0, "bias", "none",
                     "task_type", "base_model_name_or_path", c->base, "inference_mode", 1,
                     "fan_in_fan_out", 0, "rank_pattern", "alpha_pattern", "lora_dropout", 0.0,
                     "init_lora_weights", 1);
}

mz_status mz_lora_config_write(mz_context *ctx, const mz_lora_config *config,
                               const char *const *targets, int64_t n_targets, const char *dir) {
    char *path = NULL;
    mz_output out = {0};
    json_t *document = targets != NULL ? describe(config, targets, n_targets)
                                       : describe(config, config->targets, config->n_targets);
    if (document == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_NOMEM, "%s: no memory for %s, or a name is no UTF-8",
                       dir, FILE_NAME);
    }
    mz_status status = mz_path_join(ctx, dir, FILE_NAME, &path);
    if (status == MZ_OK) {
        status = mz_output_open(ctx, path, &out);
    }
    if (status == MZ_OK) {
        (void)json_dumpf(document, out.stream, JSON_INDENT(2) | JSON_SORT_KEYS); /* see commit */
        (void)fputc('\n', out.stream);
        status = mz_output_commit(ctx, &out);
    }
    json_decref(document);
    mz_free(ctx, path);
    return status;
}
