#include "apps/models_adapter.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "adapters/lora.h"
#include "apps/zoo/zoo.h"
#include "core/file.h"

/* ---- show ---- */

/* Sizes of an adapter's tensors. */
typedef struct sizes {
    int64_t n_tensors, n_parameters;
    size_t n_bytes; /* of the file */
    const char *file, *dtype;
} sizes;

mz_status mz_models_is_adapter(mz_context *ctx, const char *dir, bool *out) {
    bool has_model = false;
    bool has_adapter = false;
    MZ_TRY(mz_dir_has_file(ctx, dir, "config.json", &has_model));
    MZ_TRY(mz_dir_has_file(ctx, dir, "adapter_config.json", &has_adapter));
    *out = has_adapter && !has_model;
    return MZ_OK;
}

static mz_status add_sizes(const mz_weights *weights, sizes *s) {
    s->n_tensors = mz_weights_count(weights);
    for (int64_t i = 0; i < s->n_tensors; i++) {
        const char *name = NULL;
        mz_tensor t;
        MZ_TRY(mz_weights_at(weights, i, &name, &t));
        const char *dtype = mz_dtype_get(t.dtype)->name;
        s->n_parameters += mz_tensor_n_elements(&t);
        s->dtype = s->dtype != NULL && strcmp(s->dtype, dtype) != 0 ? "mixed" : dtype;
    }
    s->file = mz_cli_base_name(mz_weights_file(weights, 0, &s->n_bytes));
    return MZ_OK;
}

static void print_targets(const mz_lora_config *c) {
    for (int64_t i = 0; i < c->n_targets; i++) {
        (void)printf("%-18s ", i > 0 ? "" : "targets");
        mz_cli_write_plain(stdout, c->targets[i]);
        (void)printf("\n");
    }
}

static void print_adapter(const char *name, const char *dir, const mz_lora_config *c,
                          const sizes *s) {
    char text[32];
    (void)printf("%-18s %s\n%-18s %s\n%-18s LoRA\n", "name", name, "folder", dir, "adapter");
    (void)printf("%-18s %" PRId64 "\n%-18s %g\n", "rank", c->rank, "alpha", c->alpha);
    (void)printf("%-18s %g (alpha over %s)\n", "scale", (double)mz_lora_config_scale(c),
                 c->rslora ? "the root of the rank" : "rank");
    if (c->base != NULL) {
        (void)printf("%-18s ", "base");
        mz_cli_write_plain(stdout, c->base);
        (void)printf("\n");
    }
    print_targets(c);
    (void)printf("%-18s %" PRId64 "\n", "linears", s->n_tensors / 2);
    (void)printf("%-18s %" PRId64 " (%s)\n", "parameters", s->n_parameters,
                 mz_cli_format_count(s->n_parameters, text));
    (void)printf("%-18s %s, %" PRId64 " tensors\n", "weights", s->dtype, s->n_tensors);
    (void)printf("%-18s %s, %s\n", "files", s->file,
                 mz_cli_format_bytes((int64_t)s->n_bytes, text));
}

static void json_text(const char *key, const char *text) {
    (void)printf("\"%s\":", key);
    if (text != NULL) {
        mz_cli_write_json_string(stdout, text);
    } else {
        (void)printf("null");
    }
    (void)printf(",");
}

static void print_adapter_json(const char *name, const char *dir, const mz_lora_config *c,
                               const sizes *s) {
    char alpha[32];
    char scale[32];
    mz_cli_format_double(c->alpha, alpha);
    mz_cli_format_double((double)mz_lora_config_scale(c), scale);
    (void)printf("{");
    json_text("name", name);
    json_text("path", dir);
    json_text("adapter", "lora");
    json_text("base", c->base);
    (void)printf("\"rank\":%" PRId64 ",\"alpha\":%s,\"rslora\":%s,\"scale\":%s,\"targets\":[",
                 c->rank, alpha, c->rslora ? "true" : "false", scale);
    for (int64_t i = 0; i < c->n_targets; i++) {
        (void)printf("%s", i > 0 ? "," : "");
        mz_cli_write_json_string(stdout, c->targets[i]);
    }
    (void)printf("],\"linears\":%" PRId64 ",\"parameters\":%" PRId64 ",\"tensors\":%" PRId64 ",",
                 s->n_tensors / 2, s->n_parameters, s->n_tensors);
    json_text("dtype", s->dtype);
    (void)printf("\"files\":[{");
    json_text("name", s->file);
    (void)printf("\"bytes\":%zu}]}\n", s->n_bytes);
}

mz_status mz_models_show_adapter(mz_context *ctx, const char *name, const char *dir, bool json) {
    mz_lora_config config = {0};
    mz_weights *weights = NULL;
    sizes s = {0};
    MZ_TRY(mz_lora_config_read(ctx, dir, &config));
    mz_status status = mz_lora_open_tensors(ctx, dir, &weights);
    if (status == MZ_OK) {
        status = add_sizes(weights, &s);
    }
    if (status == MZ_OK && s.n_tensors == 0) {
        status = mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: %s holds no tensors", dir, s.file);
    }
    if (status == MZ_OK) {
        (json ? print_adapter_json : print_adapter)(name, dir, &config, &s);
    }
    mz_weights_close(ctx, weights);
    mz_lora_config_free(ctx, &config);
    return status;
}

/* ---- merge ---- */

/* An adapter beside a merged model would look like a part of it. */
static mz_status check_no_adapter(mz_context *ctx, const char *dir) {
    bool there = false;
    MZ_TRY(mz_dir_has_file(ctx, dir, "adapter_config.json", &there));
    return there ? mz_fail(&ctx->error, MZ_ERR_ARG,
                           "%s: holds adapter_config.json already; a merged checkpoint needs "
                           "another folder",
                           dir)
                 : MZ_OK;
}

static mz_status merge(mz_context *ctx, const char *model, const char *models_dir,
                       const char *adapter, const char *dir) {
    char *base = NULL;
    const bool is_new = !mz_dir_exists(dir);
    MZ_TRY(check_no_adapter(ctx, dir));
    MZ_TRY(mz_cli_find_model(ctx, model, models_dir, NULL, &base));
    mz_status status = mz_dir_make(ctx, dir);
    if (status == MZ_OK) {
        status = mz_zoo_merge(ctx, base, adapter, dir);
    }
    if (status != MZ_OK && is_new) {
        (void)rmdir(dir);
    }
    mz_free(ctx, base);
    return status;
}

static int run_merge(int argc, char **argv) {
    const mz_command *command = &mz_command_models_merge;
    const char *models_dir = NULL;
    const char *output = NULL;
    const char *positionals[2] = {NULL, NULL};
    const mz_option options[] = {
        {"output", 'o', MZ_OPTION_STRING, "DIR",
         "write the checkpoint to this folder, which is created (required)", 0, 0, NULL, &output},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &models_dir},
    };
    mz_arguments arguments = {.options = options,
                              .n_options = sizeof options / sizeof options[0],
                              .positionals = positionals,
                              .max_positionals = 2};
    mz_context ctx;
    int exit_code = MZ_EXIT_OK;
    if (!mz_cli_parse(command, &arguments, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (arguments.n_positionals < 2 || output == NULL) {
        return mz_cli_usage_error(
            command, "%s is missing; usage: %s",
            arguments.n_positionals < 2 ? "a model or an adapter" : "--output DIR", command->usage);
    }
    if (!mz_cli_context(command, &arguments.common, &ctx, &exit_code)) {
        return exit_code;
    }
    if (merge(&ctx, positionals[0], models_dir, positionals[1], output) != MZ_OK) {
        exit_code = mz_cli_fail(command, &ctx.error);
    }
    mz_context_close(&ctx);
    return exit_code;
}

const mz_command mz_command_models_merge = {
    .name = "models merge",
    .summary = "work an adapter into its model: a checkpoint that needs no adapter",
    .usage = "moezoo models merge DIR|NAME ADAPTER --output DIR",
    .examples = "  moezoo models merge " MZ_DEFAULT_FORECASTER " ./my-adapter -o ./my-model\n"
                "  moezoo forecast sales.csv -n 24 -m ./my-model\n",
    .run = run_merge,
};
