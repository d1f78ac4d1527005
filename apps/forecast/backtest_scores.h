/* Scores of a backtest: the model and every baseline, of a series and in all. */
#ifndef MZ_APPS_FORECAST_BACKTEST_SCORES_H
#define MZ_APPS_FORECAST_BACKTEST_SCORES_H

#include "apps/forecast/backtest_windows.h"
#include "apps/zoo/forecast_metrics.h"

/* Method 0 is the model, 1 + b is baseline b. */
enum { MZ_BACKTEST_MODEL = 0, MZ_BACKTEST_METHODS = 1 + MZ_BASELINE_COUNT };

/* One series. All zero before its first window. */
typedef struct mz_backtest_scores {
    mz_series_scores methods[MZ_BACKTEST_METHODS];
} mz_backtest_scores;

/* Adds a window that has forecast and future; baselines it may lack, which then get no score. Only
 * the model has quantiles (NULL: not even that). */
void mz_backtest_scores_add(mz_backtest_scores *scores, const mz_forecast_entry *entry,
                            const mz_backtest_label *label, int64_t horizon,
                            const mz_forecast_quantiles *quantiles);

/* MASE of a method divided by that of seasonal naive, within [0.01, 100] as fev's boards clip it; 1
 * where both are 0; NaN where the series has no MASE. */
double mz_backtest_relative(const mz_backtest_scores *scores, int method);

/* All series. All zero before the first. */
typedef struct mz_backtest_totals {
    mz_total_scores methods[MZ_BACKTEST_METHODS];
    double log_relative[MZ_BACKTEST_METHODS]; /* sums */
    int64_t n_relative;                       /* series in them */
    int64_t n_windows;
} mz_backtest_totals;

void mz_backtest_totals_add(mz_backtest_totals *totals, const mz_backtest_scores *scores);

/* Geometric mean over the series of mz_backtest_relative; NaN where none has it. */
double mz_backtest_totals_relative(const mz_backtest_totals *totals, int method);

/* Series without a MASE. */
int64_t mz_backtest_totals_unscaled(const mz_backtest_totals *totals);

#endif
