/* moezoo forecast anomalies: values that their series' own past did not let expect. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "apps/anomaly_plot.h"
#include "apps/anomaly_search.h"
#include "apps/anomaly_writer.h"
#include "apps/answer.h"
#include "apps/commands.h"
#include "apps/forecast_setup.h"
#include "core/profile.h"

static const double DEFAULT_LEVEL = 0.99;

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    const char *output, *level_text, *plot;
    int format;
    bool json, show;
    double level;
} request;

typedef struct job {
    mz_context ctx;
    request request;
    bool quiet;
    mz_forecast_setup setup;
    mz_anomaly_search search;
    mz_anomaly_writer writer;
    mz_answer answer;
    mz_anomaly_plot plot;
    mz_progress progress;
    int64_t n_failed, n_judged, n_anomalies;
    char *first_error; /* of a series */
} job;

/* ---- work ---- */

static mz_status open_job(job *j) {
    const request *r = &j->request;
    if (r->plot != NULL) {
        MZ_TRY(mz_plot_check_path(&j->ctx, r->plot));
    }
    MZ_TRY(mz_forecast_setup_open(&j->ctx, &r->in, &j->setup));
    const mz_forecast_batch *b = j->setup.batch;
    j->search = (mz_anomaly_search){.ctx = &j->ctx,
                                    .forecaster = b->forecaster,
                                    .options = b->options,
                                    .missing = b->missing,
                                    .season = r->in.season,
                                    .level = r->level,
                                    .progress = &j->progress};
    j->plot.ctx = &j->ctx;
    j->answer = (mz_answer){.ctx = &j->ctx, .path = r->output};
    MZ_TRY(mz_answer_begin(&j->answer));
    j->writer = (mz_anomaly_writer){.stream = j->answer.stream,
                                    .format = (mz_forecast_format)r->format,
                                    .model = j->setup.model_name,
                                    .level = r->level};
    mz_anomaly_writer_begin(&j->writer);
    return MZ_OK;
}

static void close_job(job *j) {
    mz_answer_abort(&j->answer);
    mz_anomaly_plot_close(&j->plot);
    mz_forecast_setup_close(&j->setup);
    mz_free(&j->ctx, j->first_error);
    mz_context_close(&j->ctx);
}

/* A CSV answer has no place for warnings. */
static void tell_warnings(const job *j, const mz_anomaly_findings *f) {
    for (int i = 0; i < f->warnings.n && j->request.format == MZ_FORECAST_CSV && !j->quiet; i++) {
        mz_error text;
        (void)mz_fail(&text, MZ_ERR_ARG, "series \"%s\": %s", f->id, f->warnings.text[i]);
        (void)fprintf(stderr, "moezoo forecast anomalies: warning: %s\n", text.message);
    }
}

static mz_status write_findings(job *j, const mz_anomaly_findings *f) {
    if (f->error == NULL) {
        MZ_TRY(mz_answer_open(&j->answer));
        j->writer.stream = j->answer.stream;
    } else if (j->n_failed++ == 0) {
        (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "series \"%s\": %s", f->id, f->error);
        MZ_TRY(mz_strdup(&j->ctx, j->ctx.error.message, &j->first_error));
    }
    j->n_judged += f->n_judged;
    j->n_anomalies += f->n_anomalies;
    mz_anomaly_writer_item(&j->writer, f);
    mz_answer_check(&j->answer);
    MZ_TRY(mz_answer_flush(&j->answer));
    tell_warnings(j, f);
    const bool drawn = j->request.plot != NULL || j->request.show;
    return drawn && f->error == NULL ? mz_anomaly_plot_add(&j->plot, f) : MZ_OK;
}

static mz_status judge_series(job *j) {
    bool interrupted = false;
    while (!interrupted && !mz_cli_interrupted()) {
        mz_series series;
        mz_anomaly_findings findings = {0};
        bool end = false;
        MZ_TRY(mz_series_next(j->setup.reader, &series, &end));
        if (end) {
            return MZ_OK;
        }
        mz_status status = mz_anomaly_search_run(&j->search, &series, &findings, &interrupted);
        if (status == MZ_OK && !interrupted) {
            status = write_findings(j, &findings);
        }
        mz_anomaly_findings_close(&j->ctx, &findings);
        MZ_TRY(status);
    }
    return MZ_OK;
}

/* Completes the answer, if there is any. */
static mz_status finish(job *j) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    if (!j->answer.is_open && j->n_failed == n_series) {
        if (n_series > 1) {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG,
                          "none of the %" PRId64 " series can be judged: %s", n_series,
                          j->first_error);
        } else {
            (void)mz_fail(&j->ctx.error, MZ_ERR_ARG, "%s",
                          n_series > 0 ? j->first_error : "no series");
        }
        return mz_fail_prefix(&j->ctx.error, "%s", j->request.in.file);
    }
    if (!j->answer.is_open) {
        return MZ_OK; /* interrupted before anything was ready */
    }
    mz_anomaly_writer_end(&j->writer);
    MZ_TRY(mz_answer_flush(&j->answer));
    MZ_TRY(mz_anomaly_plot_finish(&j->plot, j->request.plot, NULL));
    MZ_TRY(mz_answer_commit(&j->answer));
    return j->request.show ? mz_anomaly_plot_finish(&j->plot, NULL, stdout) : MZ_OK;
}

/* What stderr says after the answer; returns the exit code. */
static int report(job *j, double seconds) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_error *err = &j->ctx.error;
    if (j->writer.n_written < n_series) {
        (void)mz_fail(err, MZ_ERR_ARG, "interrupted: %" PRId64 " of %" PRId64 " series judged",
                      j->writer.n_written, n_series);
        return mz_cli_fail(&mz_command_forecast_anomalies, err);
    }
    if (!j->quiet) {
        (void)fprintf(stderr,
                      "%" PRId64 " series, %" PRId64 " of %" PRId64
                      " judged points outside, %.3g s\n",
                      j->writer.n_written, j->n_anomalies, j->n_judged, seconds);
    }
    if (j->n_failed > 0) {
        (void)mz_fail(err, MZ_ERR_ARG,
                      "%s: %" PRId64 " of %" PRId64 " series could not be judged, the first: %s",
                      j->request.in.file, j->n_failed, n_series, j->first_error);
        return mz_cli_fail(&mz_command_forecast_anomalies, err);
    }
    return MZ_EXIT_OK;
}

static int work(job *j) {
    /* A bar would run through an answer that scrolls by on the same terminal. */
    const bool is_terminal = j->request.output == NULL && isatty(STDOUT_FILENO) == 1;
    mz_status status = open_job(j);
    const double start = mz_now_s();
    if (status == MZ_OK) {
        if (!j->quiet) {
            mz_forecast_setup_tell_notes(&j->setup, &mz_command_forecast_anomalies,
                                         j->request.in.file);
        }
        mz_cli_catch_interrupts();
        mz_progress_init(&j->progress, "judging", mz_series_n_values(j->setup.reader),
                         j->quiet || (is_terminal && mz_series_count(j->setup.reader) > 1));
        status = judge_series(j);
        mz_progress_finish(&j->progress);
    }
    if (status == MZ_OK) {
        status = finish(j);
    }
    if (status == MZ_OK) {
        return report(j, mz_now_s() - start);
    }
    return j->answer.write_error == EPIPE
               ? MZ_EXIT_FAILURE
               : mz_cli_fail(&mz_command_forecast_anomalies, &j->ctx.error);
}

/* ---- command line ---- */

static int check_level(request *r) {
    const mz_command *c = &mz_command_forecast_anomalies;
    mz_forecast_quantiles q = {0};
    mz_error err;
    if (r->level_text == NULL) {
        r->level = DEFAULT_LEVEL;
        return MZ_EXIT_OK;
    }
    if (mz_forecast_quantiles_of_levels(r->level_text, &q, &err) != MZ_OK) {
        return mz_cli_usage_error(c, "%s", err.message);
    }
    if (q.n_levels != 1) {
        return mz_cli_usage_error(c, "--level %s: expected one level", r->level_text);
    }
    r->level = q.levels[0];
    return MZ_EXIT_OK;
}

static int check_request(request *r, int n_positionals) {
    const mz_command *c = &mz_command_forecast_anomalies;
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
    return check_level(r);
}

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_option own[] = {
        {"level", 0, MZ_OPTION_STRING, "P",
         "percentage of usual values that lie inside the band (default 99)", 0, 0, NULL,
         &r->level_text},
        {"plot", 0, MZ_OPTION_STRING, "FILE",
         "draw the series with their anomalies: .svg, .png or .pdf", 0, 0, NULL, &r->plot},
        {"show", 0, MZ_OPTION_FLAG, NULL, "draw them on the terminal", 0, 0, NULL, &r->show},
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
    for (int i = 0; i < n_inputs; i++) {
        if (options[i].target == &r->in.horizon) {
            options[i].help = "values of a block, each forecast from what lies before the block "
                              "(default: a season, or the multiple of it that has 8 to 24)";
        } else if (options[i].target == &r->in.context_len) {
            options[i].help = "newest values to look at before a block (default 512, or what the "
                              "model was trained for)";
        }
    }
    memcpy(options + n_inputs, own, sizeof own);
    mz_arguments arguments = {.options = options,
                              .n_options = n_inputs + (int)(sizeof own / sizeof own[0]),
                              .positionals = &r->in.file,
                              .max_positionals = 1};
    if (!mz_cli_parse(&mz_command_forecast_anomalies, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    job j = {.request = {.format = MZ_NOT_GIVEN}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast_anomalies, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.quiet = common.quiet;
    j.request.in.quiet = common.quiet;
    exit_code = work(&j);
    close_job(&j);
    return exit_code;
}

const mz_command mz_command_forecast_anomalies = {
    .name = "forecast anomalies",
    .summary = "find values that the past of their series did not let expect",
    .usage = "moezoo forecast anomalies FILE|- [options]",
    .examples =
        "  moezoo forecast anomalies sensors.csv --show\n"
        "  moezoo forecast anomalies sensors.csv --level 99.9 --plot anomalies.png\n"
        "  moezoo forecast anomalies traffic.csv -n 24 --season 168 --json -o anomalies.json\n",
    .run = run,
};
