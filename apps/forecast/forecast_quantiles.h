/* Which quantiles an answer holds beside the forecast, from --level or --quantiles. */
#ifndef MZ_APPS_FORECAST_FORECAST_QUANTILES_H
#define MZ_APPS_FORECAST_FORECAST_QUANTILES_H

#include <stdint.h>

#include "core/status.h"

enum { MZ_MAX_LEVELS = 16, MZ_MAX_QUANTILES = 2 * MZ_MAX_LEVELS, MZ_QUANTILE_NAME_BYTES = 24 };

/* An edge of a band: forecast + sign * width of the level. */
typedef struct mz_forecast_quantile {
    double q;                            /* 0 < q < 1 */
    int level;                           /* index into levels */
    int sign;                            /* -1, 0 or 1 */
    char name[MZ_QUANTILE_NAME_BYTES];   /* "0.1" */
    char column[MZ_QUANTILE_NAME_BYTES]; /* of a table: "lo-80", or the name */
} mz_forecast_quantile;

/* All zero: none. */
typedef struct mz_forecast_quantiles {
    mz_forecast_quantile items[MZ_MAX_QUANTILES]; /* ascending */
    int n;
    double levels[MZ_MAX_QUANTILES]; /* [n_levels] nominal coverage, ascending, each once */
    int n_levels;
} mz_forecast_quantiles;

/* "80,95": percentages above 0 and below 100, each once. Errors: ARG naming the wrong part. */
mz_status mz_forecast_quantiles_of_levels(const char *text, mz_forecast_quantiles *out,
                                          mz_error *err);

/* "0.1,0.5,0.9": above 0 and below 1, ascending. Errors: ARG naming the wrong part. */
mz_status mz_forecast_quantiles_of_list(const char *text, mz_forecast_quantiles *out,
                                        mz_error *err);

/* The value of quantile i at step h; widths [n_levels, horizon]. Finite, and not decreasing in i.
 */
double mz_forecast_quantile_value(const mz_forecast_quantiles *quantiles, int i,
                                  const double *forecast, const double *widths, int64_t horizon,
                                  int64_t h);

#endif
