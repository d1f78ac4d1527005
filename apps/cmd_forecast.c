/* moezoo forecast: series in, forecasts out. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/answer.h"
#include "apps/commands.h"
#include "apps/forecast_batch.h"
#include "apps/forecast_plot.h"
#include "apps/forecast_setup.h"
#include "apps/forecast_writer.h"
#include "core/file.h"
#include "core/profile.h"

enum { FEW_SERIES = 16 };

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    const char *output, *level, *quantile_list, *plot;
    int64_t seed;
    int format;
    bool json, nonnegative, round, baselines, show;
    mz_forecast_quantiles quantiles;
} request;

typedef struct job {
    mz_context ctx;
    request request;
    bool quiet;
    mz_forecast_setup setup;
    mz_answer answer;
    mz_forecast_writer writer;
    int64_t n_failed, n_values;
    char *first_error; /* of a series */
    mz_progress progress;
    mz_forecast_plot plot;
} job;

static mz_status write_entry(job *j, const mz_forecast_entry *e) {
    if (e->error == NULL) {
        MZ_TRY(mz_answer_open(&j->answer));
    }
    const mz_forecast_answer answer = {
        .id = e->id,
        .history = e->values,
        .n_history = e->n_values,
        .n_observed = e->n_observed,
        .forecast = e->forecast,
        .quantiles = e->quantiles,
        .baselines = e->baselines,
        .season = e->season,
        .warnings = &e->warnings,
        .error = e->error,
        .last_stamp = e->stamps != NULL ? &e->stamps[e->n_values - 1] : NULL,
        .stamps = e->future_stamps,
        .form = &e->form,
        .frequency = &e->frequency,
    };
    j->writer.stream = j->answer.stream;
    mz_forecast_writer_item(&j->writer, &answer);
    mz_answer_check(&j->answer);
    return MZ_OK;
}

/* ---- work ---- */

static mz_status open_job(job *j) {
    const request *r = &j->request;
    if (r->plot != NULL) {
        MZ_TRY(mz_plot_check_path(&j->ctx, r->plot));
    }
    MZ_TRY(mz_forecast_setup_open(&j->ctx, &r->in, &j->setup));
    mz_forecast_batch *batch = j->setup.batch;
    batch->quantiles = r->quantiles.n > 0 ? &r->quantiles : NULL;
    batch->nonnegative = r->nonnegative;
    batch->round = r->round;
    batch->baselines = r->baselines;
    batch->season = r->baselines ? r->in.season : batch->season;
    j->writer = (mz_forecast_writer){
        .format = (mz_forecast_format)r->format,
        .model = j->setup.model_name,
        .horizon = r->in.horizon,
        .quantiles = batch->quantiles,
        .baselines = r->baselines,
        .pictures = mz_series_count(j->setup.reader) <= FEW_SERIES && !r->show,
        .has_dates = mz_series_has_dates(j->setup.reader),
        .overshoot = r->in.overshoot,
    };
    j->writer.n_notes = mz_series_notes(j->setup.reader, &j->writer.notes);
    j->plot =
        (mz_forecast_plot){.ctx = &j->ctx, .horizon = r->in.horizon, .quantiles = batch->quantiles};
    j->answer.ctx = &j->ctx;
    j->answer.path = r->output;
    MZ_TRY(mz_answer_begin(&j->answer));
    j->writer.stream = j->answer.stream;
    mz_forecast_writer_begin(&j->writer);
    return MZ_OK;
}

static void close_job(job *j) {
    mz_answer_abort(&j->answer);
    mz_forecast_plot_close(&j->plot);
    mz_forecast_setup_close(&j->setup);
    mz_free(&j->ctx, j->first_error);
    mz_context_close(&j->ctx);
}

/* A CSV answer has no place for warnings. */
static void tell_warnings(const job *j, const mz_forecast_entry *e) {
    for (int i = 0; i < e->warnings.n && j->request.format == MZ_FORECAST_CSV && !j->quiet; i++) {
        mz_error text;
        (void)mz_fail(&text, MZ_ERR_ARG, "series \"%s\": %s", e->id, e->warnings.text[i]);
        (void)fprintf(stderr, "moezoo forecast: warning: %s\n", text.message);
    }
}

static mz_status write_batch(job *j) {
    for (int i = 0; i < j->setup.batch->n_ready; i++) {
        const mz_forecast_entry *e = &j->setup.batch->entries[i];
        if (e->error != NULL && j->n_failed++ == 0) {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "series \"%s\": %s", e->id, e->error);
            MZ_TRY(mz_strdup(&j->ctx, j->ctx.error.message, &j->first_error));
        }
        j->n_values += e->n_observed;
        MZ_TRY(write_entry(j, e));
        if (e->error == NULL && (j->request.plot != NULL || j->request.show)) {
            MZ_TRY(mz_forecast_plot_add(&j->plot, e));
        }
        tell_warnings(j, e);
    }
    mz_progress_update(&j->progress, j->writer.n_written);
    return mz_answer_flush(&j->answer);
}

static mz_status next_series(void *self, mz_series *out, bool *end) {
    return mz_series_next(self, out, end);
}

static mz_status run_batches(job *j) {
    const mz_forecast_source source = {.next = next_series, .self = j->setup.reader};
    while (!mz_cli_interrupted()) {
        MZ_TRY(mz_forecast_batch_next(j->setup.batch, &source));
        if (j->setup.batch->n_ready == 0) {
            return MZ_OK;
        }
        MZ_TRY(mz_forecast_batch_run(j->setup.batch));
        MZ_TRY(write_batch(j));
    }
    return MZ_OK;
}

/* Completes the answer, if there is any. */
static mz_status finish(job *j) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    if (!j->answer.is_open && j->n_failed == n_series) {
        if (n_series > 1) {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG,
                          "none of the %" PRId64 " series can be forecast: %s", n_series,
                          j->first_error);
        } else {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "%s", j->first_error);
        }
        return mz_fail_prefix(&j->ctx.error, "%s", j->request.in.file);
    }
    if (!j->answer.is_open) {
        return MZ_OK; /* interrupted before anything was ready */
    }
    mz_forecast_writer_end(&j->writer);
    MZ_TRY(mz_answer_flush(&j->answer));
    MZ_TRY(mz_forecast_plot_finish(&j->plot, j->request.plot, NULL));
    MZ_TRY(mz_answer_commit(&j->answer));
    return j->request.show ? mz_forecast_plot_finish(&j->plot, NULL, stdout) : MZ_OK;
}

/* What stderr says after the answer; returns the exit code. */
static int report(job *j, int64_t n_written, double seconds) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_error *err = &j->ctx.error;
    if (n_written < n_series) {
        (void)mz_fail(err, MZ_ERR_ARG, "interrupted: %" PRId64 " of %" PRId64 " series written",
                      n_written, n_series);
        return mz_cli_fail(&mz_command_forecast, err);
    }
    if (!j->quiet) {
        (void)fprintf(stderr, "%" PRId64 " series, %" PRId64 " points in %.3g s: %.4g series/s\n",
                      n_written, j->n_values, seconds,
                      (double)n_written / (seconds > 0 ? seconds : 1e-9));
    }
    if (j->n_failed > 0) {
        (void)mz_fail(err, MZ_ERR_ARG,
                      "%s: %" PRId64 " of %" PRId64 " series could not be forecast, the first: %s",
                      j->request.in.file, j->n_failed, n_series, j->first_error);
        return mz_cli_fail(&mz_command_forecast, err);
    }
    return MZ_EXIT_OK;
}

static int work(job *j) {
    /* A bar would run through an answer that scrolls by on the same terminal. */
    const bool answer_shows = j->request.output == NULL && isatty(STDOUT_FILENO) == 1;
    mz_status status = open_job(j);
    const double start = mz_now_s();
    if (status == MZ_OK) {
        /* Not earlier: until here nothing is worth keeping, and waiting for standard input must end
         * at once. */
        mz_cli_catch_interrupts();
        if (!j->quiet) {
            mz_forecast_setup_tell_notes(&j->setup, &mz_command_forecast, j->request.in.file);
        }
        mz_progress_init(&j->progress, "forecasting", mz_series_count(j->setup.reader),
                         j->quiet || answer_shows);
        status = run_batches(j);
        mz_progress_finish(&j->progress);
    }
    const int64_t n_written = j->answer.is_open ? j->writer.n_written : 0;
    if (status == MZ_OK) {
        status = finish(j);
    }
    if (status == MZ_OK) {
        return report(j, n_written, mz_now_s() - start);
    }
    return j->answer.write_error == EPIPE ? MZ_EXIT_FAILURE
                                          : mz_cli_fail(&mz_command_forecast, &j->ctx.error);
}

/* ---- command line ---- */

static int check_request(request *r, int n_positionals) {
    const mz_command *c = &mz_command_forecast;
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
        {"level", 0, MZ_OPTION_STRING, "80,95",
         "bands that should hold the truth this often, in percent", 0, 0, NULL, &r->level},
        {"quantiles", 0, MZ_OPTION_STRING, "0.1,0.9", "the same as quantiles, ascending", 0, 0,
         NULL, &r->quantile_list},
        {"nonnegative", 0, MZ_OPTION_FLAG, NULL, "raise negative values of the answer to 0", 0, 0,
         NULL, &r->nonnegative},
        {"round", 0, MZ_OPTION_FLAG, NULL, "round the answer to whole numbers", 0, 0, NULL,
         &r->round},
        {"baselines", 0, MZ_OPTION_FLAG, NULL,
         "show naive, seasonal naive, drift, damped trend and Theta beside the model", 0, 0, NULL,
         &r->baselines},
        {"plot", 0, MZ_OPTION_STRING, "FILE",
         "draw history, forecast and bands: .svg, .png or .pdf", 0, 0, NULL, &r->plot},
        {"show", 0, MZ_OPTION_FLAG, NULL, "draw them on the terminal", 0, 0, NULL, &r->show},
        {"seed", 0, MZ_OPTION_INT, "N",
         "seed of models that draw samples; Time-MoE draws none (default 0)", 0, INT64_MAX, NULL,
         &r->seed},
        {"format", 0, MZ_OPTION_CHOICE, NULL, "form of the answer (default table)", 0, 0,
         "table|csv|json|jsonl", &r->format},
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
    if (!mz_cli_parse(&mz_command_forecast, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

/* Of a first word that names one; a file of that name is "./NAME". */
static const mz_command *find_sub_command(const char *word) {
    static const mz_command *const commands[] = {&mz_command_forecast_evaluate,
                                                 &mz_command_forecast_backtest,
                                                 &mz_command_forecast_anomalies};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(word, strrchr(commands[i]->name, ' ') + 1) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int run(int argc, char **argv) {
    const mz_command *sub_command = argc > 1 ? find_sub_command(argv[1]) : NULL;
    if (sub_command != NULL) {
        return sub_command->run(argc - 1, argv + 1);
    }
    job j = {.request = {.in.horizon = MZ_NOT_GIVEN, .format = MZ_NOT_GIVEN}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.quiet = common.quiet;
    j.request.in.quiet = common.quiet;
    j.request.in.newest_only = !j.request.baselines; /* these look at the whole past */
    exit_code = work(&j);
    close_job(&j);
    return exit_code;
}

const mz_command mz_command_forecast = {
    .name = "forecast",
    .summary = "forecast time series with a mixture-of-experts model",
    .usage = "moezoo forecast FILE|- --horizon N [options]",
    .examples =
        "  moezoo forecast sales.csv --horizon 12\n"
        "  moezoo forecast sales.csv -n 12 --columns north,south --json -o forecast.json\n"
        "  moezoo forecast sales.csv -n 12 --level 80,95 --plot forecast.png --show\n"
        "  moezoo forecast many.jsonl -n 24 --format jsonl --context 512 > forecasts.jsonl\n"
        "  printf '%s\\n' 3 5 4 6 5 7 6 8 | moezoo forecast - -n 4\n"
        "  moezoo forecast backtest --help        scores on a file's own past, beside baselines\n"
        "  moezoo forecast anomalies --help       values that the past did not let expect\n"
        "  moezoo forecast evaluate --help        scores by the protocol of the published tables\n",
    .run = run,
};
