/* Splits series for tuning: what is trained on, then windows to choose by, then windows to test.
 *
 * Of each series, from its first to its last observed value, the last `n_windows` windows of the
 * horizon are for testing and as many before them for validation. Where validation would end with
 * missing values it ends before them. Nothing that is held out is in what lies before it. */
#ifndef MZ_APPS_FORECAST_TUNE_SPLIT_H
#define MZ_APPS_FORECAST_TUNE_SPLIT_H

#include "apps/forecast/backtest_windows.h"

enum {
    MZ_TUNE_MIN_TRAIN = 8, /* values that a series needs to be trained on */
    MZ_TUNE_WINDOWS = 3,   /* of each part by default, if they are no more than a fifth of it */
};

/* One series; owned by the split. */
typedef struct mz_tune_series {
    mz_series series;  /* observed part; no notes */
    int64_t n_windows; /* of each part; 0: only trained on */
    int64_t n_train;   /* its first values, before all windows */
    int64_t n_chosen;  /* and to the end of the windows to choose by */
} mz_tune_series;

/* Filled by mz_tune_split_read, released by mz_tune_split_free; one thread. */
typedef struct mz_tune_split {
    mz_context *ctx;
    int64_t horizon;
    mz_tune_series *items; /* [n] */
    int64_t n;
    size_t capacity;
    int64_t n_held;         /* series with windows */
    int64_t n_windows;      /* of all series, in each part */
    int64_t n_skipped;      /* series too short for anything, or with an error of their own */
    int64_t n_train;        /* values to train on, in all */
    int64_t longest;        /* and in the longest series */
    int64_t longest_series; /* values of it, held out or not */
} mz_tune_split;

/* Windows of each part for a series of n_values: `wanted` (0: MZ_TUNE_WINDOWS, at most as many as
 * lie within a fifth of the series, but one) or as many as leave MZ_TUNE_MIN_TRAIN values. */
int64_t mz_tune_n_windows(int64_t n_values, int64_t horizon, int64_t wanted);

/* Reads all series into memory. Errors: those of the input; ARG where none is long enough to hold
 * anything out, saying how long one must be; NOMEM. */
mz_status mz_tune_split_read(mz_context *ctx, const mz_forecast_source *input, int64_t horizon,
                             int64_t wanted, mz_tune_split *out);
void mz_tune_split_free(mz_tune_split *split);

/* What is trained on: series that borrow from the split, [split->n], released with mz_free. Errors:
 * NOMEM. */
mz_status mz_tune_split_train(const mz_tune_split *split, mz_series **out);

typedef enum mz_tune_part { MZ_TUNE_VALIDATION = 0, MZ_TUNE_TEST } mz_tune_part;

/* Begins the windows of a part, of every `stride`th series that has any; `out` must not move until
 * mz_tune_windows_close. `season`: MZ_SEASON_AUTO or its points. */
typedef struct mz_tune_windows {
    const mz_tune_split *split;
    mz_tune_part part;
    int64_t stride, at, n_seen;
    mz_backtest_windows windows; /* a source by mz_backtest_windows_next */
} mz_tune_windows;
void mz_tune_windows_open(const mz_tune_split *split, mz_tune_part part, int64_t stride,
                          int64_t season, mz_tune_windows *out);
void mz_tune_windows_close(mz_tune_windows *windows);

#endif
