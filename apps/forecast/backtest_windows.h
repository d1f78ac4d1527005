/* Rolling origins: cuts series into windows whose end is held out.
 *
 * Of a series, from its first to its last observed value, come `n_windows` windows, earliest first.
 * The last ends at the series' end; each begins at the series' beginning and ends `step` values
 * before the next one (as in fev and in statsforecast's cross_validation). */
#ifndef MZ_APPS_FORECAST_BACKTEST_WINDOWS_H
#define MZ_APPS_FORECAST_BACKTEST_WINDOWS_H

#include "apps/forecast/forecast_batch.h"

/* What is known of a window that is not in the batch's entry. */
typedef struct mz_backtest_label {
    int64_t window;              /* 0: the earliest */
    int64_t n_windows;           /* of the series; 1 where the series has an error */
    int64_t n_values;            /* of the series, from the first observed to the last */
    int64_t origin;              /* values of the input before the held-out ones */
    int64_t season;              /* as the window's past shows it, or as given */
    double scale, squared_scale; /* of the window's past without repairs, see mz_seasonal_scale */
    bool is_series_error;        /* the entry's error is the series', not the window's */
} mz_backtest_label;

/* Filled by the caller up to season, the rest 0. One thread; closed with
 * mz_backtest_windows_close. */
typedef struct mz_backtest_windows {
    mz_context *ctx;
    mz_forecast_source input; /* whole series */
    int64_t horizon, step;
    int64_t n_windows;         /* the input may change it with each series that it gives */
    int64_t season;            /* MZ_SEASON_AUTO or its points */
    mz_series series;          /* being cut: observed part, borrowed from the input */
    int64_t n_before;          /* missing values before that */
    int64_t n_left;            /* windows of it still to come */
    double *values;            /* copy that the batch may change */
    mz_stamp *stamps;          /* the same */
    size_t n_values, n_stamps; /* allocated */
    mz_error fault;            /* text of the series' error */
    mz_backtest_label labels[MZ_FORECAST_BATCH + 1];
    int64_t n_given, n_taken; /* labels */
} mz_backtest_windows;

void mz_backtest_windows_close(mz_backtest_windows *windows);

/* Leaves away missing values at both ends, which say nothing; *n_before: those in front. */
void mz_backtest_trim(mz_series *series, int64_t *n_before);

/* A mz_forecast_source's next, for a batch with hold_out: `self` is the mz_backtest_windows. A
 * series into which the windows do not fit, or that came with an error, is one window with an
 * error. The window's season is that of its own past. Errors: those of the input; NOMEM. */
mz_status mz_backtest_windows_next(void *self, mz_series *out, bool *end);

/* The label of the oldest window not asked for yet; to be called once for each ready entry. */
mz_backtest_label mz_backtest_windows_take_label(mz_backtest_windows *windows);

#endif
