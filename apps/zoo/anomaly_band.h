/* The band in which the next values of a series were to be expected, from errors of forecasts of
 * its own past: split conformal prediction (Vovk et al. 2005; Lei et al. 2018, theorem 2.2) along a
 * sliding window.
 *
 * The series is forecast in blocks of `horizon` values, each from what lies before it. For step h
 * of a block the absolute errors of earlier blocks at step h and its neighbours, n of them, are
 * sorted; the one of rank ceil((n + 1) level) is the half-width. A value outside is an anomaly.
 *
 * Of a model with quantiles, errors are over the distance from the forecast to the edge of the
 * model's own band of the level on their side (mz_quantile_blend_of), and so is the width: the
 * model says where the band is wide and to which side, the series' past how wide on the whole
 * (conformalised quantile regression, Romano et al. 2019, normalised as in Lei et al. 2018, section
 * 5.2).
 *
 * Earlier: at most MZ_ANOMALY_WINDOW values back, or twice as many as the level needs where that is
 * more. Neighbours: 1 + (h - 1) / 4 steps on each side (as mz_conformal_widths), more where the
 * level needs more errors.
 *
 * An anomaly must not hide the next one: an error outside the band enters later bands as at most
 * MZ_ANOMALY_GROWTH times the half-width that it left, so that one outlier, however far, hardly
 * counts. But a share of 1 - level of the window is enough to let the band grow by that factor, and
 * then again: what has become usual ends to be an anomaly, at the latest after a window's length.
 * (Errors outside are not left out: without them every later band would be narrower than its level
 * says.) */
#ifndef MZ_APPS_ZOO_ANOMALY_BAND_H
#define MZ_APPS_ZOO_ANOMALY_BAND_H

#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_ANOMALY_WINDOW = 1000 };
#define MZ_ANOMALY_GROWTH 2.0
#define MZ_ANOMALY_MAX_SCORE 1000.0

/* Fewest errors from which a band of this level (0 < level < 1) can be told: the rank does not
 * exceed them. 99 for 0.99. */
int64_t mz_anomaly_least_errors(double level);

/* Half-widths of the band of every value.
 *   errors  [n_blocks, horizon] absolute errors of the forecasts, or these over the model's own
 *           half-widths; blocks in order of time; NaN where the value is missing
 *   widths  [n_blocks, horizon]; NaN where there are too few errors before the block
 * Errors: NOMEM. */
mz_status mz_anomaly_widths(mz_context *ctx, const double *errors, int64_t n_blocks,
                            int64_t horizon, double level, double *widths);

/* error / width: above 1 outside the band. At most MZ_ANOMALY_MAX_SCORE; 0 for 0 / 0; NaN where one
 * of them is. */
double mz_anomaly_score(double error, double width);

#ifdef __cplusplus
}
#endif
#endif
