#include "apps/forecast/anomaly_writer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { N_MARKED = 5 }; /* highest scores of a table */

/* The date of an anomaly as its file writes it; "" where there is none. */
static const char *date_of(const mz_anomaly_findings *f, const mz_anomaly *a,
                           char text[MZ_STAMP_BYTES]) {
    text[0] = '\0';
    return f->stamps != NULL ? mz_stamp_format(&f->form, f->stamps[a->index], text) : text;
}

/* ---- JSON ---- */

static void json_number(FILE *out, const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(out, ",\"%s\":%s", key, number);
}

static void json_anomaly(FILE *out, const mz_anomaly_findings *f, const mz_anomaly *a) {
    char date[MZ_STAMP_BYTES];
    (void)fprintf(out, "{\"index\":%" PRId64, a->number);
    if (f->stamps != NULL) {
        (void)fputs(",\"timestamp\":", out);
        mz_cli_write_json_string(out, date_of(f, a, date));
    }
    json_number(out, "value", a->value);
    json_number(out, "expected", a->expected);
    json_number(out, "lower", a->lower);
    json_number(out, "upper", a->upper);
    json_number(out, "score", a->score);
    (void)fputc('}', out);
}

static void json_item(FILE *out, const mz_anomaly_findings *f) {
    (void)fputs("{\"id\":", out);
    mz_cli_write_json_string(out, f->id);
    if (f->error != NULL) {
        (void)fputs(",\"error\":", out);
        mz_cli_write_json_string(out, f->error);
        (void)fputc('}', out);
        return;
    }
    (void)fprintf(out,
                  ",\"n_values\":%" PRId64 ",\"n_judged\":%" PRId64 ",\"horizon\":%" PRId64
                  ",\"anomalies\":[",
                  f->n_values, f->n_judged, f->horizon);
    for (int64_t i = 0; i < f->n_anomalies; i++) {
        (void)fputs(i > 0 ? "," : "", out);
        json_anomaly(out, f, &f->anomalies[i]);
    }
    (void)fputs("],\"warnings\":", out);
    mz_warnings_write_json(out, &f->warnings);
    (void)fputc('}', out);
}

/* ---- CSV ---- */

static void csv_item(FILE *out, const mz_anomaly_findings *f) {
    for (int64_t i = 0; i < f->n_anomalies; i++) {
        const mz_anomaly *a = &f->anomalies[i];
        const double numbers[] = {a->value, a->expected, a->lower, a->upper, a->score};
        char text[MZ_STAMP_BYTES];
        mz_cli_write_csv_field(out, f->id);
        (void)fprintf(out, ",%" PRId64 ",", a->number);
        mz_cli_write_csv_field(out, date_of(f, a, text));
        for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
            mz_cli_format_double(numbers[k], text);
            (void)fprintf(out, ",%s", text);
        }
        (void)fputc('\n', out);
    }
}

/* ---- table ---- */

/* The least of the highest scores; infinite where all of few anomalies would be marked. */
static double marked_score(const mz_anomaly_findings *f) {
    double top[N_MARKED] = {0};
    if (f->n_anomalies <= N_MARKED) {
        return INFINITY;
    }
    for (int64_t i = 0; i < f->n_anomalies; i++) {
        int at = N_MARKED;
        while (at > 0 && f->anomalies[i].score > top[at - 1]) {
            at--;
        }
        if (at < N_MARKED) {
            memmove(top + at + 1, top + at, (size_t)(N_MARKED - 1 - at) * sizeof *top);
            top[at] = f->anomalies[i].score;
        }
    }
    return top[N_MARKED - 1];
}

static void table_anomalies(FILE *out, const mz_anomaly_findings *f) {
    const double marked = marked_score(f);
    char date[MZ_STAMP_BYTES] = "";
    const int width = f->stamps != NULL ? (int)strlen(date_of(f, &f->anomalies[0], date)) + 2 : 0;
    (void)fprintf(out, "%9s%*s  %12s  %12s  %12s  %12s  %7s\n", "index", width,
                  width > 0 ? "date" : "", "value", "expected", "lower", "upper", "score");
    for (int64_t i = 0; i < f->n_anomalies; i++) {
        const mz_anomaly *a = &f->anomalies[i];
        (void)fprintf(out, "%9" PRId64 "%*s  %12.6g  %12.6g  %12.6g  %12.6g  %7.2f%s\n", a->number,
                      width, date_of(f, a, date), a->value, a->expected, a->lower, a->upper,
                      a->score, a->score >= marked ? " *" : "");
    }
}

static void table_item(FILE *out, const mz_anomaly_findings *f) {
    (void)fputc('\n', out);
    mz_cli_write_plain(out, f->id);
    if (f->error != NULL) {
        (void)fputs(": not judged: ", out);
        mz_cli_write_plain(out, f->error);
        (void)fputc('\n', out);
        return;
    }
    (void)fprintf(out,
                  " (%" PRId64 " values in blocks of %" PRId64 ", %" PRId64 " judged, %" PRId64
                  " outside",
                  f->n_values, f->horizon, f->n_judged, f->n_anomalies);
    if (f->n_judged > 0) {
        (void)fprintf(out, ": %.2f %%", 100.0 * (double)f->n_anomalies / (double)f->n_judged);
    }
    (void)fputs(")\n", out);
    for (int i = 0; i < f->warnings.n; i++) {
        (void)fprintf(out, "  warning: %s\n", f->warnings.text[i]);
    }
    if (f->n_anomalies > 0) {
        table_anomalies(out, f);
    }
}

/* ---- */

void mz_anomaly_writer_begin(mz_anomaly_writer *w) {
    switch (w->format) {
    case MZ_FORECAST_TABLE:
        (void)fputs("model ", w->stream);
        mz_cli_write_plain(w->stream, w->model);
        (void)fprintf(w->stream, ", level %.10g %%\n", w->level * 100);
        break;
    case MZ_FORECAST_CSV:
        (void)fputs("id,index,timestamp,value,expected,lower,upper,score\n", w->stream);
        break;
    case MZ_FORECAST_JSON:
        (void)fputs("{\"model\":", w->stream);
        mz_cli_write_json_string(w->stream, w->model);
        (void)fprintf(w->stream, ",\"level\":%.10g,\"series\":[", w->level * 100);
        break;
    case MZ_FORECAST_JSONL:
        break;
    }
}

void mz_anomaly_writer_item(mz_anomaly_writer *w, const mz_anomaly_findings *findings) {
    switch (w->format) {
    case MZ_FORECAST_TABLE:
        table_item(w->stream, findings);
        break;
    case MZ_FORECAST_CSV:
        csv_item(w->stream, findings);
        break;
    case MZ_FORECAST_JSON:
        (void)fputs(w->n_written > 0 ? ",\n" : "\n", w->stream);
        json_item(w->stream, findings);
        break;
    case MZ_FORECAST_JSONL:
        json_item(w->stream, findings);
        (void)fputc('\n', w->stream);
        break;
    }
    w->n_written++;
}

void mz_anomaly_writer_end(mz_anomaly_writer *w) {
    if (w->format == MZ_FORECAST_JSON) {
        (void)fputs("\n]}\n", w->stream);
    }
}
