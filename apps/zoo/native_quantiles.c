#include "apps/zoo/native_quantiles.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "apps/zoo/normal_width.h"

static const double LEVEL_STEP = 1e-9; /* levels nearer to each other are one */

/* ---- order ---- */

void mz_native_quantiles_sort(float *values, int64_t n_steps, int32_t n_levels) {
    for (int64_t h = 0; h < n_steps; h++) {
        float *step = values + h * n_levels;
        for (int32_t i = 1; i < n_levels; i++) {
            const float value = step[i];
            int32_t at = i;
            for (; at > 0 && step[at - 1] > value; at--) {
                step[at] = step[at - 1];
            }
            step[at] = value;
        }
    }
}

/* ---- beyond the head ---- */

/* Quantiles of all steps, and which of them is the median. */
typedef struct fan {
    double *values; /* [n_levels, horizon] */
    int32_t n_levels, median;
    int64_t horizon;
    int64_t quarter; /* steps in a quarter of the head, at least 1 */
} fan;

/* Mean square of the distance of rows a and b over the quarter that ends before step `end`. */
static double mean_square(const fan *f, int32_t a, int32_t b, int64_t end) {
    double sum = 0;
    for (int64_t h = end - f->quarter; h < end; h++) {
        const double d = f->values[a * f->horizon + h] - f->values[b * f->horizon + h];
        sum += d * d;
    }
    return sum / (double)f->quarter;
}

/* The share c of the path's variance that a later step inherits. */
static double inherited(const fan *f, int64_t head_len) {
    if (head_len < 4) {
        return 1;
    }
    const double middle = (double)(f->quarter - 1) / 2; /* of a quarter, from its end */
    const double at_half = mean_square(f, f->n_levels - 1, 0, head_len / 2);
    const double at_end = mean_square(f, f->n_levels - 1, 0, head_len);
    if (!(at_half > 0)) {
        return at_end > 0 ? 1 : 0;
    }
    const double steps = log(((double)head_len - middle) / ((double)(head_len / 2) - middle));
    const double growth = log(at_end / at_half) / steps;
    return exp2(fmin(fmax(growth, 0), 1)) - 1;
}

static void widen_row(const fan *f, int32_t row, int64_t head_len, double share) {
    const double sign = row < f->median ? -1 : 1;
    double *values = f->values + row * f->horizon;
    const double *median = f->values + f->median * f->horizon;
    for (int64_t begin = head_len; begin < f->horizon; begin += head_len) {
        const double added = share * mean_square(f, row, f->median, begin);
        for (int64_t h = begin; h < begin + head_len && h < f->horizon; h++) {
            const double d = values[h] - median[h];
            values[h] = median[h] + sign * sqrt(d * d + added);
        }
    }
}

void mz_native_quantiles_widen(double *values, int32_t n_levels, int32_t median, int64_t horizon,
                               int64_t head_len) {
    const fan f = {.values = values,
                   .n_levels = n_levels,
                   .median = median,
                   .horizon = horizon,
                   .quarter = head_len < 4 ? 1 : head_len / 4};
    if (horizon <= head_len) {
        return;
    }
    const double share = inherited(&f, head_len);
    for (int32_t row = 0; row < n_levels && share > 0; row++) {
        if (row != median) {
            widen_row(&f, row, head_len, share);
        }
    }
}

/* ---- levels in between ---- */

static double normal_quantile(double p) {
    return copysign(mz_normal_width(fabs(2 * p - 1)), p - 0.5);
}

mz_quantile_blend mz_quantile_blend_of(const double *levels, int32_t n_levels, double q) {
    int32_t lower = 0;
    for (int32_t i = 0; i < n_levels; i++) {
        if (fabs(levels[i] - q) <= LEVEL_STEP || n_levels == 1) {
            return (mz_quantile_blend){.lower = i, .share = 0};
        }
        lower = levels[i] < q && i < n_levels - 1 ? i : lower;
    }
    const double below = normal_quantile(levels[lower]);
    const double above = normal_quantile(levels[lower + 1]);
    return (mz_quantile_blend){.lower = lower,
                               .share = (normal_quantile(q) - below) / (above - below)};
}

double mz_quantile_blend_value(const mz_quantile_blend *blend, const double *values,
                               int64_t stride) {
    const double below = values[blend->lower * stride];
    if (blend->share == 0) {
        return below;
    }
    const double above = values[(blend->lower + 1) * stride];
    const double between = 2 * (below / 2 + blend->share * (above / 2 - below / 2));
    const bool is_inside = blend->share > 0 && blend->share < 1;
    return is_inside ? fmin(fmax(between, below), above) : fmin(fmax(between, -DBL_MAX), DBL_MAX);
}
