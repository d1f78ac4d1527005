/* Series gathered into batches that fit memory, and forecast together. */
#ifndef MZ_APPS_FORECAST_FORECAST_BATCH_H
#define MZ_APPS_FORECAST_FORECAST_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/cli.h"
#include "apps/forecast/forecast_quantiles.h"
#include "apps/forecast/forecast_writer.h"
#include "apps/zoo/baselines.h"
#include "apps/zoo/forecaster.h"
#include "encoders/series/series.h"

enum { MZ_FORECAST_BATCH = 256, MZ_SEASON_AUTO = 0, MZ_SEASON_UNUSED = -1 };

/* One series of a batch, owned by it. */
typedef struct mz_forecast_entry {
    char *id;
    double *values; /* [n_values] the newest that the forecast uses; with hold_out all */
    int64_t n_values;
    int64_t n_context;       /* newest of these that the forecast uses */
    int64_t n_observed;      /* values of the whole series after its gaps were filled */
    double *forecast;        /* [horizon] */
    double *quantiles;       /* [quantiles->n, horizon]; NULL: none wanted */
    double *baselines;       /* [MZ_BASELINE_COUNT, horizon]; NULL: none wanted */
    double *future;          /* [horizon] what was held out; NaN where missing; NULL: nothing was */
    mz_stamp *stamps;        /* [n_values] of the values; NULL: no dates */
    mz_stamp *future_stamps; /* [horizon] of the forecast; NULL: no dates, or they are not known */
    mz_frequency frequency;  /* NONE: unknown */
    mz_stamp_form form;      /* of the stamps */
    int64_t season;          /* points in a season, 1: none; 0: nobody asked */
    char *value_name;        /* what the values are, where the id does not say it; or NULL */
    char *error;             /* why there is no forecast; NULL: there is one */
    mz_warnings warnings;
} mz_forecast_entry;

/* Filled by the caller with ctx to round, the rest 0. One thread; closed with
 * mz_forecast_batch_close. */
typedef struct mz_forecast_batch {
    mz_context *ctx;
    mz_forecaster *forecaster;
    mz_forecast_options options;
    mz_missing missing;
    int64_t season;                         /* MZ_SEASON_AUTO, MZ_SEASON_UNUSED or its points */
    const mz_forecast_quantiles *quantiles; /* NULL: none */
    bool nonnegative, round;                /* what is done to every value of an answer */
    bool baselines;          /* forecast by these too, from the whole past of each series */
    mz_progress *progress;   /* of series; NULL: none */
    int64_t n_before;        /* series that it has shown as done */
    bool ignores_interrupts; /* a run goes on to its end */
    bool hold_out; /* the last `horizon` values of each series are the future, not the past */
    mz_forecast_entry entries[MZ_FORECAST_BATCH];
    int n_entries; /* read */
    int n_ready;   /* of these belong to this batch; one more may wait for the next */
    mz_forecast_item items[MZ_FORECAST_BATCH]; /* those of the ready entries without error */
} mz_forecast_batch;

void mz_forecast_batch_close(mz_forecast_batch *batch);

/* Where series come from: sets *out, borrowed until the next call, or *end after the last. */
typedef struct mz_forecast_source {
    mz_status (*next)(void *self, mz_series *out, bool *end);
    void *self;
} mz_forecast_source;

/* Drops the ready entries and reads the next, as many as one pass of the model should hold; n_ready
 * is 0 after the last. A series that cannot be used is an entry with an error. Errors: those of
 * the source; NOMEM. */
mz_status mz_forecast_batch_next(mz_forecast_batch *batch, const mz_forecast_source *source);

/* Forecasts the ready entries, and their bands. What one series is to blame for goes to its entry.
 * Shows its progress. After an interrupt the entries are given up, so that none is ready, unless
 * they are done in a moment. Errors: NOMEM; DEVICE. */
mz_status mz_forecast_batch_run(mz_forecast_batch *batch);

/* Whether another series could still be forecast after this failure. */
bool mz_forecast_is_about_series(mz_status status);

/* The error's text, without the series' name in front: whoever shows it has that already. */
const char *mz_forecast_error_text(const mz_error *err, const char *id);

#endif
