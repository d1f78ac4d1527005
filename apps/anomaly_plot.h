/* Gathers the first series of a search for anomalies for a picture of them. */
#ifndef MZ_APPS_ANOMALY_PLOT_H
#define MZ_APPS_ANOMALY_PLOT_H

#include "apps/anomaly_search.h"
#include "apps/plot.h"

/* All zero but ctx before the first series. One thread. */
typedef struct mz_anomaly_plot {
    mz_context *ctx;
    mz_plot_panel panels[MZ_PLOT_MAX_PANELS];
    void *memory[MZ_PLOT_MAX_PANELS]; /* of each panel */
    int n_panels;
    int64_t n_more;
} mz_anomaly_plot;

void mz_anomaly_plot_close(mz_anomaly_plot *plot);

/* Copies the newest values (at most 262,144) and their anomalies. Beyond MZ_PLOT_MAX_PANELS a
 * series is only counted. Errors: NOMEM. */
mz_status mz_anomaly_plot_add(mz_anomaly_plot *plot, const mz_anomaly_findings *findings);

/* Writes `path` (NULL: no file), and draws on `stream` (NULL: not), as wide as that terminal is.
 * Errors: those of mz_plot_write. */
mz_status mz_anomaly_plot_finish(const mz_anomaly_plot *plot, const char *path, FILE *stream);

#endif
