#include "apps/forecast/tune_split.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { SHARE = 5 }; /* a part is at most the fifth of a series, where nothing else is wanted */

int64_t mz_tune_n_windows(int64_t n_values, int64_t horizon, int64_t wanted) {
    const int64_t fit = (n_values - MZ_TUNE_MIN_TRAIN) / (2 * horizon);
    int64_t n = wanted;
    if (wanted == 0) {
        const int64_t fifth = n_values / SHARE / horizon;
        n = fifth < MZ_TUNE_WINDOWS ? fifth : MZ_TUNE_WINDOWS;
        n = n > 1 ? n : 1;
    }
    n = n < fit ? n : fit;
    return n > 0 ? n : 0;
}

/* ---- reading ---- */

static mz_status copy_array(mz_context *ctx, const void *values, int64_t n, size_t size,
                            const char *what, void **out) {
    MZ_TRY(mz_calloc(ctx, (size_t)n, size, what, out));
    if (n > 0) {
        memcpy(*out, values, (size_t)n * size);
    }
    return MZ_OK;
}

static mz_status add_series(mz_tune_split *split, const mz_series *series) {
    mz_context *ctx = split->ctx;
    void *memory = split->items;
    const mz_status grown = mz_grow(ctx, &memory, &split->capacity, (size_t)split->n + 1,
                                    sizeof(mz_tune_series), "series");
    split->items = memory;
    MZ_TRY(grown);
    mz_tune_series *item = &split->items[split->n++];
    *item = (mz_tune_series){.series = *series};
    item->series.id = NULL;
    item->series.values = NULL;
    item->series.stamps = NULL;
    item->series.value_name = NULL;
    item->series.notes = NULL;
    item->series.n_notes = 0;
    MZ_TRY(mz_strdup(ctx, series->id, &item->series.id));
    MZ_TRY(copy_array(ctx, series->values, series->n_values, sizeof(double), "series", &memory));
    item->series.values = memory;
    if (series->stamps != NULL) {
        MZ_TRY(
            copy_array(ctx, series->stamps, series->n_values, sizeof(mz_stamp), "dates", &memory));
        item->series.stamps = memory;
    }
    return MZ_OK;
}

static int64_t trimmed(const double *values, int64_t n) {
    while (n > 0 && isnan(values[n - 1])) {
        n--;
    }
    return n;
}

/* The most windows that leave enough behind; where validation is cut short fewer may. */
static void hold_out(mz_tune_series *item, int64_t horizon, int64_t wanted) {
    const mz_series *s = &item->series;
    item->n_train = s->n_values;
    item->n_chosen = s->n_values;
    for (int64_t w = mz_tune_n_windows(s->n_values, horizon, wanted); w > 0; w--) {
        const int64_t n_chosen = trimmed(s->values, s->n_values - w * horizon);
        if (n_chosen - w * horizon >= MZ_TUNE_MIN_TRAIN) {
            item->n_windows = w;
            item->n_chosen = n_chosen;
            item->n_train = n_chosen - w * horizon;
            return;
        }
    }
}

static mz_status take_series(mz_tune_split *split, mz_series *series, int64_t wanted) {
    int64_t n_before = 0;
    if (series->error != NULL) {
        split->n_skipped++;
        return MZ_OK;
    }
    mz_backtest_trim(series, &n_before);
    split->longest_series =
        series->n_values > split->longest_series ? series->n_values : split->longest_series;
    if (series->n_values < MZ_TUNE_MIN_TRAIN) {
        split->n_skipped++;
        return MZ_OK;
    }
    MZ_TRY(add_series(split, series));
    mz_tune_series *item = &split->items[split->n - 1];
    hold_out(item, split->horizon, wanted);
    split->n_held += item->n_windows > 0;
    split->n_windows += item->n_windows;
    split->n_train += item->n_train;
    split->longest = item->n_train > split->longest ? item->n_train : split->longest;
    return MZ_OK;
}

static mz_status read_all(mz_tune_split *split, const mz_forecast_source *input, int64_t wanted) {
    for (;;) {
        mz_series series = {0};
        bool end = false;
        MZ_TRY(input->next(input->self, &series, &end));
        if (end) {
            break;
        }
        MZ_TRY(take_series(split, &series, wanted));
    }
    if (split->n_held == 0) {
        return mz_fail(
            &split->ctx->error, MZ_ERR_ARG,
            "no series is long enough: the longest has %" PRId64 " values, horizon %" PRId64
            " needs %" PRId64 " (%d to train on, %" PRId64 " to choose by, %" PRId64 " to test)",
            split->longest_series, split->horizon, MZ_TUNE_MIN_TRAIN + 2 * split->horizon,
            (int)MZ_TUNE_MIN_TRAIN, split->horizon, split->horizon);
    }
    return MZ_OK;
}

mz_status mz_tune_split_read(mz_context *ctx, const mz_forecast_source *input, int64_t horizon,
                             int64_t wanted, mz_tune_split *out) {
    *out = (mz_tune_split){.ctx = ctx, .horizon = horizon};
    const mz_status status = read_all(out, input, wanted);
    if (status != MZ_OK) {
        mz_tune_split_free(out);
    }
    return status;
}

void mz_tune_split_free(mz_tune_split *split) {
    if (split->ctx == NULL) {
        return;
    }
    for (int64_t i = 0; i < split->n; i++) {
        mz_free(split->ctx, split->items[i].series.id);
        mz_free(split->ctx, split->items[i].series.values);
        mz_free(split->ctx, split->items[i].series.stamps);
    }
    mz_free(split->ctx, split->items);
    *split = (mz_tune_split){0};
}

mz_status mz_tune_split_train(const mz_tune_split *split, mz_series **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(split->ctx, (size_t)split->n, sizeof(mz_series), "series", &memory));
    mz_series *series = memory;
    for (int64_t i = 0; i < split->n; i++) {
        series[i] = split->items[i].series;
        series[i].n_values = split->items[i].n_train;
    }
    *out = series;
    return MZ_OK;
}

/* ---- windows ---- */

static mz_status next_series(void *self, mz_series *out, bool *end) {
    mz_tune_windows *w = self;
    while (w->at < w->split->n) {
        const mz_tune_series *item = &w->split->items[w->at++];
        if (item->n_windows == 0 || w->n_seen++ % w->stride != 0) {
            continue;
        }
        *out = item->series;
        out->n_values = w->part == MZ_TUNE_TEST ? out->n_values : item->n_chosen;
        w->windows.n_windows = item->n_windows;
        return MZ_OK;
    }
    *end = true;
    return MZ_OK;
}

void mz_tune_windows_open(const mz_tune_split *split, mz_tune_part part, int64_t stride,
                          int64_t season, mz_tune_windows *out) {
    *out = (mz_tune_windows){.split = split,
                             .part = part,
                             .stride = stride,
                             .windows = {.ctx = split->ctx,
                                         .input = {.next = next_series, .self = out},
                                         .horizon = split->horizon,
                                         .step = split->horizon,
                                         .season = season}};
}

void mz_tune_windows_close(mz_tune_windows *windows) {
    mz_backtest_windows_close(&windows->windows);
}
