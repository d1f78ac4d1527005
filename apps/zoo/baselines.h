/* Forecasts without a model file, to hold a model against.
 *
 * naive            the last value
 * seasonal naive   the value one season ago; naive where the series is not longer than a season
 * drift            the line through the first and the last value
 * damped           ETS(A,Ad,N) on the seasonally adjusted series, smoothing with a damped trend
 *                  (Gardner and McKenzie 1985; Hyndman et al. 2008, section 2.5): alpha 0.0001 to
 *                  0.9999, beta 0.0001 to 0.2 and below alpha, phi 0.8 to 0.98 by least squares of
 *                  the one-step errors; level and trend before the first value from the line
 *                  through the first ten
 * theta            standard Theta (Assimakopoulos and Nikolopoulos 2000) in the state-space form of
 *                  Fiorucci et al. 2016 (STM), on the seasonally adjusted series; level and alpha
 *                  0.1 to 0.99 by least squares of the one-step errors but the first three
 *
 * Seasonal adjustment as in the M competitions: where the autocorrelation at lag `season` is
 * significant at 90 %, a classical decomposition is taken out first, multiplicative where all
 * values are positive and no factor is below 0.01, else additive. Where n_values times season
 * exceeds MZ_BASELINE_MAX_WORK the season stays in: both steps take so many operations. */
#ifndef MZ_APPS_ZOO_BASELINES_H
#define MZ_APPS_ZOO_BASELINES_H

#include <stdint.h>

#include "core/context.h"

#define MZ_BASELINE_MAX_WORK 2e9

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_baseline {
    MZ_BASELINE_NAIVE = 0,
    MZ_BASELINE_SEASONAL_NAIVE,
    MZ_BASELINE_DRIFT,
    MZ_BASELINE_DAMPED,
    MZ_BASELINE_THETA,
    MZ_BASELINE_COUNT
} mz_baseline;

/* "naive", "seasonal naive", ...; and the same as a key: "seasonal_naive". */
const char *mz_baseline_name(mz_baseline baseline);
const char *mz_baseline_key(mz_baseline baseline);

/* Forecasts `horizon` values into `out`.
 *   values  [n_values] finite, oldest first, at least one
 *   season  length of the season, 1: none
 * damped and theta repeat the last value where there are fewer than 5 values or all are equal. The
 * answer is finite. Errors: NOMEM; ARG for n_values or season below 1. */
mz_status mz_baseline_forecast(mz_context *ctx, mz_baseline baseline, const double *values,
                               int64_t n_values, int64_t season, int64_t horizon, double *out);

#ifdef __cplusplus
}
#endif
#endif
