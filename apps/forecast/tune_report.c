#include "apps/forecast/tune_report.h"

#include <inttypes.h>
#include <math.h>

#include "apps/cli.h"
#include "apps/forecast/backtest_table.h"

static double score_of(const mz_backtest_totals *t, mz_metric metric) {
    return mz_total_scores_metric(&t->methods[MZ_BACKTEST_MODEL], metric);
}

double mz_tune_gain(const mz_backtest_totals *before, const mz_backtest_totals *after) {
    const mz_metric metric = mz_tune_metric(before);
    const double old = score_of(before, metric);
    return old > 0 ? 1 - score_of(after, metric) / old : 0;
}

double mz_tune_least_gain(int64_t n_windows) {
    const double of_one = 0.1;
    const double least = 0.005;
    return n_windows > 0 ? fmax(of_one / sqrt((double)n_windows), least) : of_one;
}

bool mz_tune_is_better(const mz_backtest_totals *before, const mz_backtest_totals *after) {
    /* false for NaN */
    return mz_tune_gain(before, after) >= mz_tune_least_gain(before->n_windows);
}

/* ---- for people ---- */

static void write_part(const mz_tune_report *r, mz_tune_part part, FILE *out) {
    static const mz_backtest_column columns[] = {{"MASE", MZ_METRIC_MASE},
                                                 {"sMAPE", MZ_METRIC_SMAPE},
                                                 {"MAE", MZ_METRIC_MAE},
                                                 {"rel.MASE", MZ_BACKTEST_RELATIVE}};
    mz_backtest_row rows[MZ_BACKTEST_METHODS + 1];
    char title[64];
    rows[0] = (mz_backtest_row){.name = "before", .totals = &r->before[part]};
    rows[1] = (mz_backtest_row){.name = "after", .totals = &r->after[part]};
    for (int b = 0; b < MZ_BASELINE_COUNT; b++) {
        rows[2 + b] = (mz_backtest_row){
            .name = mz_baseline_name((mz_baseline)b), .totals = &r->before[part], .method = 1 + b};
    }
    (void)snprintf(title, sizeof title, "%" PRId64 " %s window%s", r->before[part].n_windows,
                   part == MZ_TUNE_TEST ? "test" : "validation",
                   mz_cli_plural(r->before[part].n_windows));
    mz_backtest_table_block(out, title, rows, MZ_BACKTEST_METHODS + 1, columns,
                            sizeof columns / sizeof columns[0]);
}

static void write_training(const mz_tune_report *r, FILE *out) {
    static const char *const why[] = {[MZ_TUNE_DONE] = "",
                                      [MZ_TUNE_NO_GAIN] = ", when it got no better",
                                      [MZ_TUNE_TIME] = ", when the time was up",
                                      [MZ_TUNE_INTERRUPTED] = ", when it was interrupted",
                                      [MZ_TUNE_DIVERGED] =
                                          ", when a loss or gradient was not finite"};
    const mz_tune_trained *t = r->trained;
    char count[32];
    (void)fprintf(out, "\n%" PRId64 " of %" PRId64 " steps in %.3g s%s; ", t->n_steps, t->n_planned,
                  t->seconds, why[t->end]);
    if (r->rank > 0) {
        (void)fprintf(out, "adapter of rank %" PRId64 ", ", r->rank);
    }
    (void)fprintf(out, "%s parameters", mz_cli_format_count(r->n_parameters, count));
    if (t->best_step > 0) {
        (void)fprintf(out, "; best after step %" PRId64, t->best_step);
    }
    (void)fputc('\n', out);
}

/* The command line that uses what was written. */
static void write_use(const mz_tune_report *r, FILE *out) {
    (void)fputs("use it: moezoo forecast ", out);
    mz_cli_write_plain(out, r->path);
    (void)fprintf(out, " -n %" PRId64, r->split->horizon);
    if (r->rank > 0 && !r->merged && r->model_option != NULL) {
        (void)fputs(" -m ", out);
        mz_cli_write_plain(out, r->model_option);
    }
    (void)fputs(r->rank > 0 && !r->merged ? " --adapter " : " -m ", out);
    mz_cli_write_plain(out, r->output);
    (void)fputc('\n', out);
}

static void write_verdict(const mz_tune_report *r, FILE *out) {
    const char *metric = mz_tune_metric(&r->before[0]) == MZ_METRIC_MASE ? "MASE" : "MAE";
    const double chosen = mz_tune_gain(&r->before[0], &r->after[0]);
    const double tested = mz_tune_gain(&r->before[MZ_TUNE_TEST], &r->after[MZ_TUNE_TEST]);
    if (!r->is_better) {
        const int64_t n = r->before[MZ_TUNE_VALIDATION].n_windows;
        (void)fprintf(
            out,
            "the model stays as it was: the %s of the validation windows fell by %.3g %%, "
            "with %" PRId64 " window%s\nat least %.3g %% are needed to be more than luck; "
            "only the report was written to ",
            metric, fmax(chosen, 0) * 100, n, mz_cli_plural(n), mz_tune_least_gain(n) * 100);
        mz_cli_write_plain(out, r->output);
        (void)fputc('\n', out);
        return;
    }
    (void)fprintf(out,
                  "tuned: the %s of the validation windows, which decide, fell by %.3g %%, that of "
                  "the test\nwindows, which do not, %s by %.3g %%\n",
                  metric, chosen * 100, tested < 0 ? "GREW" : "fell", fabs(tested) * 100);
    write_use(r, out);
}

void mz_tune_report_table(const mz_tune_report *r, FILE *out) {
    const mz_tune_split *s = r->split;
    (void)fputs("model ", out);
    mz_cli_write_plain(out, r->model);
    (void)fprintf(out, ", horizon %" PRId64 ": trained on %" PRId64 " values of %" PRId64 " series",
                  s->horizon, s->n_train, s->n);
    if (s->n_held < s->n) {
        (void)fprintf(out, ", %" PRId64 " of them too short to hold anything out",
                      s->n - s->n_held);
    }
    if (s->n_skipped > 0) {
        (void)fprintf(out, "; %" PRId64 " more left out, too short or faulty", s->n_skipped);
    }
    (void)fputc('\n', out);
    write_part(r, MZ_TUNE_TEST, out);
    write_part(r, MZ_TUNE_VALIDATION, out);
    (void)fputs("* the lowest; sMAPE is a fraction; rel.MASE is relative to seasonal naive\n", out);
    write_training(r, out);
    write_verdict(r, out);
}

/* ---- JSON ---- */

static void json_number(FILE *out, const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(out, ",\"%s\":%s", key, number);
}

static void json_int(FILE *out, const char *key, int64_t value) {
    (void)fprintf(out, ",\"%s\":%" PRId64, key, value);
}

static void json_text(FILE *out, const char *key, const char *text) {
    (void)fprintf(out, ",\"%s\":", key);
    mz_cli_write_json_string(out, text);
}

static void json_scores(FILE *out, const char *key, const mz_backtest_totals *t, int method) {
    static const mz_metric metrics[] = {MZ_METRIC_MASE, MZ_METRIC_SMAPE, MZ_METRIC_MAE};
    (void)fprintf(out, ",\"%s\":{", key);
    for (size_t k = 0; k < sizeof metrics / sizeof metrics[0]; k++) {
        char number[32];
        mz_cli_format_double(mz_total_scores_metric(&t->methods[method], metrics[k]), number);
        (void)fprintf(out, "%s\"%s\":%s", k > 0 ? "," : "", mz_metric_key(metrics[k]), number);
    }
    json_number(out, "relative_mase", mz_backtest_totals_relative(t, method));
    (void)fputc('}', out);
}

static void json_part(const mz_tune_report *r, mz_tune_part part, FILE *out) {
    char number[32];
    mz_cli_format_double(mz_tune_gain(&r->before[part], &r->after[part]), number);
    (void)fprintf(out, ",\"%s\":{\"gain\":%s", part == MZ_TUNE_TEST ? "test" : "validation",
                  number);
    json_scores(out, "before", &r->before[part], MZ_BACKTEST_MODEL);
    json_scores(out, "after", &r->after[part], MZ_BACKTEST_MODEL);
    for (int b = 0; b < MZ_BASELINE_COUNT; b++) {
        json_scores(out, mz_baseline_key((mz_baseline)b), &r->before[part], 1 + b);
    }
    (void)fputc('}', out);
}

void mz_tune_report_json(const mz_tune_report *r, FILE *out) {
    static const char *const ends[] = {[MZ_TUNE_DONE] = "done",
                                       [MZ_TUNE_NO_GAIN] = "no gain",
                                       [MZ_TUNE_TIME] = "time",
                                       [MZ_TUNE_INTERRUPTED] = "interrupted",
                                       [MZ_TUNE_DIVERGED] = "diverged"};
    const mz_tune_trained *t = r->trained;
    (void)fputs("{\"file\":", out);
    mz_cli_write_json_string(out, r->file);
    json_text(out, "model", r->model);
    json_int(out, "horizon", r->split->horizon);
    (void)fprintf(out, ",\"tuned\":%s", r->is_better ? "true" : "false");
    json_text(out, "output", r->output);
    json_text(out, "method", r->rank > 0 ? "lora" : "full");
    if (r->rank > 0) {
        json_int(out, "rank", r->rank);
        json_number(out, "alpha", r->alpha);
        (void)fprintf(out, ",\"merged\":%s", r->merged ? "true" : "false");
    }
    json_int(out, "parameters", r->n_parameters);
    json_number(out, "lr", r->lr);
    json_int(out, "seed", r->seed);
    json_int(out, "series", r->split->n);
    json_int(out, "held_out", r->split->n_held);
    json_int(out, "skipped", r->split->n_skipped);
    json_int(out, "windows", r->split->n_windows);
    json_int(out, "train_values", r->split->n_train);
    json_int(out, "steps", t->n_steps);
    json_int(out, "planned_steps", t->n_planned);
    json_int(out, "best_step", t->best_step);
    json_text(out, "end", ends[t->end]);
    json_number(out, "seconds", t->seconds);
    json_text(out, "metric", mz_metric_key(mz_tune_metric(&r->before[0])));
    json_number(out, "least_gain", mz_tune_least_gain(r->before[0].n_windows));
    json_part(r, MZ_TUNE_VALIDATION, out);
    json_part(r, MZ_TUNE_TEST, out);
    (void)fputs("}\n", out);
}
