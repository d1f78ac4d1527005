/* Looks for values of a series that its own past did not let expect (apps/zoo/anomaly_band.h). */
#ifndef MZ_APPS_FORECAST_ANOMALY_SEARCH_H
#define MZ_APPS_FORECAST_ANOMALY_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/cli.h"
#include "apps/forecast/forecast_writer.h"
#include "apps/zoo/forecaster.h"
#include "encoders/series/series.h"

/* Newest values that a forecast looks at unless the options say otherwise; a block's length where
 * there is no season. */
enum { MZ_ANOMALY_CONTEXT = 512, MZ_ANOMALY_BLOCK = 8, MZ_ANOMALY_LONGEST_BLOCK = 24 };

/* One value outside its band. */
typedef struct mz_anomaly {
    int64_t index;  /* into the points of mz_anomaly_findings */
    int64_t number; /* position in the series as it was read, from 1 */
    double value, expected, lower, upper;
    double score; /* distance from what was expected in half-widths of the band, above 1 */
} mz_anomaly;

/* What was found in one series; owned by it. */
typedef struct mz_anomaly_findings {
    char *id;
    char *error;      /* why nothing could be judged; NULL: the rest holds */
    char *value_name; /* or NULL */
    int64_t n_values; /* points of the series as it was read */
    int64_t n_judged; /* of them had a value and a band */
    int64_t horizon;  /* values of a block */
    double *points;   /* [n_points] the series as the model saw it, gaps filled */
    int64_t n_points;
    mz_stamp *stamps; /* [n_points]; NULL: no dates */
    mz_stamp_form form;
    mz_anomaly *anomalies; /* [n_anomalies] oldest first */
    int64_t n_anomalies;
    mz_warnings warnings;
} mz_anomaly_findings;

/* Filled by the caller; one thread. */
typedef struct mz_anomaly_search {
    mz_context *ctx;
    mz_forecaster *forecaster;
    mz_forecast_options options; /* horizon 0: a season, or the multiple of it that has 8 to 24
                                    values; context_len 0: MZ_ANOMALY_CONTEXT or what the model was
                                    trained for, the less */
    mz_missing missing;
    int64_t season;        /* 0: found */
    double level;          /* 0 < level < 1 */
    mz_progress *progress; /* or NULL */
    int64_t n_done;        /* values looked at so far, for the progress */
} mz_anomaly_search;

/* Judges one series, which is repaired in place. What it is to blame for becomes the findings'
 * error. Ends early, with *interrupted set, when the user wants so. The findings are closed with
 * mz_anomaly_findings_close, after a failure too.
 * Errors: NOMEM; DEVICE. */
mz_status mz_anomaly_search_run(mz_anomaly_search *search, mz_series *series,
                                mz_anomaly_findings *out, bool *interrupted);
void mz_anomaly_findings_close(mz_context *ctx, mz_anomaly_findings *findings);

/* Values that a block of a series with this season has by default. */
int64_t mz_anomaly_block_len(int64_t season);

/* Values without gaps that a series needs so that its last one can be judged. */
int64_t mz_anomaly_least_values(int64_t season, int64_t horizon, double level);

#endif
