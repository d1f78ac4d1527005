/* moezoo forecast backtest: a model and the baselines on the past of the series of a file. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/answer.h"
#include "apps/backtest_report.h"
#include "apps/commands.h"
#include "apps/forecast_plot.h"
#include "apps/forecast_setup.h"
#include "core/profile.h"

enum { FEW_SERIES = 16, MAX_WINDOWS = 1000000, MAX_STEP = 1 << 24, N_LINES = 2 };

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    const char *output, *level, *quantile_list, *plot;
    int64_t n_windows, step;
    int format;
    bool json, nonnegative, round, show, per_series, forecasts;
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
    bool quiet;
    mz_forecast_setup setup;
    mz_backtest_windows windows;
    mz_answer answer;
    mz_backtest_report report;
    mz_backtest_totals totals;
    current current;
    int64_t n_failed, n_windows;
    char *first_error; /* of a series */
    mz_progress progress;
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
                               j->setup.batch->quantiles);
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
    if (c->error != NULL && j->n_failed++ == 0) {
        (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "series \"%s\": %s", e->id, c->error);
        MZ_TRY(mz_strdup(&j->ctx, j->ctx.error.message, &j->first_error));
    }
    if (c->error == NULL) {
        MZ_TRY(mz_answer_open(&j->answer));
        mz_backtest_totals_add(&j->totals, &c->scores);
        j->n_windows += c->n_windows;
        if (j->request.plot != NULL || j->request.show) {
            MZ_TRY(mz_forecast_plot_add(&j->plot, e));
        }
    }
    j->report.stream = j->answer.stream;
    mz_backtest_report_series(&j->report, &result);
    mz_answer_check(&j->answer);
    drop_current(j);
    return MZ_OK;
}

/* ---- work ---- */

static mz_status next_series(void *self, mz_series *out, bool *end) {
    return mz_series_next(self, out, end);
}

static void fill_in(job *j) {
    const request *r = &j->request;
    mz_forecast_batch *batch = j->setup.batch;
    const int64_t step = r->step == MZ_NOT_GIVEN ? r->in.horizon : r->step;
    batch->quantiles = r->quantiles.n > 0 ? &r->quantiles : NULL;
    batch->nonnegative = r->nonnegative;
    batch->round = r->round;
    batch->hold_out = true;
    batch->baselines = true;
    batch->season = MZ_SEASON_AUTO; /* what the window says */
    j->windows = (mz_backtest_windows){
        .ctx = &j->ctx,
        .input = {.next = next_series, .self = j->setup.reader},
        .horizon = r->in.horizon,
        .n_windows = r->n_windows,
        .step = step,
        .season = r->in.season,
    };
    const int64_t n_series = mz_series_count(j->setup.reader);
    j->report = (mz_backtest_report){
        .format = (mz_forecast_format)r->format,
        .file = mz_cli_base_name(r->in.file),
        .model = j->setup.model_name,
        .horizon = r->in.horizon,
        .n_windows = r->n_windows,
        .step = step,
        .season = r->in.season,
        .quantiles = batch->quantiles,
        .per_series = r->per_series || (n_series > 1 && n_series <= FEW_SERIES),
    };
    j->plot =
        (mz_forecast_plot){.ctx = &j->ctx, .horizon = r->in.horizon, .quantiles = batch->quantiles};
}

static mz_status open_job(job *j) {
    const request *r = &j->request;
    if (r->plot != NULL) {
        MZ_TRY(mz_plot_check_path(&j->ctx, r->plot));
    }
    MZ_TRY(mz_forecast_setup_open(&j->ctx, &r->in, &j->setup));
    fill_in(j);
    j->answer.ctx = &j->ctx;
    j->answer.path = r->output;
    MZ_TRY(mz_answer_begin(&j->answer));
    j->report.stream = j->answer.stream;
    mz_backtest_report_begin(&j->report);
    return MZ_OK;
}

static void close_job(job *j) {
    drop_current(j);
    mz_answer_abort(&j->answer);
    mz_forecast_plot_close(&j->plot);
    if (j->windows.ctx != NULL) {
        mz_backtest_windows_close(&j->windows);
    }
    mz_forecast_setup_close(&j->setup);
    mz_free(&j->ctx, j->first_error);
    mz_context_close(&j->ctx);
}

static mz_status score_batch(job *j) {
    for (int i = 0; i < j->setup.batch->n_ready; i++) {
        const mz_forecast_entry *e = &j->setup.batch->entries[i];
        const mz_backtest_label label = mz_backtest_windows_take_label(&j->windows);
        MZ_TRY(add_window(j, e, &label));
        if (label.window + 1 == label.n_windows) {
            MZ_TRY(finish_series(j, e, &label));
        }
    }
    const int64_t n_done = j->report.n_written * j->request.n_windows + j->current.n_windows;
    mz_progress_update(&j->progress, n_done);
    return mz_answer_flush(&j->answer);
}

static mz_status run_windows(job *j) {
    const mz_forecast_source source = {.next = mz_backtest_windows_next, .self = &j->windows};
    while (!mz_cli_interrupted()) {
        MZ_TRY(mz_forecast_batch_next(j->setup.batch, &source));
        if (j->setup.batch->n_ready == 0) {
            return MZ_OK;
        }
        MZ_TRY(mz_forecast_batch_run(j->setup.batch));
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
    const int64_t n_series = mz_series_count(j->setup.reader);
    if (!j->answer.is_open && j->n_failed == n_series) {
        if (n_series > 1) {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG,
                          "none of the %" PRId64 " series can be scored: %s", n_series,
                          j->first_error);
        } else {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "%s", j->first_error);
        }
        return mz_fail_prefix(&j->ctx.error, "%s", j->request.in.file);
    }
    if (!j->answer.is_open) {
        return MZ_OK; /* interrupted before anything was ready */
    }
    choose_lines(j);
    mz_backtest_report_end(&j->report, &j->totals);
    mz_answer_check(&j->answer);
    MZ_TRY(mz_answer_flush(&j->answer));
    MZ_TRY(mz_forecast_plot_finish(&j->plot, j->request.plot, NULL));
    MZ_TRY(mz_answer_commit(&j->answer));
    return j->request.show ? mz_forecast_plot_finish(&j->plot, NULL, stdout) : MZ_OK;
}

/* What stderr says after the answer; returns the exit code. */
static int tell(job *j, double seconds) {
    const mz_command *c = &mz_command_forecast_backtest;
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_error *err = &j->ctx.error;
    if (j->report.n_written < n_series) {
        (void)mz_fail(err, MZ_ERR_ARG, "interrupted: %" PRId64 " of %" PRId64 " series scored",
                      j->report.n_written - j->n_failed, n_series);
        return mz_cli_fail(c, err);
    }
    if (!j->quiet) {
        (void)fprintf(stderr, "%" PRId64 " series, %" PRId64 " windows in %.3g s: %.4g windows/s\n",
                      n_series, j->n_windows, seconds,
                      (double)j->n_windows / (seconds > 0 ? seconds : 1e-9));
    }
    if (j->n_failed > 0) {
        (void)mz_fail(err, MZ_ERR_ARG,
                      "%s: %" PRId64 " of %" PRId64 " series could not be scored, the first: %s",
                      j->request.in.file, j->n_failed, n_series, j->first_error);
        return mz_cli_fail(c, err);
    }
    return MZ_EXIT_OK;
}

static int work(job *j) {
    const bool answer_shows = j->request.output == NULL && isatty(STDOUT_FILENO) == 1 &&
                              j->request.format != MZ_FORECAST_TABLE;
    mz_status status = open_job(j);
    const double start = mz_now_s();
    if (status == MZ_OK) {
        mz_cli_catch_interrupts();
        if (!j->quiet) {
            mz_forecast_setup_tell_notes(&j->setup, &mz_command_forecast_backtest,
                                         j->request.in.file);
        }
        mz_progress_init(&j->progress, "backtesting",
                         mz_series_count(j->setup.reader) * j->request.n_windows,
                         j->quiet || answer_shows);
        status = run_windows(j);
        mz_progress_finish(&j->progress);
    }
    if (status == MZ_OK) {
        status = finish(j);
    }
    if (status == MZ_OK) {
        return tell(j, mz_now_s() - start);
    }
    return j->answer.write_error == EPIPE
               ? MZ_EXIT_FAILURE
               : mz_cli_fail(&mz_command_forecast_backtest, &j->ctx.error);
}

/* ---- command line ---- */

static int check_request(request *r, int n_positionals) {
    const mz_command *c = &mz_command_forecast_backtest;
    const int exit_code = mz_forecast_inputs_check(c, &r->in, n_positionals);
    if (exit_code != MZ_EXIT_OK) {
        return exit_code;
    }
    if (r->json && r->format != MZ_NOT_GIVEN && r->format != MZ_FORECAST_JSON) {
        return mz_cli_usage_error(
            c, "--json means --format json, and --format asks for something else");
    }
    r->format = r->json                     ? MZ_FORECAST_JSON
                : r->format == MZ_NOT_GIVEN ? MZ_FORECAST_TABLE
                                            : r->format;
    if (r->forecasts && r->format != MZ_FORECAST_JSON) {
        return mz_cli_usage_error(c, "--forecasts goes with --json only");
    }
    if (r->per_series && r->format != MZ_FORECAST_TABLE) {
        return mz_cli_usage_error(c, "--per-series is for the table; csv and json have every "
                                     "series anyway");
    }
    const bool answer_is_elsewhere = r->output != NULL && strcmp(r->output, "-") != 0;
    if (r->show && r->format != MZ_FORECAST_TABLE && !answer_is_elsewhere) {
        return mz_cli_usage_error(
            c, "--show draws on standard output, where the answer goes; give -o FILE too");
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
         "score bands too that should hold the truth this often, in percent (21 times the work)", 0,
         0, NULL, &r->level},
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
        {"plot", 0, MZ_OPTION_STRING, "FILE",
         "draw the last window of each series beside the best two baselines: .svg, .png or .pdf", 0,
         0, NULL, &r->plot},
        {"show", 0, MZ_OPTION_FLAG, NULL, "draw them on the terminal", 0, 0, NULL, &r->show},
        {"format", 0, MZ_OPTION_CHOICE, NULL, "form of the answer (default table)", 0, 0,
         "table|csv|json", &r->format},
        {"json", 0, MZ_OPTION_FLAG, NULL, "same as --format json", 0, 0, NULL, &r->json},
        {"output", 'o', MZ_OPTION_STRING, "FILE",
         "write the answer to FILE, which is replaced only when complete (default -: standard "
         "output)",
         0, 0, NULL, &r->output},
    };
    mz_option options[MZ_MAX_OPTIONS];
    const int n_inputs = mz_forecast_input_options(&r->in, options);
    memcpy(options + n_inputs, own, sizeof own);
    mz_arguments arguments = {.options = options,
                              .n_options = n_inputs + (int)(sizeof own / sizeof own[0]),
                              .positionals = &r->in.file,
                              .max_positionals = 1};
    if (!mz_cli_parse(&mz_command_forecast_backtest, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    job j = {.request = {.in.horizon = MZ_NOT_GIVEN,
                         .format = MZ_NOT_GIVEN,
                         .n_windows = 1,
                         .step = MZ_NOT_GIVEN}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast_backtest, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.quiet = common.quiet;
    j.request.in.quiet = common.quiet;
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
