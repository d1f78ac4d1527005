#include "apps/forecast/backtest_windows.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "apps/cli.h"
#include "apps/zoo/forecast_metrics.h"

void mz_backtest_windows_close(mz_backtest_windows *w) {
    mz_free(w->ctx, w->values);
    mz_free(w->ctx, w->stamps);
    w->values = NULL;
    w->stamps = NULL;
}

void mz_backtest_trim(mz_series *s, int64_t *n_before) {
    *n_before = 0;
    while (s->n_values > 0 && isnan(s->values[s->n_values - 1])) {
        s->n_values--;
    }
    while (s->n_values > 0 && isnan(s->values[0])) {
        s->values++;
        s->stamps = s->stamps != NULL ? s->stamps + 1 : NULL;
        s->n_values--;
        (*n_before)++;
    }
}

/* Sets the series' error where the windows do not fit. */
static void check_fit(mz_backtest_windows *w) {
    const int64_t n = w->series.n_values;
    const int64_t needed = w->horizon + (w->n_windows - 1) * w->step + 1;
    const int64_t n_fit = (n - 1 - w->horizon) / w->step + 1;
    if (n >= needed) {
        return;
    }
    if (n == 0) {
        (void)mz_fail(&w->fault, MZ_ERR_ARG, "no value is observed");
    } else if (n == 1) {
        (void)mz_fail(&w->fault, MZ_ERR_ARG, "a single value: there is nothing to hold out");
    } else {
        char fit[64];
        if (n - 1 < w->horizon) {
            (void)snprintf(fit, sizeof fit, "a horizon of %" PRId64, n - 1);
        } else {
            (void)snprintf(fit, sizeof fit, "%" PRId64 " window%s", n_fit, mz_cli_plural(n_fit));
        }
        (void)mz_fail(&w->fault, MZ_ERR_ARG,
                      "%" PRId64 " values; horizon %" PRId64 ", %" PRId64
                      " window%s and step %" PRId64 " need %" PRId64 "; %s would fit",
                      n, w->horizon, w->n_windows, mz_cli_plural(w->n_windows), w->step, needed,
                      fit);
    }
    w->series.error = w->fault.message;
}

static mz_status copy_window(mz_backtest_windows *w, int64_t n) {
    const size_t n_bytes = (size_t)n * sizeof(double);
    void *memory = w->values;
    const mz_status grown =
        mz_grow(w->ctx, &memory, &w->n_values, (size_t)n, sizeof(double), "window");
    w->values = memory;
    MZ_TRY(grown);
    memcpy(w->values, w->series.values, n_bytes);
    if (w->series.stamps == NULL) {
        return MZ_OK;
    }
    memory = w->stamps;
    const mz_status dated =
        mz_grow(w->ctx, &memory, &w->n_stamps, (size_t)n, sizeof(mz_stamp), "dates of a window");
    w->stamps = memory;
    MZ_TRY(dated);
    memcpy(w->stamps, w->series.stamps, (size_t)n * sizeof(mz_stamp));
    return MZ_OK;
}

/* The season and the scales see the past alone, as it was read. */
static mz_status label_window(const mz_backtest_windows *w, int64_t n_past, mz_backtest_label *l) {
    mz_series past = w->series;
    past.n_values = n_past;
    MZ_TRY(mz_series_season(w->ctx, &past, w->season, &l->season));
    mz_seasonal_scale(past.values, n_past, l->season, &l->scale, &l->squared_scale);
    l->origin = w->n_before + n_past;
    return MZ_OK;
}

static mz_status next_of_series(mz_backtest_windows *w, mz_series *out) {
    mz_backtest_label *l = &w->labels[w->n_given % (MZ_FORECAST_BATCH + 1)];
    const int64_t n = w->series.n_values - (w->n_left - 1) * w->step;
    *l = (mz_backtest_label){.window = w->n_windows - w->n_left,
                             .n_windows = w->n_windows,
                             .n_values = w->series.n_values};
    *out = w->series;
    if (w->series.error != NULL) {
        l->window = 0;
        l->n_windows = 1;
        l->is_series_error = true;
    } else {
        MZ_TRY(label_window(w, n - w->horizon, l));
        MZ_TRY(copy_window(w, n));
        out->values = w->values;
        out->stamps = w->series.stamps != NULL ? w->stamps : NULL;
        out->n_values = n;
        out->season = l->season;
    }
    w->n_left--;
    w->n_given++;
    return MZ_OK;
}

mz_status mz_backtest_windows_next(void *self, mz_series *out, bool *end) {
    mz_backtest_windows *w = self;
    if (w->n_left == 0) {
        w->series = (mz_series){0};
        MZ_TRY(w->input.next(w->input.self, &w->series, end));
        if (*end) {
            return MZ_OK;
        }
        if (w->series.error == NULL) {
            mz_backtest_trim(&w->series, &w->n_before);
            check_fit(w);
        }
        w->n_left = w->series.error == NULL ? w->n_windows : 1;
    }
    return next_of_series(w, out);
}

mz_backtest_label mz_backtest_windows_take_label(mz_backtest_windows *w) {
    return w->labels[w->n_taken++ % (MZ_FORECAST_BATCH + 1)];
}
