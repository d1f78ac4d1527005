/* The answer of `moezoo forecast anomalies` in its four forms, written series by series.
 *
 *   json    one object: {"model": NAME, "level": PERCENT, "series": [ITEM, ...]}
 *   jsonl   one ITEM a line
 *   csv     id,index,timestamp,value,expected,lower,upper,score: one line an anomaly, the timestamp
 *           empty where the series has none
 *   table   for people: one line an anomaly, the highest scores marked
 *
 * ITEM: {"id", "n_values", "n_judged", "horizon", "anomalies": [{"index": position from 1,
 * "timestamp": as the file writes it (only where there is one), "value", "expected", "lower",
 * "upper", "score"}, ...], "warnings": [text, ...]}, or {"id", "error"} for a series that could not
 * be judged. Numbers read back to the same double. */
#ifndef MZ_APPS_FORECAST_ANOMALY_WRITER_H
#define MZ_APPS_FORECAST_ANOMALY_WRITER_H

#include "apps/forecast/anomaly_search.h"
#include "apps/forecast/forecast_writer.h"

/* Filled by the caller, n_written 0. The stream may change between items. */
typedef struct mz_anomaly_writer {
    FILE *stream;
    mz_forecast_format format;
    const char *model;
    double level; /* 0 to 1 */
    int64_t n_written;
} mz_anomaly_writer;

/* Errors of writing show in the stream. */
void mz_anomaly_writer_begin(mz_anomaly_writer *w);
void mz_anomaly_writer_item(mz_anomaly_writer *w, const mz_anomaly_findings *findings);
void mz_anomaly_writer_end(mz_anomaly_writer *w);

#endif
