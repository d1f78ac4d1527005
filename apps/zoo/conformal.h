/* Bands around point forecasts by conformal prediction (Vovk et al. 2005; Lei et al. 2018) from
 * forecasts of the series' own past.
 *
 * The model is causal, so that the pass that reads a series also says what it would have forecast
 * at each earlier position (mz_forecast_item.past): the newest MZ_CONFORMAL_ORIGINS of them are the
 * rolling origins. Of their absolute errors:
 *
 *   weight of an origin   MZ_CONFORMAL_DECAY to the power of its age in steps: non-exchangeable
 *                         conformal prediction (Barber et al. 2023, section 3), because old errors
 *                         say less
 *   profile s_h           weighted mean of the errors at step h and its neighbours, and not less
 *                         than at the step before; beyond the steps that were seen it grows with
 *                         the root of h, as the errors of a random walk
 *   ratios                errors over s_h: normalised conformal prediction (Lei et al. 2018,
 *                         section 5.2), so that the steps share their errors
 *   half-width            s_h times the weighted quantile of the ratios; with W the sum of the
 *                         origins' weights, of level (W + 1) / W level, which for equal weights is
 *                         the rank ceil((n + 1) level) among n origins; the largest ratio where
 *                         that exceeds 1
 *
 * Departures from the theory: the errors of one series overlap and are neither independent nor
 * exchangeable; past forecasts are scaled by the mean and deviation of the whole window, which the
 * model would not have known; and they come from one head, where a forecast may join several.
 * Coverage is therefore near the level, not guaranteed; docs/results.md has what was measured. */
#ifndef MZ_APPS_ZOO_CONFORMAL_H
#define MZ_APPS_ZOO_CONFORMAL_H

#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MZ_CONFORMAL_ORIGINS = 256, /* most origins */
    MZ_CONFORMAL_FEWEST = 8,    /* with fewer, errors of the model say too little */
    MZ_CONFORMAL_MIN_PAST = 4,  /* values that an origin has before it at least */
    MZ_CONFORMAL_NEIGHBOURS = 4 /* step h pools 1 + (h - 1) / 4 steps on each side */
};
#define MZ_CONFORMAL_DECAY 0.99

/* How many earlier positions of a context of n_values are origins: all that have
 * MZ_CONFORMAL_MIN_PAST values before them, at most MZ_CONFORMAL_ORIGINS. */
int64_t mz_conformal_origins(int64_t n_values);

/* Half-widths of the band of each level at each step.
 *   errors  [n_origins, reach] absolute errors, newest origin first; 1 <= reach <= horizon; NaN
 *           or infinite where the future was not known yet or there was no forecast
 *   levels  [n_levels] nominal coverage, 0 <= level < 1, ascending
 *   widths  [n_levels, horizon], finite; they decrease neither with the level nor with the step;
 *           all 0 if all errors are
 * Errors: NOMEM; ARG if no error is known. */
mz_status mz_conformal_widths(mz_context *ctx, const double *errors, int64_t n_origins,
                              int64_t reach, int64_t horizon, const double *levels, int n_levels,
                              double *widths);

/* The same where there are too few origins: the errors of repeating the last value are taken for
 * normal, with a deviation that grows with the square root of the step.
 *   values  [n_values] finite, oldest first; with fewer than two of them widths are 0 */
void mz_conformal_naive_widths(const double *values, int64_t n_values, int64_t horizon,
                               const double *levels, int n_levels, double *widths);

#ifdef __cplusplus
}
#endif
#endif
