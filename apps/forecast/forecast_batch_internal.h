/* Shared by the files that forecast series one by one. */
#ifndef MZ_APPS_FORECAST_FORECAST_BATCH_INTERNAL_H
#define MZ_APPS_FORECAST_FORECAST_BATCH_INTERNAL_H

#include "apps/forecast/forecast_batch.h"

/* Adds a warning, if there is room for another. */
void mz_forecast_warn(mz_warnings *w, const char *format, ...) MZ_PRINTF(2, 3);

/* Makes the first n_items items ask for what bands are taken from, the model's own quantiles or
 * forecasts of the past, into *memory, which the caller releases after the bands. Errors: NOMEM. */
mz_status mz_forecast_bands_prepare(mz_forecast_batch *batch, int n_items, double **memory);

/* After the run of the items, each still beside its entry: fills the quantiles of the ready entries
 * without error. Overwrites the items' past. Errors: NOMEM. */
mz_status mz_forecast_bands(mz_forecast_batch *batch);

#endif
