/* Shared by backtest_report.c and backtest_table.c. */
#ifndef MZ_APPS_FORECAST_BACKTEST_REPORT_INTERNAL_H
#define MZ_APPS_FORECAST_BACKTEST_REPORT_INTERNAL_H

#include "apps/forecast/backtest_report.h"

/* For people. */
const char *mz_backtest_method_name(const mz_backtest_report *r, int method);

/* The table's parts of mz_backtest_report_begin, _series and _end. */
void mz_backtest_table_begin(const mz_backtest_report *r);
void mz_backtest_table_series(const mz_backtest_report *r, const mz_backtest_result *result);
void mz_backtest_table_end(const mz_backtest_report *r, const mz_backtest_totals *totals);

#endif
