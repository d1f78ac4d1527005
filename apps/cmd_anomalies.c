/* moezoo forecast anomalies: values that their series' own past did not let expect. */
#include <inttypes.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/forecast/anomaly_plot.h"
#include "apps/forecast/anomaly_search.h"
#include "apps/forecast/anomaly_writer.h"
#include "apps/forecast/forecast_job.h"
#include "core/profile.h"

static const double DEFAULT_LEVEL = 0.99;

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    mz_forecast_output out;
    const char *level_text;
    double level;
} request;

typedef struct job {
    mz_context ctx;
    request request;
    mz_forecast_job all;
    mz_anomaly_search search;
    mz_anomaly_writer writer;
    mz_plot_gallery gallery;
    int64_t n_judged, n_anomalies;
} job;

/* ---- work ---- */

static mz_status open_job(job *j) {
    const request *r = &j->request;
    MZ_TRY(mz_forecast_job_open(&j->all));
    const mz_forecast_batch *b = j->all.setup.batch;
    j->search = (mz_anomaly_search){.ctx = &j->ctx,
                                    .forecaster = b->forecaster,
                                    .options = b->options,
                                    .missing = b->missing,
                                    .season = r->in.season,
                                    .level = r->level,
                                    .progress = &j->all.progress};
    j->gallery.ctx = &j->ctx;
    j->writer = (mz_anomaly_writer){.stream = j->all.answer.stream,
                                    .format = (mz_forecast_format)r->out.format,
                                    .model = j->all.setup.model_name,
                                    .level = r->level};
    mz_anomaly_writer_begin(&j->writer);
    return MZ_OK;
}

static void close_job(job *j) {
    mz_plot_gallery_close(&j->gallery);
    mz_forecast_job_close(&j->all);
    mz_context_close(&j->ctx);
}

static mz_status write_findings(job *j, const mz_anomaly_findings *f) {
    mz_answer *answer = &j->all.answer;
    if (f->error == NULL) {
        MZ_TRY(mz_answer_open(answer));
        j->writer.stream = answer->stream;
    } else {
        MZ_TRY(mz_forecast_job_note_failure(&j->all, f->id, f->error));
    }
    j->n_judged += f->n_judged;
    j->n_anomalies += f->n_anomalies;
    mz_anomaly_writer_item(&j->writer, f);
    mz_answer_check(answer);
    MZ_TRY(mz_answer_flush(answer));
    const bool drawn = j->request.out.plot != NULL || j->request.out.show;
    return drawn && f->error == NULL ? mz_anomaly_plot_add(&j->gallery, f) : MZ_OK;
}

static mz_status judge_series(job *j) {
    bool interrupted = false;
    while (!interrupted && !mz_cli_interrupted()) {
        mz_series series;
        mz_anomaly_findings findings = {0};
        bool end = false;
        MZ_TRY(mz_series_next(j->all.setup.reader, &series, &end));
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
    mz_answer *answer = &j->all.answer;
    MZ_TRY(mz_forecast_job_check(&j->all));
    if (!answer->is_open) {
        return MZ_OK; /* interrupted before anything was ready */
    }
    mz_anomaly_writer_end(&j->writer);
    MZ_TRY(mz_answer_flush(answer));
    MZ_TRY(mz_plot_gallery_show(&j->gallery, j->request.out.plot, NULL));
    MZ_TRY(mz_answer_commit(answer));
    return j->request.out.show ? mz_plot_gallery_show(&j->gallery, NULL, stdout) : MZ_OK;
}

static int report(const job *j) {
    char text[128];
    (void)snprintf(text, sizeof text,
                   "%" PRId64 " series, %" PRId64 " of %" PRId64 " judged points outside, %.3g s",
                   j->writer.n_written, j->n_anomalies, j->n_judged, mz_now_s() - j->all.start_s);
    return mz_forecast_job_tell(&j->all, j->writer.n_written, text);
}

static int work(job *j) {
    mz_status status = open_job(j);
    if (status == MZ_OK) {
        const mz_series_reader *reader = j->all.setup.reader;
        const bool hidden = mz_forecast_job_answer_shows(&j->all) && mz_series_count(reader) > 1;
        mz_forecast_job_start(&j->all, "judging", mz_series_n_values(reader), hidden);
        status = judge_series(j);
        mz_progress_finish(&j->all.progress);
    }
    if (status == MZ_OK) {
        status = finish(j);
    }
    return status == MZ_OK ? report(j) : mz_forecast_job_fail(&j->all);
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
    const int wrong = mz_forecast_output_check(c, r->in.file, &r->out);
    if (wrong != MZ_EXIT_OK) {
        return wrong;
    }
    return check_level(r);
}

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_option own[] = {
        {"level", 0, MZ_OPTION_STRING, "P",
         "percentage of usual values that lie inside the band (default 99)", 0, 0, NULL,
         &r->level_text},
    };
    mz_option options[MZ_MAX_OPTIONS];
    int n = mz_forecast_input_options(&r->in, options);
    for (int i = 0; i < n; i++) {
        if (options[i].target == &r->in.horizon) {
            options[i].help = "values of a block, each forecast from what lies before the block "
                              "(default: a season, or the multiple of it that has 8 to 24)";
        } else if (options[i].target == &r->in.context_len) {
            options[i].help = "newest values to look at before a block (default 512, or what the "
                              "model was trained for)";
        }
    }
    memcpy(options + n, own, sizeof own);
    n += (int)(sizeof own / sizeof own[0]);
    n += mz_forecast_output_options(&r->out, "table|csv|json|jsonl",
                                    "draw the series with their anomalies: .svg, .png or .pdf",
                                    options + n);
    mz_arguments arguments = {
        .options = options, .n_options = n, .positionals = &r->in.file, .max_positionals = 1};
    if (!mz_cli_parse(&mz_command_forecast_anomalies, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    job j = {.request = {.out.format = MZ_NOT_GIVEN}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast_anomalies, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.request.in.quiet = common.quiet;
    j.all = (mz_forecast_job){.ctx = &j.ctx,
                              .command = &mz_command_forecast_anomalies,
                              .in = &j.request.in,
                              .out = &j.request.out,
                              .deed = "judged"};
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
