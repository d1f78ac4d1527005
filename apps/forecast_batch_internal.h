/* Shared by the files that forecast series one by one. */
#ifndef MZ_APPS_FORECAST_BATCH_INTERNAL_H
#define MZ_APPS_FORECAST_BATCH_INTERNAL_H

#include "apps/forecast_batch.h"

/* Adds a warning, if there is room for another. */
void mz_forecast_warn(mz_warnings *w, const char *format, ...) MZ_PRINTF(2, 3);

/* Whether another series could still be forecast after this failure. */
bool mz_forecast_is_about_series(mz_status status);

/* The error's text, without the series' name in front: whoever shows it has that already. */
const char *mz_forecast_error_text(const mz_error *err, const char *id);

/* Makes the first n_items items ask for the forecasts of the past that bands are taken from, into
 * *past, which the caller releases after the bands. Errors: NOMEM. */
mz_status mz_forecast_bands_prepare(mz_forecast_batch *batch, int n_items, double **past);

/* After the run of the items, each still beside its entry: fills the quantiles of the ready entries
 * without error. Overwrites the items' past. Errors: NOMEM. */
mz_status mz_forecast_bands(mz_forecast_batch *batch);

#endif
