/* The answer of `moezoo forecast backtest`, written series by series.
 *
 *   json    {"file","model","horizon","windows","step","season","quantiles" (with bands),
 *            "series":[ITEM, ...],"scored","failed","without_mase","summary":{METHOD: SCORES, ...}}
 *           ITEM: {"id","values","season","windows","forecasts" (if wanted),
 *           "scores":{METHOD: SCORES, ...},"warnings"}, or {"id","error"}
 *   csv     one row a series and method; failed series have none
 *   table   for people: the MASE of each series, then all metrics over all series
 *
 * METHOD is the model's name or the key of a baseline; SCORES have the metrics in lower case, null
 * where one is not defined, and "relative_mase". */
#ifndef MZ_APPS_FORECAST_BACKTEST_REPORT_H
#define MZ_APPS_FORECAST_BACKTEST_REPORT_H

#include "apps/forecast/backtest_scores.h"

/* One series and its scores; the caller owns everything. */
typedef struct mz_backtest_result {
    const char *id;
    int64_t n_values, n_windows;
    int64_t season; /* of the last window */
    const mz_backtest_scores *scores;
    const mz_warnings *warnings; /* of the last window */
    const char *forecasts;       /* JSON of the windows, or NULL */
    const char *error;           /* NULL: there are scores */
} mz_backtest_result;

/* Filled by the caller, n_written 0. The stream may change between series. */
typedef struct mz_backtest_report {
    FILE *stream;
    mz_forecast_format format; /* not JSONL */
    const char *file, *model;
    int64_t horizon, n_windows, step;
    int64_t season;                         /* MZ_SEASON_AUTO or its points */
    const mz_forecast_quantiles *quantiles; /* NULL: none */
    bool per_series;                        /* a table has a line for each series */
    int64_t n_written;                      /* series */
} mz_backtest_report;

/* Errors of writing show in the stream. */
void mz_backtest_report_begin(mz_backtest_report *r);
void mz_backtest_report_series(mz_backtest_report *r, const mz_backtest_result *result);
void mz_backtest_report_end(mz_backtest_report *r, const mz_backtest_totals *totals);

/* Writes one window as JSON: {"origin","season","timestamps" (with dates),"truth",
 * "METHOD":[horizon numbers], ...}, and "quantiles" as in a forecast. A comma stands before all
 * but the first. */
void mz_backtest_report_window(const mz_backtest_report *r, FILE *stream,
                               const mz_forecast_entry *entry, const mz_backtest_label *label);

#endif
