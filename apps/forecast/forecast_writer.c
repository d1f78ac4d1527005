#include "apps/forecast/forecast_writer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "apps/cli.h"
#include "apps/zoo/baselines.h"

enum { PICTURE_HISTORY = 40, PICTURE_FORECAST = 24 };

/* ---- JSON ---- */

void mz_warnings_write_json(FILE *out, const mz_warnings *w) {
    (void)fputc('[', out);
    for (int i = 0; i < w->n; i++) {
        (void)fputs(i > 0 ? "," : "", out);
        mz_cli_write_json_string(out, w->text[i]);
    }
    (void)fputc(']', out);
}

static void json_texts(FILE *out, const char *const *texts, int n) {
    (void)fputc('[', out);
    for (int i = 0; i < n; i++) {
        (void)fputs(i > 0 ? "," : "", out);
        mz_cli_write_json_string(out, texts[i]);
    }
    (void)fputc(']', out);
}

static void json_dates(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    char text[MZ_STAMP_BYTES];
    FILE *out = w->stream;
    if (a->stamps == NULL) {
        return;
    }
    (void)fputs(",\"start\":", out);
    mz_cli_write_json_string(out, mz_stamp_format(a->form, a->stamps[0], text));
    for (int64_t h = 0; h < w->horizon; h++) {
        (void)fputs(h == 0 ? ",\"timestamps\":[" : ",", out);
        mz_cli_write_json_string(out, mz_stamp_format(a->form, a->stamps[h], text));
    }
    (void)fputc(']', out);
}

static void json_baselines(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    FILE *out = w->stream;
    for (int b = 0; a->baselines != NULL && b < MZ_BASELINE_COUNT; b++) {
        if (b == 0) {
            (void)fprintf(out, ",\"season\":%" PRId64 ",\"baselines\":{", a->season);
        }
        (void)fprintf(out, "%s\"%s\":", b > 0 ? "," : "", mz_baseline_key((mz_baseline)b));
        mz_cli_write_json_numbers(out, a->baselines + b * w->horizon, w->horizon);
    }
    (void)fputs(a->baselines != NULL ? "}" : "", out);
}

static void json_item(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    FILE *out = w->stream;
    (void)fputs("{\"id\":", out);
    mz_cli_write_json_string(out, a->id);
    if (a->error != NULL) {
        (void)fputs(",\"error\":", out);
        mz_cli_write_json_string(out, a->error);
        (void)fputc('}', out);
        return;
    }
    json_dates(w, a);
    (void)fputs(",\"forecast\":", out);
    mz_cli_write_json_numbers(out, a->forecast, w->horizon);
    for (int i = 0; w->quantiles != NULL && i < w->quantiles->n; i++) {
        (void)fprintf(out, "%s\"%s\":", i == 0 ? ",\"quantiles\":{" : ",",
                      w->quantiles->items[i].name);
        mz_cli_write_json_numbers(out, a->quantiles + i * w->horizon, w->horizon);
    }
    (void)fputs(w->quantiles != NULL ? "}" : "", out);
    json_baselines(w, a);
    (void)fputs(",\"warnings\":", out);
    mz_warnings_write_json(out, a->warnings);
    (void)fputc('}', out);
}

/* ---- CSV ---- */

static void csv_header(const mz_forecast_writer *w) {
    (void)fputs(w->has_dates ? "id,step,timestamp,forecast" : "id,step,forecast", w->stream);
    for (int i = 0; w->quantiles != NULL && i < w->quantiles->n; i++) {
        (void)fprintf(w->stream, ",%s", w->quantiles->items[i].column);
    }
    for (int b = 0; w->baselines && b < MZ_BASELINE_COUNT; b++) {
        (void)fprintf(w->stream, ",%s", mz_baseline_key((mz_baseline)b));
    }
    (void)fputc('\n', w->stream);
}

static void csv_item(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    FILE *out = w->stream;
    char number[32];
    char date[MZ_STAMP_BYTES];
    for (int64_t h = 0; a->error == NULL && h < w->horizon; h++) {
        mz_cli_write_csv_field(out, a->id);
        (void)fprintf(out, ",%" PRId64 ",", h + 1);
        if (w->has_dates) {
            mz_cli_write_csv_field(
                out, a->stamps != NULL ? mz_stamp_format(a->form, a->stamps[h], date) : "");
            (void)fputc(',', out);
        }
        mz_cli_format_double(a->forecast[h], number);
        (void)fputs(number, out);
        for (int i = 0; w->quantiles != NULL && i < w->quantiles->n; i++) {
            mz_cli_format_double(a->quantiles[i * w->horizon + h], number);
            (void)fprintf(out, ",%s", number);
        }
        for (int b = 0; w->baselines && b < MZ_BASELINE_COUNT; b++) {
            mz_cli_format_double(a->baselines[b * w->horizon + h], number);
            (void)fprintf(out, ",%s", number);
        }
        (void)fputc('\n', out);
    }
}

/* ---- table ---- */

/* Smallest and largest of what is drawn. */
static void widen(const double *values, int64_t n, double *low, double *high) {
    for (int64_t i = 0; i < n; i++) {
        *low = fmin(*low, values[i]);
        *high = fmax(*high, values[i]);
    }
}

static void draw(FILE *out, const double *values, int64_t n, double low, double high) {
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    /* Halves, because the range itself may exceed f64. */
    const double range = high / 2 - low / 2;
    for (int64_t i = 0; i < n; i++) {
        const double part = range > 0 ? (values[i] / 2 - low / 2) / range : 0.5;
        const int level = (int)(part * 7 + 0.5);
        (void)fputs(bars[level < 0 ? 0 : level > 7 ? 7 : level], out);
    }
}

/* The newest values, a bar, the first of the forecast. */
static void draw_picture(FILE *out, const mz_forecast_answer *a, int64_t horizon) {
    const int64_t n_history = a->n_history < PICTURE_HISTORY ? a->n_history : PICTURE_HISTORY;
    const int64_t n_forecast = horizon < PICTURE_FORECAST ? horizon : PICTURE_FORECAST;
    const double *history = a->history + (a->n_history - n_history);
    double low = a->forecast[0];
    double high = low;
    widen(history, n_history, &low, &high);
    widen(a->forecast, n_forecast, &low, &high);
    (void)fputs("  ", out);
    draw(out, history, n_history, low, high);
    (void)fputs(" | ", out);
    draw(out, a->forecast, n_forecast, low, high);
    (void)fputs(n_forecast < horizon ? "...\n" : "\n", out);
}

/* Decimals that leave six significant digits to the largest value, so that the points of a column
 * stand below each other; -1 where only an exponent would be readable. */
static int decimals_for(const double *values, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(values[i]));
    }
    if (largest == 0) {
        return 0;
    }
    const double digits = floor(log10(largest)) + 1;
    if (digits > 12 || digits < -3) {
        return -1;
    }
    return digits >= 6 ? 0 : 6 - (int)digits;
}

enum { NUMBER_BYTES = 352 }; /* of any double with six decimals */

/* Returns the number's length. */
static int format_number(double value, int decimals, char out[NUMBER_BYTES]) {
    return snprintf(out, NUMBER_BYTES, decimals < 0 ? "%.*e" : "%.*f", decimals < 0 ? 6 : decimals,
                    value);
}

/* A column of the table. */
typedef struct column {
    const char *name;
    const double *values; /* [horizon] */
    int width;
} column;

enum { MAX_COLUMNS = 1 + MZ_MAX_QUANTILES + MZ_BASELINE_COUNT };

static void add_column(const mz_forecast_writer *w, const char *name, const double *values,
                       int decimals, column *columns, int *n) {
    char number[NUMBER_BYTES];
    int width = (int)strlen(name);
    for (int64_t h = 0; h < w->horizon; h++) {
        const int length = format_number(values[h], decimals, number);
        width = length > width ? length : width;
    }
    columns[(*n)++] = (column){name, values, width};
}

/* Forecast, quantiles, baselines; returns how many. */
static int list_columns(const mz_forecast_writer *w, const mz_forecast_answer *a, int decimals,
                        column columns[MAX_COLUMNS]) {
    int n = 0;
    add_column(w, "forecast", a->forecast, decimals, columns, &n);
    for (int i = 0; w->quantiles != NULL && i < w->quantiles->n; i++) {
        add_column(w, w->quantiles->items[i].column, a->quantiles + i * w->horizon, decimals,
                   columns, &n);
    }
    for (int b = 0; w->baselines && b < MZ_BASELINE_COUNT; b++) {
        add_column(w, mz_baseline_name((mz_baseline)b), a->baselines + b * w->horizon, decimals,
                   columns, &n);
    }
    return n;
}

/* Returns the width of the dates, 0 for none. */
static int write_date_title(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    size_t width = strlen("date");
    if (a->stamps == NULL) {
        return 0;
    }
    for (int64_t h = 0; h < w->horizon; h++) {
        char date[MZ_STAMP_BYTES];
        const size_t n = strlen(mz_stamp_format(a->form, a->stamps[h], date));
        width = n > width ? n : width;
    }
    (void)fprintf(w->stream, "  %*s", (int)width, "date");
    return (int)width;
}

static void table_values(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    char date[MZ_STAMP_BYTES];
    char number[NUMBER_BYTES];
    column columns[MAX_COLUMNS];
    const int decimals = decimals_for(a->forecast, w->horizon);
    const int n = list_columns(w, a, decimals, columns);
    FILE *out = w->stream;
    (void)fprintf(out, "%8s", "step");
    const int date_width = write_date_title(w, a);
    for (int i = 0; i < n; i++) {
        (void)fprintf(out, "  %*s", columns[i].width, columns[i].name);
    }
    (void)fputc('\n', out);
    for (int64_t h = 0; h < w->horizon; h++) {
        (void)fprintf(out, "%8" PRId64, h + 1);
        if (date_width > 0) {
            (void)fprintf(out, "  %*s", date_width, mz_stamp_format(a->form, a->stamps[h], date));
        }
        for (int i = 0; i < n; i++) {
            (void)format_number(columns[i].values[h], decimals, number);
            (void)fprintf(out, "  %*s", columns[i].width, number);
        }
        (void)fputc('\n', out);
    }
}

static void table_item(const mz_forecast_writer *w, const mz_forecast_answer *a) {
    FILE *out = w->stream;
    (void)fputc('\n', out);
    mz_cli_write_plain(out, a->id);
    if (a->error != NULL) {
        (void)fputs(": no forecast: ", out);
        mz_cli_write_plain(out, a->error);
        (void)fputc('\n', out);
        return;
    }
    (void)fprintf(out, " (%" PRId64 " value%s", a->n_observed, mz_cli_plural(a->n_observed));
    if (a->last_stamp != NULL) {
        char date[MZ_STAMP_BYTES];
        char frequency[MZ_FREQUENCY_BYTES];
        (void)fprintf(out, " to %s, %s", mz_stamp_format(a->form, *a->last_stamp, date),
                      mz_frequency_name(a->frequency, frequency));
    }
    if (a->baselines != NULL) {
        (void)fprintf(out, ", season %" PRId64, a->season);
    }
    (void)fputs(")\n", out);
    for (int i = 0; i < a->warnings->n; i++) {
        (void)fprintf(out, "  warning: %s\n", a->warnings->text[i]);
    }
    if (w->pictures) {
        draw_picture(out, a, w->horizon);
    }
    table_values(w, a);
}

/* ---- */

void mz_forecast_writer_begin(mz_forecast_writer *w) {
    switch (w->format) {
    case MZ_FORECAST_TABLE:
        (void)fputs("model ", w->stream);
        mz_cli_write_plain(w->stream, w->model);
        (void)fprintf(w->stream, ", horizon %" PRId64 "%s\n", w->horizon,
                      w->overshoot ? ", overshoot (not the authors' schedule)" : "");
        break;
    case MZ_FORECAST_CSV:
        csv_header(w);
        break;
    case MZ_FORECAST_JSON:
        (void)fputs("{\"model\":", w->stream);
        mz_cli_write_json_string(w->stream, w->model);
        (void)fprintf(w->stream, ",\"horizon\":%" PRId64, w->horizon);
        (void)fputs(w->overshoot ? ",\"schedule\":\"overshoot\"" : "", w->stream);
        if (w->n_notes > 0) {
            (void)fputs(",\"warnings\":", w->stream);
            json_texts(w->stream, w->notes, w->n_notes);
        }
        (void)fputs(",\"series\":[", w->stream);
        break;
    case MZ_FORECAST_JSONL:
        break;
    }
}

void mz_forecast_writer_item(mz_forecast_writer *w, const mz_forecast_answer *answer) {
    switch (w->format) {
    case MZ_FORECAST_TABLE:
        table_item(w, answer);
        break;
    case MZ_FORECAST_CSV:
        csv_item(w, answer);
        break;
    case MZ_FORECAST_JSON:
        (void)fputs(w->n_written > 0 ? ",\n" : "\n", w->stream);
        json_item(w, answer);
        break;
    case MZ_FORECAST_JSONL:
        json_item(w, answer);
        (void)fputc('\n', w->stream);
        break;
    }
    w->n_written++;
}

void mz_forecast_writer_end(mz_forecast_writer *w) {
    if (w->format == MZ_FORECAST_JSON) {
        (void)fputs("\n]}\n", w->stream);
    }
}
