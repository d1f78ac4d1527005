/* The rows of a CSV file and the series in them: side by side, a column each, or below each other,
 * told apart by an id. */
#ifndef MZ_ENCODERS_SERIES_SERIES_TABLE_H
#define MZ_ENCODERS_SERIES_SERIES_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "encoders/series/series_ids.h"
#include "encoders/series/series_reader.h"
#include "encoders/series/series_store.h"
#include "encoders/series/timeline.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Filled by the caller with ctx, file, options, n_stored, is_long and max_values, the rest 0;
 * released with mz_series_table_clear. */
typedef struct mz_series_table {
    mz_context *ctx;
    const char *file; /* for messages */
    const mz_series_options *options;
    int64_t n_stored;   /* values of a row */
    bool is_long;       /* rows have ids, and one value */
    int64_t max_values; /* kept though options->n_newest does not ask for them */

    bool has_dates;
    mz_stamp_column dates; /* the form of the stamps; the caller adds the rows to it */
    mz_series_ids ids;     /* likewise */
    int64_t n_rows;
    int64_t first_kept;    /* row; those before it are forgotten */
    mz_store values;       /* [n_rows, n_stored] */
    mz_store stamps;       /* [n_rows] provisional */
    mz_store id_numbers;   /* [n_rows] */
    mz_store jump_rows;    /* rows whose number in the file is not one above that before */
    mz_store jump_numbers; /* their numbers */

    /* after settling */
    int64_t *begins;       /* long: [ids.n + 1] first of each id's rows in `members` */
    int64_t *members;      /* long: [n_rows] rows by id; NULL: they stand so already */
    mz_stamp *times;       /* wide: [n_rows - first_kept] final */
    mz_frequency fallback; /* long: of most series that tell */
    mz_timeline timeline;  /* wide: of all; long: of the series handed out last */
    const int64_t *rows;   /* long: of that series */
    int64_t first_row;     /* where rows is NULL */
    mz_stamp *row_stamps;  /* of that series */
    double *row_values;
    mz_stamp *point_stamps;
    double *point_values;
    size_t capacities[4];
} mz_series_table;

/* Adds a row. `values` [n_stored]; `number` in the file; `stamp` if has_dates, `id` if is_long.
 * Errors: LIMIT; NOMEM. */
mz_status mz_series_table_push(mz_series_table *table, int64_t number, const double *values,
                               mz_stamp stamp, int64_t id);

/* After the last row. Errors: NOMEM; those of mz_timeline_build for the dates of series that stand
 * side by side; LIMIT. */
mz_status mz_series_table_settle(mz_series_table *table);

/* Series `index`: column `index` of the stored ones, or the rows of id `index`. Fills all of *out
 * but id (of wide tables) and value_name; borrowed until the next call. What is wrong with the
 * dates of one id is its error. Errors: NOMEM. */
mz_status mz_series_table_get(mz_series_table *table, int64_t index, mz_series *out);

void mz_series_table_clear(mz_series_table *table);

#ifdef __cplusplus
}
#endif
#endif
