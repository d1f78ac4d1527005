#include "apps/models_perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "apps/ask/perplexity.h"
#include "apps/model_options.h"
#include "core/file.h"
#include "core/json.h"
#include "core/profile.h"

enum { MAX_TEXT_BYTES = 256 << 20, MAX_CONTEXT = 1 << 24 };

/* What the line asked for. */
typedef struct request {
    const char *words[2]; /* MODEL, FILE */
    const char *models_dir, *ids;
    int64_t context;
    int precision, kv_type;
    bool json, quiet;
} request;

typedef struct job {
    mz_context ctx;
    request request;
    char *path, *name;
    mz_language_model *model;
    mz_lm_session *session;
    int32_t bos;
    mz_token_list ids;
    mz_progress progress;
    mz_perplexity score;
    double seconds; /* of the scoring */
} job;

/* ---- the text ---- */

static mz_status read_text(job *j, const char *path, char **out, size_t *n_bytes) {
    if (strcmp(path, "-") == 0) {
        return mz_cli_read_stdin(&j->ctx, "text", MAX_TEXT_BYTES, out, n_bytes);
    }
    return mz_file_read(&j->ctx, path, MAX_TEXT_BYTES, out, n_bytes);
}

/* The ids as the text stands: what spells a control token stays text. */
static mz_status encode_text(job *j) {
    const mz_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_language_model_tokenizer(&j->ctx, j->model, &tokenizer));
    mz_status status = read_text(j, j->request.words[1], &text, &n_bytes);
    if (status == MZ_OK) {
        status = mz_tokenizer_encode(&j->ctx, tokenizer, text, n_bytes, NULL, &j->ids);
    }
    if (mz_tokenizer_adds_bos(tokenizer)) {
        j->bos = mz_tokenizer_special(tokenizer, MZ_TOKEN_BOS);
    }
    mz_free(&j->ctx, text);
    return status;
}

/* A JSON array of ids, which is taken as it is: nothing is put in front. */
static mz_status take_ids(job *j, const json_t *array) {
    void *memory = NULL;
    const size_t n = json_array_size(array);
    if (!json_is_array(array)) {
        return mz_fail(&j->ctx.error, MZ_ERR_FORMAT, "%s: expected an array of token ids",
                       j->request.ids);
    }
    MZ_TRY(mz_grow(&j->ctx, &memory, &j->ids.capacity, n + 1, sizeof(int32_t), "tokens"));
    j->ids.ids = memory;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(array, i);
        const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > INT32_MAX) {
            return mz_fail(&j->ctx.error, MZ_ERR_FORMAT, "%s: element %zu is no token id",
                           j->request.ids, i);
        }
        j->ids.ids[j->ids.n++] = (int32_t)value;
    }
    return MZ_OK;
}

static mz_status read_ids(job *j) {
    char *text = NULL;
    size_t n_bytes = 0;
    json_t *array = NULL;
    MZ_TRY(mz_file_read(&j->ctx, j->request.ids, MAX_TEXT_BYTES, &text, &n_bytes));
    mz_status status = mz_json_parse(&j->ctx, text, n_bytes, j->request.ids, &array);
    if (status == MZ_OK) {
        status = take_ids(j, array);
    }
    json_decref(array);
    mz_free(&j->ctx, text);
    return status;
}

/* ---- work ---- */

static bool note(void *arg, int64_t n_scored) {
    job *j = arg;
    mz_progress_update(&j->progress, n_scored);
    return mz_cli_interrupted();
}

static mz_status open_model(job *j) {
    const request *r = &j->request;
    const mz_load_options load = {.precision = mz_precision_chosen(r->precision)};
    MZ_TRY(mz_cli_find_model(&j->ctx, r->words[0], r->models_dir, NULL, &j->path));
    MZ_TRY(mz_cli_model_name(&j->ctx, j->path, &j->name));
    return mz_zoo_load_language_model(&j->ctx, j->path, &load, &j->model);
}

/* Of no more positions than the text with a token in front has: tables of millions take minutes. */
static mz_status open_session(job *j) {
    enum { FEWEST = 64 };
    const int64_t most = j->ids.n < FEWEST ? FEWEST : j->ids.n + 1;
    const int64_t context = j->request.context;
    const mz_lm_session_options session = {.n_positions = context < most ? context : most,
                                           .kv_dtype = mz_kv_type_chosen(j->request.kv_type)};
    return mz_lm_session_create(&j->ctx, j->model, &session, &j->session);
}

static mz_status work(job *j) {
    j->bos = -1;
    MZ_TRY(open_model(j));
    MZ_TRY(j->request.ids != NULL ? read_ids(j) : encode_text(j));
    MZ_TRY(open_session(j));
    mz_progress_init(&j->progress, "scoring", j->ids.n, j->request.quiet);
    mz_cli_catch_interrupts();
    const double start = mz_now_s();
    const mz_status status = mz_perplexity_score(&j->ctx, j->model, j->session, j->bos, j->ids.ids,
                                                 j->ids.n, note, j, &j->score);
    j->seconds = mz_now_s() - start;
    mz_progress_finish(&j->progress);
    return status;
}

static void report(const job *j) {
    const mz_perplexity *p = &j->score;
    const double perplexity = exp(p->nll / (double)p->n_scored);
    if (!j->request.json) {
        (void)printf("perplexity %.7g over %" PRId64 " tokens in %" PRId64 " window%s, %.3g s\n",
                     perplexity, p->n_scored, p->n_windows, mz_cli_plural(p->n_windows),
                     j->seconds);
        return;
    }
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"perplexity", perplexity}, {"nll", p->nll}, {"seconds", j->seconds}};
    (void)printf("{\"model\":");
    mz_cli_write_json_string(stdout, j->name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char number[32];
        mz_cli_format_double(numbers[i].value, number);
        (void)printf(",\"%s\":%s", numbers[i].key, number);
    }
    (void)printf(",\"tokens\":%" PRId64 ",\"windows\":%" PRId64 "}\n", p->n_scored, p->n_windows);
}

/* ---- command line ---- */

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_command *command = &mz_command_models_perplexity;
    const mz_option options[] = {
        {"ids", 0, MZ_OPTION_STRING, "FILE", "a JSON array of token ids in place of a text", 0, 0,
         NULL, &r->ids},
        {"context", 'c', MZ_OPTION_INT, "N",
         "tokens of a window (default 0: what the model was made for, at most 4096)", 0,
         MAX_CONTEXT, NULL, &r->context},
        mz_precision_option(&r->precision),
        mz_kv_type_option(&r->kv_type),
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r->models_dir},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object", 0, 0, NULL, &r->json},
    };
    mz_arguments arguments = {.options = options,
                              .n_options = sizeof options / sizeof options[0],
                              .positionals = r->words,
                              .max_positionals = 2};
    if (!mz_cli_parse(command, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    r->quiet = arguments.common.quiet;
    if (r->words[0] == NULL || (r->words[1] == NULL) == (r->ids == NULL)) {
        *exit_code =
            mz_cli_usage_error(command, "expected MODEL and FILE, or MODEL and --ids FILE");
        return false;
    }
    return true;
}

static int run(int argc, char **argv) {
    job j = {0};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_models_perplexity, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    if (work(&j) == MZ_OK) {
        report(&j);
    } else {
        exit_code = mz_cli_fail(&mz_command_models_perplexity, &j.ctx.error);
    }
    mz_token_list_free(&j.ctx, &j.ids);
    mz_lm_session_destroy(j.session);
    mz_language_model_close(j.model);
    mz_free(&j.ctx, j.name);
    mz_free(&j.ctx, j.path);
    mz_context_close(&j.ctx);
    return exit_code;
}

const mz_command mz_command_models_perplexity = {
    .name = "models perplexity",
    .summary = "how well a language model foretells a text",
    .usage = "moezoo models perplexity MODEL FILE|- [options]",
    .examples = "  moezoo models perplexity smollm2.gguf novel.txt\n"
                "  moezoo models perplexity smollm2.gguf --ids tokens.json --context 512 --json\n",
    .run = run,
};
