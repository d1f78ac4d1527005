/* Bands around point forecasts by split conformal prediction (Vovk et al. 2005; Lei et al. 2018,
 * theorem 2.2) from forecasts of the series' own past.
 *
 * From up to 20 rolling origins the model forecasts what is known already. The absolute errors at
 * step h and its neighbours, n of them, are sorted; the one of rank ceil((n + 1) level) is the
 * half-width at step h. Departures from the theory: errors of one series are neither exchangeable
 * nor independent, and where the rank exceeds n the largest error is taken. Coverage is therefore
 * near the level, not guaranteed; docs/results.md has what was measured. */
#ifndef MZ_APPS_ZOO_CONFORMAL_H
#define MZ_APPS_ZOO_CONFORMAL_H

#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MZ_CONFORMAL_ORIGINS = 20,  /* most origins */
    MZ_CONFORMAL_FEWEST = 8,    /* with fewer, errors of the model say too little */
    MZ_CONFORMAL_MIN_PAST = 8,  /* values that an origin has before it at least */
    MZ_CONFORMAL_NEIGHBOURS = 4 /* step h pools 1 + (h - 1) / 4 steps on each side */
};

/* Fills `origins` [MZ_CONFORMAL_ORIGINS] with numbers of values to forecast from, newest first, and
 * returns how many there are: evenly spaced over the newest three quarters of n_values, at most
 * `horizon` apart. */
int mz_conformal_origins(int64_t n_values, int64_t horizon, int64_t *origins);

/* Half-widths of the band of each level at each step.
 *   errors  [n_origins, horizon] absolute errors; NaN where the future was not known yet
 *   levels  [n_levels] nominal coverage, 0 <= level < 1
 *   widths  [n_levels, horizon]; at each step they do not decrease with the level
 * Errors: NOMEM; ARG if n_origins is 0. */
mz_status mz_conformal_widths(mz_context *ctx, const double *errors, int n_origins, int64_t horizon,
                              const double *levels, int n_levels, double *widths);

/* The same where there are too few origins: the errors of repeating the last value are taken for
 * normal, with a deviation that grows with the square root of the step.
 *   values  [n_values] finite, oldest first; with fewer than two of them widths are 0 */
void mz_conformal_naive_widths(const double *values, int64_t n_values, int64_t horizon,
                               const double *levels, int n_levels, double *widths);

#ifdef __cplusplus
}
#endif
#endif
