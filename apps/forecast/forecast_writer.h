/* The answer of `moezoo forecast` in its four forms, written series by series.
 *
 *   json    one object: {"model": NAME, "horizon": N, "series": [ITEM, ...]}, with "schedule":
 *           "overshoot" where that was asked for and "warnings": [text, ...] about the whole input
 *   jsonl   one ITEM a line
 *   csv     one line a value, step 1 to N: id,step,forecast, with dates
 *           id,step,timestamp,forecast; failed series have no lines
 *   table   for people
 *
 * ITEM: {"id": ID, "forecast": [N numbers], "warnings": [text, ...]}, or {"id": ID, "error": text}
 * for a series that could not be forecast. Numbers read back to the same double. Where the dates of
 * the forecast are known an item has "start": DATE, the first of them, and "timestamps": [N dates],
 * written as the input writes its own. With quantiles it has "quantiles": {"0.1": [N numbers], ...}
 * too, with baselines "season": N and "baselines": {"naive": [N numbers], ...}; csv and table have
 * a column for each.
 */
#ifndef MZ_APPS_FORECAST_FORECAST_WRITER_H
#define MZ_APPS_FORECAST_FORECAST_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "apps/forecast/forecast_quantiles.h"
#include "encoders/series/calendar.h"

/* In the order of the option's choices. */
typedef enum mz_forecast_format {
    MZ_FORECAST_TABLE = 0,
    MZ_FORECAST_CSV,
    MZ_FORECAST_JSON,
    MZ_FORECAST_JSONL
} mz_forecast_format;

enum { MZ_MAX_WARNINGS = 8, MZ_WARNING_BYTES = 160 };

/* What to tell the reader about one series. */
typedef struct mz_warnings {
    int n;
    char text[MZ_MAX_WARNINGS][MZ_WARNING_BYTES];
} mz_warnings;

/* As an array of strings. */
void mz_warnings_write_json(FILE *stream, const mz_warnings *warnings);

/* One series and its answer; the caller owns everything. */
typedef struct mz_forecast_answer {
    const char *id;
    const double *history; /* [n_history] newest values, for the picture in a table */
    int64_t n_history;
    int64_t n_observed;      /* values of the series */
    const double *forecast;  /* [horizon] */
    const double *quantiles; /* [quantiles->n, horizon] */
    const double *baselines; /* [MZ_BASELINE_COUNT, horizon]; NULL: none */
    int64_t season;          /* of these */
    const mz_warnings *warnings;
    const char *error;          /* NULL: there is a forecast */
    const mz_stamp *last_stamp; /* of the history; NULL: no dates */
    const mz_stamp *stamps;     /* [horizon] of the forecast; NULL: not known */
    const mz_stamp_form *form;  /* of all stamps */
    const mz_frequency *frequency;
} mz_forecast_answer;

/* Filled by the caller, n_written 0. The stream may change between items. */
typedef struct mz_forecast_writer {
    FILE *stream;
    mz_forecast_format format;
    const char *model;
    int64_t horizon;
    const mz_forecast_quantiles *quantiles; /* NULL: none */
    bool baselines;                         /* every answer has them */
    bool pictures;                          /* a table draws history and forecast as one line */
    bool has_dates;                         /* of some series at least */
    bool overshoot;                         /* label it */
    const char *const *notes;               /* [n_notes] warnings about the whole input */
    int n_notes;
    int64_t n_written;
} mz_forecast_writer;

/* Errors of writing show in the stream. */
void mz_forecast_writer_begin(mz_forecast_writer *w);
void mz_forecast_writer_item(mz_forecast_writer *w, const mz_forecast_answer *answer);
void mz_forecast_writer_end(mz_forecast_writer *w);

#endif
