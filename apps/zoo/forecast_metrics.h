/* How good forecasts were. Formulas of fev and GIFT-Eval; y is the truth, f the forecast, q the
 * quantile at level tau; steps whose truth is missing (NaN) do not count. */
#ifndef MZ_APPS_ZOO_FORECAST_METRICS_H
#define MZ_APPS_ZOO_FORECAST_METRICS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_metric {
    MZ_METRIC_MAE = 0,  /* mean |y - f| */
    MZ_METRIC_MSE,      /* mean (y - f)^2 */
    MZ_METRIC_RMSE,     /* square root of the MSE of a series */
    MZ_METRIC_MAPE,     /* mean |y - f| / |y| where y is not 0; a fraction */
    MZ_METRIC_SMAPE,    /* mean 2 |y - f| / (|y| + |f|), 0 where both are 0; a fraction */
    MZ_METRIC_MASE,     /* mean |y - f| / mean of the history's |y_t - y_{t-m}| (Hyndman 2006) */
    MZ_METRIC_RMSSE,    /* the same with squares, then the square root */
    MZ_METRIC_WAPE,     /* sum |y - f| / sum |y| */
    MZ_METRIC_PINBALL,  /* mean over steps and levels of 2 |(y - q) (1[y <= q] - tau)| */
    MZ_METRIC_SQL,      /* that divided by the MASE's scale */
    MZ_METRIC_WQL,      /* its sum / sum |y|, averaged over the levels */
    MZ_METRIC_COVERAGE, /* share of y between the outer quantiles, of two or more */
    MZ_METRIC_WIDTH,    /* mean distance of these */
    MZ_METRIC_COUNT
} mz_metric;

/* As answers call it: "mae", ... */
const char *mz_metric_key(mz_metric metric);

/* One forecast beside what came. Borrowed. */
typedef struct mz_forecast_outcome {
    const double *truth, *forecast; /* [horizon] */
    int64_t horizon;
    const double *quantiles; /* [n_quantiles, horizon]; NULL: none */
    const double *levels;    /* [n_quantiles] tau, ascending */
    int n_quantiles;
    double scale, squared_scale; /* see mz_seasonal_scale */
} mz_forecast_outcome;

/* Mean |y_t - y_{t-m}| and mean (y_t - y_{t-m})^2 of a history; NaN when it is not longer than m,
 * or when they are 0: then the series has no MASE, RMSSE and SQL. */
void mz_seasonal_scale(const double *values, int64_t n_values, int64_t season, double *scale,
                       double *squared_scale);

/* Sums over the outcomes of one series. All zero before the first. */
typedef struct mz_series_scores {
    int64_t n_outcomes, n_values, n_nonzero, n_scaled, n_squared_scaled;
    int64_t n_quantile_values, n_scaled_quantile_values, n_band_values;
    double absolute, squared, percentage, symmetric, truth;
    double scaled, squared_scaled; /* of outcomes: means over their steps */
    double pinball, scaled_pinball;
    double inside, width;
} mz_series_scores;

void mz_series_scores_add(mz_series_scores *scores, const mz_forecast_outcome *outcome);

/* A metric of one series; NaN where it is not defined. */
double mz_series_scores_metric(const mz_series_scores *scores, mz_metric metric);

/* Sums over series. All zero before the first. */
typedef struct mz_total_scores {
    int64_t n_series;
    int64_t n_defined[MZ_METRIC_COUNT]; /* series that have the metric */
    double sums[MZ_METRIC_COUNT];
    mz_series_scores pooled;
} mz_total_scores;

void mz_total_scores_add(mz_total_scores *total, const mz_series_scores *series);

/* A metric of all series: the mean over those that have it; WAPE, WQL and coverage pool all values
 * instead. NaN where none has it. */
double mz_total_scores_metric(const mz_total_scores *total, mz_metric metric);

#ifdef __cplusplus
}
#endif
#endif
