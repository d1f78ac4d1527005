/* moezoo models: what is installed, and what a checkpoint is. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/models_adapter.h"
#include "apps/models_convert.h"
#include "apps/models_language.h"
#include "apps/models_perplexity.h"
#include "apps/models_usage.h"
#include "apps/zoo/zoo.h"
#include "core/file.h"
#include "core/weights.h"

static const mz_command list_command;
static const mz_command show_command;

/* ---- list ---- */

/* One model folder; owns its strings. */
typedef struct model {
    char *name, *dir;
    char *error; /* why it cannot be read; NULL: info holds */
    mz_model_info info;
} model;

typedef struct model_list {
    model *items;
    size_t n, capacity;
} model_list;

static void list_close(mz_context *ctx, model_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        mz_free(ctx, list->items[i].name);
        mz_free(ctx, list->items[i].dir);
        mz_free(ctx, list->items[i].error);
    }
    mz_free(ctx, list->items);
    *list = (model_list){0};
}

static bool list_has(const model_list *list, const char *name) {
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds the entry of the folder if it is a checkpoint that no earlier place hides. */
static mz_status add_model(mz_context *ctx, const char *place, const char *entry,
                           model_list *list) {
    char *path = NULL;
    char *name = NULL;
    void *items = list->items;
    MZ_TRY(mz_cli_model_of_entry(ctx, place, entry, &name, &path));
    if (path == NULL) {
        return MZ_OK;
    }
    mz_status status = MZ_OK;
    const bool hidden = list_has(list, name);
    if (!hidden) {
        status =
            mz_grow(ctx, &items, &list->capacity, list->n + 1, sizeof(model), "list of models");
    }
    if (hidden || status != MZ_OK) {
        mz_free(ctx, name);
        mz_free(ctx, path);
        return status;
    }
    list->items = items;
    model *m = &list->items[list->n++];
    *m = (model){.name = name, .dir = path};
    status = mz_zoo_describe(ctx, path, &m->info);
    if (status == MZ_ERR_NOMEM || status == MZ_OK) {
        return status;
    }
    return mz_strdup(ctx, ctx->error.message, &m->error);
}

static mz_status add_place(mz_context *ctx, const char *place, model_list *list) {
    struct dirent **names = NULL;
    mz_status status = MZ_OK;
    const int n = scandir(place, &names, NULL, alphasort);
    if (n < 0) {
        return errno == ENOMEM ? mz_fail(&ctx->error, MZ_ERR_NOMEM, "%s: out of memory", place)
                               : MZ_OK;
    }
    for (int i = 0; i < n; i++) {
        if (status == MZ_OK) {
            status = add_model(ctx, place, names[i]->d_name, list);
        }
        free(names[i]);
    }
    free(names);
    return status;
}

static void print_list(const model_list *list, const mz_model_places *places) {
    char total[32];
    char active[32];
    if (list->n == 0) {
        (void)printf("no models in");
        for (int i = 0; i < places->n; i++) {
            (void)printf("%s %s", i > 0 ? "," : "", places->dirs[i]);
        }
        (void)printf("\n");
        return;
    }
    (void)printf("%-20s %-12s %-10s %10s %10s  %s\n", "name", "family", "job", "parameters",
                 "active", "folder");
    for (size_t i = 0; i < list->n; i++) {
        const model *m = &list->items[i];
        if (m->error != NULL) {
            (void)printf("%-20s not usable: %s\n", m->name, m->error);
            continue;
        }
        (void)printf("%-20s %-12s %-10s %10s %10s  %s\n", m->name, m->info.family, m->info.job,
                     mz_cli_format_count(m->info.n_parameters, total),
                     mz_cli_format_count(m->info.n_active, active), m->dir);
    }
}

static void json_text(const char *key, const char *text, const char *after) {
    (void)printf("\"%s\":", key);
    mz_cli_write_json_string(stdout, text);
    (void)fputs(after, stdout);
}

static void print_list_json(const model_list *list) {
    (void)printf("{\"models\":[");
    for (size_t i = 0; i < list->n; i++) {
        const model *m = &list->items[i];
        (void)printf("%s\n{", i > 0 ? "," : "");
        json_text("name", m->name, ",");
        json_text("path", m->dir, ",");
        if (m->error != NULL) {
            json_text("error", m->error, "}");
            continue;
        }
        json_text("family", m->info.family, ",");
        json_text("job", m->info.job, ",");
        (void)printf("\"parameters\":%" PRId64 ",\"active_parameters\":%" PRId64 "}",
                     m->info.n_parameters, m->info.n_active);
    }
    (void)printf("\n]}\n");
}

static int run_list(int argc, char **argv) {
    bool json = false;
    const char *models_dir = NULL;
    const mz_option options[] = {
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look here first", 0, 0, NULL, &models_dir},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print {\"models\":[...]}", 0, 0, NULL, &json},
    };
    mz_arguments arguments = {.options = options, .n_options = sizeof options / sizeof options[0]};
    mz_context ctx;
    mz_model_places places = {0};
    model_list list = {0};
    int exit_code = MZ_EXIT_OK;
    if (!mz_cli_parse(&list_command, &arguments, argc, argv, &exit_code) ||
        !mz_cli_context(&list_command, &arguments.common, &ctx, &exit_code)) {
        return exit_code;
    }
    mz_status status = mz_model_places_open(&ctx, models_dir, &places);
    for (int i = 0; i < places.n && status == MZ_OK; i++) {
        status = add_place(&ctx, places.dirs[i], &list);
    }
    if (status != MZ_OK) {
        exit_code = mz_cli_fail(&list_command, &ctx.error);
    } else if (json) {
        print_list_json(&list);
    } else {
        print_list(&list, &places);
    }
    for (size_t i = 0; i < list.n; i++) {
        exit_code = list.items[i].error != NULL ? MZ_EXIT_FAILURE : exit_code;
    }
    list_close(&ctx, &list);
    mz_model_places_close(&ctx, &places);
    mz_context_close(&ctx);
    return exit_code;
}

/* ---- show ---- */

static void print_files(const mz_weights *weights, bool json) {
    for (int64_t i = 0; i < mz_weights_n_files(weights); i++) {
        size_t n_bytes = 0;
        char size[32];
        const char *path = mz_weights_file(weights, i, &n_bytes);
        const char *slash = strrchr(path, '/');
        const char *name = slash != NULL ? slash + 1 : path;
        if (json) {
            (void)printf("%s{", i > 0 ? "," : "");
            json_text("name", name, ",");
            (void)printf("\"bytes\":%zu}", n_bytes);
        } else {
            (void)printf("%-18s %s, %s\n", i > 0 ? "" : "files", name,
                         mz_cli_format_bytes((int64_t)n_bytes, size));
        }
    }
}

static bool is_language_model(const mz_model_info *m) {
    return strcmp(m->job, "ask") == 0;
}

static mz_status print_model(mz_context *ctx, const char *name, const char *dir,
                             const mz_model_info *m, const mz_weights *weights) {
    char text[32];
    const char *token = is_language_model(m) ? "token" : m->patch_len > 1 ? "patch" : "point";
    (void)printf("%-18s %s\n%-18s %s\n%-18s %s\n%-18s %s\n", "name", name, "folder", dir, "family",
                 m->family, "job", m->job);
    (void)printf("%-18s %" PRId64 " (%s)\n", "parameters", m->n_parameters,
                 mz_cli_format_count(m->n_parameters, text));
    (void)printf("active per %-7s %" PRId64 " (%s)\n", token, m->n_active,
                 mz_cli_format_count(m->n_active, text));
    if (m->n_experts > 0) {
        (void)printf("%-18s %d routed, %d of them per %s, %d shared\n", "experts a layer",
                     m->n_experts, m->top_k, token, m->n_shared_experts);
    } else {
        (void)printf("%-18s none (dense)\n", "experts a layer");
    }
    (void)printf("%-18s %d\n%-18s %" PRId64 "\n", "layers", m->n_layers, "width", m->d_model);
    if (m->max_positions > 0) {
        (void)printf(is_language_model(m) ? "%-18s %" PRId64 " tokens\n"
                                          : "%-18s %" PRId64
                                            " (context and horizon together, as trained)\n",
                     is_language_model(m) ? "context" : "positions", m->max_positions);
    }
    if (m->patch_len > 1) {
        (void)printf("%-18s %" PRId64 " points\n", "patch", m->patch_len);
    }
    for (int32_t i = 0; i < m->n_levels; i++) {
        (void)printf("%s%.10g%s", i == 0 ? "quantiles          " : ", ", m->levels[i],
                     i == m->n_levels - 1 ? "\n" : "");
    }
    (void)printf("%-18s %s, %" PRId64 " tensors, %s\n", "weights", m->dtype, m->n_tensors,
                 mz_cli_format_bytes(m->n_bytes, text));
    if (is_language_model(m)) {
        MZ_TRY(mz_models_show_language(ctx, dir, weights, false));
    }
    print_files(weights, false);
    return MZ_OK;
}

static mz_status print_model_json(mz_context *ctx, const char *name, const char *dir,
                                  const mz_model_info *m, const mz_weights *weights) {
    (void)printf("{");
    json_text("name", name, ",");
    json_text("path", dir, ",");
    json_text("family", m->family, ",");
    json_text("job", m->job, ",");
    json_text("dtype", m->dtype, ",");
    (void)printf("\"parameters\":%" PRId64 ",\"active_parameters\":%" PRId64
                 ",\"layers\":%d,\"width\":%" PRId64 ",",
                 m->n_parameters, m->n_active, m->n_layers, m->d_model);
    (void)printf(
        "\"experts\":{\"routed\":%d,\"per_point\":%d,\"shared\":%d},\"max_positions\":%" PRId64
        ",\"tensors\":%" PRId64 ",\"bytes\":%" PRId64 ",",
        m->n_experts, m->top_k, m->n_shared_experts, m->max_positions, m->n_tensors, m->n_bytes);
    (void)printf("\"patch_len\":%" PRId64 ",\"quantiles\":[", m->patch_len);
    for (int32_t i = 0; i < m->n_levels; i++) {
        (void)printf("%s%.10g", i > 0 ? "," : "", m->levels[i]);
    }
    (void)printf("],");
    if (is_language_model(m)) {
        MZ_TRY(mz_models_show_language(ctx, dir, weights, true));
    }
    (void)printf("\"files\":[");
    print_files(weights, true);
    (void)printf("]}\n");
    return MZ_OK;
}

static mz_status show_model(mz_context *ctx, const char *name, const char *dir, bool json) {
    mz_weights *weights = NULL;
    mz_model_info info;
    MZ_TRY(mz_zoo_describe(ctx, dir, &info));
    MZ_TRY(mz_weights_open(ctx, dir, &weights));
    const mz_status status =
        (json ? print_model_json : print_model)(ctx, name, dir, &info, weights);
    mz_weights_close(ctx, weights);
    return status;
}

static mz_status show(mz_context *ctx, const char *model_argument, const char *models_dir,
                      bool json) {
    char *dir = NULL;
    char *name = NULL;
    bool is_adapter = false;
    mz_status status = mz_cli_find_model(ctx, model_argument, models_dir, NULL, &dir);
    if (status == MZ_OK) {
        status = mz_cli_model_name(ctx, dir, &name);
    }
    if (status == MZ_OK) {
        status = mz_models_is_adapter(ctx, dir, &is_adapter);
    }
    if (status == MZ_OK) {
        status = (is_adapter ? mz_models_show_adapter : show_model)(ctx, name, dir, json);
    }
    mz_free(ctx, name);
    mz_free(ctx, dir);
    return status;
}

/* Options of --usage without it, and the other way round. */
static int check_usage(mz_usage_request *r, const mz_usage_request *defaults) {
    if (r->in.file == NULL && memcmp(r, defaults, sizeof *r) != 0) {
        return mz_cli_usage_error(&show_command,
                                  "--plot, --layer and the options of the input need --usage FILE");
    }
    if (r->in.file == NULL) {
        return MZ_EXIT_OK;
    }
    const int exit_code = mz_forecast_inputs_check(&show_command, &r->in, 1);
    return exit_code != MZ_EXIT_OK ? exit_code
                                   : mz_cli_check_outputs(&show_command, r->in.file, NULL, r->plot);
}

static int run_show(int argc, char **argv) {
    bool json = false;
    const char *models_dir = NULL;
    const char *model_argument = NULL;
    mz_usage_request usage = {.layer = MZ_NOT_GIVEN};
    mz_usage_request defaults;
    memcpy(&defaults, &usage, sizeof usage);
    mz_option options[MZ_USAGE_OPTIONS + 2] = {
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &models_dir},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object", 0, 0, NULL, &json},
    };
    mz_arguments arguments = {.options = options,
                              .n_options = 2 + mz_usage_options(&usage, options + 2),
                              .positionals = &model_argument,
                              .max_positionals = 1};
    mz_context ctx;
    int exit_code = MZ_EXIT_OK;
    if (!mz_cli_parse(&show_command, &arguments, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (arguments.n_positionals == 0) {
        return mz_cli_usage_error(&show_command, "no model given; usage: %s", show_command.usage);
    }
    exit_code = check_usage(&usage, &defaults);
    if (exit_code != MZ_EXIT_OK ||
        !mz_cli_context(&show_command, &arguments.common, &ctx, &exit_code)) {
        return exit_code;
    }
    if (usage.in.file != NULL) {
        usage.in.model = model_argument;
        usage.in.models_dir = models_dir;
        usage.in.quiet = arguments.common.quiet;
        usage.json = json;
        exit_code = mz_models_usage(&show_command, &usage, &ctx);
    } else if (show(&ctx, model_argument, models_dir, json) != MZ_OK) {
        exit_code = mz_cli_fail(&show_command, &ctx.error);
    }
    mz_context_close(&ctx);
    return exit_code;
}

/* ---- */

static const mz_command list_command = {
    .name = "models list",
    .summary = "every model that can be used by its name",
    .usage = "moezoo models list [--json] [--models-dir DIR]",
    .examples = "  moezoo models list\n"
                "  moezoo models list --json --models-dir /data/models\n",
    .run = run_list,
};

static const mz_command show_command = {
    .name = "models show",
    .summary = "what a checkpoint or an adapter is: sizes, experts, files; which experts it uses",
    .usage = "moezoo models show DIR|NAME [--usage FILE] [options]",
    .examples =
        "  moezoo models show " MZ_DEFAULT_FORECASTER "\n"
        "  moezoo models show ./TimeMoE-50M --json\n"
        "  moezoo models show " MZ_DEFAULT_FORECASTER " --usage sales.csv --plot usage.png\n"
        "  moezoo models show " MZ_DEFAULT_FORECASTER " --usage sales.csv --layer 0 --json\n",
    .run = run_show,
};

static int run(int argc, char **argv) {
    static const mz_command *const commands[] = {&list_command,
                                                 &show_command,
                                                 &mz_command_models_merge,
                                                 &mz_command_models_quantize,
                                                 &mz_command_models_convert,
                                                 &mz_command_models_perplexity,
                                                 NULL};
    return mz_cli_dispatch("moezoo models",
                           "what is installed, what a checkpoint is, other types and formats",
                           commands, argc, argv);
}

const mz_command mz_command_models = {
    .name = "models",
    .summary = "list installed models, show, merge, quantise and convert checkpoints",
    .usage = "moezoo models list|show|merge|quantize|convert|perplexity ...",
    .examples = "  moezoo models list\n"
                "  moezoo models show " MZ_DEFAULT_FORECASTER "\n",
    .run = run,
};
