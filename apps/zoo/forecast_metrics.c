#include "apps/zoo/forecast_metrics.h"

#include <math.h>
#include <stddef.h>

const char *mz_metric_key(mz_metric metric) {
    static const char *const keys[MZ_METRIC_COUNT] = {
        "mae",  "mse",     "rmse", "mape", "smape",    "mase", "rmsse",
        "wape", "pinball", "sql",  "wql",  "coverage", "width"};
    return keys[metric];
}

void mz_seasonal_scale(const double *values, int64_t n_values, int64_t season, double *scale,
                       double *squared_scale) {
    double sum = 0;
    double squares = 0;
    int64_t n = 0;
    for (int64_t i = season; i < n_values; i++) {
        const double d = values[i] - values[i - season];
        if (!isnan(d)) {
            sum += fabs(d);
            squares += d * d;
            n++;
        }
    }
    *scale = n > 0 && sum > 0 ? sum / (double)n : NAN;
    *squared_scale = n > 0 && squares > 0 ? squares / (double)n : NAN;
}

/* Quantiles at one step; returns the sum over levels of the doubled pinball loss. */
static double pinball_of(const mz_forecast_outcome *o, int64_t h) {
    const double y = o->truth[h];
    double sum = 0;
    for (int i = 0; i < o->n_quantiles; i++) {
        const double q = o->quantiles[i * o->horizon + h];
        sum += 2 * fabs((y - q) * ((y <= q ? 1 : 0) - o->levels[i]));
    }
    return sum;
}

static void add_quantiles(mz_series_scores *s, const mz_forecast_outcome *o) {
    for (int64_t h = 0; h < o->horizon; h++) {
        const double y = o->truth[h];
        if (isnan(y)) {
            continue;
        }
        const double low = o->quantiles[h];
        const double high = o->quantiles[(o->n_quantiles - 1) * o->horizon + h];
        const double loss = pinball_of(o, h) / o->n_quantiles;
        s->pinball += loss;
        s->n_quantile_values++;
        if (!isnan(o->scale)) {
            s->scaled_pinball += loss / o->scale;
            s->n_scaled_quantile_values++;
        }
        if (o->n_quantiles > 1) {
            s->inside += low <= y && y <= high;
            s->width += high - low;
            s->n_band_values++;
        }
    }
}

void mz_series_scores_add(mz_series_scores *s, const mz_forecast_outcome *o) {
    double absolute = 0;
    double squared = 0;
    int64_t n = 0;
    for (int64_t h = 0; h < o->horizon; h++) {
        const double y = o->truth[h];
        const double f = o->forecast[h];
        if (isnan(y)) {
            continue;
        }
        const double e = fabs(y - f);
        const double size = fabs(y) + fabs(f);
        absolute += e;
        squared += e * e;
        s->percentage += y != 0 ? e / fabs(y) : 0;
        s->n_nonzero += y != 0;
        s->symmetric += size > 0 ? 2 * e / size : 0;
        s->truth += fabs(y);
        n++;
    }
    s->absolute += absolute;
    s->squared += squared;
    s->n_values += n;
    s->n_outcomes++;
    if (n > 0 && !isnan(o->scale)) {
        s->scaled += absolute / (double)n / o->scale;
        s->n_scaled++;
    }
    if (n > 0 && !isnan(o->squared_scale)) {
        s->squared_scaled += sqrt(squared / (double)n / o->squared_scale);
        s->n_squared_scaled++;
    }
    if (o->quantiles != NULL && o->n_quantiles > 0) {
        add_quantiles(s, o);
    }
}

static double ratio(double sum, int64_t n) {
    return n > 0 ? sum / (double)n : NAN;
}

double mz_series_scores_metric(const mz_series_scores *s, mz_metric metric) {
    switch (metric) {
    case MZ_METRIC_MAE:
        return ratio(s->absolute, s->n_values);
    case MZ_METRIC_MSE:
        return ratio(s->squared, s->n_values);
    case MZ_METRIC_RMSE:
        return sqrt(ratio(s->squared, s->n_values));
    case MZ_METRIC_MAPE:
        return ratio(s->percentage, s->n_nonzero);
    case MZ_METRIC_SMAPE:
        return ratio(s->symmetric, s->n_values);
    case MZ_METRIC_MASE:
        return ratio(s->scaled, s->n_scaled);
    case MZ_METRIC_RMSSE:
        return ratio(s->squared_scaled, s->n_squared_scaled);
    case MZ_METRIC_WAPE:
        return s->truth > 0 ? s->absolute / s->truth : NAN;
    case MZ_METRIC_PINBALL:
        return ratio(s->pinball, s->n_quantile_values);
    case MZ_METRIC_SQL:
        return ratio(s->scaled_pinball, s->n_scaled_quantile_values);
    case MZ_METRIC_WQL:
        return s->n_quantile_values > 0 && s->truth > 0 ? s->pinball / s->truth : NAN;
    case MZ_METRIC_COVERAGE:
        return ratio(s->inside, s->n_band_values);
    case MZ_METRIC_WIDTH:
        return ratio(s->width, s->n_band_values);
    default:
        return NAN;
    }
}

static void pool(mz_series_scores *to, const mz_series_scores *s) {
    to->absolute += s->absolute;
    to->truth += s->truth;
    to->pinball += s->pinball;
    to->inside += s->inside;
    to->n_quantile_values += s->n_quantile_values;
    to->n_band_values += s->n_band_values;
    to->n_values += s->n_values;
    to->n_outcomes += s->n_outcomes;
}

void mz_total_scores_add(mz_total_scores *total, const mz_series_scores *series) {
    for (int m = 0; m < MZ_METRIC_COUNT; m++) {
        const double value = mz_series_scores_metric(series, (mz_metric)m);
        if (!isnan(value)) {
            total->sums[m] += value;
            total->n_defined[m]++;
        }
    }
    pool(&total->pooled, series);
    total->n_series++;
}

double mz_total_scores_metric(const mz_total_scores *total, mz_metric metric) {
    if (metric == MZ_METRIC_WAPE || metric == MZ_METRIC_WQL || metric == MZ_METRIC_COVERAGE) {
        return mz_series_scores_metric(&total->pooled, metric);
    }
    return ratio(total->sums[metric], total->n_defined[metric]);
}
