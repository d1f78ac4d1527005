#include "apps/forecast/backtest_table.h"

#include <inttypes.h>
#include <math.h>

#include "apps/cli.h"
#include "apps/forecast/backtest_report_internal.h"

enum { NAME_WIDTH = 24 };

/* A name of at most `width` characters, filled with spaces; what is too long loses its end. */
static void write_name(FILE *out, const char *name, int width) {
    char text[4 * NAME_WIDTH + 1];
    int n = 0;
    size_t bytes = 0;
    while (name[bytes] != '\0' && bytes < sizeof text - 1) {
        const bool is_start = ((unsigned char)name[bytes] & 0xc0) != 0x80;
        if (is_start && n == width) {
            break;
        }
        n += is_start;
        text[bytes] = name[bytes];
        bytes++;
    }
    text[bytes] = '\0';
    mz_cli_write_plain(out, text);
    (void)fprintf(out, "%*s", width - n, "");
}

/* ---- one line a series ---- */

void mz_backtest_table_begin(const mz_backtest_report *r) {
    FILE *out = r->stream;
    (void)fputs("model ", out);
    mz_cli_write_plain(out, r->model);
    (void)fprintf(out, ", horizon %" PRId64 ", %" PRId64 " window%s", r->horizon, r->n_windows,
                  mz_cli_plural(r->n_windows));
    if (r->n_windows > 1) {
        (void)fprintf(out, " every %" PRId64 " step%s", r->step, mz_cli_plural(r->step));
    }
    (void)fputc('\n', out);
    if (r->per_series) {
        (void)fprintf(out, "\n%-*s%7s%9s%9s%9s%9s%9s%9s\n", NAME_WIDTH, "MASE of each series",
                      "season", "model", "naive", "s.naive", "drift", "damped", "theta");
    }
}

static double lowest(const double *values, int n) {
    double best = INFINITY;
    for (int i = 0; i < n; i++) {
        best = values[i] < best ? values[i] : best;
    }
    return best;
}

/* Decimals that leave four digits to the lowest of a column, so that the points stand below each
 * other; -1: an exponent is more readable. */
static int decimals_for(const double *values, int n) {
    double largest = 0;
    for (int i = 0; i < n; i++) {
        largest = fmax(largest, values[i]);
    }
    const double smallest = lowest(values, n);
    if (largest >= 1e7 || (largest > 0 && largest < 1e-4)) {
        return -1;
    }
    const int digits =
        smallest > 0 ? (int)floor(log10(smallest)) + 1 : (int)floor(log10(largest + 1)) + 1;
    return digits > 4 ? 0 : digits < -1 ? 5 : 4 - digits;
}

static void write_number(FILE *out, int width, double value, int decimals, bool is_best) {
    if (isnan(value)) {
        (void)fprintf(out, "%*s ", width, "-");
    } else if (decimals < 0) {
        (void)fprintf(out, "%*.2e%c", width, value, is_best ? '*' : ' ');
    } else {
        (void)fprintf(out, "%*.*f%c", width, decimals, value, is_best ? '*' : ' ');
    }
}

void mz_backtest_table_series(const mz_backtest_report *r, const mz_backtest_result *s) {
    FILE *out = r->stream;
    double values[MZ_BACKTEST_METHODS];
    if (s->error != NULL) {
        mz_cli_write_plain(out, s->id);
        (void)fputs(": no scores: ", out);
        mz_cli_write_plain(out, s->error);
        (void)fputc('\n', out);
        return;
    }
    write_name(out, s->id, NAME_WIDTH);
    (void)fprintf(out, "%7" PRId64, s->season);
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        values[m] = mz_series_scores_metric(&s->scores->methods[m], MZ_METRIC_MASE);
    }
    const double best = lowest(values, MZ_BACKTEST_METHODS);
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        write_number(out, 8, values[m], values[m] < 1000 ? 3 : -1, values[m] == best);
    }
    (void)fputc('\n', out);
}

/* ---- all series ---- */

static double value_of(const mz_backtest_row *row, int metric) {
    return metric == MZ_BACKTEST_RELATIVE
               ? mz_backtest_totals_relative(row->totals, row->method)
               : mz_total_scores_metric(&row->totals->methods[row->method], (mz_metric)metric);
}

void mz_backtest_table_block(FILE *out, const char *title, const mz_backtest_row *rows, int n_rows,
                             const mz_backtest_column *columns, int n_columns) {
    (void)fprintf(out, "\n%-*s", NAME_WIDTH, title);
    for (int c = 0; c < n_columns; c++) {
        (void)fprintf(out, "%9s ", columns[c].title);
    }
    (void)fputc('\n', out);
    for (int m = 0; m < n_rows; m++) {
        write_name(out, rows[m].name, NAME_WIDTH);
        for (int c = 0; c < n_columns; c++) {
            double values[MZ_BACKTEST_MAX_ROWS];
            for (int k = 0; k < n_rows; k++) {
                values[k] = value_of(&rows[k], columns[c].metric);
            }
            const bool is_best = n_rows > 1 && values[m] == lowest(values, n_rows);
            write_number(out, 9, values[m], decimals_for(values, n_rows), is_best);
        }
        (void)fputc('\n', out);
    }
}

/* Rows of the first `n_methods`. */
static void write_block(const mz_backtest_report *r, const mz_backtest_totals *t, int n_methods,
                        const char *title, const mz_backtest_column *columns, int n) {
    mz_backtest_row rows[MZ_BACKTEST_METHODS];
    for (int m = 0; m < n_methods; m++) {
        rows[m] =
            (mz_backtest_row){.name = mz_backtest_method_name(r, m), .totals = t, .method = m};
    }
    mz_backtest_table_block(r->stream, title, rows, n_methods, columns, n);
}

/* Only the model has bands. */
static void write_bands(const mz_backtest_report *r, const mz_backtest_totals *t) {
    static const mz_backtest_column columns[] = {{"pinball", MZ_METRIC_PINBALL},
                                                 {"SQL", MZ_METRIC_SQL},
                                                 {"WQL", MZ_METRIC_WQL},
                                                 {"coverage", MZ_METRIC_COVERAGE},
                                                 {"width", MZ_METRIC_WIDTH}};
    const mz_forecast_quantiles *q = r->quantiles;
    FILE *out = r->stream;
    write_block(r, t, 1, "bands", columns, sizeof columns / sizeof columns[0]);
    (void)fputs("pinball, SQL and WQL over the levels", out);
    for (int i = 0; i < q->n; i++) {
        (void)fprintf(out, "%s%s", i > 0 ? ", " : " ", q->items[i].name);
    }
    if (q->n > 1) {
        const mz_forecast_quantile *low = &q->items[0];
        const mz_forecast_quantile *high = &q->items[q->n - 1];
        (void)fprintf(out, ";\ncoverage and width between %s and %s, nominally %.3g", low->name,
                      high->name, high->q - low->q);
    }
    (void)fputc('\n', out);
}

void mz_backtest_table_end(const mz_backtest_report *r, const mz_backtest_totals *t) {
    static const mz_backtest_column relative[] = {
        {"MASE", MZ_METRIC_MASE}, {"RMSSE", MZ_METRIC_RMSSE}, {"sMAPE", MZ_METRIC_SMAPE},
        {"MAPE", MZ_METRIC_MAPE}, {"WAPE", MZ_METRIC_WAPE},   {"rel.MASE", MZ_BACKTEST_RELATIVE}};
    static const mz_backtest_column absolute[] = {
        {"MAE", MZ_METRIC_MAE}, {"RMSE", MZ_METRIC_RMSE}, {"MSE", MZ_METRIC_MSE}};
    const int64_t n_series = t->methods[MZ_BACKTEST_MODEL].n_series;
    const int64_t n_unscaled = mz_backtest_totals_unscaled(t);
    FILE *out = r->stream;
    char title[64];
    (void)snprintf(title, sizeof title, "%" PRId64 " series, %" PRId64 " window%s", n_series,
                   t->n_windows, mz_cli_plural(t->n_windows));
    write_block(r, t, MZ_BACKTEST_METHODS, title, relative, sizeof relative / sizeof relative[0]);
    write_block(r, t, MZ_BACKTEST_METHODS, "in units of the values", absolute,
                sizeof absolute / sizeof absolute[0]);
    if (r->quantiles != NULL) {
        write_bands(r, t);
    }
    (void)fputs(
        "\n* the lowest; MAPE, sMAPE and WAPE are fractions; rel.MASE is the geometric mean "
        "over the series\n  of the ratio to seasonal naive\n",
        out);
    if (n_unscaled > 0) {
        (void)fprintf(out,
                      "%" PRId64 " series %s no MASE, RMSSE and rel.MASE: the past repeats itself "
                      "exactly or is not\n  longer than a season\n",
                      n_unscaled, n_unscaled == 1 ? "has" : "have");
    }
}
