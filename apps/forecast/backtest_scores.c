#include "apps/forecast/backtest_scores.h"

#include <math.h>
#include <stddef.h>

void mz_backtest_scores_add(mz_backtest_scores *s, const mz_forecast_entry *e,
                            const mz_backtest_label *label, int64_t horizon,
                            const mz_forecast_quantiles *quantiles) {
    double levels[MZ_MAX_QUANTILES];
    const int n_quantiles = quantiles != NULL ? quantiles->n : 0;
    for (int i = 0; i < n_quantiles; i++) {
        levels[i] = quantiles->items[i].q;
    }
    const int n_methods = e->baselines != NULL ? MZ_BACKTEST_METHODS : MZ_BACKTEST_MODEL + 1;
    for (int m = 0; m < n_methods; m++) {
        const bool is_model = m == MZ_BACKTEST_MODEL;
        const mz_forecast_outcome outcome = {
            .truth = e->future,
            .forecast = is_model ? e->forecast : e->baselines + (m - 1) * horizon,
            .horizon = horizon,
            .quantiles = is_model ? e->quantiles : NULL,
            .levels = levels,
            .n_quantiles = is_model ? n_quantiles : 0,
            .scale = label->scale,
            .squared_scale = label->squared_scale,
        };
        mz_series_scores_add(&s->methods[m], &outcome);
    }
}

double mz_backtest_relative(const mz_backtest_scores *s, int method) {
    const double lowest = 0.01;
    const double highest = 100;
    const double own = mz_series_scores_metric(&s->methods[method], MZ_METRIC_MASE);
    const double base =
        mz_series_scores_metric(&s->methods[1 + MZ_BASELINE_SEASONAL_NAIVE], MZ_METRIC_MASE);
    if (isnan(own) || isnan(base)) {
        return NAN;
    }
    if (base == 0) {
        return own == 0 ? 1 : highest;
    }
    return fmin(fmax(own / base, lowest), highest);
}

void mz_backtest_totals_add(mz_backtest_totals *t, const mz_backtest_scores *s) {
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        const double relative = mz_backtest_relative(s, m);
        mz_total_scores_add(&t->methods[m], &s->methods[m]);
        t->log_relative[m] += isnan(relative) ? 0 : log(relative);
    }
    t->n_relative += !isnan(mz_backtest_relative(s, MZ_BACKTEST_MODEL));
    t->n_windows += s->methods[MZ_BACKTEST_MODEL].n_outcomes;
}

double mz_backtest_totals_relative(const mz_backtest_totals *t, int method) {
    return t->n_relative > 0 ? exp(t->log_relative[method] / (double)t->n_relative) : NAN;
}

int64_t mz_backtest_totals_unscaled(const mz_backtest_totals *t) {
    const mz_total_scores *model = &t->methods[MZ_BACKTEST_MODEL];
    return model->n_series - model->n_defined[MZ_METRIC_MASE];
}
