/* Pictures of a search for anomalies. */
#ifndef MZ_APPS_FORECAST_ANOMALY_PLOT_H
#define MZ_APPS_FORECAST_ANOMALY_PLOT_H

#include "apps/forecast/anomaly_search.h"
#include "apps/plot/plot_gallery.h"

/* Adds a panel with the newest values (at most 262,144) and their anomalies, all copied. Errors:
 * NOMEM. */
mz_status mz_anomaly_plot_add(mz_plot_gallery *gallery, const mz_anomaly_findings *findings);

#endif
