/* Seasons: how long, and whether there is one. */
#include <math.h>
#include <string.h>

#include "encoders/series/calendar.h"

int64_t mz_season_length(const mz_frequency *f, int64_t n_values) {
    enum { MINUTES_A_DAY = 1440 };
    static const int64_t units[MZ_FREQUENCY_COUNT] = {
        [MZ_FREQUENCY_NONE] = 1,          [MZ_FREQUENCY_SECOND] = 60,
        [MZ_FREQUENCY_MINUTE] = 60,       [MZ_FREQUENCY_HOUR] = 24,
        [MZ_FREQUENCY_DAY] = 7,           [MZ_FREQUENCY_BUSINESS_DAY] = 5,
        [MZ_FREQUENCY_WEEK] = 52,         [MZ_FREQUENCY_MONTH_START] = 12,
        [MZ_FREQUENCY_MONTH_END] = 12,    [MZ_FREQUENCY_MONTH_DAY] = 12,
        [MZ_FREQUENCY_QUARTER_START] = 4, [MZ_FREQUENCY_QUARTER_END] = 4,
        [MZ_FREQUENCY_YEAR_START] = 1,    [MZ_FREQUENCY_YEAR_END] = 1,
        [MZ_FREQUENCY_YEAR_DATE] = 1,
    };
    int64_t whole = units[f->kind];
    if (f->kind == MZ_FREQUENCY_MINUTE && (f->n > 1 || n_values >= 3 * MINUTES_A_DAY)) {
        whole = MINUTES_A_DAY;
    } else if (f->kind == MZ_FREQUENCY_SECOND && f->n > 1) {
        whole = 3600;
    }
    return f->n > 0 && whole % f->n == 0 ? whole / f->n : 1;
}

/* First differences without their mean; a difference with a missing side is 0 and does not count.
 */
typedef struct differences {
    double *values; /* [n] */
    int64_t n;
    int64_t n_known;
    double sum_squares;
} differences;

static void difference(differences *d, const double *values) {
    /* Halves cannot overflow. */
    double largest = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const double x = values[i + 1] / 2 - values[i] / 2;
        d->values[i] = x;
        largest = isfinite(x) ? fmax(largest, fabs(x)) : largest;
    }
    double sum = 0;
    for (int64_t i = 0; i < d->n; i++) {
        d->values[i] = largest > 0 ? d->values[i] / largest : d->values[i];
        d->n_known += isfinite(d->values[i]);
        sum += isfinite(d->values[i]) ? d->values[i] : 0;
    }
    const double mean = d->n_known > 0 ? sum / (double)d->n_known : 0;
    for (int64_t i = 0; i < d->n; i++) {
        d->values[i] = isfinite(d->values[i]) ? d->values[i] - mean : 0;
        d->sum_squares += d->values[i] * d->values[i];
    }
}

static double correlation(const differences *d, int64_t lag) {
    double sum = 0;
    for (int64_t i = lag; i < d->n; i++) {
        sum += d->values[i] * d->values[i - lag];
    }
    return sum / d->sum_squares;
}

/* Bartlett's standard error of the correlation at `season`, given those at shorter lags, times the
 * one-sided 95 % quantile of the normal distribution. */
static bool is_confirmed(const differences *d, int64_t season) {
    enum { MAX_LAGS = 4096 };
    double sum = 0;
    for (int64_t lag = 1; lag < season && lag <= MAX_LAGS; lag++) {
        const double r = correlation(d, lag);
        sum += r * r;
    }
    const double bound = 1.6449 * sqrt((1 + 2 * sum) / (double)d->n_known);
    return correlation(d, season) > bound;
}

/* Correlations at lags 1 to n_lags are in r[lag]. */
static int64_t strongest_peak(const double *r, int64_t n_lags, int64_t n_known) {
    /* Of L correlations of noise the largest stays below this with 95 % certainty: the tail of the
     * normal distribution is below exp(-z^2 / 2). */
    const double bound = sqrt(2 * log(20 * (double)n_lags) / (double)n_known);
    double best = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t lag = 2; lag < n_lags; lag++) {
            if (r[lag] <= bound || r[lag] < r[lag - 1] || r[lag] < r[lag + 1]) {
                continue;
            }
            if (pass == 1 && r[lag] >= 0.9 * best) {
                return lag;
            }
            best = fmax(best, r[lag]);
        }
    }
    return 1;
}

mz_status mz_season_detect(mz_context *ctx, const double *values, int64_t n, int64_t expected,
                           int64_t *season) {
    enum { MAX_VALUES = 8192, MAX_SEASONS = 10, MIN_SEASONS = 3 };
    *season = 1;
    if (expected == 1 || n < 8 || (expected > 0 && n / MIN_SEASONS < expected)) {
        return MZ_OK;
    }
    int64_t n_used = expected > MAX_VALUES / MAX_SEASONS ? MAX_SEASONS * expected : MAX_VALUES;
    n_used = n_used < n ? n_used : n;
    const int64_t n_lags = n_used / MIN_SEASONS;
    void *memory;
    MZ_TRY(
        mz_calloc(ctx, (size_t)(n_used + n_lags + 2), sizeof(double), "autocorrelation", &memory));
    differences d = {.values = memory, .n = n_used - 1};
    double *r = d.values + n_used;
    difference(&d, values + (n - n_used));
    /* What is left of a straight line is rounding. */
    const bool is_flat = d.sum_squares <= 1e-18 * (double)n_used;
    if (!is_flat && expected > 0) {
        *season = is_confirmed(&d, expected) ? expected : 1;
    } else if (!is_flat) {
        for (int64_t lag = 1; lag <= n_lags; lag++) {
            r[lag] = correlation(&d, lag);
        }
        *season = strongest_peak(r, n_lags, d.n_known);
    }
    mz_free(ctx, memory);
    return MZ_OK;
}
