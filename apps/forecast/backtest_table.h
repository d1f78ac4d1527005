/* Tables of scores for people. */
#ifndef MZ_APPS_FORECAST_BACKTEST_TABLE_H
#define MZ_APPS_FORECAST_BACKTEST_TABLE_H

#include <stdio.h>

#include "apps/forecast/backtest_scores.h"

enum { MZ_BACKTEST_RELATIVE = MZ_METRIC_COUNT, MZ_BACKTEST_MAX_ROWS = 16 };

/* A metric, or MZ_BACKTEST_RELATIVE for mz_backtest_totals_relative. */
typedef struct mz_backtest_column {
    const char *title;
    int metric;
} mz_backtest_column;

/* A method of some totals; all borrowed. */
typedef struct mz_backtest_row {
    const char *name;
    const mz_backtest_totals *totals;
    int method;
} mz_backtest_row;

/* An empty line, the titles, then up to MZ_BACKTEST_MAX_ROWS rows; the lowest of each column is
 * marked by a star where there are several. Errors of writing show in the stream. */
void mz_backtest_table_block(FILE *out, const char *title, const mz_backtest_row *rows, int n_rows,
                             const mz_backtest_column *columns, int n_columns);

#endif
