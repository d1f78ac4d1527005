/* moezoo forecast backtest: a model and the baselines on the past of the series of a file. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/forecast/backtest_report.h"
#include "apps/forecast/forecast_job.h"
#include "apps/forecast/forecast_plot.h"
#include "core/profile.h"

enum { FEW_SERIES = 16, MAX_WINDOWS = 1000000, MAX_STEP = 1 << 24, N_LINES = 2 };

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    mz_forecast_output out;
    const char *level, *quantile_list;
    int64_t n_windows, step;
    bool nonnegative, round, per_series, forecasts;
    mz_forecast_quantiles quantiles;
} request;

/* The series whose windows come in. */
typedef struct current {
    mz_backtest_scores scores;
    int64_t n_windows; /* seen */
    char *error;       /* of the first window that has one */
    FILE *forecasts;   /* JSON of its windows, where wanted */
    char *text;
    size_t text_bytes;
} current;

typedef struct job {
    mz_context ctx;
    request request;
    mz_forecast_job all;
    mz_backtest_windows windows;
    mz_backtest_report report;
    mz_backtest_totals totals;
    current current;
    int64_t n_windows;
    mz_forecast_plot plot;
} job;

/* ---- one series ---- */

static void drop_current(job *j) {
    current *c = &j->current;
    mz_free(&j->ctx, c->error);
    if (c->forecasts != NULL) {
        (void)fclose(c->forecasts);
    }
    free(c->text);
    *c = (current){0};
}

static mz_status add_forecast(job *j, const mz_forecast_entry *e, const mz_backtest_label *label) {
    current *c = &j->current;
    if (c->forecasts == NULL) {
        c->forecasts = open_memstream(&c->text, &c->text_bytes);
    }
    if (c->forecasts == NULL) {
        return mz_fail(&j->ctx.error, MZ_ERR_NOMEM, "forecasts of the windows: out of memory");
    }
    mz_backtest_report_window(&j->report, c->forecasts, e, label);
    return MZ_OK;
}

static mz_status add_window(job *j, const mz_forecast_entry *e, const mz_backtest_label *label) {
    current *c = &j->current;
    c->n_windows++;
    if (e->error == NULL) {
        mz_backtest_scores_add(&c->scores, e, label, j->request.in.horizon,
                               j->all.setup.batch->quantiles);
        return j->request.forecasts ? add_forecast(j, e, label) : MZ_OK;
    }
    if (c->error != NULL) {
        return MZ_OK;
    }
    if (label->is_series_error || label->n_windows == 1) {
        return mz_strdup(&j->ctx, e->error, &c->error);
    }
    (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "window %" PRId64 " of %" PRId64 ": %s",
                  label->window + 1, label->n_windows, e->error);
    return mz_strdup(&j->ctx, j->ctx.error.message, &c->error);
}

static mz_status finish_series(job *j, const mz_forecast_entry *e, const mz_backtest_label *label) {
    current *c = &j->current;
    if (c->forecasts != NULL && fflush(c->forecasts) != 0) {
        return mz_fail(&j->ctx.error, MZ_ERR_NOMEM, "forecasts of the windows: out of memory");
    }
    const mz_backtest_result result = {.id = e->id,
                                       .n_values = label->n_values,
                                       .n_windows = c->n_windows,
                                       .season = label->season,
                                       .scores = &c->scores,
                                       .warnings = &e->warnings,
                                       .forecasts = c->text,
                                       .error = c->error};
    if (c->error != NULL) {
        MZ_TRY(mz_forecast_job_note_failure(&j->all, e->id, c->error));
    } else {
        MZ_TRY(mz_answer_open(&j->all.answer));
        mz_backtest_totals_add(&j->totals, &c->scores);
        j->n_windows += c->n_windows;
        if (j->request.out.plot != NULL || j->request.out.show) {
            MZ_TRY(mz_forecast_plot_add(&j->plot, e));
        }
    }
    j->report.stream = j->all.answer.stream;
    mz_backtest_report_series(&j->report, &result);
    mz_answer_check(&j->all.answer);
    drop_current(j);
    return MZ_OK;
}

/* ---- work ---- */

static void fill_in(job *j) {
    const request *r = &j->request;
    const mz_forecast_setup *setup = &j->all.setup;
    mz_forecast_batch *batch = setup->batch;
    const int64_t step = r->step == MZ_NOT_GIVEN ? r->in.horizon : r->step;
    batch->quantiles = r->quantiles.n > 0 ? &r->quantiles : NULL;
    batch->nonnegative = r->nonnegative;
    batch->round = r->round;
    batch->hold_out = true;
    batch->baselines = true;
    batch->season = MZ_SEASON_AUTO; /* what the window says */
    j->windows = (mz_backtest_windows){
        .ctx = &j->ctx,
        .input = mz_forecast_setup_source(setup),
        .horizon = r->in.horizon,
        .n_windows = r->n_windows,
        .step = step,
        .season = r->in.season,
    };
    const int64_t n_series = mz_series_count(setup->reader);
    j->report = (mz_backtest_report){
        .stream = j->all.answer.stream,
        .format = (mz_forecast_format)r->out.format,
        .file = mz_cli_base_name(r->in.file),
        .model = setup->model_name,
        .horizon = r->in.horizon,
        .n_windows = r->n_windows,
        .step = step,
        .season = r->in.season,
        .quantiles = batch->quantiles,
        .per_series = r->per_series || (n_series > 1 && n_series <= FEW_SERIES),
    };
    j->plot = (mz_forecast_plot){
        .horizon = r->in.horizon, .quantiles = batch->quantiles, .gallery.ctx = &j->ctx};
}

static mz_status open_job(job *j) {
    MZ_TRY(mz_forecast_job_open(&j->all));
    fill_in(j);
    mz_backtest_report_begin(&j->report);
    return MZ_OK;
}

static void close_job(job *j) {
    drop_current(j);
    mz_plot_gallery_close(&j->plot.gallery);
    if (j->windows.ctx != NULL) {
        mz_backtest_windows_close(&j->windows);
    }
    mz_forecast_job_close(&j->all);
    mz_context_close(&j->ctx);
}

static int64_t n_windows_done(const job *j) {
    return j->report.n_written * j->request.n_windows + j->current.n_windows;
}

static mz_status score_batch(job *j) {
    const mz_forecast_batch *batch = j->all.setup.batch;
    for (int i = 0; i < batch->n_ready; i++) {
        const mz_forecast_entry *e = &batch->entries[i];
        const mz_backtest_label label = mz_backtest_windows_take_label(&j->windows);
        MZ_TRY(add_window(j, e, &label));
        if (label.window + 1 == label.n_windows) {
            MZ_TRY(finish_series(j, e, &label));
        }
    }
    mz_progress_update(&j->all.progress, n_windows_done(j));
    return mz_answer_flush(&j->all.answer);
}

static mz_status run_windows(job *j) {
    const mz_forecast_source source = {.next = mz_backtest_windows_next, .self = &j->windows};
    mz_forecast_batch *batch = j->all.setup.batch;
    batch->progress = &j->all.progress;
    while (!mz_cli_interrupted()) {
        MZ_TRY(mz_forecast_batch_next(batch, &source));
        if (batch->n_ready == 0) {
            return MZ_OK;
        }
        batch->n_before = n_windows_done(j);
        MZ_TRY(mz_forecast_batch_run(batch));
        MZ_TRY(score_batch(j));
    }
    return MZ_OK;
}

/* ---- after the last window ---- */

/* More lines than the best two would hide each other. */
static void choose_lines(job *j) {
    bool chosen[MZ_BASELINE_COUNT] = {false};
    for (int n = 0; n < N_LINES; n++) {
        int best = -1;
        double lowest = INFINITY;
        for (int b = 0; b < MZ_BASELINE_COUNT; b++) {
            const mz_total_scores *t = &j->totals.methods[1 + b];
            const bool is_scaled = t->n_defined[MZ_METRIC_MASE] > 0;
            const double score =
                mz_total_scores_metric(t, is_scaled ? MZ_METRIC_MASE : MZ_METRIC_MAE);
            if (!chosen[b] && (best < 0 || score < lowest)) {
                best = b;
                lowest = score;
            }
        }
        chosen[best] = true;
    }
    mz_forecast_plot_keep(&j->plot, chosen);
}

/* Completes the answer, if there is any. */
static mz_status finish(job *j) {
    mz_answer *answer = &j->all.answer;
    MZ_TRY(mz_forecast_job_check(&j->all));
    if (!answer->is_open) {
        return MZ_OK; /* interrupted before anything was ready */
    }
    choose_lines(j);
    mz_backtest_report_end(&j->report, &j->totals);
    mz_answer_check(answer);
    MZ_TRY(mz_answer_flush(answer));
    MZ_TRY(mz_plot_gallery_show(&j->plot.gallery, j->request.out.plot, NULL));
    MZ_TRY(mz_answer_commit(answer));
    return j->request.out.show ? mz_plot_gallery_show(&j->plot.gallery, NULL, stdout) : MZ_OK;
}

static int tell(const job *j) {
    const double seconds = mz_now_s() - j->all.start_s;
    const int64_t n_series = mz_series_count(j->all.setup.reader);
    const bool is_whole = j->report.n_written == n_series;
    char text[128];
    (void)snprintf(text, sizeof text,
                   "%" PRId64 " series, %" PRId64 " windows in %.3g s: %.4g windows/s", n_series,
                   j->n_windows, seconds, (double)j->n_windows / (seconds > 0 ? seconds : 1e-9));
    return mz_forecast_job_tell(&j->all,
                                is_whole ? n_series : j->report.n_written - j->all.n_failed, text);
}

static int work(job *j) {
    mz_status status = open_job(j);
    if (status == MZ_OK) {
        /* The table comes at the end. */
        const bool hidden =
            mz_forecast_job_answer_shows(&j->all) && j->request.out.format != MZ_FORECAST_TABLE;
        mz_forecast_job_start(&j->all, "backtesting",
                              mz_series_count(j->all.setup.reader) * j->request.n_windows, hidden);
        status = run_windows(j);
        mz_progress_finish(&j->all.progress);
    }
    if (status == MZ_OK) {
        status = finish(j);
    }
    return status == MZ_OK ? tell(j) : mz_forecast_job_fail(&j->all);
}

/* ---- command line ---- */

static int check_request(request *r, int n_positionals) {
    const mz_command *c = &mz_command_forecast_backtest;
    const int exit_code = mz_forecast_inputs_check(c, &r->in, n_positionals);
    if (exit_code != MZ_EXIT_OK) {
        return exit_code;
    }
    const int wrong = mz_forecast_output_check(c, r->in.file, &r->out);
    if (wrong != MZ_EXIT_OK) {
        return wrong;
    }
    if (r->forecasts && r->out.format != MZ_FORECAST_JSON) {
        return mz_cli_usage_error(c, "--forecasts goes with --json only");
    }
    if (r->per_series && r->out.format != MZ_FORECAST_TABLE) {
        return mz_cli_usage_error(c, "--per-series is for the table; csv and json have every "
                                     "series anyway");
    }
    return mz_forecast_bands_check(c, r->level, r->quantile_list, &r->quantiles);
}

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_option own[] = {
        {"windows", 0, MZ_OPTION_INT, "K",
         "forecasts a series, of which the last ends at its end (default 1)", 1, MAX_WINDOWS, NULL,
         &r->n_windows},
        {"step", 0, MZ_OPTION_INT, "S", "values from one window to the next (default: the horizon)",
         1, MAX_STEP, NULL, &r->step},
        {"level", 0, MZ_OPTION_STRING, "80,95",
         "score bands too that should hold the truth this often, in percent", 0, 0, NULL,
         &r->level},
        {"quantiles", 0, MZ_OPTION_STRING, "0.1,0.9", "the same as quantiles, ascending", 0, 0,
         NULL, &r->quantile_list},
        {"nonnegative", 0, MZ_OPTION_FLAG, NULL, "raise negative values of the model to 0", 0, 0,
         NULL, &r->nonnegative},
        {"round", 0, MZ_OPTION_FLAG, NULL, "round the model's values to whole numbers", 0, 0, NULL,
         &r->round},
        {"per-series", 0, MZ_OPTION_FLAG, NULL,
         "a table with a line for each series, however many (default: for 2 to 16)", 0, 0, NULL,
         &r->per_series},
        {"forecasts", 0, MZ_OPTION_FLAG, NULL, "with --json: the forecasts of every window too", 0,
         0, NULL, &r->forecasts},
    };
    mz_option options[MZ_MAX_OPTIONS];
    int n = mz_forecast_input_options(&r->in, options);
    memcpy(options + n, own, sizeof own);
    n += (int)(sizeof own / sizeof own[0]);
    n += mz_forecast_output_options(
        &r->out, "table|csv|json",
        "draw the last window of each series beside the best two baselines: .svg, .png or .pdf",
        options + n);
    mz_arguments arguments = {
        .options = options, .n_options = n, .positionals = &r->in.file, .max_positionals = 1};
    if (!mz_cli_parse(&mz_command_forecast_backtest, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    job j = {.request = {.in.horizon = MZ_NOT_GIVEN,
                         .out.format = MZ_NOT_GIVEN,
                         .n_windows = 1,
                         .step = MZ_NOT_GIVEN}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast_backtest, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.request.in.quiet = common.quiet;
    j.all = (mz_forecast_job){.ctx = &j.ctx,
                              .command = &mz_command_forecast_backtest,
                              .in = &j.request.in,
                              .out = &j.request.out,
                              .deed = "scored"};
    exit_code = work(&j);
    close_job(&j);
    return exit_code;
}

const mz_command mz_command_forecast_backtest = {
    .name = "forecast backtest",
    .summary = "score a model beside baselines on the past of a file's series",
    .usage = "moezoo forecast backtest FILE|- --horizon N [--windows K] [--step S] [options]",
    .examples =
        "  moezoo forecast backtest sales.csv --horizon 12 --windows 3\n"
        "  moezoo forecast backtest sales.csv -n 12 --windows 8 --step 1 --level 80 --show\n"
        "  moezoo forecast backtest many.jsonl -n 24 --season 24 --json -o scores.json\n"
        "  moezoo forecast backtest sales.csv -n 12 --quantiles "
        "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9\n",
    .run = run,
};
