#include "encoders/series/series.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Index of the first value that is (or is not) missing from `from` on; n when there is none. */
static int64_t next_missing(const double *values, int64_t n, int64_t from, bool missing) {
    int64_t i = from;
    while (i < n && isnan(values[i]) != missing) {
        i++;
    }
    return i;
}

static void count_gaps(const double *values, int64_t n, mz_gap_report *report) {
    *report = (mz_gap_report){0};
    const int64_t first = next_missing(values, n, 0, false);
    report->n_leading = first;
    int64_t n_open = 0; /* missing values since the last observed one */
    for (int64_t i = first; i < n; i++) {
        if (isnan(values[i])) {
            n_open++;
        } else {
            report->n_inner += n_open;
            n_open = 0;
        }
    }
    report->n_trailing = n_open;
}

/* Fills values[from, to) between the observed from - 1 and to. */
static void fill_gap(double *values, int64_t from, int64_t to, mz_missing policy) {
    const double before = values[from - 1];
    const double after = values[to];
    const double rise = after - before;
    for (int64_t i = from; i < to; i++) {
        const double t = (double)(i - from + 1) / (double)(to - from + 1);
        if (policy == MZ_MISSING_FORWARD) {
            values[i] = before;
        } else if (isfinite(rise)) {
            values[i] = before + rise * t;
        } else {
            values[i] = before * (1 - t) + after * t;
        }
    }
}

/* The same from one season before and after, where known. Values before the gap are complete. */
static void fill_gap_seasonal(double *values, int64_t n, int64_t from, int64_t to, int64_t season) {
    for (int64_t i = from; i < to; i++) {
        const double before = i >= season ? values[i - season] : NAN;
        const double after = i + season < n ? values[i + season] : NAN;
        if (!isnan(before) && !isnan(after)) {
            values[i] = before / 2 + after / 2;
        } else if (!isnan(before) || !isnan(after)) {
            values[i] = isnan(before) ? after : before;
        }
    }
    for (int64_t i = from; i < to;) {
        const int64_t begin = next_missing(values, to, i, true);
        const int64_t end = next_missing(values, n, begin, false);
        if (begin < to) {
            fill_gap(values, begin, end, MZ_MISSING_LINEAR);
        }
        i = end;
    }
}

static void drop_gaps(mz_series *series) {
    int64_t kept = 0;
    for (int64_t i = 0; i < series->n_values; i++) {
        if (!isnan(series->values[i])) {
            if (series->stamps != NULL) {
                series->stamps[kept] = series->stamps[i];
            }
            series->values[kept++] = series->values[i];
        }
    }
    series->n_values = kept;
}

mz_status mz_series_season(mz_context *ctx, const mz_series *series, int64_t wanted,
                           int64_t *season) {
    if (wanted > 0 || series->season > 0) {
        *season = wanted > 0 ? wanted : series->season;
        return MZ_OK;
    }
    const bool is_known = series->frequency.kind != MZ_FREQUENCY_NONE;
    const int64_t expected = is_known ? mz_season_length(&series->frequency, series->n_values) : 0;
    return mz_season_detect(ctx, series->values, series->n_values, expected, season);
}

mz_status mz_series_fill(mz_context *ctx, mz_series *series, mz_missing policy, int64_t season,
                         mz_gap_report *report) {
    double *values = series->values;
    const int64_t n = series->n_values;
    mz_gap_report found;
    count_gaps(values, n, &found);
    const int64_t n_missing = found.n_leading + found.n_inner + found.n_trailing;
    if (policy == MZ_MISSING_ERROR && n_missing > 0) {
        char shown[MZ_SERIES_ID_SHOWN_BYTES];
        mz_series_show_id(series->id != NULL ? series->id : "", shown);
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "series \"%s\": %lld of %lld values are missing, the first at position %lld",
                       shown, (long long)n_missing, (long long)n,
                       (long long)next_missing(values, n, 0, true) + 1);
    }
    *report = found;
    const int64_t n_kept = n - found.n_leading - found.n_trailing;
    series->n_values = n_kept;
    if (n_missing == 0) {
        return MZ_OK;
    }
    memmove(values, values + found.n_leading, (size_t)n_kept * sizeof *values);
    if (series->stamps != NULL) {
        memmove(series->stamps, series->stamps + found.n_leading,
                (size_t)n_kept * sizeof *series->stamps);
    }
    if (policy == MZ_MISSING_DROP) {
        drop_gaps(series);
        return MZ_OK;
    }
    for (int64_t from = next_missing(values, n_kept, 0, true); from < n_kept;) {
        const int64_t to = next_missing(values, n_kept, from, false);
        if (policy == MZ_MISSING_SEASONAL && season > 1) {
            fill_gap_seasonal(values, n_kept, from, to, season);
        } else {
            fill_gap(values, from, to, policy);
        }
        from = next_missing(values, n_kept, to, true);
    }
    return MZ_OK;
}

static double max_abs_of(const double *values, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(values[i]));
    }
    return largest;
}

/* The values are brought to magnitudes of at most 1 by a power of two, which is exact, so that
 * neither sums nor squares overflow or vanish. Means are taken of differences to the first value: a
 * constant series has deviation 0 exactly. */
mz_series_scale mz_series_scale_of(const double *values, int64_t n, mz_normalize kind) {
    mz_series_scale result = {.mean = 0, .scale = 1};
    const double largest = kind == MZ_NORMALIZE_NONE ? 0 : max_abs_of(values, n);
    if (largest == 0) {
        return result;
    }
    int exponent;
    (void)frexp(largest, &exponent);
    exponent = exponent < -1000
                   ? -1000
                   : exponent; /* 2^-exponent must be finite; subnormals stay below 2^-73 */
    const double unit = ldexp(1, -exponent);
    const double bound = largest * unit;
    const double first = values[0] * unit;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += values[i] * unit - first;
    }
    const double mean = fmin(fmax(first + sum / (double)n, -bound), bound);
    double sum_squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = values[i] * unit - mean;
        sum_squares += d * d;
    }
    const double deviation = ldexp(fmin(sqrt(sum_squares / (double)n), bound), exponent);
    result.mean = ldexp(mean, exponent);
    result.scale = deviation > 0 ? deviation : 1;
    return result;
}

static float to_f32(double x) {
    return (float)fmin(fmax(x, -(double)FLT_MAX), (double)FLT_MAX);
}

void mz_series_scale_apply(const mz_series_scale *scale, const double *values, int64_t n,
                           float *out) {
    for (int64_t i = 0; i < n; i++) {
        const double d = values[i] - scale->mean;
        /* Two huge values of opposite sign: halve both sides. */
        out[i] = to_f32(isfinite(d) ? d / scale->scale
                                    : (values[i] / 2 - scale->mean / 2) / (scale->scale / 2));
    }
}

void mz_series_scale_invert(const mz_series_scale *scale, const float *values, int64_t n,
                            double *out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = fma((double)values[i], scale->scale, scale->mean);
    }
}
