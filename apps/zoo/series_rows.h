/* Windows of series as the rows that a forecaster is trained on. */
#ifndef MZ_APPS_ZOO_SERIES_ROWS_H
#define MZ_APPS_ZOO_SERIES_ROWS_H

#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/forecaster_training.h"
#include "encoders/series/series_sampler.h"

/* Grows as windows are added; one thread. Begun by mz_series_rows_init, released by
 * mz_series_rows_free. */
typedef struct mz_series_rows {
    const mz_forecaster_parts *parts;
    int64_t n_windows, n_rows;
    size_t capacity; /* rows */
    int32_t *sequence, *position;
    float *inputs;                         /* [n_rows, input width] */
    float *targets[MZ_MAX_FORECAST_HEADS]; /* [n_rows, length of the head] */
    float *weights[MZ_MAX_FORECAST_HEADS];
} mz_series_rows;

void mz_series_rows_init(mz_series_rows *rows, const mz_forecaster_parts *parts);
void mz_series_rows_clear(mz_series_rows *rows);
void mz_series_rows_free(mz_context *ctx, mz_series_rows *rows);

/* Appends the window, a sequence of its own; its values are scaled in place. `row_power` as in
 * mz_series_training_config. Errors: NOMEM, LIMIT. */
mz_status mz_series_rows_add(mz_context *ctx, mz_series_rows *rows, mz_series_window *window,
                             double row_power);

/* What mz_forecast_training_gradients wants; borrowed until the next change. */
mz_forecast_rows mz_series_rows_view(const mz_series_rows *rows);

#endif
