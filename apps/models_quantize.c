#include <stdio.h>
#include <string.h>

#include "apps/models_convert.h"
#include "apps/zoo/language_model.h"
#include "core/glob.h"

static const mz_command *const command = &mz_command_models_quantize;

/* In the order of the choices of --type. */
#define TYPES "q8_0|q4_0|q4_1|q5_0|q5_1|q4_k|q5_k|q6_k|f16|bf16|f32"
static const mz_dtype types[] = {MZ_DTYPE_Q8_0, MZ_DTYPE_Q4_0, MZ_DTYPE_Q4_1, MZ_DTYPE_Q5_0,
                                 MZ_DTYPE_Q5_1, MZ_DTYPE_Q4_K, MZ_DTYPE_Q5_K, MZ_DTYPE_Q6_K,
                                 MZ_DTYPE_F16,  MZ_DTYPE_BF16, MZ_DTYPE_F32};

/* What the line asks for; types are indices of the choices, -1 where none is given. */
typedef struct request {
    int type, experts, shared, embeddings;
    mz_option_list keep;
    const char *models_dir;
    bool json, quiet;
} request;

/* Rows that K blocks do not divide take the legacy type of about as many bits. */
static mz_dtype fitting(mz_dtype type, int64_t n_cols) {
    if (n_cols % mz_dtype_get(type)->block_len == 0) {
        return type;
    }
    const mz_dtype legacy = type == MZ_DTYPE_Q4_K   ? MZ_DTYPE_Q5_0
                            : type == MZ_DTYPE_Q5_K ? MZ_DTYPE_Q5_1
                            : type == MZ_DTYPE_Q6_K ? MZ_DTYPE_Q8_0
                                                    : MZ_DTYPE_F16;
    return n_cols % mz_dtype_get(legacy)->block_len == 0 ? legacy : MZ_DTYPE_F16;
}

static bool is_kept(const request *r, const char *name) {
    for (int i = 0; i < r->keep.n; i++) {
        if (mz_glob_match(r->keep.items[i], name)) {
            return true;
        }
    }
    return false;
}

static mz_dtype type_of(const request *r, const mz_gguf_item *item) {
    int choice = r->type;
    switch (mz_gguf_tensor_role(item->name, item->n_dims)) {
    case MZ_ROLE_SMALL:
        return MZ_DTYPE_F32;
    case MZ_ROLE_EMBEDDING:
        choice = r->embeddings >= 0 ? r->embeddings : choice;
        break;
    case MZ_ROLE_EXPERT:
        choice = r->experts >= 0 ? r->experts : choice;
        break;
    case MZ_ROLE_SHARED:
        choice = r->shared >= 0 ? r->shared : choice;
        break;
    case MZ_ROLE_OTHER:
        break;
    }
    return fitting(types[choice], item->shape[item->n_dims - 1]);
}

/* Chooses the types; a pattern that no name matches is a mistake. */
static mz_status choose(const request *r, mz_gguf_export *e) {
    for (int k = 0; k < r->keep.n; k++) {
        bool found = false;
        for (int64_t i = 0; i < e->n_items && !found; i++) {
            found = mz_glob_match(r->keep.items[k], e->items[i].name);
        }
        if (!found) {
            return mz_fail(&e->ctx->error, MZ_ERR_MISSING, "--keep %s matches no tensor",
                           r->keep.items[k]);
        }
    }
    for (int64_t i = 0; i < e->n_items; i++) {
        if (!is_kept(r, e->items[i].name)) {
            e->items[i].dtype = type_of(r, &e->items[i]);
        }
    }
    return mz_gguf_export_finish(e, types[r->type]);
}

/* Errors of quantising twice add up, which the table cannot show. */
static void warn_of_blocks(const mz_gguf_export *e, bool quiet) {
    int64_t n = 0;
    for (int64_t i = 0; i < e->n_items; i++) {
        n += mz_dtype_get(e->stored[i])->block_len > 1 && e->items[i].dtype != e->stored[i];
    }
    if (n > 0 && !quiet) {
        (void)fprintf(stderr,
                      "moezoo %s: %lld tensors of the source are quantised already; their errors "
                      "are not in the table\n",
                      command->name, (long long)n);
    }
}

static mz_status quantize(mz_context *ctx, const request *r, const char *model,
                          const char *output) {
    char *source = NULL;
    mz_gguf_export e = {0};
    MZ_TRY(mz_cli_find_model(ctx, model, r->models_dir, NULL, &source));
    mz_status status = mz_gguf_export_open(ctx, source, &e);
    if (status == MZ_OK) {
        status = mz_zoo_check_language_model(ctx, source);
    }
    if (status == MZ_OK) {
        status = choose(r, &e);
    }
    if (status == MZ_OK) {
        warn_of_blocks(&e, r->quiet);
        status = mz_convert_write(&e, output, r->quiet);
    }
    if (status == MZ_OK) {
        mz_convert_report_print(&(mz_convert_report){source, output, &e, e.tokenizer_note},
                                r->json);
    }
    mz_gguf_export_close(&e);
    mz_free(ctx, source);
    return status;
}

static int check(const mz_arguments *arguments, const request *r) {
    const char *output = arguments->positionals[1];
    if (arguments->n_positionals < 2 || r->type < 0) {
        return mz_cli_usage_error(command, "%s is missing; usage: %s",
                                  arguments->n_positionals < 2 ? "a model or the file to write"
                                                               : "--type",
                                  command->usage);
    }
    const size_t n = strlen(output);
    if (n < 6 || strcmp(output + n - 5, ".gguf") != 0) {
        return mz_cli_usage_error(command, "%s: the file to write must end in .gguf", output);
    }
    return MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    request r = {.type = -1, .experts = -1, .shared = -1, .embeddings = -1};
    const char *positionals[2] = {NULL, NULL};
    const mz_option options[] = {
        {"type", 0, MZ_OPTION_CHOICE, NULL, "what weights become (required)", 0, 0, TYPES, &r.type},
        {"type-experts", 0, MZ_OPTION_CHOICE, NULL, "routed experts; default: --type", 0, 0, TYPES,
         &r.experts},
        {"type-shared", 0, MZ_OPTION_CHOICE, NULL, "shared experts; default: --type", 0, 0, TYPES,
         &r.shared},
        {"type-embeddings", 0, MZ_OPTION_CHOICE, NULL, "embedding and output head; default: --type",
         0, 0, TYPES, &r.embeddings},
        {"keep", 0, MZ_OPTION_LIST, "PATTERN",
         "leave tensors of such names as they are ('*', '?'); may be given several times", 0, 0,
         NULL, &r.keep},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r.models_dir},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object instead of the table", 0, 0, NULL,
         &r.json},
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
    exit_code = check(&arguments, &r);
    if (exit_code != MZ_EXIT_OK || !mz_cli_context(command, &arguments.common, &ctx, &exit_code)) {
        return exit_code;
    }
    r.quiet = arguments.common.quiet;
    if (quantize(&ctx, &r, positionals[0], positionals[1]) != MZ_OK) {
        exit_code = mz_cli_fail(command, &ctx.error);
    }
    mz_context_close(&ctx);
    return exit_code;
}

const mz_command mz_command_models_quantize = {
    .name = "models quantize",
    .summary = "write a language model as a GGUF file of smaller weights",
    .usage = "moezoo models quantize DIR|NAME|FILE.gguf OUT.gguf --type TYPE [options]",
    .examples =
        "  moezoo models quantize ./SmolLM2-135M smollm2-q8_0.gguf --type q8_0\n"
        "  moezoo models quantize ./OLMoE olmoe.gguf --type q8_0 --type-experts q4_k\n"
        "  moezoo models quantize model.gguf small.gguf --type q4_k --keep 'blk.0.*' --json\n",
    .run = run,
};
