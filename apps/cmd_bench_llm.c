/* moezoo bench llm: how fast a language model reads and writes. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench_parts.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/zoo/language_model.h"
#include "core/json.h"
#include "core/rng.h"
#include "core/threads.h"

enum { MAX_LENGTHS = 8, MAX_REPEAT = 100, MAX_LENGTH = 1 << 20, WARM_UP = 16 };

/* What the line asked for. */
typedef struct request {
    const char *model, *models_dir, *shape, *prompts;
    int64_t lengths[MAX_LENGTHS]; /* of --prompt */
    int n_lengths;
    int64_t n_decode, n_repeat, depth, seed;
    int type, precision, kv_type;
    bool json;
} request;

/* Runs of one kind; seconds ascending. */
typedef struct runs {
    int64_t n_tokens;
    double seconds[MAX_REPEAT];
    double median_s;
} runs;

typedef struct bench {
    mz_context ctx;
    request request;
    char *path, *name;
    mz_language_model *model;
    mz_lm_session *session;
    int32_t *ids;       /* [longest run] */
    float *logits;      /* [vocab_size] */
    mz_profile profile; /* of the session, as it runs */
    mz_profile prefill_profile, decode_profile;
    runs *prefill; /* [n_lengths] */
    runs *decode;  /* [1] */
    double load_s, bytes_per_parameter;
} bench;

static const mz_dtype type_dtypes[] = {MZ_DTYPE_Q8_0, MZ_DTYPE_Q4_0, MZ_DTYPE_F16, MZ_DTYPE_BF16,
                                       MZ_DTYPE_F32};

/* ---- the model ---- */

static mz_status create_shape(bench *b, const mz_load_options *options) {
    const mz_dtype dtype = type_dtypes[b->request.type];
    const mz_dtype_info *type = mz_dtype_get(dtype);
    json_t *config = NULL;
    MZ_TRY(mz_json_load(&b->ctx, b->request.shape, &config));
    const mz_status status =
        mz_zoo_create_language_model(&b->ctx, config, b->request.shape, options, dtype, &b->model);
    json_decref(config);
    MZ_TRY(status);
    b->bytes_per_parameter = (double)type->block_bytes / type->block_len;
    return mz_cli_model_name(&b->ctx, b->request.shape, &b->name);
}

static mz_status load_model(bench *b, const mz_load_options *options) {
    mz_model_info info;
    MZ_TRY(mz_cli_find_model(&b->ctx, b->request.model, b->request.models_dir, NULL, &b->path));
    MZ_TRY(mz_cli_model_name(&b->ctx, b->path, &b->name));
    MZ_TRY(mz_zoo_describe(&b->ctx, b->path, &info));
    MZ_TRY(mz_zoo_load_language_model(&b->ctx, b->path, options, &b->model));
    b->bytes_per_parameter =
        info.n_parameters > 0 ? (double)info.n_bytes / (double)info.n_parameters : 0;
    return MZ_OK;
}

static int64_t longest(const request *r) {
    int64_t n = WARM_UP > r->n_decode ? WARM_UP : r->n_decode;
    n = r->depth > n ? r->depth : n;
    for (int i = 0; i < r->n_lengths; i++) {
        n = r->lengths[i] > n ? r->lengths[i] : n;
    }
    return n;
}

static mz_status open_bench(bench *b) {
    const request *r = &b->request;
    void *memory = NULL;
    const mz_load_options options = {.precision = mz_precision_chosen(r->precision)};
    const double start = mz_now_s();
    MZ_TRY(r->shape != NULL ? create_shape(b, &options) : load_model(b, &options));
    b->load_s = mz_now_s() - start;
    const mz_lm_session_options session = {.n_positions = r->depth + longest(r),
                                           .kv_dtype = mz_kv_type_chosen(r->kv_type),
                                           .profile = &b->profile};
    MZ_TRY(mz_lm_session_create(&b->ctx, b->model, &session, &b->session));
    const int64_t vocab_size = mz_language_model_info_of(b->model)->vocab_size;
    MZ_TRY(mz_calloc(&b->ctx, (size_t)vocab_size, sizeof(float), "logits", &memory));
    b->logits = memory;
    MZ_TRY(mz_calloc(&b->ctx, (size_t)longest(r), sizeof(int32_t), "tokens", &memory));
    b->ids = memory;
    /* Any token may come: routers then choose among all experts, which is the worst for caches. */
    for (int64_t i = 0; i < longest(r); i++) {
        const float u = mz_rng_uniform((uint64_t)r->seed, mz_rng_stream_of("bench"), (uint64_t)i);
        b->ids[i] = (int32_t)((double)u * (double)vocab_size);
    }
    MZ_TRY(mz_calloc(&b->ctx, (size_t)r->n_lengths + 1, sizeof(runs), "times", &memory));
    b->prefill = memory;
    b->decode = b->prefill + r->n_lengths;
    return MZ_OK;
}

static void close_bench(bench *b) {
    mz_free(&b->ctx, b->prefill);
    mz_free(&b->ctx, b->ids);
    mz_free(&b->ctx, b->logits);
    mz_lm_session_destroy(b->session);
    mz_language_model_close(b->model);
    mz_free(&b->ctx, b->name);
    mz_free(&b->ctx, b->path);
    mz_context_close(&b->ctx);
}

/* ---- measuring ---- */

static mz_status run_tokens(bench *b, int64_t n) {
    const mz_lm_input input = {.n_tokens = n, .ids = b->ids};
    return mz_lm_session_run(b->session, &input, NULL, b->logits);
}

/* One by one, each behind the one before. */
static mz_status write_tokens(bench *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const mz_lm_input input = {.n_tokens = 1, .ids = b->ids + i};
        MZ_TRY(mz_lm_session_run(b->session, &input, NULL, b->logits));
    }
    return MZ_OK;
}

static mz_status measure(bench *b, runs *out, int64_t n, mz_status (*run)(bench *b, int64_t n),
                         mz_progress *progress, int64_t *n_done) {
    out->n_tokens = n;
    for (int64_t i = 0; i < b->request.n_repeat; i++) {
        if (mz_cli_interrupted()) {
            return mz_fail(&b->ctx.error, MZ_ERR_INTERRUPTED, "interrupted");
        }
        mz_lm_session_truncate(b->session, 0, b->request.depth);
        const double start = mz_now_s();
        MZ_TRY(run(b, n));
        out->seconds[i] = mz_now_s() - start;
        mz_progress_update(progress, ++*n_done);
    }
    out->median_s = mz_bench_sort(out->seconds, b->request.n_repeat);
    return MZ_OK;
}

static mz_status measure_all(bench *b, mz_progress *progress) {
    const request *r = &b->request;
    int64_t n_done = 0;
    if (r->depth > 0) {
        MZ_TRY(run_tokens(b, r->depth));
    }
    MZ_TRY(run_tokens(b, WARM_UP));
    mz_lm_session_truncate(b->session, 0, r->depth);
    MZ_TRY(write_tokens(b, 1));
    b->profile = (mz_profile){0};
    for (int i = 0; i < r->n_lengths; i++) {
        MZ_TRY(measure(b, &b->prefill[i], r->lengths[i], run_tokens, progress, &n_done));
    }
    b->prefill_profile = b->profile;
    b->profile = (mz_profile){0};
    if (r->n_decode > 0) {
        MZ_TRY(measure(b, b->decode, r->n_decode, write_tokens, progress, &n_done));
    }
    b->decode_profile = b->profile;
    return MZ_OK;
}

/* ---- report ---- */

static double tokens_per_s(const runs *r) {
    return (double)r->n_tokens / (r->median_s > 0 ? r->median_s : 1e-9);
}

/* Bytes of weights that a token of the decoding multiplied: of its products each multiplication and
 * addition is a parameter, at the model's mean size of one. Experts that were not chosen do not
 * count, neither do keys and values. */
static double bytes_per_token(const bench *b) {
    static const mz_op_id ops[] = {MZ_OP_LINEAR, MZ_OP_GROUPED_LINEAR, MZ_OP_FFN, MZ_OP_MOE};
    double flops = 0;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        flops += b->decode_profile.ops[ops[i]].flops;
    }
    const double n_tokens = (double)(b->request.n_decode * b->request.n_repeat);
    return n_tokens > 0 ? flops / 2 / n_tokens * b->bytes_per_parameter : 0;
}

static double total_seconds(const bench *b, const runs *r, int n) {
    double total = 0;
    for (int k = 0; k < n; k++) {
        for (int64_t i = 0; i < b->request.n_repeat; i++) {
            total += r[k].seconds[i];
        }
    }
    return total > 0 ? total : 1e-9;
}

static void print_runs(const bench *b, const char *what, const runs *r) {
    const int64_t n = b->request.n_repeat;
    (void)printf("%-8s %6" PRId64 " tokens %12.2f tokens/s   %.4f s median, %.4f s fastest, %.4f s "
                 "slowest\n",
                 what, r->n_tokens, tokens_per_s(r), r->median_s, r->seconds[0], r->seconds[n - 1]);
}

static void print_report(const bench *b) {
    const request *r = &b->request;
    const mz_language_model_info *info = mz_language_model_info_of(b->model);
    char text[3][32];
    if (r->shape != NULL) {
        (void)snprintf(text[0], sizeof text[0], "random %s",
                       mz_dtype_get(type_dtypes[r->type])->name);
    } else {
        (void)mz_cli_format_bytes((int64_t)info->file_bytes, text[0]);
    }
    (void)printf("model            %s (%s, %" PRId64 " layers, width %" PRId64 "), %s\n", b->name,
                 info->family, info->n_layers, info->d_model, text[0]);
    (void)printf("machine          backend %s, %s, %d threads, precision %s\n",
                 mz_backend_cpu()->name, mz_isa_name(b->ctx.isa), mz_pool_n_threads(b->ctx.pool),
                 mz_bench_precision_name(mz_precision_chosen(r->precision)));
    (void)printf("memory           peak %s, of it keys and values of %" PRId64 " tokens %s (%s)\n",
                 mz_cli_format_bytes(mz_bench_peak_bytes(), text[1]),
                 mz_lm_session_max_positions(b->session),
                 mz_cli_format_bytes((int64_t)mz_lm_session_kv_bytes(b->session), text[2]),
                 mz_dtype_get(mz_kv_type_chosen(r->kv_type))->name);
    (void)printf("load             %.4f s\n", b->load_s);
    if (r->depth > 0) {
        (void)printf("behind           %" PRId64 " tokens\n", r->depth);
    }
    for (int i = 0; i < r->n_lengths; i++) {
        print_runs(b, "prefill", &b->prefill[i]);
    }
    if (r->n_lengths > 0) {
        const mz_bench_times times = {.profile = &b->prefill_profile,
                                      .total_s = total_seconds(b, b->prefill, r->n_lengths)};
        mz_bench_print_ops(&times);
        (void)printf("\n");
    }
    if (r->n_decode > 0) {
        const mz_bench_times times = {.profile = &b->decode_profile,
                                      .total_s = total_seconds(b, b->decode, 1)};
        print_runs(b, "decode", b->decode);
        (void)printf("weights          %s a token, %.2f GB/s\n",
                     mz_cli_format_bytes((int64_t)bytes_per_token(b), text[0]),
                     bytes_per_token(b) * tokens_per_s(b->decode) * 1e-9);
        mz_bench_print_ops(&times);
    }
}

static void print_json_runs(const bench *b, const runs *r, const mz_profile *profile, int n) {
    const mz_bench_times times = {.profile = profile, .total_s = total_seconds(b, r, n)};
    (void)printf("\"runs\":[");
    for (int i = 0; i < n; i++) {
        (void)printf("%s{", i > 0 ? "," : "");
        mz_bench_json_number("median_s", r[i].median_s);
        mz_bench_json_number("min_s", r[i].seconds[0]);
        mz_bench_json_number("max_s", r[i].seconds[b->request.n_repeat - 1]);
        mz_bench_json_number("tokens_per_s", tokens_per_s(&r[i]));
        (void)printf("\"tokens\":%" PRId64 "}", r[i].n_tokens);
    }
    (void)printf("],");
    mz_bench_print_json_ops(&times);
}

static void print_json(const bench *b) {
    const request *r = &b->request;
    const mz_language_model_info *info = mz_language_model_info_of(b->model);
    (void)printf("{");
    mz_bench_json_text("model", b->name);
    mz_bench_json_text("family", info->family);
    mz_bench_json_text("backend", mz_backend_cpu()->name);
    mz_bench_json_text("isa", mz_isa_name(b->ctx.isa));
    mz_bench_json_text("precision", mz_bench_precision_name(mz_precision_chosen(r->precision)));
    mz_bench_json_text("kv_type", mz_dtype_get(mz_kv_type_chosen(r->kv_type))->name);
    (void)printf("\"threads\":%d,\"depth\":%" PRId64 ",\"repeat\":%" PRId64
                 ",\"file_bytes\":%zu,\"kv_bytes\":%zu,\"peak_bytes\":%" PRId64 ",",
                 mz_pool_n_threads(b->ctx.pool), r->depth, r->n_repeat, info->file_bytes,
                 mz_lm_session_kv_bytes(b->session), mz_bench_peak_bytes());
    mz_bench_json_number("load_s", b->load_s);
    (void)printf("\"prefill\":{");
    print_json_runs(b, b->prefill, &b->prefill_profile, r->n_lengths);
    (void)printf("},\"decode\":{");
    mz_bench_json_number("bytes_per_token", bytes_per_token(b));
    mz_bench_json_number("gb_per_s",
                         r->n_decode > 0 ? bytes_per_token(b) * tokens_per_s(b->decode) * 1e-9 : 0);
    print_json_runs(b, b->decode, &b->decode_profile, r->n_decode > 0);
    (void)printf("}}\n");
}

/* ---- command line ---- */

/* "128,512"; "0" for none. Returns an exit code. */
static int parse_lengths(request *r) {
    const mz_command *c = &mz_command_bench_llm;
    const char *text = r->prompts != NULL ? r->prompts : "128,512";
    for (;;) {
        char *end = NULL;
        errno = 0;
        const long long n = strtoll(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || (*end != '\0' && *end != ',') || errno != 0) {
            return mz_cli_usage_error(c, "--prompt: expected whole numbers like 128,512");
        }
        if (n > MAX_LENGTH || (n == 0 && (*end == ',' || r->n_lengths > 0))) {
            return mz_cli_usage_error(c, "--prompt: %lld is outside 1 to %d", n, MAX_LENGTH);
        }
        if (r->n_lengths == MAX_LENGTHS) {
            return mz_cli_usage_error(c, "--prompt: more than %d lengths", MAX_LENGTHS);
        }
        if (n > 0) {
            r->lengths[r->n_lengths++] = n;
        }
        if (*end == '\0') {
            return MZ_EXIT_OK;
        }
        text = end + 1;
    }
}

static int check_request(request *r) {
    const mz_command *c = &mz_command_bench_llm;
    if ((r->model == NULL) == (r->shape == NULL)) {
        return mz_cli_usage_error(c, "expected -m MODEL or --shape FILE.json");
    }
    if (r->model != NULL && r->type >= 0) {
        return mz_cli_usage_error(c, "--type goes with --shape; a checkpoint has its own types");
    }
    r->type = r->type >= 0 ? r->type : 0;
    return parse_lengths(r);
}

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_option options[] = {
        {"model", 'm', MZ_OPTION_STRING, "DIR|FILE|NAME", "checkpoint folder, GGUF file or name", 0,
         0, NULL, &r->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r->models_dir},
        {"shape", 0, MZ_OPTION_STRING, "FILE", "random weights of this config.json's shape", 0, 0,
         NULL, &r->shape},
        {"type", 0, MZ_OPTION_CHOICE, NULL, "type of the random weights (default q8_0)", 0, 0,
         "q8_0|q4_0|f16|bf16|f32", &r->type},
        {"prompt", 'p', MZ_OPTION_STRING, "N,N",
         "tokens that are read at once (default 128,512; 0: none)", 0, 0, NULL, &r->prompts},
        {"decode", 'n', MZ_OPTION_INT, "N", "tokens that are written (default 64; 0: none)", 0,
         MAX_LENGTH, NULL, &r->n_decode},
        {"context-depth", 0, MZ_OPTION_INT, "N", "tokens in the context before (default 0)", 0,
         MAX_LENGTH, NULL, &r->depth},
        {"repeat", 0, MZ_OPTION_INT, "N", "timed runs of each (default 3)", 1, MAX_REPEAT, NULL,
         &r->n_repeat},
        mz_precision_option(&r->precision),
        mz_kv_type_option(&r->kv_type),
        {"seed", 0, MZ_OPTION_INT, "N", "seed of the tokens (default 0)", 0, INT64_MAX, NULL,
         &r->seed},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object; times in seconds", 0, 0, NULL,
         &r->json},
    };
    mz_arguments arguments = {.options = options, .n_options = sizeof options / sizeof options[0]};
    if (!mz_cli_parse(&mz_command_bench_llm, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r);
    return *exit_code == MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    bench b = {.request = {.n_decode = 64, .n_repeat = 3, .type = -1}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &b.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_bench_llm, &common, &b.ctx, &exit_code)) {
        return exit_code;
    }
    mz_status status = open_bench(&b);
    if (status == MZ_OK) {
        mz_progress progress;
        const int n_kinds = b.request.n_lengths + (b.request.n_decode > 0);
        mz_progress_init(&progress, "measuring", n_kinds * b.request.n_repeat, common.quiet);
        mz_cli_catch_interrupts();
        status = measure_all(&b, &progress);
        mz_progress_finish(&progress);
    }
    if (status != MZ_OK) {
        exit_code = mz_cli_fail(&mz_command_bench_llm, &b.ctx.error);
    } else {
        (b.request.json ? print_json : print_report)(&b);
    }
    close_bench(&b);
    return exit_code;
}

const mz_command mz_command_bench_llm = {
    .name = "bench llm",
    .summary = "speed, memory and share of each op of a language model",
    .usage = "moezoo bench llm -m MODEL | --shape FILE.json [options]",
    .examples = "  moezoo bench llm -m smollm2.gguf -p 512 -n 64\n"
                "  moezoo bench llm --shape assets/shapes/moe-450m.json --type q4_0 -t 2 --json\n",
    .run = run,
};
