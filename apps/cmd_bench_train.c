/* moezoo bench train: speed and memory of a step of training on this machine. */
#include <inttypes.h>
#include <string.h>

#include "apps/bench_parts.h"
#include "apps/commands.h"
#include "apps/zoo/forecaster_training.h"
#include "apps/zoo/series_rows.h"
#include "apps/zoo/zoo.h"
#include "core/optimizer.h"
#include "core/threads.h"

enum { MAX_BATCH = 4096, MAX_STEPS = 10000, MAX_WINDOW = 1 << 16 };

/* Configs of published models whose weights are not needed to time a step. */
static const char *const shape_configs[] = {
    "{\"model_type\":\"time_moe\",\"hidden_size\":384,\"intermediate_size\":1536,"
    "\"num_hidden_layers\":12,\"num_attention_heads\":12,\"num_experts\":8,"
    "\"num_experts_per_tok\":2,\"horizon_lengths\":[1,8,32,64],"
    "\"max_position_embeddings\":4096}",
    "{\"model_type\":\"time_moe\",\"hidden_size\":768,\"intermediate_size\":3072,"
    "\"num_hidden_layers\":12,\"num_attention_heads\":12,\"num_experts\":8,"
    "\"num_experts_per_tok\":2,\"horizon_lengths\":[1,8,32,64],"
    "\"max_position_embeddings\":4096}",
};
static const char *const shape_names[] = {"TimeMoE-50M", "TimeMoE-200M"};

/* What the line asked for. */
typedef struct request {
    const char *model, *models_dir;
    int64_t window, batch, n_steps, seed;
    int shape; /* index; counts without a model */
    int precision;
    bool recompute, json;
} request;

/* What was measured. */
typedef struct measures {
    double *steps_s; /* [n_steps] ascending */
    double median_s, total_s;
    double zero_s, gradients_s, update_s; /* of all timed steps: they sum to total_s */
    mz_profile profile;                   /* of the timed steps */
    double flops;                         /* of a step, what is computed twice counted twice */
    double peak_flops;                    /* a second, of a large product */
    double first_loss, last_loss;
    int64_t peak_bytes;       /* resident, of the whole process */
    int64_t activation_bytes; /* with their gradients, at most */
} measures;

typedef struct bench {
    mz_context ctx;
    request request;
    char *model_dir, *model_name;
    mz_parameters parameters;
    mz_forecaster *forecaster;
    mz_forecast_training *training;
    mz_optimizer *optimizer;
    mz_series_rows rows;
    measures measures;
} bench;

/* ---- work ---- */

static mz_status load(bench *b) {
    const request *r = &b->request;
    const mz_init init = {.seed = (uint64_t)r->seed, .deviation = 0.02};
    mz_load_options options = {.precision = (mz_precision)r->precision,
                               .weights = {.parameters = &b->parameters}};
    if (r->model != NULL) {
        MZ_TRY(mz_cli_find_model(&b->ctx, r->model, r->models_dir, NULL, &b->model_dir));
        MZ_TRY(mz_cli_model_name(&b->ctx, b->model_dir, &b->model_name));
        return mz_zoo_load_forecaster(&b->ctx, b->model_dir, &options, &b->forecaster);
    }
    json_t *config = NULL;
    const char *text = shape_configs[r->shape];
    const char *name = shape_names[r->shape];
    options.weights.init = &init;
    MZ_TRY(mz_strdup(&b->ctx, name, &b->model_name));
    MZ_TRY(mz_json_parse(&b->ctx, text, strlen(text), name, &config));
    const mz_status status =
        mz_zoo_create_forecaster(&b->ctx, config, name, &options, &b->forecaster);
    json_decref(config);
    return status;
}

/* Windows whose every row is scored. They are scaled by their first patch, which for a patch of one
 * point only shifts them: so they come with a deviation near 1. */
static mz_status make_rows(bench *b) {
    const request *r = &b->request;
    const mz_forecaster_parts *parts = mz_forecaster_parts_of(b->forecaster);
    const int64_t n = r->window + parts->patch_len;
    void *memory = NULL;
    MZ_TRY(mz_alloc(&b->ctx, (size_t)n * (sizeof(double) + sizeof(float)), "window", &memory));
    double *series = memory;
    float *values = (float *)(series + n);
    mz_status status = MZ_OK;
    mz_series_rows_init(&b->rows, parts);
    for (int64_t i = 0; i < r->batch && status == MZ_OK; i++) {
        mz_bench_synthesise(series, n, (uint64_t)r->seed, (uint64_t)i);
        for (int64_t k = 0; k < n; k++) {
            values[k] = (float)((series[k] - 100) / 10);
        }
        mz_series_window window = {
            .values = values, .n_values = n, .n_context = parts->patch_len, .weight = 1};
        status = mz_series_rows_add(&b->ctx, &b->rows, &window, 0);
    }
    mz_free(&b->ctx, memory);
    return status;
}

static mz_status prepare(bench *b) {
    const request *r = &b->request;
    const mz_optimizer_config config = {
        .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip_norm = 1};
    MZ_TRY(load(b));
    MZ_TRY(make_rows(b));
    MZ_TRY(mz_forecast_training_create(&b->ctx, b->forecaster, r->window + 2, r->recompute,
                                       &b->training));
    return mz_optimizer_create(&b->ctx, &config, &b->parameters, &b->optimizer);
}

/* One step, as a training does it. */
static mz_status run_step(bench *b, mz_train_report *report) {
    const mz_forecast_rows rows = mz_series_rows_view(&b->rows);
    const mz_forecast_loss loss = {
        .huber_delta = 2, .balance_factor = 0.02, .balance_by_layer = false};
    measures *m = &b->measures;
    const double start = mz_now_s();
    mz_parameters_zero_gradients(&b->ctx, &b->parameters);
    const double zeroed = mz_now_s();
    MZ_TRY(mz_forecast_training_gradients(b->training, &rows, &loss, 1, report));
    const double computed = mz_now_s();
    MZ_TRY(mz_optimizer_step(b->optimizer, 1e-4, NULL));
    m->zero_s += zeroed - start;
    m->gradients_s += computed - zeroed;
    m->update_s += mz_now_s() - computed;
    return MZ_OK;
}

/* Steps after a first one, which also touches all memory for the first time. */
static mz_status measure(bench *b, bool quiet) {
    measures *m = &b->measures;
    void *steps = NULL;
    mz_train_report report;
    MZ_TRY(mz_calloc(&b->ctx, (size_t)b->request.n_steps, sizeof(double), "times", &steps));
    m->steps_s = steps;
    MZ_TRY(run_step(b, &report));
    m->first_loss = report.loss;
    m->zero_s = m->gradients_s = m->update_s = 0;
    mz_forecast_training_set_profile(b->training, &m->profile);
    mz_progress progress;
    mz_progress_init(&progress, "measuring", b->request.n_steps, quiet);
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < b->request.n_steps && status == MZ_OK; i++) {
        const double start = mz_now_s();
        status = run_step(b, &report);
        m->steps_s[i] = mz_now_s() - start;
        m->total_s += m->steps_s[i];
        mz_progress_update(&progress, i + 1);
    }
    mz_progress_finish(&progress);
    mz_forecast_training_set_profile(b->training, NULL);
    MZ_TRY(status);
    m->last_loss = report.loss;
    m->median_s = mz_bench_sort(m->steps_s, b->request.n_steps);
    m->peak_bytes = mz_bench_peak_bytes();
    m->activation_bytes = (int64_t)mz_forecast_training_peak_bytes(b->training);
    for (int op = 0; op < MZ_OP_COUNT; op++) {
        m->flops += m->profile.ops[op].flops / (double)b->request.n_steps;
    }
    return mz_bench_peak_flops(&b->ctx, (mz_precision)b->request.precision, &m->peak_flops);
}

/* ---- report ---- */

static mz_bench_times times_of(const bench *b) {
    const measures *m = &b->measures;
    return (mz_bench_times){
        .profile = &m->profile,
        .parts = {{"zeroing gradients", b->request.n_steps, m->zero_s},
                  {"optimizer", b->request.n_steps, m->update_s}},
        .n_parts = 2,
        .total_s = m->total_s > 0 ? m->total_s : 1e-9,
    };
}

static void print_report(const bench *b) {
    const request *r = &b->request;
    const measures *m = &b->measures;
    const mz_bench_times times = times_of(b);
    const double rate = m->flops / m->median_s;
    char text[32];
    char size[32];
    (void)printf("model            %s (%s parameters, %s)\n", b->model_name,
                 mz_cli_format_count(mz_parameters_n_values(&b->parameters), text),
                 r->model != NULL ? "as stored" : "fresh");
    (void)printf("machine          backend %s, %s, %d threads, precision %s\n",
                 mz_backend_cpu()->name, mz_isa_name(b->ctx.isa), mz_pool_n_threads(b->ctx.pool),
                 mz_bench_precision_name((mz_precision)r->precision));
    (void)printf("work             %" PRId64 " windows of %" PRId64
                 " points, recomputation %s, %" PRId64 " steps\n",
                 r->batch, r->window, r->recompute ? "on" : "off", r->n_steps);
    (void)printf("step             %.4f s median, %.4f s fastest, %.4f s slowest\n", m->median_s,
                 m->steps_s[0], m->steps_s[r->n_steps - 1]);
    (void)printf("speed            %.0f points/s, %.1f GFLOP/s, %.0f%% of a large product's %.1f\n",
                 (double)(r->batch * r->window) / m->median_s, rate * 1e-9,
                 100 * rate / m->peak_flops, m->peak_flops * 1e-9);
    (void)printf("loss             %.6f, after %" PRId64 " steps %.6f\n", m->first_loss, r->n_steps,
                 m->last_loss);
    (void)printf("peak memory      %s", mz_cli_format_bytes(m->peak_bytes, size));
    (void)printf(", activations and their gradients %s\n",
                 mz_cli_format_bytes(m->activation_bytes, size));
    mz_bench_print_ops(&times);
}

static void print_json(const bench *b) {
    const request *r = &b->request;
    const measures *m = &b->measures;
    const mz_bench_times times = times_of(b);
    const double rate = m->flops / m->median_s;
    (void)printf("{");
    mz_bench_json_text("model", b->model_name);
    mz_bench_json_text("backend", mz_backend_cpu()->name);
    mz_bench_json_text("isa", mz_isa_name(b->ctx.isa));
    mz_bench_json_text("precision", mz_bench_precision_name((mz_precision)r->precision));
    (void)printf("\"parameters\":%" PRId64 ",\"threads\":%d,\"window\":%" PRId64
                 ",\"batch\":%" PRId64 ",\"steps\":%" PRId64 ",\"recompute\":%s,",
                 mz_parameters_n_values(&b->parameters), mz_pool_n_threads(b->ctx.pool), r->window,
                 r->batch, r->n_steps, r->recompute ? "true" : "false");
    mz_bench_json_number("median_s", m->median_s);
    mz_bench_json_number("min_s", m->steps_s[0]);
    mz_bench_json_number("max_s", m->steps_s[r->n_steps - 1]);
    mz_bench_json_number("points_per_s", (double)(r->batch * r->window) / m->median_s);
    mz_bench_json_number("gflops_per_s", rate * 1e-9);
    mz_bench_json_number("peak_gflops_per_s", m->peak_flops * 1e-9);
    mz_bench_json_number("peak_share", rate / m->peak_flops);
    mz_bench_json_number("first_loss", m->first_loss);
    mz_bench_json_number("last_loss", m->last_loss);
    (void)printf("\"peak_bytes\":%" PRId64 ",\"activation_bytes\":%" PRId64 ",", m->peak_bytes,
                 m->activation_bytes);
    mz_bench_print_json_ops(&times);
    (void)printf("}\n");
}

/* ---- command line ---- */

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_option options[] = {
        {"model", 'm', MZ_OPTION_STRING, "DIR|NAME",
         "checkpoint folder or name (default: fresh weights)", 0, 0, NULL, &r->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r->models_dir},
        {"shape", 0, MZ_OPTION_CHOICE, NULL, "Time-MoE of fresh weights (default 50m)", 0, 0,
         "50m|200m", &r->shape},
        {"window", 'w', MZ_OPTION_INT, "N", "points of a window (default 1024)", 2, MAX_WINDOW,
         NULL, &r->window},
        {"batch", 'b', MZ_OPTION_INT, "N", "windows in a step (default 4)", 1, MAX_BATCH, NULL,
         &r->batch},
        {"repeat", 0, MZ_OPTION_INT, "N", "timed steps after the first (default 3)", 1, MAX_STEPS,
         NULL, &r->n_steps},
        {"precision", 0, MZ_OPTION_CHOICE, NULL, "arithmetic of the products (default f32)", 0, 0,
         "f32|bf16", &r->precision},
        {"recompute", 0, MZ_OPTION_FLAG, NULL, "keep no activations inside a layer", 0, 0, NULL,
         &r->recompute},
        {"seed", 0, MZ_OPTION_INT, "N", "seed of weights and series (default 0)", 0, INT64_MAX,
         NULL, &r->seed},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object; times in seconds", 0, 0, NULL,
         &r->json},
    };
    mz_arguments arguments = {.options = options, .n_options = sizeof options / sizeof options[0]};
    const bool go_on = mz_cli_parse(&mz_command_bench_train, &arguments, argc, argv, exit_code);
    *common = arguments.common;
    return go_on;
}

static void close_bench(bench *b) {
    mz_optimizer_destroy(&b->ctx, b->optimizer);
    mz_forecast_training_destroy(b->training);
    mz_forecaster_close(b->forecaster);
    mz_parameters_free(&b->ctx, &b->parameters);
    mz_series_rows_free(&b->ctx, &b->rows);
    mz_free(&b->ctx, b->measures.steps_s);
    mz_free(&b->ctx, b->model_name);
    mz_free(&b->ctx, b->model_dir);
    mz_context_close(&b->ctx);
}

static int run(int argc, char **argv) {
    bench b = {.request = {.window = 1024, .batch = 4, .n_steps = 3}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &b.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_bench_train, &common, &b.ctx, &exit_code)) {
        return exit_code;
    }
    mz_status status = prepare(&b);
    if (status == MZ_OK) {
        status = measure(&b, common.quiet);
    }
    if (status != MZ_OK) {
        exit_code = mz_cli_fail(&mz_command_bench_train, &b.ctx.error);
    } else if (b.request.json) {
        print_json(&b);
    } else {
        print_report(&b);
    }
    close_bench(&b);
    return exit_code;
}

const mz_command mz_command_bench_train = {
    .name = "bench train",
    .summary = "speed, memory and share of each op of a step of training",
    .usage = "moezoo bench train [options]",
    .examples =
        "  moezoo bench train --window 1024 --batch 4\n"
        "  moezoo bench train -m " MZ_DEFAULT_FORECASTER " --precision bf16 --recompute --json\n",
    .run = run,
};
