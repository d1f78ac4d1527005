#include "apps/zoo/conformal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

int mz_conformal_origins(int64_t n_values, int64_t horizon, int64_t *origins) {
    const int64_t quarter = n_values / 4;
    const int64_t least = quarter > MZ_CONFORMAL_MIN_PAST ? quarter : MZ_CONFORMAL_MIN_PAST;
    int64_t step = (n_values - least) / MZ_CONFORMAL_ORIGINS;
    step = step > horizon ? horizon : step < 1 ? 1 : step;
    int n = 0;
    for (int64_t t = n_values - step; t >= least && n < MZ_CONFORMAL_ORIGINS; t -= step) {
        origins[n++] = t;
    }
    return n;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The errors of steps [begin, end) that are known; returns how many. */
static int64_t gather(const double *errors, int n_origins, int64_t horizon, int64_t begin,
                      int64_t end, double *out) {
    int64_t n = 0;
    for (int i = 0; i < n_origins; i++) {
        for (int64_t h = begin; h < end; h++) {
            const double e = errors[i * horizon + h];
            if (!isnan(e)) {
                out[n++] = e;
            }
        }
    }
    return n;
}

mz_status mz_conformal_widths(mz_context *ctx, const double *errors, int n_origins, int64_t horizon,
                              const double *levels, int n_levels, double *widths) {
    if (n_origins <= 0) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "band: no origin to take errors from");
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n_origins * (size_t)horizon, sizeof(double), "sorted errors",
                     &memory));
    double *sorted = memory;
    for (int64_t h = 0; h < horizon; h++) {
        const int64_t reach = 1 + h / MZ_CONFORMAL_NEIGHBOURS;
        const int64_t begin = h > reach ? h - reach : 0;
        const int64_t end = h + reach < horizon ? h + reach + 1 : horizon;
        const int64_t n = gather(errors, n_origins, horizon, begin, end, sorted);
        qsort(sorted, (size_t)n, sizeof *sorted, compare);
        for (int l = 0; l < n_levels; l++) {
            /* Not one more because 0.8 is no binary fraction. */
            const int64_t rank = (int64_t)ceil((double)(n + 1) * levels[l] - 1e-9);
            const int64_t at = rank < n ? rank : n;
            /* A step that no origin reaches is as wide as the one before it. */
            const double before = h > 0 ? widths[l * horizon + h - 1] : 0;
            widths[l * horizon + h] = n == 0 ? before : at > 0 ? sorted[at - 1] : 0;
        }
    }
    mz_free(ctx, memory);
    return MZ_OK;
}

/* The standard normal distribution's quantile of (1 + level) / 2, by bisection of erf. */
static double normal_width(double level) {
    double low = 0;
    double high = 40;
    for (int i = 0; i < 100; i++) {
        const double mid = (low + high) / 2;
        if (erf(mid / sqrt(2.0)) < level) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return low;
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
        const double z = normal_width(levels[l]);
        for (int64_t h = 0; h < horizon; h++) {
            const double width = deviation * z * sqrt((double)(h + 1)) * largest;
            widths[l * horizon + h] = isfinite(width) ? width : DBL_MAX;
        }
    }
}
