/* The smoothing methods behind baselines.h. */
#ifndef MZ_APPS_ZOO_BASELINES_INTERNAL_H
#define MZ_APPS_ZOO_BASELINES_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

typedef enum mz_seasonal_kind {
    MZ_SEASONAL_NONE = 0,
    MZ_SEASONAL_ADDITIVE,
    MZ_SEASONAL_MULTIPLICATIVE
} mz_seasonal_kind;

/* Both take n >= 5 values of size 1 at most, without a season, not all equal. */
void mz_theta_forecast(const double *x, int64_t n, int64_t horizon, double *out);
void mz_damped_forecast(const double *x, int64_t n, int64_t horizon, double *out);

#endif
