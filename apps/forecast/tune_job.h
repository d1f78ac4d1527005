/* Tuning a forecaster on a file: from the series to a model, or to none where it got no better. */
#ifndef MZ_APPS_FORECAST_TUNE_JOB_H
#define MZ_APPS_FORECAST_TUNE_JOB_H

#include "apps/forecast/forecast_setup.h"
#include "apps/forecast/tune_output.h"
#include "apps/forecast/tune_report.h"

/* What is asked for. */
typedef struct mz_tune_request {
    const mz_forecast_inputs *in;
    const char *output; /* folder */
    bool force;         /* write there whatever lies there */
    bool full, merge;   /* all weights instead of an adapter; the adapter into a model of its own */
    int64_t rank;       /* of a fresh adapter */
    double alpha;
    int64_t n_windows; /* held out of a series to test, and to choose by; 0: see tune_split.h */
    int64_t n_steps;   /* 0: from the amount of data */
    double minutes;    /* 0: those by default, or with n_steps no limit */
    double lr;         /* 0: that of the method */
    int64_t batch;     /* windows of a step, of the longest */
    int64_t seed;
    double synthetic_share; /* of the windows, below 1 */
} mz_tune_request;

/* All zero but ctx and request; one thread; closed with mz_tune_job_close. */
typedef struct mz_tune_job {
    mz_context *ctx;
    const mz_tune_request *request;
    mz_forecast_setup setup; /* the model as it was */
    mz_tune_split split;
    mz_tune_output output;
    mz_series *train; /* [split.n] */
    mz_trainable *trainable;
    mz_forecaster *merged;
    mz_backtest_totals before[2], after[2]; /* by mz_tune_part */
    int64_t stride;                         /* series from one that is looked at to the next */
    mz_tune_trained trained;
    mz_tune_report report;
} mz_tune_job;

/* Opens input, model and folder; scores, trains, scores again, and writes. Interrupts end the
 * training but not the work. Errors: those of mz_forecast_setup_open, mz_tune_split_read,
 * mz_tune_output_open, of scoring, training and writing. */
mz_status mz_tune_job_run(mz_tune_job *job, const mz_command *command);
void mz_tune_job_close(mz_tune_job *job);

#endif
