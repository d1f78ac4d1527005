/* The parts of which synthetic series are put together, and the families (series_generator.h).
 *
 * Each part changes the n values of `out` in place; "size" is about a standard deviation. */
#ifndef MZ_ENCODERS_SERIES_SERIES_GENERATOR_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_GENERATOR_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "encoders/series/series_draw_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_SEASON_POINTS = 512 }; /* the most points of one cycle's shape */

/* One cycle of a season: mean 0, deviation 1, and its first point again at the end. */
typedef struct mz_season_shape {
    float values[MZ_SEASON_POINTS + 1];
    int n; /* points without the repeated one, at least 2 */
} mz_season_shape;

/* A random shape of `n` points (cut to 2..MZ_SEASON_POINTS). */
void mz_season_shape_draw(mz_draw *draw, int64_t n, mz_season_shape *out);

/* The shape at `position` in cycles, any finite number, on lines between its points. */
double mz_season_shape_at(const mz_season_shape *shape, double position);

void mz_part_fill(float *out, int64_t n, double value);

/* Adds a trend that rises or falls by about `size` over the n points: line, pieces, exponential,
 * damped, logistic, parabola, or a slow wave. */
void mz_part_trend(mz_draw *draw, float *out, int64_t n, double size);

/* Adds a season of `period` points (above 1, with any fraction), whose size or shape may change. */
void mz_part_season(mz_draw *draw, float *out, int64_t n, double period, double size);

/* A period that n points show: usually one of the calendar's. */
double mz_part_period(mz_draw *draw, int64_t n);

/* Adds noise: normal, with heavy tails, autocorrelated, or of changing variance. */
void mz_part_noise(mz_draw *draw, float *out, int64_t n, double size);

/* Adds a random walk with steps of `step`. */
void mz_part_walk(mz_draw *draw, float *out, int64_t n, double step);

/* Multiplies by a gain that moves on lines between random knots in [1 - depth, 1 + depth]. */
void mz_part_gain(mz_draw *draw, float *out, int64_t n, double depth);

/* Adds a constant from each of a few random points on. */
void mz_part_level_shifts(mz_draw *draw, float *out, int64_t n, double size);

/* Adds spikes to a share of the points, which may die out over some points. */
void mz_part_outliers(mz_draw *draw, float *out, int64_t n, double share, double size);

/* out = exp(depth * z) with z the values at mean 0 and deviation 1, cut at 4. */
void mz_part_exponentiate(float *out, int64_t n, double depth);

/* Mean and population deviation, in f64. */
void mz_part_moments(const float *values, int64_t n, double *mean, double *deviation);

/* The families. `out` need not be filled before. */
void mz_family_structural(mz_draw *draw, float *out, int64_t n);
void mz_family_arima(mz_draw *draw, float *out, int64_t n);
void mz_family_smooth(mz_draw *draw, float *out, int64_t n);
void mz_family_shifts(mz_draw *draw, float *out, int64_t n);
void mz_family_intermittent(mz_draw *draw, float *out, int64_t n);
void mz_family_hours(mz_draw *draw, float *out, int64_t n);
void mz_family_days(mz_draw *draw, float *out, int64_t n);
void mz_family_short(mz_draw *draw, float *out, int64_t n);
void mz_family_shapes(mz_draw *draw, float *out, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
