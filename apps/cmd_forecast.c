/* moezoo forecast: series in, forecasts out. */
#include <inttypes.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/forecast/forecast_job.h"
#include "apps/forecast/forecast_plot.h"
#include "core/profile.h"

enum { FEW_SERIES = 16 };

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    mz_forecast_output out;
    const char *level, *quantile_list;
    int64_t seed;
    bool nonnegative, round, baselines;
    mz_forecast_quantiles quantiles;
} request;

enum { MAX_WARNINGS_TOLD = 20 };

typedef struct job {
    mz_context ctx;
    request request;
    mz_forecast_job all;
    mz_forecast_writer writer;
    int64_t n_values;
    int64_t n_warnings; /* of series, for stderr */
    mz_forecast_plot plot;
} job;

static mz_status write_entry(job *j, const mz_forecast_entry *e) {
    if (e->error == NULL) {
        MZ_TRY(mz_answer_open(&j->all.answer));
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
    j->writer.stream = j->all.answer.stream;
    mz_forecast_writer_item(&j->writer, &answer);
    mz_answer_check(&j->all.answer);
    return MZ_OK;
}

/* ---- work ---- */

static mz_status open_job(job *j) {
    const request *r = &j->request;
    MZ_TRY(mz_forecast_job_open(&j->all));
    const mz_forecast_setup *setup = &j->all.setup;
    mz_forecast_batch *batch = setup->batch;
    batch->quantiles = r->quantiles.n > 0 ? &r->quantiles : NULL;
    batch->nonnegative = r->nonnegative;
    batch->round = r->round;
    batch->baselines = r->baselines;
    batch->season = r->baselines ? r->in.season : batch->season;
    j->writer = (mz_forecast_writer){
        .stream = j->all.answer.stream,
        .format = (mz_forecast_format)r->out.format,
        .model = setup->model_name,
        .horizon = r->in.horizon,
        .quantiles = batch->quantiles,
        .baselines = r->baselines,
        .pictures = mz_series_count(setup->reader) <= FEW_SERIES && !r->out.show,
        .has_dates = mz_series_has_dates(setup->reader),
        .overshoot = r->in.overshoot,
    };
    j->writer.n_notes = mz_series_notes(setup->reader, &j->writer.notes);
    j->plot = (mz_forecast_plot){
        .horizon = r->in.horizon, .quantiles = batch->quantiles, .gallery.ctx = &j->ctx};
    mz_forecast_writer_begin(&j->writer);
    return MZ_OK;
}

static void close_job(job *j) {
    mz_plot_gallery_close(&j->plot.gallery);
    mz_forecast_job_close(&j->all);
    mz_context_close(&j->ctx);
}

/* A CSV answer has no place for warnings. Of many series most have the same ones: the first few
 * are told, the others counted. */
static void tell_warnings(job *j, const mz_forecast_entry *e) {
    const bool told = j->request.out.format == MZ_FORECAST_CSV && !j->request.in.quiet;
    for (int i = 0; told && i < e->warnings.n; i++) {
        if (j->n_warnings++ >= MAX_WARNINGS_TOLD) {
            continue;
        }
        mz_error text;
        char shown[MZ_SERIES_ID_SHOWN_BYTES];
        mz_series_show_id(e->id, shown);
        (void)mz_fail(&text, MZ_ERR_ARG, "series \"%s\": %s", shown, e->warnings.text[i]);
        (void)fprintf(stderr, "moezoo forecast: warning: %s\n", text.message);
    }
}

static mz_status write_batch(job *j) {
    const mz_forecast_batch *batch = j->all.setup.batch;
    for (int i = 0; i < batch->n_ready; i++) {
        const mz_forecast_entry *e = &batch->entries[i];
        if (e->error != NULL) {
            MZ_TRY(mz_forecast_job_note_failure(&j->all, e->id, e->error));
        }
        j->n_values += e->n_observed;
        MZ_TRY(write_entry(j, e));
        if (e->error == NULL && (j->request.out.plot != NULL || j->request.out.show)) {
            MZ_TRY(mz_forecast_plot_add(&j->plot, e));
        }
        tell_warnings(j, e);
    }
    mz_progress_update(&j->all.progress, j->writer.n_written);
    return mz_answer_flush(&j->all.answer);
}

static mz_status run_batches(job *j) {
    const mz_forecast_source source = mz_forecast_setup_source(&j->all.setup);
    mz_forecast_batch *batch = j->all.setup.batch;
    batch->progress = &j->all.progress;
    while (!mz_cli_interrupted()) {
        MZ_TRY(mz_forecast_batch_next(batch, &source));
        if (batch->n_ready == 0) {
            return MZ_OK;
        }
        batch->n_before = j->writer.n_written;
        MZ_TRY(mz_forecast_batch_run(batch));
        MZ_TRY(write_batch(j));
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
    mz_forecast_writer_end(&j->writer);
    MZ_TRY(mz_answer_flush(answer));
    MZ_TRY(mz_plot_gallery_show(&j->plot.gallery, j->request.out.plot, NULL));
    MZ_TRY(mz_answer_commit(answer));
    return j->request.out.show ? mz_plot_gallery_show(&j->plot.gallery, NULL, stdout) : MZ_OK;
}

static int report(const job *j, int64_t n_written) {
    if (j->n_warnings > MAX_WARNINGS_TOLD) {
        (void)fprintf(stderr, "moezoo forecast: warning: %" PRId64 " more; --json has all\n",
                      j->n_warnings - MAX_WARNINGS_TOLD);
    }
    const double seconds = mz_now_s() - j->all.start_s;
    char text[128];
    (void)snprintf(text, sizeof text,
                   "%" PRId64 " series, %" PRId64 " points in %.3g s: %.4g series/s", n_written,
                   j->n_values, seconds, (double)n_written / (seconds > 0 ? seconds : 1e-9));
    return mz_forecast_job_tell(&j->all, n_written, text);
}

static int work(job *j) {
    mz_status status = open_job(j);
    if (status == MZ_OK) {
        /* Of a single series nothing scrolls by before it is done. */
        const int64_t n_series = mz_series_count(j->all.setup.reader);
        mz_forecast_job_start(&j->all, "forecasting", n_series,
                              n_series > 1 && mz_forecast_job_answer_shows(&j->all));
        status = run_batches(j);
        mz_progress_finish(&j->all.progress);
    }
    const int64_t n_written = j->all.answer.is_open ? j->writer.n_written : 0;
    if (status == MZ_OK) {
        status = finish(j);
    }
    return status == MZ_OK ? report(j, n_written) : mz_forecast_job_fail(&j->all);
}

/* ---- command line ---- */

static int check_request(request *r, int n_positionals) {
    const mz_command *c = &mz_command_forecast;
    const int exit_code = mz_forecast_inputs_check(c, &r->in, n_positionals);
    if (exit_code != MZ_EXIT_OK) {
        return exit_code;
    }
    const int wrong = mz_forecast_output_check(c, r->in.file, &r->out);
    if (wrong != MZ_EXIT_OK) {
        return wrong;
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
        {"seed", 0, MZ_OPTION_INT, "N",
         "seed of models that draw samples; Time-MoE draws none (default 0)", 0, INT64_MAX, NULL,
         &r->seed},
    };
    mz_option options[MZ_MAX_OPTIONS];
    int n = mz_forecast_input_options(&r->in, options);
    memcpy(options + n, own, sizeof own);
    n += (int)(sizeof own / sizeof own[0]);
    n += mz_forecast_output_options(&r->out, "table|csv|json|jsonl",
                                    "draw history, forecast and bands: .svg, .png or .pdf",
                                    options + n);
    mz_arguments arguments = {
        .options = options, .n_options = n, .positionals = &r->in.file, .max_positionals = 1};
    if (!mz_cli_parse(&mz_command_forecast, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

/* Of a first word that names one; a file of that name is "./NAME". */
static const mz_command *find_sub_command(const char *word) {
    static const mz_command *const commands[] = {
        &mz_command_forecast_evaluate, &mz_command_forecast_backtest,
        &mz_command_forecast_anomalies, &mz_command_forecast_tune};
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
    job j = {.request = {.in.horizon = MZ_NOT_GIVEN, .out.format = MZ_NOT_GIVEN}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    j.request.in.quiet = common.quiet;
    j.request.in.newest_only = !j.request.baselines; /* these look at the whole past */
    j.all = (mz_forecast_job){.ctx = &j.ctx,
                              .command = &mz_command_forecast,
                              .in = &j.request.in,
                              .out = &j.request.out,
                              .deed = "forecast"};
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
        "  moezoo forecast tune --help            a model fitted to a file, if that makes it "
        "better\n"
        "  moezoo forecast evaluate --help        scores by the protocol of the published tables\n",
    .run = run,
};
