/* Changes to a window of a real series that give another plausible one.
 *
 * Each works in place on n >= 1 values at mean 0 and deviation 1. */
#ifndef MZ_ENCODERS_SERIES_SERIES_AUGMENT_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_AUGMENT_INTERNAL_H

#include <stdint.h>

#include "encoders/series/series_draw_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* To mean 0 and population deviation 1, in f64. A deviation below 1e-6 of the largest magnitude is
 * rounding: such values become 0. */
void mz_augment_standardise(float *values, int64_t n);

/* Multiplies what the values exceed a level by (their mean, or their minimum) with a gain on lines
 * between knots in 0.4..1.6. */
void mz_augment_gain(mz_draw *draw, float *values, int64_t n);

/* Adds a trend (mz_part_trend) of 1/3 to 3 deviations. */
void mz_augment_trend(mz_draw *draw, float *values, int64_t n);

/* Adds a constant of 0.3 to 2.5 deviations, of either sign, from one or two points on. */
void mz_augment_jump(mz_draw *draw, float *values, int64_t n);

/* Cuts the values above, or below, a quantile, such that about 60 to 95 percent are kept. The
 * quantile is that of at most 128 of the values. */
void mz_augment_censor(mz_draw *draw, float *values, int64_t n);

void mz_augment_negate(float *values, int64_t n);
void mz_augment_reverse(float *values, int64_t n);

/* values = the mean of each `factor` values of `fine`, which has n * factor. May be in place. */
void mz_augment_aggregate(const float *fine, int64_t factor, int64_t n, float *values);

/* values[i] = `coarse` at phase + i / factor, on lines between its points, of which it has
 * n_coarse; positions behind the last take the last. factor > 0, phase >= 0. */
void mz_augment_interpolate(const float *coarse, int64_t n_coarse, double factor, double phase,
                            int64_t n, float *values);

#ifdef __cplusplus
}
#endif
#endif
