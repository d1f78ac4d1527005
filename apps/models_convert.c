#include "apps/models_convert.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/zoo/gguf_import.h"
#include "apps/zoo/language_model.h"
#include "core/file.h"

static const mz_command *const command = &mz_command_models_convert;

/* In the order of the choices of --type. */
static const mz_dtype types[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};

typedef struct request {
    const char *models_dir;
    int type; /* index of the choice; -1: as stored */
    bool json, quiet;
} request;

static bool is_gguf(const char *path) {
    const size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

/* The type of most values, for the file's general.file_type. */
static mz_dtype main_type(const mz_gguf_export *e) {
    int64_t n[MZ_DTYPE_COUNT] = {0};
    mz_dtype most = MZ_DTYPE_F32;
    for (int64_t i = 0; i < e->n_items; i++) {
        const mz_gguf_item *item = &e->items[i];
        n[item->dtype] += mz_tensor_n_elements(&item->parts[0]) * item->n_parts;
        most = n[item->dtype] > n[most] ? item->dtype : most;
    }
    return most;
}

static mz_status to_gguf(mz_context *ctx, const request *r, const char *source,
                         const char *output) {
    mz_gguf_export e = {0};
    mz_status status = mz_gguf_export_open(ctx, source, &e);
    if (status == MZ_OK) {
        status = mz_zoo_check_language_model(ctx, source);
    }
    for (int64_t i = 0; status == MZ_OK && i < e.n_items && r->type >= 0; i++) {
        const mz_gguf_item *item = &e.items[i];
        if (mz_gguf_tensor_role(item->name, item->n_dims) != MZ_ROLE_SMALL) {
            e.items[i].dtype = types[r->type];
        }
    }
    if (status == MZ_OK) {
        status = mz_gguf_export_finish(&e, main_type(&e));
    }
    if (status == MZ_OK) {
        status = mz_convert_write(&e, output, r->quiet);
    }
    if (status == MZ_OK) {
        mz_convert_report_print(&(mz_convert_report){source, output, &e, e.tokenizer_note},
                                r->json);
    }
    mz_gguf_export_close(&e);
    return status;
}

static void print_folder(const request *r, const char *source, const char *dir, const char *note) {
    if (r->json) {
        (void)printf("{\"source\":");
        mz_cli_write_json_string(stdout, source);
        (void)printf(",\"output\":");
        mz_cli_write_json_string(stdout, dir);
        (void)printf(",\"tokenizer_note\":");
        if (note[0] != '\0') {
            mz_cli_write_json_string(stdout, note);
        } else {
            (void)printf("null");
        }
        (void)printf("}\n");
        return;
    }
    mz_cli_write_plain(stdout, dir);
    (void)printf(": config.json, model.safetensors%s\n", note[0] == '\0' ? " and a tokenizer" : "");
    if (note[0] != '\0') {
        (void)printf("the tokenizer was not converted: %s\n", note);
    }
}

static mz_status to_folder(mz_context *ctx, const request *r, const char *source, const char *dir) {
    char note[MZ_NOTE_BYTES] = "";
    const bool is_new = !mz_dir_exists(dir);
    MZ_TRY(mz_zoo_check_language_model(ctx, source));
    MZ_TRY(mz_dir_make(ctx, dir));
    mz_cli_catch_interrupts();
    ctx->stopped = mz_cli_interrupted;
    const mz_status status =
        mz_gguf_import(ctx, source, dir, r->type >= 0 ? types[r->type] : MZ_DTYPE_F32, note);
    if (status == MZ_OK) {
        print_folder(r, source, dir, note);
    } else if (is_new) {
        (void)rmdir(dir);
    }
    return status;
}

static mz_status convert(mz_context *ctx, const request *r, const char *model, const char *output) {
    char *source = NULL;
    MZ_TRY(mz_cli_find_model(ctx, model, r->models_dir, NULL, &source));
    mz_status status = MZ_OK;
    if (is_gguf(output)) {
        status = to_gguf(ctx, r, source, output);
    } else if (is_gguf(source)) {
        status = to_folder(ctx, r, source, output);
    } else {
        status = mz_fail(&ctx->error, MZ_ERR_ARG,
                         "%s is no GGUF file, and %s does not end in .gguf: one of them must be",
                         source, output);
    }
    mz_free(ctx, source);
    return status;
}

static int run(int argc, char **argv) {
    request r = {.type = -1};
    const char *positionals[2] = {NULL, NULL};
    const mz_option options[] = {
        {"type", 0, MZ_OPTION_CHOICE, NULL,
         "to GGUF: what weights become, default: as stored; to a folder: what quantised weights "
         "become, default: f32",
         0, 0, "f32|f16|bf16", &r.type},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r.models_dir},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object", 0, 0, NULL, &r.json},
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
    if (arguments.n_positionals < 2 || positionals[1][0] == '\0') {
        return mz_cli_usage_error(command, "a model or what to write is missing; usage: %s",
                                  command->usage);
    }
    if (!mz_cli_context(command, &arguments.common, &ctx, &exit_code)) {
        return exit_code;
    }
    r.quiet = arguments.common.quiet;
    if (convert(&ctx, &r, positionals[0], positionals[1]) != MZ_OK) {
        exit_code = mz_cli_fail(command, &ctx.error);
    }
    mz_context_close(&ctx);
    return exit_code;
}

const mz_command mz_command_models_convert = {
    .name = "models convert",
    .summary = "write a language model as a GGUF file, or a GGUF file as a published folder",
    .usage = "moezoo models convert DIR|NAME|FILE.gguf OUT.gguf|DIR [--type f32|f16|bf16]",
    .examples = "  moezoo models convert ./SmolLM2-135M smollm2.gguf\n"
                "  moezoo models convert smollm2.gguf ./smollm2 --type bf16\n",
    .run = run,
};
