/* Quantiles that a model answers itself: order, widening beyond its head, levels in between. */
#ifndef MZ_APPS_ZOO_NATIVE_QUANTILES_H
#define MZ_APPS_ZOO_NATIVE_QUANTILES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sorts the values of each step, so that quantiles do not cross (the rearrangement of Chernozhukov
 * et al. 2010).
 *   values  [n_steps, n_levels] */
void mz_native_quantiles_sort(float *values, int64_t n_steps, int32_t n_levels);

/* Beyond its head a model reads its own medians as if they had been observed, so that its bands say
 * only how far a step can be from that path. The path's own uncertainty is added, as far as the
 * model lets uncertainty grow:
 *
 *   d_q(h)   distance of quantile q at step h from the median
 *   D_q      root of its mean square over the last quarter of the head before
 *   d'_q(h)  = sqrt(d_q(h)^2 + c D_q^2), which replaces d_q(h) and enters the next head's D_q
 *   c        = 2^a - 1, and a the growth of the mean square S of the distance between the outermost
 *            quantiles within the first head: S ~ h^a through its second and its last quarter,
 *            limited to [0, 1]; 1 for a head of fewer than 4 steps
 *
 * So a random walk (S ~ h, c = 1) goes on widening as the root of h, and a series that returns to
 * its level (c = 0) keeps the bands that the model gives. Quantiles in order stay so.
 *   values  [n_levels, horizon] ascending in each column; scaled, of magnitudes below 1e150;
 * `median` is the row of the level 0.5, which does not change */
void mz_native_quantiles_widen(double *values, int32_t n_levels, int32_t median, int64_t horizon,
                               int64_t head_len);

/* A quantile between, or outside, the levels of a model: linear in the standard normal quantile of
 * the level, outside with the slope of the two outermost levels. */
typedef struct mz_quantile_blend {
    int32_t lower; /* level on whose upper side it is, or the outermost pair's lower one */
    double share;  /* of the way to the next level; below 0 or above 1 outside */
} mz_quantile_blend;

/*   levels  [n_levels] ascending in (0, 1); with one level every quantile is that one
 *   q       in (0, 1); nearer than 1e-9 to a level it is that level */
mz_quantile_blend mz_quantile_blend_of(const double *levels, int32_t n_levels, double q);

/* Its value at a step; finite for finite values, and not decreasing in q.
 *   values  of the levels at this step, `stride` from one to the next */
double mz_quantile_blend_value(const mz_quantile_blend *blend, const double *values,
                               int64_t stride);

#ifdef __cplusplus
}
#endif
#endif
