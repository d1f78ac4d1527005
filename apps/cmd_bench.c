/* moezoo bench: speed and memory of a model on this machine. */
#include <inttypes.h>
#include <string.h>

#include "apps/bench_parts.h"
#include "apps/commands.h"
#include "apps/zoo/zoo.h"
#include "core/profile.h"
#include "core/threads.h"

static const mz_command forecast_command;

enum { MAX_SERIES = 100000, MAX_REPEAT = 10000, MAX_CONTEXT = 1 << 18 };

/* What the line asked for. */
typedef struct request {
    const char *model, *models_dir;
    int64_t context_len, horizon, n_series, n_repeat, seed;
    int precision;
    bool json;
} request;

/* What was measured; times in seconds. */
typedef struct measures {
    double load_s;
    double first_s; /* from the start of the command to the answer of the first run */
    double *runs_s; /* [n_repeat] ascending */
    double median_s;
    mz_profile profile; /* of the repeated runs */
    int64_t peak_bytes; /* resident, of the whole process */
} measures;

typedef struct bench {
    mz_context ctx;
    request request;
    double start_s;
    char *model_dir, *model_name;
    mz_model_info info;
    mz_forecaster *forecaster;
    mz_forecast_options options;
    double *memory;          /* all values, then all forecasts */
    mz_forecast_item *items; /* [n_series] */
    measures measures;
} bench;

/* ---- work ---- */

static mz_status make_series(bench *b) {
    const request *r = &b->request;
    void *memory = NULL;
    void *items = NULL;
    MZ_TRY(mz_calloc(&b->ctx, (size_t)r->n_series,
                     (size_t)(r->context_len + r->horizon) * sizeof(double), "series", &memory));
    b->memory = memory;
    MZ_TRY(mz_calloc(&b->ctx, (size_t)r->n_series, sizeof(mz_forecast_item), "series", &items));
    b->items = items;
    double *forecasts = b->memory + r->n_series * r->context_len;
    for (int64_t i = 0; i < r->n_series; i++) {
        double *values = b->memory + i * r->context_len;
        mz_bench_synthesise(values, r->context_len, (uint64_t)r->seed, (uint64_t)i);
        b->items[i] = (mz_forecast_item){
            .values = values, .n_values = r->context_len, .forecast = forecasts + i * r->horizon};
    }
    return MZ_OK;
}

static mz_status run_once(bench *b) {
    int64_t done = 0;
    while (done < b->request.n_series) {
        const int64_t left = b->request.n_series - done;
        const int64_t n =
            mz_forecaster_batch_size(b->forecaster, &b->options, b->items + done, left);
        MZ_TRY(mz_forecaster_run(b->forecaster, &b->options, b->items + done, n));
        done += n;
    }
    return MZ_OK;
}

static mz_status load(bench *b) {
    const request *r = &b->request;
    const mz_load_options options = {.precision = (mz_precision)r->precision};
    MZ_TRY(
        mz_cli_find_model(&b->ctx, r->model, r->models_dir, MZ_DEFAULT_FORECASTER, &b->model_dir));
    MZ_TRY(mz_cli_model_name(&b->ctx, b->model_dir, &b->model_name));
    MZ_TRY(mz_zoo_describe(&b->ctx, b->model_dir, &b->info));
    const double start = mz_now_s();
    MZ_TRY(mz_zoo_load_forecaster(&b->ctx, b->model_dir, &options, &b->forecaster));
    b->measures.load_s = mz_now_s() - start;
    b->options = (mz_forecast_options){.horizon = r->horizon, .context_len = r->context_len};
    return MZ_OK;
}

static mz_status measure(bench *b, bool quiet) {
    measures *m = &b->measures;
    void *runs = NULL;
    MZ_TRY(make_series(b));
    MZ_TRY(mz_calloc(&b->ctx, (size_t)b->request.n_repeat, sizeof(double), "times", &runs));
    m->runs_s = runs;
    MZ_TRY(run_once(b));
    m->first_s = mz_now_s() - b->start_s;
    mz_forecaster_set_profile(b->forecaster, &m->profile);
    mz_progress progress;
    mz_progress_init(&progress, "measuring", b->request.n_repeat, quiet);
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < b->request.n_repeat && status == MZ_OK; i++) {
        const double start = mz_now_s();
        status = run_once(b);
        m->runs_s[i] = mz_now_s() - start;
        mz_progress_update(&progress, i + 1);
    }
    mz_progress_finish(&progress);
    mz_forecaster_set_profile(b->forecaster, NULL);
    MZ_TRY(status);
    m->median_s = mz_bench_sort(m->runs_s, b->request.n_repeat);
    m->peak_bytes = mz_bench_peak_bytes();
    return MZ_OK;
}

/* ---- report ---- */

static mz_bench_times times_of(const bench *b) {
    double total = 0;
    for (int64_t i = 0; i < b->request.n_repeat; i++) {
        total += b->measures.runs_s[i];
    }
    return (mz_bench_times){.profile = &b->measures.profile, .total_s = total > 0 ? total : 1e-9};
}

static void print_report(const bench *b) {
    const request *r = &b->request;
    const measures *m = &b->measures;
    const double middle = m->median_s;
    const mz_bench_times times = times_of(b);
    char text[32];
    char size[32];
    (void)printf("model            %s (%s, %s parameters, %s)\n", b->model_name, b->info.family,
                 mz_cli_format_count(b->info.n_parameters, text), b->info.dtype);
    (void)printf("machine          backend %s, %s, %d threads, precision %s\n",
                 mz_backend_cpu()->name, mz_isa_name(b->ctx.isa), mz_pool_n_threads(b->ctx.pool),
                 mz_bench_precision_name((mz_precision)r->precision));
    (void)printf("work             %" PRId64 " series, context %" PRId64 ", horizon %" PRId64
                 ", %" PRId64 " runs\n",
                 r->n_series, r->context_len, r->horizon, r->n_repeat);
    (void)printf("load             %.4f s\n", m->load_s);
    (void)printf("first forecast   %.4f s after the start\n", m->first_s);
    (void)printf("run              %.4f s median, %.4f s fastest, %.4f s slowest\n", middle,
                 m->runs_s[0], m->runs_s[r->n_repeat - 1]);
    (void)printf("speed            %.1f series/s, %.0f points forecast/s, %.0f points read/s\n",
                 (double)r->n_series / middle, (double)(r->n_series * r->horizon) / middle,
                 (double)(r->n_series * r->context_len) / middle);
    (void)printf("peak memory      %s\n", mz_cli_format_bytes(m->peak_bytes, size));
    mz_bench_print_ops(&times);
}

static void print_json(const bench *b) {
    const request *r = &b->request;
    const measures *m = &b->measures;
    const double middle = m->median_s;
    const mz_bench_times times = times_of(b);
    (void)printf("{");
    mz_bench_json_text("model", b->model_name);
    mz_bench_json_text("family", b->info.family);
    mz_bench_json_text("dtype", b->info.dtype);
    mz_bench_json_text("backend", mz_backend_cpu()->name);
    mz_bench_json_text("isa", mz_isa_name(b->ctx.isa));
    mz_bench_json_text("precision", mz_bench_precision_name((mz_precision)r->precision));
    (void)printf("\"threads\":%d,\"series\":%" PRId64 ",\"context\":%" PRId64
                 ",\"horizon\":%" PRId64 ",\"repeat\":%" PRId64 ",",
                 mz_pool_n_threads(b->ctx.pool), r->n_series, r->context_len, r->horizon,
                 r->n_repeat);
    mz_bench_json_number("load_s", m->load_s);
    mz_bench_json_number("first_forecast_s", m->first_s);
    mz_bench_json_number("median_s", middle);
    mz_bench_json_number("min_s", m->runs_s[0]);
    mz_bench_json_number("max_s", m->runs_s[r->n_repeat - 1]);
    mz_bench_json_number("series_per_s", (double)r->n_series / middle);
    mz_bench_json_number("points_forecast_per_s", (double)(r->n_series * r->horizon) / middle);
    mz_bench_json_number("points_read_per_s", (double)(r->n_series * r->context_len) / middle);
    (void)printf("\"peak_bytes\":%" PRId64 ",", m->peak_bytes);
    mz_bench_print_json_ops(&times);
    (void)printf("}\n");
}

/* ---- command line ---- */

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_option options[] = {
        {"model", 'm', MZ_OPTION_STRING, "DIR|NAME",
         "checkpoint folder or name (default " MZ_DEFAULT_FORECASTER ")", 0, 0, NULL, &r->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r->models_dir},
        {"context", 'c', MZ_OPTION_INT, "N", "values of each series (default 512)", 1, MAX_CONTEXT,
         NULL, &r->context_len},
        {"horizon", 'n', MZ_OPTION_INT, "N", "values to forecast (default 96)", 1, MZ_MAX_HORIZON,
         NULL, &r->horizon},
        {"series", 0, MZ_OPTION_INT, "N", "series in a run (default 1)", 1, MAX_SERIES, NULL,
         &r->n_series},
        {"repeat", 0, MZ_OPTION_INT, "N", "timed runs after the first (default 5)", 1, MAX_REPEAT,
         NULL, &r->n_repeat},
        {"precision", 0, MZ_OPTION_CHOICE, NULL, "arithmetic of the products (default f32)", 0, 0,
         "f32|bf16", &r->precision},
        {"seed", 0, MZ_OPTION_INT, "N", "seed of the made-up series (default 0)", 0, INT64_MAX,
         NULL, &r->seed},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object; times in seconds", 0, 0, NULL,
         &r->json},
    };
    mz_arguments arguments = {.options = options, .n_options = sizeof options / sizeof options[0]};
    const bool go_on = mz_cli_parse(&forecast_command, &arguments, argc, argv, exit_code);
    *common = arguments.common;
    return go_on;
}

static void close_bench(bench *b) {
    mz_forecaster_close(b->forecaster);
    mz_free(&b->ctx, b->measures.runs_s);
    mz_free(&b->ctx, b->items);
    mz_free(&b->ctx, b->memory);
    mz_free(&b->ctx, b->model_name);
    mz_free(&b->ctx, b->model_dir);
    mz_context_close(&b->ctx);
}

static int run_forecast(int argc, char **argv) {
    bench b = {.start_s = mz_now_s(),
               .request = {.context_len = 512, .horizon = 96, .n_series = 1, .n_repeat = 5}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &b.request, &common, &exit_code) ||
        !mz_cli_context(&forecast_command, &common, &b.ctx, &exit_code)) {
        return exit_code;
    }
    mz_status status = load(&b);
    if (status == MZ_OK) {
        status = measure(&b, common.quiet);
    }
    if (status != MZ_OK) {
        exit_code = mz_cli_fail(&forecast_command, &b.ctx.error);
    } else if (b.request.json) {
        print_json(&b);
    } else {
        print_report(&b);
    }
    close_bench(&b);
    return exit_code;
}

static const mz_command forecast_command = {
    .name = "bench forecast",
    .summary = "speed, memory and share of each op when forecasting",
    .usage = "moezoo bench forecast [options]",
    .examples = "  moezoo bench forecast\n"
                "  moezoo bench forecast -m ./TimeMoE-50M -c 512 -n 96 --series 8 --json\n"
                "  moezoo bench forecast --isa avx2 -t 1\n",
    .run = run_forecast,
};

static int run(int argc, char **argv) {
    static const mz_command *const commands[] = {&forecast_command, &mz_command_bench_train,
                                                 &mz_command_bench_llm, NULL};
    return mz_cli_dispatch("moezoo bench", "speed and memory of a model on this machine", commands,
                           argc, argv);
}

const mz_command mz_command_bench = {
    .name = "bench",
    .summary = "measure speed and memory on this machine",
    .usage = "moezoo bench forecast|train|llm ...",
    .examples = "  moezoo bench forecast --series 8\n"
                "  moezoo bench train --shape 50m\n"
                "  moezoo bench llm -m smollm2.gguf\n",
    .run = run,
};
