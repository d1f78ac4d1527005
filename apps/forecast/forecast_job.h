/* What the commands that answer series by series have in common: the options of their answer, how
 * the work begins, series that fail, and what is said at the end. */
#ifndef MZ_APPS_FORECAST_FORECAST_JOB_H
#define MZ_APPS_FORECAST_FORECAST_JOB_H

#include "apps/answer.h"
#include "apps/forecast/forecast_setup.h"

/* Targets of the options; all zero but format, which is MZ_NOT_GIVEN. */
typedef struct mz_forecast_output {
    const char *path; /* -o; NULL: standard output */
    const char *plot; /* NULL: no picture in a file */
    int format;       /* mz_forecast_format once checked */
    bool json, show;
} mz_forecast_output;

/* Rows of the option table for the targets. `formats` are the choices of --format, in the order of
 * mz_forecast_format; `plot_help` says what is drawn. Returns how many were written. */
enum { MZ_FORECAST_OUTPUT_OPTIONS = 5 };
int mz_forecast_output_options(mz_forecast_output *output, const char *formats,
                               const char *plot_help, mz_option *out);

/* Settles the format and complains about options that contradict each other, and about a picture
 * that would replace `input` or the answer. Returns an exit code. */
int mz_forecast_output_check(const mz_command *command, const char *input,
                             mz_forecast_output *output);

/* The work of a command on all series of its input. Filled by the caller up to `deed`, the rest 0;
 * one thread; closed with mz_forecast_job_close. */
typedef struct mz_forecast_job {
    mz_context *ctx;
    const mz_command *command;
    const mz_forecast_inputs *in;
    const mz_forecast_output *out;
    const char *deed; /* what is done to a series: "scored" */
    mz_forecast_setup setup;
    mz_answer answer;
    mz_progress progress;
    double start_s; /* when the first series was read */
    int64_t n_failed;
    char *first_error; /* of a series */
} mz_forecast_job;

/* Opens input, model and answer; the answer's stream takes what comes before the first series.
 * Errors: those of mz_plot_check_path, mz_forecast_setup_open and mz_answer_begin. */
mz_status mz_forecast_job_open(mz_forecast_job *job);
void mz_forecast_job_close(mz_forecast_job *job);

/* Right before the first series: interrupts are caught from here on, warnings about the whole input
 * told, the bar `what` of n_total steps begun (hidden: never shown). */
void mz_forecast_job_start(mz_forecast_job *job, const char *what, int64_t n_total, bool hidden);

/* Whether the answer scrolls by on a terminal, where a bar would run through it. */
bool mz_forecast_job_answer_shows(const mz_forecast_job *job);

/* Counts a series that failed and remembers the first one. Errors: NOMEM. */
mz_status mz_forecast_job_note_failure(mz_forecast_job *job, const char *id, const char *error);

/* After the last series. Errors: ARG where every series failed: then there is no answer. */
mz_status mz_forecast_job_check(const mz_forecast_job *job);

/* What stderr says after a complete answer: that the work was interrupted after n_done series, else
 * `summary` and how many series failed. Returns an exit code. */
int mz_forecast_job_tell(const mz_forecast_job *job, int64_t n_done, const char *summary);

/* After a failure: the context's error, unless nobody reads the answer any more. Returns an exit
 * code. */
int mz_forecast_job_fail(const mz_forecast_job *job);

#endif
