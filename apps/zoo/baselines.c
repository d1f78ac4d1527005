#include "apps/zoo/baselines.h"

#include <float.h>
#include <math.h>

#include "apps/zoo/baselines_internal.h"

enum { FEWEST = 5 };

const char *mz_baseline_name(mz_baseline baseline) {
    static const char *const names[MZ_BASELINE_COUNT] = {"naive", "seasonal naive", "drift",
                                                         "damped", "theta"};
    return names[baseline];
}

const char *mz_baseline_key(mz_baseline baseline) {
    return baseline == MZ_BASELINE_SEASONAL_NAIVE ? "seasonal_naive" : mz_baseline_name(baseline);
}

static void naive(const double *values, int64_t n, int64_t horizon, double *out) {
    for (int64_t h = 0; h < horizon; h++) {
        out[h] = values[n - 1];
    }
}

static void seasonal_naive(const double *values, int64_t n, int64_t season, int64_t horizon,
                           double *out) {
    const int64_t m = n >= season ? season : 1;
    for (int64_t h = 0; h < horizon; h++) {
        out[h] = values[n - m + h % m];
    }
}

static void drift(const double *values, int64_t n, int64_t horizon, double *out) {
    const double slope = n > 1 ? (values[n - 1] - values[0]) / (double)(n - 1) : 0;
    for (int64_t h = 0; h < horizon; h++) {
        out[h] = values[n - 1] + slope * (double)(h + 1);
    }
}

/* ---- Seasonal adjustment ---- */

/* Autocorrelation at lags 1 to max_lag. */
static void autocorrelations(const double *values, int64_t n, int64_t max_lag, double *out) {
    double mean = 0;
    double variance = 0;
    for (int64_t i = 0; i < n; i++) {
        mean += values[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        variance += (values[i] - mean) * (values[i] - mean);
    }
    for (int64_t lag = 1; lag <= max_lag; lag++) {
        double sum = 0;
        for (int64_t i = lag; i < n; i++) {
            sum += (values[i] - mean) * (values[i - lag] - mean);
        }
        out[lag - 1] = variance > 0 ? sum / variance : 0;
    }
}

/* The test and the decomposition take n times season operations each: minutes for a million
 * values and a season of a hundred thousand. */
static bool is_affordable(int64_t n, int64_t season) {
    return (double)n * (double)season <= MZ_BASELINE_MAX_WORK;
}

/* Bartlett's formula; `work` holds `season` values. */
static bool is_seasonal(const double *values, int64_t n, int64_t season, double *work) {
    const double z_90 = 1.6448536269514722;
    if (season < 4 || n < 2 * season || !is_affordable(n, season)) {
        return false;
    }
    autocorrelations(values, n, season, work);
    double sum = 0;
    for (int64_t i = 0; i < season - 1; i++) {
        sum += work[i] * work[i];
    }
    return fabs(work[season - 1]) / sqrt((1 + 2 * sum) / (double)n) > z_90;
}

/* The centred moving average over one season, at position i. */
static double moving_average(const double *values, int64_t i, int64_t season) {
    const int64_t half = season / 2;
    double sum = 0;
    for (int64_t j = i - half; j <= i + half; j++) {
        const bool is_end = season % 2 == 0 && (j == i - half || j == i + half);
        sum += is_end ? values[j] / 2 : values[j];
    }
    return sum / (double)season;
}

/* Classical decomposition: factors [season], of position i in the series at i % season. */
static void decompose(const double *values, int64_t n, int64_t season, bool multiplicative,
                      double *factors) {
    const int64_t half = season / 2;
    double mean = 0;
    for (int64_t s = 0; s < season; s++) {
        double sum = 0;
        int64_t count = 0;
        for (int64_t i = s; i < n; i += season) {
            if (i >= half && i + half < n) {
                const double trend = moving_average(values, i, season);
                sum += multiplicative ? values[i] / trend : values[i] - trend;
                count++;
            }
        }
        factors[s] = count > 0 ? sum / (double)count : multiplicative ? 1 : 0;
        mean += factors[s] / (double)season;
    }
    for (int64_t s = 0; s < season; s++) {
        factors[s] = multiplicative ? factors[s] / mean : factors[s] - mean;
    }
}

/* Takes the season out of `values`; returns how it is put back. */
static mz_seasonal_kind adjust(double *values, int64_t n, int64_t season, double *factors) {
    if (!is_seasonal(values, n, season, factors)) {
        return MZ_SEASONAL_NONE;
    }
    bool multiplicative = true;
    for (int64_t i = 0; i < n; i++) {
        multiplicative = multiplicative && values[i] > 0;
    }
    decompose(values, n, season, multiplicative, factors);
    for (int64_t s = 0; multiplicative && s < season; s++) {
        if (factors[s] < 0.01) {
            multiplicative = false;
            decompose(values, n, season, false, factors);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const double f = factors[i % season];
        values[i] = multiplicative ? values[i] / f : values[i] - f;
    }
    return multiplicative ? MZ_SEASONAL_MULTIPLICATIVE : MZ_SEASONAL_ADDITIVE;
}

/* ---- The smoothing methods ---- */

static bool is_constant(const double *values, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        if (values[i] != values[0]) {
            return false;
        }
    }
    return true;
}

/* Works on a copy scaled by the largest value, so that no square overflows. */
static mz_status smooth(mz_context *ctx, mz_baseline baseline, const double *values, int64_t n,
                        int64_t season, int64_t horizon, double *out) {
    void *memory = NULL;
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(values[i]));
    }
    if (n < FEWEST || largest == 0 || is_constant(values, n)) {
        naive(values, n, horizon, out);
        return MZ_OK;
    }
    MZ_TRY(mz_calloc(ctx, (size_t)(n + season), sizeof(double), "baseline", &memory));
    double *x = memory;
    double *factors = x + n;
    for (int64_t i = 0; i < n; i++) {
        x[i] = values[i] / largest;
    }
    const mz_seasonal_kind kind = adjust(x, n, season, factors);
    if (baseline == MZ_BASELINE_THETA) {
        mz_theta_forecast(x, n, horizon, out);
    } else {
        mz_damped_forecast(x, n, horizon, out);
    }
    for (int64_t h = 0; h < horizon; h++) {
        const double f = kind == MZ_SEASONAL_NONE ? 0 : factors[(n + h) % season];
        out[h] = kind == MZ_SEASONAL_MULTIPLICATIVE ? out[h] * f : out[h] + f;
        out[h] *= largest;
    }
    mz_free(ctx, memory);
    return MZ_OK;
}

mz_status mz_baseline_forecast(mz_context *ctx, mz_baseline baseline, const double *values,
                               int64_t n_values, int64_t season, int64_t horizon, double *out) {
    if (n_values < 1 || season < 1) {
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "baseline: %lld values and a season of %lld, expected at least 1",
                       (long long)n_values, (long long)season);
    }
    switch (baseline) {
    case MZ_BASELINE_SEASONAL_NAIVE:
        seasonal_naive(values, n_values, season, horizon, out);
        break;
    case MZ_BASELINE_DRIFT:
        drift(values, n_values, horizon, out);
        break;
    case MZ_BASELINE_DAMPED:
    case MZ_BASELINE_THETA:
        MZ_TRY(smooth(ctx, baseline, values, n_values, season, horizon, out));
        break;
    default:
        naive(values, n_values, horizon, out);
        break;
    }
    for (int64_t h = 0; h < horizon; h++) {
        out[h] = isnan(out[h]) ? values[n_values - 1] : fmax(fmin(out[h], DBL_MAX), -DBL_MAX);
    }
    return MZ_OK;
}
