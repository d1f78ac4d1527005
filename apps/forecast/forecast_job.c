#include "apps/forecast/forecast_job.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "apps/plot/plot.h"
#include "core/profile.h"

/* ---- command line ---- */

int mz_forecast_output_options(mz_forecast_output *o, const char *formats, const char *plot_help,
                               mz_option *out) {
    const mz_option options[MZ_FORECAST_OUTPUT_OPTIONS] = {
        {"plot", 0, MZ_OPTION_STRING, "FILE", plot_help, 0, 0, NULL, &o->plot},
        {"show", 0, MZ_OPTION_FLAG, NULL, "draw them on the terminal", 0, 0, NULL, &o->show},
        {"format", 0, MZ_OPTION_CHOICE, NULL, "form of the answer (default table)", 0, 0, formats,
         &o->format},
        {"json", 0, MZ_OPTION_FLAG, NULL, "same as --format json", 0, 0, NULL, &o->json},
        {"output", 'o', MZ_OPTION_STRING, "FILE",
         "write the answer to FILE, which is replaced only when complete (default -: standard "
         "output)",
         0, 0, NULL, &o->path},
    };
    memcpy(out, options, sizeof options);
    return MZ_FORECAST_OUTPUT_OPTIONS;
}

int mz_forecast_output_check(const mz_command *command, const char *input, mz_forecast_output *o) {
    if (o->json && o->format != MZ_NOT_GIVEN && o->format != MZ_FORECAST_JSON) {
        return mz_cli_usage_error(
            command, "--json means --format json, and --format asks for something else");
    }
    o->format = o->json                     ? MZ_FORECAST_JSON
                : o->format == MZ_NOT_GIVEN ? MZ_FORECAST_TABLE
                                            : o->format;
    const bool answer_is_elsewhere = o->path != NULL && strcmp(o->path, "-") != 0;
    if (o->show && o->format != MZ_FORECAST_TABLE && !answer_is_elsewhere) {
        return mz_cli_usage_error(
            command, "--show draws on standard output, where the answer goes; give -o FILE too");
    }
    return mz_cli_check_outputs(command, input, o->path, o->plot);
}

/* ---- work ---- */

mz_status mz_forecast_job_open(mz_forecast_job *j) {
    if (j->out->plot != NULL) {
        MZ_TRY(mz_plot_check_path(j->ctx, j->out->plot));
    }
    MZ_TRY(mz_forecast_setup_open(j->ctx, j->in, &j->setup));
    j->answer.ctx = j->ctx;
    j->answer.path = j->out->path;
    return mz_answer_begin(&j->answer);
}

void mz_forecast_job_close(mz_forecast_job *j) {
    mz_answer_abort(&j->answer);
    mz_forecast_setup_close(&j->setup);
    mz_free(j->ctx, j->first_error);
    j->first_error = NULL;
}

void mz_forecast_job_start(mz_forecast_job *j, const char *what, int64_t n_total, bool hidden) {
    /* Not earlier: until here nothing is worth keeping, and waiting for standard input must end at
     * once. */
    mz_cli_catch_interrupts();
    if (!j->in->quiet) {
        mz_forecast_setup_tell_notes(&j->setup, j->command, j->in->file);
    }
    mz_progress_init(&j->progress, what, n_total, j->in->quiet || hidden);
    j->start_s = mz_now_s();
}

bool mz_forecast_job_answer_shows(const mz_forecast_job *j) {
    return j->out->path == NULL && isatty(STDOUT_FILENO) == 1;
}

mz_status mz_forecast_job_note_failure(mz_forecast_job *j, const char *id, const char *error) {
    if (j->n_failed++ > 0) {
        return MZ_OK;
    }
    char shown[MZ_SERIES_ID_SHOWN_BYTES];
    mz_series_show_id(id, shown);
    (void)mz_fail(&j->ctx->error, MZ_ERR_ARG, "series \"%s\": %s", shown, error);
    return mz_strdup(j->ctx, j->ctx->error.message, &j->first_error);
}

mz_status mz_forecast_job_check(const mz_forecast_job *j) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_error *err = &j->ctx->error;
    if (j->answer.is_open || j->n_failed < n_series) {
        return MZ_OK;
    }
    if (n_series == 0) {
        return mz_fail(err, MZ_ERR_ARG, "%s: no series", j->in->file);
    }
    if (n_series == 1) {
        return mz_fail(err, MZ_ERR_ARG, "%s: %s", j->in->file, j->first_error);
    }
    return mz_fail(err, MZ_ERR_ARG, "%s: none of the %" PRId64 " series can be %s: %s", j->in->file,
                   n_series, j->deed, j->first_error);
}

int mz_forecast_job_tell(const mz_forecast_job *j, int64_t n_done, const char *summary) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_error *err = &j->ctx->error;
    if (n_done < n_series) {
        (void)mz_fail(err, MZ_ERR_ARG, "interrupted: %" PRId64 " of %" PRId64 " series %s", n_done,
                      n_series, j->deed);
        return mz_cli_fail(j->command, err);
    }
    if (!j->in->quiet) {
        (void)fprintf(stderr, "%s\n", summary);
    }
    if (j->n_failed > 0) {
        (void)mz_fail(err, MZ_ERR_ARG,
                      "%s: %" PRId64 " of %" PRId64 " series could not be %s, the first: %s",
                      j->in->file, j->n_failed, n_series, j->deed, j->first_error);
        return mz_cli_fail(j->command, err);
    }
    return MZ_EXIT_OK;
}

int mz_forecast_job_fail(const mz_forecast_job *j) {
    return j->answer.write_error == EPIPE ? MZ_EXIT_FAILURE
                                          : mz_cli_fail(j->command, &j->ctx->error);
}
