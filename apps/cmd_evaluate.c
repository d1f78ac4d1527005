/* moezoo forecast evaluate: the long-horizon protocol in which Time-MoE's authors publish scores
 * (Shi et al. 2024, section 4.1; the released evaluation script): every column on its own, scaled
 * by the training rows' mean and deviation, a window at every stride of the test rows, no scaling
 * of the window, errors pooled over columns, windows and steps. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "apps/commands.h"
#include "apps/forecast/forecast_setup.h"
#include "apps/zoo/zoo.h"
#include "core/profile.h"

typedef struct request {
    mz_forecast_inputs in;
    int64_t stride;
    int protocol;
    bool json;
} request;

/* Rows [0, train_end) give the scale, forecasts are made for rows [test_begin, test_end). */
typedef struct split {
    int64_t train_end, test_begin, test_end;
} split;

/* The columns, scaled, and where the next window begins. */
typedef struct windows {
    mz_context *ctx;
    double *values; /* [n_columns, n_rows] */
    double *window; /* [context_len + horizon] a copy for the batch to work on */
    char (*names)[MZ_WARNING_BYTES];
    int64_t n_columns, n_rows;
    int64_t column, at; /* next: its first forecast row */
    split rows;
    int64_t context_len, horizon, stride;
} windows;

typedef struct scores {
    double squares, absolutes;
    int64_t n_values, n_windows;
} scores;

typedef struct job {
    mz_context ctx;
    request request;
    mz_forecast_setup setup;
    mz_model_info info;
    windows windows;
    scores scores;
} job;

/* ---- data ---- */

static bool name_has(const char *path, const char *part) {
    const size_t n = strlen(part);
    for (const char *at = mz_cli_base_name(path); *at != '\0'; at++) {
        if (strncasecmp(at, part, n) == 0) {
            return true;
        }
    }
    return false;
}

/* ETT: months of 30 days, 12 for training, 4 for validation, 4 for the test; others 7 : 1 : 2. */
static mz_status split_of(mz_context *ctx, const char *file, int64_t n_rows, split *out) {
    const int64_t month = name_has(file, "etth")   ? 30 * 24
                          : name_has(file, "ettm") ? 30 * 24 * 4
                                                   : 0;
    if (month > 0) {
        *out = (split){.train_end = 12 * month, .test_begin = 16 * month, .test_end = 20 * month};
    } else {
        /* In floating point as in the script, which takes a row less than exact tenths now and
         * then (62 of 90). */
        const int64_t n_test = (int64_t)((double)n_rows * 0.2);
        const int64_t n_train = (int64_t)((double)n_rows * 0.7);
        *out = (split){.train_end = n_train, .test_begin = n_rows - n_test, .test_end = n_rows};
    }
    if (out->train_end < 2 || out->test_end > n_rows) {
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "%s: %" PRId64 " rows, the protocol's split needs %" PRId64, file, n_rows,
                       out->train_end < 2 ? (int64_t)10 : out->test_end);
    }
    return MZ_OK;
}

/* The script's contexts. */
static int64_t context_of(int64_t horizon) {
    switch (horizon) {
    case 96:
        return 512;
    case 192:
        return 1024;
    case 336:
        return 2048;
    case 720:
        return 3072;
    default:
        return 4 * horizon;
    }
}

static mz_status scale_column(job *j, double *values, const char *name) {
    windows *w = &j->windows;
    for (int64_t i = 0; i < w->n_rows; i++) {
        if (isnan(values[i])) {
            return mz_fail(&j->ctx.error, MZ_ERR_ARG,
                           "%s: column \"%s\", data row %" PRId64
                           ": a missing value; the protocol has none",
                           j->request.in.file, name, i + 1);
        }
    }
    const mz_series_scale scale =
        mz_series_scale_of(values, w->rows.train_end, MZ_NORMALIZE_WINDOW);
    for (int64_t i = 0; i < w->n_rows; i++) {
        /* The authors' arrays are f32. */
        values[i] = (double)(float)((values[i] - scale.mean) / scale.scale);
    }
    return MZ_OK;
}

static mz_status take(mz_context *ctx, int64_t n, size_t size, const char *what, void **out) {
    return mz_calloc(ctx, (size_t)n, size, what, out);
}

static mz_status read_columns(job *j) {
    windows *w = &j->windows;
    void *memory = NULL;
    w->n_columns = mz_series_count(j->setup.reader);
    for (int64_t c = 0; c < w->n_columns; c++) {
        mz_series series;
        bool end = false;
        MZ_TRY(mz_series_next(j->setup.reader, &series, &end));
        if (c == 0) {
            w->n_rows = series.n_values;
            MZ_TRY(split_of(&j->ctx, j->request.in.file, w->n_rows, &w->rows));
            MZ_TRY(take(&j->ctx, w->n_columns * w->n_rows, sizeof(double), "columns", &memory));
            w->values = memory;
            MZ_TRY(take(&j->ctx, w->n_columns, sizeof *w->names, "names of columns", &memory));
            w->names = memory;
        }
        if (series.n_values != w->n_rows) {
            char shown[MZ_SERIES_ID_SHOWN_BYTES];
            mz_series_show_id(series.id, shown);
            return mz_fail(&j->ctx.error, MZ_ERR_ARG,
                           "%s: series \"%s\" has %" PRId64 " values, the first one %" PRId64,
                           j->request.in.file, shown, series.n_values, w->n_rows);
        }
        (void)snprintf(w->names[c], sizeof w->names[c], "%s", series.id);
        memcpy(w->values + c * w->n_rows, series.values, (size_t)w->n_rows * sizeof(double));
        MZ_TRY(scale_column(j, w->values + c * w->n_rows, series.id));
    }
    MZ_TRY(take(&j->ctx, w->context_len + w->horizon, sizeof(double), "window", &memory));
    w->window = memory;
    return MZ_OK;
}

/* The script stops one window before the last that would fit. */
static int64_t windows_per_column(const windows *w) {
    const int64_t n = w->rows.test_end - w->rows.test_begin - w->horizon;
    return n > 0 ? (n + w->stride - 1) / w->stride : 0;
}

static mz_status next_window(void *self, mz_series *out, bool *end) {
    windows *w = self;
    if (w->at + w->horizon >= w->rows.test_end) {
        w->at = w->rows.test_begin;
        w->column++;
    }
    if (w->column == w->n_columns) {
        *end = true;
        return MZ_OK;
    }
    const int64_t n = w->context_len + w->horizon;
    memcpy(w->window, w->values + w->column * w->n_rows + w->at - w->context_len,
           (size_t)n * sizeof(double));
    *out = (mz_series){.id = w->names[w->column], .values = w->window, .n_values = n};
    w->at += w->stride;
    return MZ_OK;
}

/* ---- published scores ---- */

typedef struct published {
    const char *data;
    int64_t horizon;
    double mse[2], mae[2]; /* TimeMoE-50M, TimeMoE-200M */
} published;

/* Shi et al. 2024, table 3, zero-shot. */
static const published table_3[] = {
    {"etth1", 96, {0.357, 0.350}, {0.381, 0.382}},
    {"etth1", 192, {0.384, 0.388}, {0.404, 0.412}},
    {"etth1", 336, {0.411, 0.411}, {0.434, 0.430}},
    {"etth1", 720, {0.449, 0.427}, {0.477, 0.455}},
    {"etth2", 96, {0.305, 0.302}, {0.359, 0.354}},
    {"etth2", 192, {0.351, 0.364}, {0.386, 0.385}},
    {"etth2", 336, {0.391, 0.417}, {0.418, 0.425}},
    {"etth2", 720, {0.419, 0.537}, {0.454, 0.496}},
    {"ettm1", 96, {0.338, 0.309}, {0.368, 0.357}},
    {"ettm1", 192, {0.353, 0.346}, {0.388, 0.381}},
    {"ettm1", 336, {0.381, 0.373}, {0.413, 0.408}},
    {"ettm1", 720, {0.504, 0.475}, {0.493, 0.477}},
    {"ettm2", 96, {0.201, 0.197}, {0.291, 0.286}},
    {"ettm2", 192, {0.258, 0.250}, {0.334, 0.322}},
    {"ettm2", 336, {0.324, 0.337}, {0.373, 0.375}},
    {"ettm2", 720, {0.488, 0.480}, {0.464, 0.461}},
    {"weather", 96, {0.160, 0.159}, {0.214, 0.213}},
    {"weather", 192, {0.210, 0.215}, {0.260, 0.266}},
    {"weather", 336, {0.274, 0.291}, {0.309, 0.322}},
    {"weather", 720, {0.418, 0.415}, {0.405, 0.400}},
};

/* The row for this file and horizon, and which of the two models this checkpoint has the sizes of;
 * NULL if there is none. */
static const published *find_published(const job *j, int *model) {
    static const int64_t parameters[] = {113352192, 453196800};
    *model = j->info.n_parameters == parameters[0]   ? 0
             : j->info.n_parameters == parameters[1] ? 1
                                                     : -1;
    for (size_t i = 0; *model >= 0 && i < sizeof table_3 / sizeof table_3[0]; i++) {
        const bool is_data = name_has(j->request.in.file, table_3[i].data);
        if (is_data && table_3[i].horizon == j->windows.horizon &&
            j->windows.context_len == context_of(j->windows.horizon)) {
            return &table_3[i];
        }
    }
    return NULL;
}

/* ---- work ---- */

static mz_status open_job(job *j) {
    const mz_forecast_inputs *in = &j->request.in;
    windows *w = &j->windows;
    w->horizon = in->horizon;
    w->stride = j->request.stride;
    w->context_len = in->context_len;
    MZ_TRY(mz_forecast_setup_open(&j->ctx, in, &j->setup));
    MZ_TRY(read_columns(j));
    if (windows_per_column(w) == 0 || w->rows.test_begin < w->context_len) {
        return mz_fail(&j->ctx.error, MZ_ERR_ARG,
                       "%s: no window fits: %" PRId64 " test rows after %" PRId64
                       ", horizon %" PRId64 ", context %" PRId64,
                       in->file, w->rows.test_end - w->rows.test_begin, w->rows.test_begin,
                       w->horizon, w->context_len);
    }
    w->at = w->rows.test_begin;
    j->setup.batch->hold_out = true;
    /* The protocol leaves scaling to the model, and one of quantiles scales every window. */
    const double *levels = NULL;
    if (mz_forecaster_levels(j->setup.batch->forecaster, &levels) > 0) {
        j->setup.batch->options.normalize = MZ_NORMALIZE_WINDOW;
    }
    return mz_zoo_describe(&j->ctx, j->setup.model_dir, &j->info);
}

static void close_job(job *j) {
    mz_free(&j->ctx, j->windows.window);
    mz_free(&j->ctx, j->windows.names);
    mz_free(&j->ctx, j->windows.values);
    mz_forecast_setup_close(&j->setup);
    mz_context_close(&j->ctx);
}

static mz_status add_scores(job *j) {
    for (int i = 0; i < j->setup.batch->n_ready; i++) {
        const mz_forecast_entry *e = &j->setup.batch->entries[i];
        if (e->error != NULL) {
            return mz_fail(&j->ctx.error, MZ_ERR_ARG, "%s: series \"%s\": %s", j->request.in.file,
                           e->id, e->error);
        }
        for (int64_t h = 0; h < j->windows.horizon; h++) {
            const double error = e->forecast[h] - e->future[h];
            j->scores.squares += error * error;
            j->scores.absolutes += fabs(error);
        }
        j->scores.n_values += j->windows.horizon;
        j->scores.n_windows++;
    }
    return MZ_OK;
}

static mz_status run_windows(job *j) {
    const mz_forecast_source source = {.next = next_window, .self = &j->windows};
    mz_progress progress;
    mz_status status = MZ_OK;
    mz_progress_init(&progress, "evaluating",
                     windows_per_column(&j->windows) * j->windows.n_columns, j->request.in.quiet);
    while (status == MZ_OK && !mz_cli_interrupted()) {
        status = mz_forecast_batch_next(j->setup.batch, &source);
        if (status != MZ_OK || j->setup.batch->n_ready == 0) {
            break;
        }
        j->setup.batch->progress = &progress;
        j->setup.batch->n_before = j->scores.n_windows;
        status = mz_forecast_batch_run(j->setup.batch);
        if (status == MZ_OK) {
            status = add_scores(j);
        }
        mz_progress_update(&progress, j->scores.n_windows);
    }
    mz_progress_finish(&progress);
    return status;
}

static void print_table(const job *j, double seconds) {
    const windows *w = &j->windows;
    const scores *s = &j->scores;
    int model = -1;
    const published *p = find_published(j, &model);
    (void)printf("data       %s: %" PRId64 " columns, test rows %" PRId64 " to %" PRId64 "\n",
                 mz_cli_base_name(j->request.in.file), w->n_columns, w->rows.test_begin,
                 w->rows.test_end - 1);
    (void)printf("model      %s, context %" PRId64 ", horizon %" PRId64 "\n", j->setup.model_name,
                 w->context_len, w->horizon);
    (void)printf("windows    %" PRId64 " (every %" PRId64 "%s), %.3g s\n", s->n_windows, w->stride,
                 w->stride == 1 ? ": all" : "", seconds);
    (void)printf("MSE        %.4f\nMAE        %.4f\n", s->squares / (double)s->n_values,
                 s->absolutes / (double)s->n_values);
    if (p != NULL) {
        (void)printf("published  MSE %.3f, MAE %.3f (%s, Shi et al. 2024, table 3, every window)\n",
                     p->mse[model], p->mae[model], model == 0 ? "TimeMoE-50M" : "TimeMoE-200M");
    }
}

static void print_json(const job *j, double seconds) {
    const windows *w = &j->windows;
    const scores *s = &j->scores;
    int model = -1;
    const published *p = find_published(j, &model);
    (void)fputs("{\"file\":", stdout);
    mz_cli_write_json_string(stdout, mz_cli_base_name(j->request.in.file));
    (void)fputs(",\"model\":", stdout);
    mz_cli_write_json_string(stdout, j->setup.model_name);
    (void)printf(",\"protocol\":\"ett\",\"context\":%" PRId64 ",\"horizon\":%" PRId64
                 ",\"stride\":%" PRId64 ",\"columns\":%" PRId64 ",\"windows\":%" PRId64
                 ",\"mse\":%.17g,\"mae\":%.17g,\"seconds\":%.6g",
                 w->context_len, w->horizon, w->stride, w->n_columns, s->n_windows,
                 s->squares / (double)s->n_values, s->absolutes / (double)s->n_values, seconds);
    if (p != NULL) {
        (void)printf(",\"published\":{\"model\":\"%s\",\"mse\":%.3f,\"mae\":%.3f}",
                     model == 0 ? "TimeMoE-50M" : "TimeMoE-200M", p->mse[model], p->mae[model]);
    }
    (void)fputs("}\n", stdout);
}

static int work(job *j) {
    const mz_command *c = &mz_command_forecast_evaluate;
    mz_status status = open_job(j);
    const double start = mz_now_s();
    if (status == MZ_OK) {
        mz_cli_catch_interrupts();
        if (!j->request.in.quiet) {
            mz_forecast_setup_tell_notes(&j->setup, c, j->request.in.file);
        }
        status = run_windows(j);
    }
    if (status != MZ_OK) {
        return mz_cli_fail(c, &j->ctx.error);
    }
    const int64_t n_all = windows_per_column(&j->windows) * j->windows.n_columns;
    if (j->scores.n_windows > 0) {
        (j->request.json ? print_json : print_table)(j, mz_now_s() - start);
    }
    if (j->scores.n_windows < n_all) {
        (void)mz_fail(&j->ctx.error, MZ_ERR_ARG,
                      "interrupted: %" PRId64 " of %" PRId64 " windows scored", j->scores.n_windows,
                      n_all);
        return mz_cli_fail(c, &j->ctx.error);
    }
    return MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    const mz_command *c = &mz_command_forecast_evaluate;
    /* Rows are counted as they stand, whatever their dates: the published Weather file has gaps. */
    job j = {.request = {.in = {.horizon = MZ_NOT_GIVEN,
                                .ignore_dates = true,
                                .missing = MZ_MISSING_ERROR,
                                .normalize = MZ_NORMALIZE_NONE},
                         .stride = 1}};
    request *r = &j.request;
    mz_forecast_inputs *in = &r->in;
    const mz_option options[] = {
        {"horizon", 'n', MZ_OPTION_INT, "N",
         "how many values to forecast (published: 96, 192, 336, 720)", 1, MZ_MAX_HORIZON, NULL,
         &in->horizon},
        {"protocol", 0, MZ_OPTION_CHOICE, NULL, "how to cut and scale the file (default ett)", 0, 0,
         "ett", &r->protocol},
        {"context", 'c', MZ_OPTION_INT, "N",
         "values before each window (default 512, 1024, 2048, 3072 for the published horizons, "
         "else 4 horizons)",
         1, MZ_FORECAST_MAX_CONTEXT, NULL, &in->context_len},
        {"stride", 0, MZ_OPTION_INT, "N", "rows from one window to the next (default 1)", 1,
         INT64_MAX / 2, NULL, &r->stride},
        {"model", 'm', MZ_OPTION_STRING, "DIR|NAME",
         "checkpoint folder or name (default " MZ_DEFAULT_FORECASTER ")", 0, 0, NULL, &in->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &in->models_dir},
        {"adapter", 0, MZ_OPTION_STRING, "DIR", "low-rank adapter (LoRA) of the model", 0, 0, NULL,
         &in->adapter},
        {"precision", 0, MZ_OPTION_CHOICE, NULL, "arithmetic of the products (default f32)", 0, 0,
         "f32|bf16", &in->precision},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object", 0, 0, NULL, &r->json},
    };
    mz_arguments arguments = {.options = options,
                              .n_options = sizeof options / sizeof options[0],
                              .positionals = &in->file,
                              .max_positionals = 1};
    int exit_code = MZ_EXIT_OK;
    if (!mz_cli_parse(c, &arguments, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (arguments.n_positionals == 0 || in->horizon == MZ_NOT_GIVEN) {
        return mz_cli_usage_error(c, "%s is missing; usage: %s",
                                  in->horizon == MZ_NOT_GIVEN ? "--horizon N" : "FILE", c->usage);
    }
    in->context_len = in->context_len > 0 ? in->context_len : context_of(in->horizon);
    if (!mz_cli_context(c, &arguments.common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.request.in.quiet = arguments.common.quiet;
    exit_code = work(&j);
    close_job(&j);
    return exit_code;
}

const mz_command mz_command_forecast_evaluate = {
    .name = "forecast evaluate",
    .summary = "score a model by the protocol of the published tables",
    .usage = "moezoo forecast evaluate FILE --horizon N [--stride N] [options]",
    .examples =
        "  moezoo forecast evaluate ETTh1.csv --horizon 96\n"
        "  moezoo forecast evaluate ETTh1.csv --horizon 336 --stride 24 -m ./TimeMoE-50M --json\n",
    .run = run,
};
