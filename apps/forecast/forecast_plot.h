/* Gathers the first series of an answer for a picture of them. */
#ifndef MZ_APPS_FORECAST_FORECAST_PLOT_H
#define MZ_APPS_FORECAST_FORECAST_PLOT_H

#include "apps/forecast/forecast_batch.h"
#include "apps/plot/plot_gallery.h"

/* Filled by the caller: the gallery's ctx, horizon and quantiles. The gallery is closed. One
 * thread.
 */
typedef struct mz_forecast_plot {
    int64_t horizon;
    const mz_forecast_quantiles *quantiles; /* NULL: no bands */
    mz_plot_gallery gallery;
} mz_forecast_plot;

/* Copies what a panel shows of an entry that has a forecast: the newest values (three horizons and
 * 64), forecast, bands, baselines, held-out future. Beyond MZ_PLOT_MAX_PANELS it is only counted.
 * Errors: NOMEM. */
mz_status mz_forecast_plot_add(mz_forecast_plot *plot, const mz_forecast_entry *entry);

/* Takes out of every panel the baselines that are not to be kept; keep [MZ_BASELINE_COUNT]. */
void mz_forecast_plot_keep(mz_forecast_plot *plot, const bool *keep);

/* What stands in brackets at the end of a name: "load (MW)", "sales [USD]". Returns its first byte
 * and its length, or NULL. */
const char *mz_forecast_unit(const char *name, size_t *n_bytes);

#endif
