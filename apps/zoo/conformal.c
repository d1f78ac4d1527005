#include "apps/zoo/conformal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "apps/zoo/normal_width.h"

/* An error over the profile of its step. */
typedef struct ratio {
    double value, weight;
} ratio;

/* The errors of one series on their way to widths. */
typedef struct calibration {
    const double *errors; /* [n_origins, reach] */
    int64_t n_origins, reach;
    int64_t n_steps; /* up to the last at which an error is known */
    double largest;  /* of the known errors: they are taken over it, so that no sum overflows */
    double *sums, *weights; /* [reach] of the errors at a step */
    double *profile;        /* [horizon] */
    ratio *ratios;          /* [n_ratios] ascending */
    int64_t n_ratios;
} calibration;

int64_t mz_conformal_origins(int64_t n_values) {
    const int64_t n = n_values - MZ_CONFORMAL_MIN_PAST;
    return n < 0 ? 0 : n < MZ_CONFORMAL_ORIGINS ? n : MZ_CONFORMAL_ORIGINS;
}

/* Weighted sums of the errors at each step, once the largest is known. */
static void sum_errors(calibration *c) {
    double weight = 1;
    for (int64_t i = 0; i < c->n_origins; i++, weight *= MZ_CONFORMAL_DECAY) {
        for (int64_t h = 0; h < c->reach; h++) {
            const double e = c->errors[i * c->reach + h];
            if (isfinite(e)) {
                c->sums[h] += weight * (e / c->largest);
                c->weights[h] += weight;
            }
        }
    }
}

static void set_profile(calibration *c, int64_t horizon) {
    const int64_t n_steps = c->n_steps;
    for (int64_t h = 0; h < n_steps; h++) {
        const int64_t side = 1 + h / MZ_CONFORMAL_NEIGHBOURS;
        double sum = 0;
        double weight = 0;
        for (int64_t k = h > side ? h - side : 0; k <= h + side && k < c->n_steps; k++) {
            sum += c->sums[k];
            weight += c->weights[k];
        }
        const double before = h > 0 ? c->profile[h - 1] : 0;
        c->profile[h] = weight > 0 ? fmax(sum / weight, before) : before;
    }
    for (int64_t h = n_steps; h < horizon; h++) {
        c->profile[h] = c->profile[n_steps - 1] * sqrt((double)(h + 1) / (double)n_steps);
    }
}

static int compare(const void *a, const void *b) {
    const double x = ((const ratio *)a)->value;
    const double y = ((const ratio *)b)->value;
    return (x > y) - (x < y);
}

static void sort_ratios(calibration *c) {
    double weight = 1;
    for (int64_t i = 0; i < c->n_origins; i++, weight *= MZ_CONFORMAL_DECAY) {
        for (int64_t h = 0; h < c->n_steps; h++) {
            const double e = c->errors[i * c->reach + h];
            if (isfinite(e) && c->profile[h] > 0) {
                c->ratios[c->n_ratios++] = (ratio){e / c->largest / c->profile[h], weight};
            }
        }
    }
    qsort(c->ratios, (size_t)c->n_ratios, sizeof *c->ratios, compare);
}

/* The ratios' weighted quantiles of the levels, times the profile. */
static void set_widths(const calibration *c, int64_t horizon, const double *levels, int n_levels,
                       double *widths) {
    double total = 0;
    for (int64_t i = 0; i < c->n_ratios; i++) {
        total += c->ratios[i].weight;
    }
    const double origins =
        (1 - pow(MZ_CONFORMAL_DECAY, (double)c->n_origins)) / (1 - MZ_CONFORMAL_DECAY);
    double passed = 0;
    int64_t at = 0;
    for (int l = 0; l < n_levels; l++) {
        /* Not one more because a sum of binary fractions is not exact. */
        const double wanted = levels[l] * (origins + 1) / origins * total * (1 - 1e-12);
        while (at < c->n_ratios - 1 && passed + c->ratios[at].weight < wanted) {
            passed += c->ratios[at++].weight;
        }
        for (int64_t h = 0; h < horizon; h++) {
            const double width = c->ratios[at].value * c->profile[h] * c->largest;
            widths[l * horizon + h] = fmin(width, DBL_MAX);
        }
    }
}

mz_status mz_conformal_widths(mz_context *ctx, const double *errors, int64_t n_origins,
                              int64_t reach, int64_t horizon, const double *levels, int n_levels,
                              double *widths) {
    calibration c = {.errors = errors, .n_origins = n_origins, .reach = reach};
    for (int64_t i = 0; i < n_origins * reach; i++) {
        if (isfinite(errors[i])) {
            c.largest = fmax(c.largest, errors[i]);
            c.n_steps = i % reach + 1 > c.n_steps ? i % reach + 1 : c.n_steps;
        }
    }
    if (c.n_steps == 0) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "band: no error of a forecast is known");
    }
    for (int64_t i = 0; i < n_levels * horizon; i++) {
        widths[i] = 0;
    }
    if (c.largest == 0) {
        return MZ_OK;
    }
    void *memory = NULL;
    const size_t n_ratios = (size_t)n_origins * (size_t)reach;
    MZ_TRY(mz_calloc(ctx, 2 * n_ratios + 2 * (size_t)reach + (size_t)horizon, sizeof(double),
                     "errors of the past", &memory));
    c.ratios = memory;
    c.sums = (double *)(c.ratios + n_ratios);
    c.weights = c.sums + reach;
    c.profile = c.weights + reach;
    sum_errors(&c);
    set_profile(&c, horizon);
    sort_ratios(&c);
    set_widths(&c, horizon, levels, n_levels, widths);
    mz_free(ctx, memory);
    return MZ_OK;
}

void mz_conformal_naive_widths(const double *values, int64_t n_values, int64_t horizon,
                               const double *levels, int n_levels, double *widths) {
    /* Differences are halved and scaled by the largest, so that no square overflows. */
    double largest = 0;
    for (int64_t i = 1; i < n_values; i++) {
        largest = fmax(largest, fabs(values[i] / 2 - values[i - 1] / 2));
    }
    double sum = 0;
    for (int64_t i = 1; i < n_values && largest > 0; i++) {
        const double d = (values[i] / 2 - values[i - 1] / 2) / largest;
        sum += d * d;
    }
    const double deviation = n_values > 1 ? 2 * sqrt(sum / (double)(n_values - 1)) : 0;
    for (int l = 0; l < n_levels; l++) {
        const double z = mz_normal_width(levels[l]);
        for (int64_t h = 0; h < horizon; h++) {
            const double width = deviation * z * sqrt((double)(h + 1)) * largest;
            widths[l * horizon + h] = isfinite(width) ? width : DBL_MAX;
        }
    }
}
