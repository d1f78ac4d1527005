/* Scores of a forecaster on the windows that were held out for tuning. */
#ifndef MZ_APPS_FORECAST_TUNE_SCORES_H
#define MZ_APPS_FORECAST_TUNE_SCORES_H

#include "apps/forecast/backtest_scores.h"
#include "apps/forecast/tune_split.h"

/* What is scored and how: `batch` as mz_forecast_setup_open leaves it, whose forecaster is
 * exchanged for the time of a call. */
typedef struct mz_tune_scorer {
    mz_forecast_batch *batch;
    const mz_tune_split *split;
    int64_t season; /* MZ_SEASON_AUTO or its points */
} mz_tune_scorer;

/* Scores `forecaster`, and with `baselines` these too, on the windows of a part, of every
 * `stride`th series that has any, by the path and the rules of a backtest. Errors: ARG for a window
 * that cannot be forecast, naming the series; NOMEM; DEVICE. */
mz_status mz_tune_score(const mz_tune_scorer *scorer, mz_forecaster *forecaster, mz_tune_part part,
                        int64_t stride, bool baselines, mz_backtest_totals *out);

/* What tuning minimises: the MASE over the series, or where none has one the MAE. */
mz_metric mz_tune_metric(const mz_backtest_totals *totals);

#endif
