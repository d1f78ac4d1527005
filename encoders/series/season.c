/* Seasons: how long, and whether there is one. */
#include <float.h>
#include <math.h>

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

/* ---- sums ---- */

/* Eight at a time: one running sum would wait for itself. */
enum { N_LANES = 8 };

static double sum_of_products(const double *a, const double *b, int64_t n) {
    double lanes[N_LANES] = {0};
    int64_t i = 0;
    for (; i + N_LANES <= n; i += N_LANES) {
        for (int k = 0; k < N_LANES; k++) {
            lanes[k] += a[i + k] * b[i + k];
        }
    }
    double sum = 0;
    for (; i < n; i++) {
        sum += a[i] * b[i];
    }
    for (int k = 0; k < N_LANES; k++) {
        sum += lanes[k];
    }
    return sum;
}

/* ---- values ---- */

/* The newest values, between -1 and 1 and with gaps filled by straight lines. */
typedef struct history {
    double *values;       /* [n] */
    double *sums;         /* [n + 1] of the values before each, and of all */
    double *sums_of_sums; /* [n + 2] of the sums before each, and of all */
    double *rest;         /* [n] of the season looked at: see remove_trend */
    int64_t n;
    int64_t n_known;
    double rounding; /* what a value may be off */
} history;

static void fill_line(double *values, int64_t from, int64_t to, int64_t n) {
    for (int64_t i = from; i < to; i++) {
        const double share = (double)(i - from + 1) / (double)(to - from + 1);
        const double left = from > 0 ? values[from - 1] : values[to];
        const double right = to < n ? values[to] : left;
        values[i] = left + share * (right - left);
    }
}

/* False for values that are all one. */
static bool read_history(history *h, const double *values) {
    double least = INFINITY;
    double largest = -INFINITY;
    for (int64_t i = 0; i < h->n; i++) {
        if (isfinite(values[i])) {
            least = fmin(least, values[i]);
            largest = fmax(largest, values[i]);
            h->n_known++;
        }
    }
    /* Halves cannot overflow; that of the least number is 0. */
    const double middle = least / 2 + largest / 2;
    const double spread = largest / 2 - least / 2;
    if (h->n_known == 0 || !(spread > 0)) {
        return false;
    }
    h->rounding = 1e-9 + 4 * DBL_EPSILON * (fmax(fabs(least), fabs(largest)) / spread);
    int64_t n_done = 0;
    for (int64_t i = 0; i < h->n; i++) {
        if (isfinite(values[i])) {
            h->values[i] = (values[i] - middle) / spread;
            fill_line(h->values, n_done, i, h->n);
            n_done = i + 1;
        }
    }
    fill_line(h->values, n_done, h->n, h->n);
    for (int64_t i = 0; i < h->n; i++) {
        h->sums[i + 1] = h->sums[i] + h->values[i];
        h->sums_of_sums[i + 1] = h->sums_of_sums[i] + h->sums[i];
    }
    h->sums_of_sums[h->n + 1] = h->sums_of_sums[h->n] + h->sums[h->n];
    return true;
}

/* ---- correlations ---- */

/* What is left of the values without the mean of `window` values around each: a trend goes, a
 * season up to the window stays. Neither noise nor a random walk, nor their sum, is then correlated
 * with itself a window or more later: their rest is a sum of increments over fewer steps than that.
 * The window 2 gives first differences, halved. Returns the sum of squares of the rest, 0 when it
 * is rounding. */
static double remove_trend(const history *h, int64_t window) {
    const int64_t n = h->n - window + 1;
    const double *values = h->values + window / 2;
    const double *begins = h->sums;
    const double *ends = h->sums + window;
    double *rest = h->rest;
    const double share = 1 / (double)window;
    /* A line leaves half a step where the window is even. */
    const double sum =
        h->sums[window / 2 + n] - h->sums[window / 2] -
        share * (h->sums_of_sums[h->n + 1] - h->sums_of_sums[window] - h->sums_of_sums[n]);
    const double mean = sum / (double)n;
    double lanes[N_LANES] = {0};
    int64_t i = 0;
    for (; i + N_LANES <= n; i += N_LANES) {
        for (int k = 0; k < N_LANES; k++) {
            const double x = values[i + k] - (ends[i + k] - begins[i + k]) * share - mean;
            rest[i + k] = x;
            lanes[k] += x * x;
        }
    }
    double power = 0;
    for (; i < n; i++) {
        rest[i] = values[i] - (ends[i] - begins[i]) * share - mean;
        power += rest[i] * rest[i];
    }
    for (int k = 0; k < N_LANES; k++) {
        power += lanes[k];
    }
    return power > h->rounding * h->rounding * (double)n ? power : 0;
}

/* Of the rest with itself `lag` later. */
static double correlation(const history *h, int64_t window, int64_t lag, double power) {
    const int64_t n = h->n - window + 1;
    return power > 0 ? sum_of_products(h->rest + lag, h->rest, n - lag) / power : 0;
}

/* True when the correlation a season later exceeds `quantile` times Bartlett's standard error for a
 * series that has those at shorter lags and none at longer ones. */
static bool is_confirmed_within(const history *h, int64_t window, int64_t season, double quantile) {
    enum { MAX_LAGS = 4096 };
    const double power = remove_trend(h, window);
    double sum = 0;
    for (int64_t lag = 1; lag < season && lag <= MAX_LAGS; lag++) {
        const double r = correlation(h, window, lag, power);
        sum += r * r;
    }
    const double n = (double)(h->n_known - window + 1);
    return n > 0 && correlation(h, window, season, power) > quantile * sqrt((1 + 2 * sum) / n);
}

/* z beyond which one of n_looks correlations of noise lies with a probability below 5 %: the tail
 * of the normal distribution is below exp(-z^2 / 2) / (z sqrt(2 pi)). */
static double quantile_of(int64_t n_looks) {
    const double wide = 2 * log(20 * (double)n_looks);
    return sqrt(wide - log(6.2832 * wide));
}

/* True when the means of a season's points explain so much of the values' variance, beyond the
 * share that as many means of noise do, that few seasons are enough: Bartlett's bound cannot be
 * passed by four of them, however alike. The measure and its threshold are those of Wang, Smith and
 * Hyndman (2006) as used for seasonal differences. Of many seasons looked at it must have been seen
 * four times. */
static bool is_strong(const history *h, int64_t season, int64_t n_looks) {
    const double strong = 0.64;
    const int64_t n = h->n - season + 1;
    const double power = n_looks > 1 && h->n < 4 * season ? 0 : remove_trend(h, season);
    double explained = 0;
    if (power <= 0 || n <= season + 1 || 2 * h->n_known < h->n) {
        return false;
    }
    for (int64_t s = 0; s < season; s++) {
        double sum = 0;
        int64_t count = 0;
        for (int64_t i = s; i < n; i += season) {
            sum += h->rest[i];
            count++;
        }
        explained += sum * sum / (double)count;
    }
    return 1 - (power - explained) / (double)(n - season) / (power / (double)(n - 1)) >= strong;
}

/* A smooth season in noise shows in the values, where differences would drown it; one with edges,
 * on a wandering level, shows in the differences. */
static bool is_confirmed(const history *h, int64_t season, int64_t n_looks) {
    const double quantile = quantile_of(2 * n_looks);
    return is_confirmed_within(h, season, season, quantile) ||
           is_confirmed_within(h, 2, season, quantile) || is_strong(h, season, n_looks);
}

/* ---- search ---- */

/* The shortest peak within 10 % of the highest, 0: none; r[season] for seasons 1 to n_lags. */
static int64_t find_peak(const double *r, int64_t n_lags) {
    double best = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t lag = 2; lag < n_lags; lag++) {
            const bool is_peak = r[lag] >= r[lag - 1] && r[lag] >= r[lag + 1];
            if (pass == 1 && is_peak && r[lag] > 0 && r[lag] >= 0.9 * best) {
                return lag;
            }
            best = is_peak ? fmax(best, r[lag]) : best;
        }
    }
    return 0;
}

/* Noise moves the top of a broad peak. A season's multiples are seasons too, and their peaks lie so
 * much farther apart: the best mean over them decides. */
static int64_t sharpen(const double *r, int64_t n_lags, int64_t peak) {
    enum { MAX_MULTIPLES = 8 };
    const int64_t last = peak + peak / 8 < n_lags ? peak + peak / 8 : n_lags;
    const int64_t n_multiples = n_lags / last < MAX_MULTIPLES ? n_lags / last : MAX_MULTIPLES;
    int64_t season = peak;
    double best = -INFINITY;
    for (int64_t lag = peak - peak / 8; lag <= last; lag++) {
        double sum = 0;
        for (int64_t k = 1; k <= n_multiples; k++) {
            sum += r[k * lag];
        }
        season = sum > best ? lag : season;
        best = fmax(best, sum);
    }
    return season;
}

static int64_t find_season(const history *h, double *r, int64_t n_lags) {
    for (int64_t lag = 2; lag <= n_lags; lag++) {
        r[lag] = correlation(h, lag, lag, remove_trend(h, lag));
    }
    /* A wandering level is no season of 2, where each value should resemble the next but one more
     * than the next. */
    r[1] = correlation(h, 2, 1, remove_trend(h, 2));
    const int64_t peak = find_peak(r, n_lags);
    if (peak == 0) {
        return 1;
    }
    const int64_t season = sharpen(r, n_lags, peak);
    return is_confirmed(h, season, n_lags) ? season : 1;
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
    const int64_t n_floats = 4 * n_used + 3 + n_lags + 1;
    void *memory;
    MZ_TRY(mz_calloc(ctx, (size_t)n_floats, sizeof(double), "autocorrelation", &memory));
    history h = {.values = memory, .n = n_used};
    h.rest = h.values + n_used;
    h.sums = h.rest + n_used;
    h.sums_of_sums = h.sums + n_used + 1;
    if (read_history(&h, values + (n - n_used))) {
        if (expected > 0) {
            *season = is_confirmed(&h, expected, 1) ? expected : 1;
        } else {
            *season = find_season(&h, h.sums_of_sums + n_used + 2, n_lags);
        }
    }
    mz_free(ctx, memory);
    return MZ_OK;
}
