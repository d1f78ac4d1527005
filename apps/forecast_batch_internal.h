/* Shared by forecast_batch.c and forecast_bands.c. */
#ifndef MZ_APPS_FORECAST_BATCH_INTERNAL_H
#define MZ_APPS_FORECAST_BATCH_INTERNAL_H

#include "apps/forecast_batch.h"

/* Adds a warning, if there is room for another. */
void mz_forecast_warn(mz_warnings *w, const char *format, ...) MZ_PRINTF(2, 3);

/* Whether another series could still be forecast after this failure. */
bool mz_forecast_is_about_series(mz_status status);

/* Fills the quantiles of the ready entries that have a forecast. Errors: NOMEM; DEVICE. */
mz_status mz_forecast_bands(mz_forecast_batch *batch);

#endif
