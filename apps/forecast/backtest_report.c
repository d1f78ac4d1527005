#include "apps/forecast/backtest_report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "apps/cli.h"
#include "apps/forecast/backtest_report_internal.h"

/* ---- names ---- */

const char *mz_backtest_method_name(const mz_backtest_report *r, int method) {
    return method == MZ_BACKTEST_MODEL ? r->model : mz_baseline_name((mz_baseline)(method - 1));
}

/* The model's name, but not that of a baseline, which a folder may have: keys are unique. */
static void write_key(const mz_backtest_report *r, FILE *out, int method) {
    char key[256];
    bool is_taken = false;
    for (int b = 0; b < MZ_BASELINE_COUNT; b++) {
        is_taken = is_taken || strcmp(r->model, mz_baseline_key((mz_baseline)b)) == 0;
    }
    if (method == MZ_BACKTEST_MODEL) {
        (void)snprintf(key, sizeof key, "%s%s", is_taken ? "model:" : "", r->model);
        mz_cli_write_json_string(out, key);
    } else {
        mz_cli_write_json_string(out, mz_baseline_key((mz_baseline)(method - 1)));
    }
}

static bool needs_quantiles(int metric) {
    return metric >= MZ_METRIC_PINBALL;
}

/* ---- JSON ---- */

static void json_score(FILE *out, const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(out, "\"%s\":%s,", key, number);
}

static void json_begin(const mz_backtest_report *r) {
    FILE *out = r->stream;
    (void)fputs("{\"file\":", out);
    mz_cli_write_json_string(out, r->file);
    (void)fputs(",\"model\":", out);
    mz_cli_write_json_string(out, r->model);
    (void)fprintf(out, ",\"horizon\":%" PRId64 ",\"windows\":%" PRId64 ",\"step\":%" PRId64,
                  r->horizon, r->n_windows, r->step);
    if (r->season == MZ_SEASON_AUTO) {
        (void)fputs(",\"season\":\"auto\"", out);
    } else {
        (void)fprintf(out, ",\"season\":%" PRId64, r->season);
    }
    for (int i = 0; r->quantiles != NULL && i < r->quantiles->n; i++) {
        (void)fprintf(out, "%s%s", i == 0 ? ",\"quantiles\":[" : ",", r->quantiles->items[i].name);
    }
    (void)fputs(r->quantiles != NULL ? "],\"series\":[" : ",\"series\":[", out);
}

static void json_series(const mz_backtest_report *r, const mz_backtest_result *s) {
    FILE *out = r->stream;
    (void)fputs(r->n_written > 0 ? ",\n{\"id\":" : "\n{\"id\":", out);
    mz_cli_write_json_string(out, s->id);
    if (s->error != NULL) {
        (void)fputs(",\"error\":", out);
        mz_cli_write_json_string(out, s->error);
        (void)fputc('}', out);
        return;
    }
    (void)fprintf(out, ",\"values\":%" PRId64 ",\"season\":%" PRId64 ",\"windows\":%" PRId64,
                  s->n_values, s->season, s->n_windows);
    if (s->forecasts != NULL) {
        (void)fprintf(out, ",\"forecasts\":[%s]", s->forecasts);
    }
    (void)fputs(",\"scores\":{", out);
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        (void)fputs(m > 0 ? "},\n " : "\n ", out);
        write_key(r, out, m);
        (void)fputs(":{", out);
        for (int k = 0; k < MZ_METRIC_COUNT; k++) {
            if (!needs_quantiles(k) || r->quantiles != NULL) {
                json_score(out, mz_metric_key((mz_metric)k),
                           mz_series_scores_metric(&s->scores->methods[m], (mz_metric)k));
            }
        }
        char number[32];
        mz_cli_format_double(mz_backtest_relative(s->scores, m), number);
        (void)fprintf(out, "\"relative_mase\":%s", number);
    }
    (void)fputs("}},\"warnings\":", out);
    mz_warnings_write_json(out, s->warnings);
    (void)fputc('}', out);
}

static void json_end(const mz_backtest_report *r, const mz_backtest_totals *t) {
    FILE *out = r->stream;
    const int64_t n_scored = t->methods[MZ_BACKTEST_MODEL].n_series;
    (void)fprintf(out,
                  "\n],\"scored\":%" PRId64 ",\"failed\":%" PRId64 ",\"without_mase\":%" PRId64
                  ",\"summary\":{",
                  n_scored, r->n_written - n_scored, mz_backtest_totals_unscaled(t));
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        (void)fputs(m > 0 ? "},\n " : "\n ", out);
        write_key(r, out, m);
        (void)fputs(":{", out);
        for (int k = 0; k < MZ_METRIC_COUNT; k++) {
            if (!needs_quantiles(k) || r->quantiles != NULL) {
                json_score(out, mz_metric_key((mz_metric)k),
                           mz_total_scores_metric(&t->methods[m], (mz_metric)k));
            }
        }
        char number[32];
        mz_cli_format_double(mz_backtest_totals_relative(t, m), number);
        (void)fprintf(out, "\"relative_mase\":%s", number);
    }
    (void)fputs("}}}\n", out);
}

static void json_dates(const mz_backtest_report *r, FILE *out, const mz_forecast_entry *e) {
    char text[MZ_STAMP_BYTES];
    for (int64_t h = 0; e->future_stamps != NULL && h < r->horizon; h++) {
        (void)fputs(h == 0 ? ",\"timestamps\":[" : ",", out);
        mz_cli_write_json_string(out, mz_stamp_format(&e->form, e->future_stamps[h], text));
    }
    (void)fputs(e->future_stamps != NULL ? "]" : "", out);
}

void mz_backtest_report_window(const mz_backtest_report *r, FILE *out, const mz_forecast_entry *e,
                               const mz_backtest_label *label) {
    (void)fprintf(out, "%s{\"origin\":%" PRId64 ",\"season\":%" PRId64,
                  label->window > 0 ? ",\n  " : "\n  ", label->origin, label->season);
    json_dates(r, out, e);
    (void)fputs(",\"truth\":", out);
    mz_cli_write_json_numbers(out, e->future, r->horizon);
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        const bool is_model = m == MZ_BACKTEST_MODEL;
        (void)fputc(',', out);
        write_key(r, out, m);
        (void)fputc(':', out);
        mz_cli_write_json_numbers(out, is_model ? e->forecast : e->baselines + (m - 1) * r->horizon,
                                  r->horizon);
    }
    for (int i = 0; r->quantiles != NULL && i < r->quantiles->n; i++) {
        (void)fprintf(out, "%s\"%s\":", i == 0 ? ",\"quantiles\":{" : ",",
                      r->quantiles->items[i].name);
        mz_cli_write_json_numbers(out, e->quantiles + i * r->horizon, r->horizon);
    }
    (void)fputs(r->quantiles != NULL ? "}}" : "}", out);
}

/* ---- CSV ---- */

static void csv_begin(const mz_backtest_report *r) {
    (void)fputs("id,method,season,windows", r->stream);
    for (int k = 0; k < MZ_METRIC_COUNT; k++) {
        if (!needs_quantiles(k) || r->quantiles != NULL) {
            (void)fprintf(r->stream, ",%s", mz_metric_key((mz_metric)k));
        }
    }
    (void)fputs(",relative_mase\n", r->stream);
}

static void csv_number(FILE *out, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(out, ",%s", isfinite(value) ? number : "");
}

static void csv_series(const mz_backtest_report *r, const mz_backtest_result *s) {
    FILE *out = r->stream;
    for (int m = 0; s->error == NULL && m < MZ_BACKTEST_METHODS; m++) {
        mz_cli_write_csv_field(out, s->id);
        (void)fputc(',', out);
        mz_cli_write_csv_field(out, mz_backtest_method_name(r, m));
        (void)fprintf(out, ",%" PRId64 ",%" PRId64, s->season, s->n_windows);
        for (int k = 0; k < MZ_METRIC_COUNT; k++) {
            if (!needs_quantiles(k) || r->quantiles != NULL) {
                csv_number(out, mz_series_scores_metric(&s->scores->methods[m], (mz_metric)k));
            }
        }
        csv_number(out, mz_backtest_relative(s->scores, m));
        (void)fputc('\n', out);
    }
}

/* ---- */

void mz_backtest_report_begin(mz_backtest_report *r) {
    if (r->format == MZ_FORECAST_JSON) {
        json_begin(r);
    } else if (r->format == MZ_FORECAST_CSV) {
        csv_begin(r);
    } else {
        mz_backtest_table_begin(r);
    }
}

void mz_backtest_report_series(mz_backtest_report *r, const mz_backtest_result *result) {
    if (r->format == MZ_FORECAST_JSON) {
        json_series(r, result);
    } else if (r->format == MZ_FORECAST_CSV) {
        csv_series(r, result);
    } else if (r->per_series) {
        mz_backtest_table_series(r, result);
    }
    r->n_written++;
}

void mz_backtest_report_end(mz_backtest_report *r, const mz_backtest_totals *totals) {
    if (r->format == MZ_FORECAST_JSON) {
        json_end(r, totals);
    } else if (r->format == MZ_FORECAST_TABLE) {
        mz_backtest_table_end(r, totals);
    }
}
