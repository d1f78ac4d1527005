#include "apps/zoo/series_rows.h"

#include <math.h>
#include <string.h>

void mz_series_rows_init(mz_series_rows *rows, const mz_forecaster_parts *parts) {
    *rows = (mz_series_rows){.parts = parts};
}

void mz_series_rows_clear(mz_series_rows *rows) {
    rows->n_windows = 0;
    rows->n_rows = 0;
}

void mz_series_rows_free(mz_context *ctx, mz_series_rows *rows) {
    mz_free(ctx, rows->sequence);
    mz_free(ctx, rows->position);
    mz_free(ctx, rows->inputs);
    for (int i = 0; i < MZ_MAX_FORECAST_HEADS; i++) {
        mz_free(ctx, rows->targets[i]);
        mz_free(ctx, rows->weights[i]);
    }
    *rows = (mz_series_rows){0};
}

/* One of the arrays, of `width` values a row, with room for `n` rows. */
static mz_status grow(mz_context *ctx, void **array, size_t capacity, size_t n, int64_t width) {
    size_t own = capacity; /* every array grows alike */
    return mz_grow(ctx, array, &own, n, (size_t)width * sizeof(float), "training rows");
}

static mz_status reserve(mz_context *ctx, mz_series_rows *rows, int64_t n_more) {
    const size_t n = (size_t)(rows->n_rows + n_more);
    if (n <= rows->capacity) {
        return MZ_OK;
    }
    const size_t room = 2 * n;
    void *array = rows->sequence;
    MZ_TRY(grow(ctx, &array, rows->capacity, room, 1));
    rows->sequence = array;
    array = rows->position;
    MZ_TRY(grow(ctx, &array, rows->capacity, room, 1));
    rows->position = array;
    array = rows->inputs;
    MZ_TRY(grow(ctx, &array, rows->capacity, room, mz_forecaster_parts_input_width(rows->parts)));
    rows->inputs = array;
    for (int32_t h = 0; h < rows->parts->heads.n_heads; h++) {
        const int64_t length = rows->parts->heads.length[h];
        array = rows->targets[h];
        MZ_TRY(grow(ctx, &array, rows->capacity, room, length));
        rows->targets[h] = array;
        array = rows->weights[h];
        MZ_TRY(grow(ctx, &array, rows->capacity, room, length));
        rows->weights[h] = array;
    }
    rows->capacity = room;
    return MZ_OK;
}

/* Scales by mean and deviation of the context, as a forecast does, and transforms. */
static void scale_values(const mz_forecaster_parts *p, mz_series_window *w) {
    double mean = 0;
    double square = 0;
    for (int64_t i = 0; i < w->n_context; i++) {
        mean += (double)w->values[i] / (double)w->n_context;
    }
    for (int64_t i = 0; i < w->n_context; i++) {
        const double e = (double)w->values[i] - mean;
        square += e * e / (double)w->n_context;
    }
    const double scale = square > 0 ? sqrt(square) : 1;
    for (int64_t i = 0; i < w->n_values; i++) {
        w->values[i] = (float)(((double)w->values[i] - mean) / scale);
    }
    mz_forecaster_parts_transform(p, w->values, w->n_values);
}

/* Targets of the row that ends before value `end`, and their weights. */
static void fill_targets(const mz_series_rows *rows, int64_t row, const mz_series_window *w,
                         int64_t end, float weight) {
    for (int32_t h = 0; h < rows->parts->heads.n_heads; h++) {
        const int64_t length = rows->parts->heads.length[h];
        float *target = rows->targets[h] + row * length;
        float *weights = rows->weights[h] + row * length;
        for (int64_t i = 0; i < length; i++) {
            const bool there = end + i < w->n_values;
            target[i] = there ? w->values[end + i] : 0.0f;
            weights[i] = there ? weight : 0.0f;
        }
    }
}

mz_status mz_series_rows_add(mz_context *ctx, mz_series_rows *rows, mz_series_window *window,
                             double row_power) {
    const int64_t patch_len = rows->parts->patch_len;
    const int64_t pad = (patch_len - window->n_context % patch_len) % patch_len;
    const int64_t n = (window->n_values + pad - 1) / patch_len; /* with a value behind them */
    const int64_t first_scored = (window->n_context + pad) / patch_len - 1;
    MZ_TRY(reserve(ctx, rows, n));
    scale_values(rows->parts, window);
    const double weight = (double)window->weight * pow((double)(n - first_scored), -row_power);
    for (int64_t r = 0; r < n; r++) {
        const int64_t row = rows->n_rows + r;
        rows->sequence[row] = (int32_t)rows->n_windows;
        rows->position[row] = (int32_t)r;
        mz_forecaster_parts_input_row(rows->parts, window->values, n * patch_len - pad, r,
                                      rows->inputs +
                                          row * mz_forecaster_parts_input_width(rows->parts));
        fill_targets(rows, row, window, (r + 1) * patch_len - pad,
                     r >= first_scored ? (float)weight : 0);
    }
    rows->n_rows += n;
    rows->n_windows++;
    return MZ_OK;
}

mz_forecast_rows mz_series_rows_view(const mz_series_rows *rows) {
    return (mz_forecast_rows){.n_rows = rows->n_rows,
                              .sequence = rows->sequence,
                              .position = rows->position,
                              .inputs = rows->inputs,
                              .n_heads = rows->parts->heads.n_heads,
                              .targets = (const float *const *)rows->targets,
                              .weights = (const float *const *)rows->weights};
}
