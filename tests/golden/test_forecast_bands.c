/* Bands of a batch against what the forecaster and the calibration say one by one. */
#include "tests/testing.h"

#include <math.h>

#include "apps/forecast_batch.h"
#include "apps/zoo/conformal.h"
#include "apps/zoo/zoo.h"

#define TINY MOEZOO_TESTS_DIR "/golden/time-moe/tiny"

enum { N_VALUES = 60, HORIZON = 12, MAX_REACH = 64 };

/* Hands out one series. */
typedef struct giver {
    double values[N_VALUES];
    char id[2];
    bool is_given;
} giver;

static void fill(double *values) {
    for (int i = 0; i < N_VALUES; i++) {
        values[i] = 10 + i / 20.0 + 3 * sin(i * 0.7) + (i * 7 % 11) / 9.0;
    }
}

static mz_status give(void *self, mz_series *out, bool *end) {
    giver *g = self;
    *end = g->is_given;
    if (!*end) {
        *out = (mz_series){.id = g->id, .values = g->values, .n_values = N_VALUES};
        g->is_given = true;
    }
    return MZ_OK;
}

/* errors [n_past, reach]: of the forecast that follows the first `seen` values, newest first. */
static void past_errors(mz_context *ctx, mz_forecaster *f, const mz_forecast_options *options,
                        double *errors, int64_t *n_past, int64_t *reach) {
    double values[N_VALUES];
    double forecast[HORIZON];
    double past[N_VALUES * MAX_REACH];
    fill(values);
    *n_past = N_VALUES - MZ_CONFORMAL_MIN_PAST;
    *reach = mz_forecaster_reach(f, options);
    mz_forecast_item item = {.values = values,
                             .n_values = N_VALUES,
                             .forecast = forecast,
                             .n_past = *n_past,
                             .past = past};
    mz_assert_ok(ctx, mz_forecaster_run(f, options, &item, 1));
    for (int64_t i = 0; i < *n_past; i++) {
        const int64_t seen = N_VALUES - 1 - i;
        for (int64_t h = 0; h < *reach; h++) {
            const bool is_known = seen + h < N_VALUES;
            const double forecast_then = past[i * *reach + h];
            errors[i * *reach + h] =
                is_known ? fabs(values[seen + h] - forecast_then) : (double)NAN;
        }
    }
}

static void bands_are_forecast_and_width(void **state) {
    (void)state;
    static mz_forecast_batch batch;
    mz_context ctx;
    mz_forecast_quantiles quantiles = {0};
    double errors[N_VALUES * MAX_REACH];
    double widths[2 * HORIZON];
    int64_t n_past = 0;
    int64_t reach = 0;
    giver g = {.id = "a"};
    fill(g.values);
    mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.n_threads = 1}));
    batch = (mz_forecast_batch){.ctx = &ctx,
                                .options = {.horizon = HORIZON},
                                .season = MZ_SEASON_UNUSED,
                                .quantiles = &quantiles};
    mz_assert_ok(&ctx,
                 mz_zoo_load_forecaster(&ctx, TINY, &(mz_load_options){0}, &batch.forecaster));
    mz_assert_ok(&ctx, mz_forecast_quantiles_of_levels("80,95", &quantiles, &ctx.error));
    const mz_forecast_source source = {.next = give, .self = &g};
    mz_assert_ok(&ctx, mz_forecast_batch_next(&batch, &source));
    mz_assert_ok(&ctx, mz_forecast_batch_run(&batch));
    assert_int_equal(batch.n_ready, 1);
    const mz_forecast_entry *e = &batch.entries[0];

    past_errors(&ctx, batch.forecaster, &batch.options, errors, &n_past, &reach);
    mz_assert_ok(&ctx, mz_conformal_widths(&ctx, errors, n_past, reach, HORIZON, quantiles.levels,
                                           quantiles.n_levels, widths));
    for (int h = 0; h < HORIZON; h++) {
        const double f = e->forecast[h];
        const double expected[] = {f - widths[HORIZON + h], f - widths[h], f + widths[h],
                                   f + widths[HORIZON + h]};
        assert_true(widths[h] > 0);
        for (int i = 0; i < quantiles.n; i++) {
            assert_true(fabs(e->quantiles[i * HORIZON + h] - expected[i]) < 1e-9 * fabs(f));
        }
    }
    mz_forecast_batch_close(&batch);
    mz_forecaster_close(batch.forecaster);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bands_are_forecast_and_width)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
