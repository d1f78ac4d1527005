/* Batches with the tiny golden checkpoint: bands against what the forecaster and the calibration
 * say one by one, and what is held out is not seen. */
#include "tests/testing.h"

#include <math.h>
#include <signal.h>

#include "apps/forecast/forecast_batch.h"
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

/* The same past with another future has the same forecasts, baselines, bands and season. The past
 * ends with a gap, which must not be filled towards the future. */
static void what_is_held_out_is_not_seen(void **state) {
    (void)state;
    enum { N_RUNS = 2 };
    static mz_forecast_batch batches[N_RUNS];
    mz_context ctx;
    mz_forecaster *forecaster = NULL;
    mz_forecast_quantiles quantiles = {0};
    mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.n_threads = 1}));
    mz_assert_ok(&ctx, mz_zoo_load_forecaster(&ctx, TINY, &(mz_load_options){0}, &forecaster));
    mz_assert_ok(&ctx, mz_forecast_quantiles_of_levels("80", &quantiles, &ctx.error));
    for (int run = 0; run < N_RUNS; run++) {
        giver g = {.id = "a"};
        fill(g.values);
        g.values[20] = NAN;
        g.values[N_VALUES - HORIZON - 1] = NAN;
        for (int h = 0; run == 1 && h < HORIZON; h++) {
            g.values[N_VALUES - HORIZON + h] = 1000 * (h % 2);
        }
        const mz_forecast_source source = {.next = give, .self = &g};
        batches[run] = (mz_forecast_batch){.ctx = &ctx,
                                           .forecaster = forecaster,
                                           .options = {.horizon = HORIZON},
                                           .quantiles = &quantiles,
                                           .baselines = true,
                                           .hold_out = true};
        mz_assert_ok(&ctx, mz_forecast_batch_next(&batches[run], &source));
        mz_assert_ok(&ctx, mz_forecast_batch_run(&batches[run]));
        assert_int_equal(batches[run].n_ready, 1);
        assert_true(batches[run].entries[0].future[0] == g.values[N_VALUES - HORIZON]);
    }
    const mz_forecast_entry *a = &batches[0].entries[0];
    const mz_forecast_entry *b = &batches[1].entries[0];
    const size_t n_bytes = HORIZON * sizeof(double);
    assert_int_equal(a->season, b->season);
    assert_int_equal(a->n_values, N_VALUES - HORIZON);
    assert_memory_equal(a->values, b->values, (N_VALUES - HORIZON) * sizeof(double));
    assert_memory_equal(a->forecast, b->forecast, n_bytes);
    assert_memory_equal(a->baselines, b->baselines, MZ_BASELINE_COUNT * n_bytes);
    assert_memory_equal(a->quantiles, b->quantiles, (size_t)quantiles.n * n_bytes);
    assert_true(a->future[0] != b->future[0] || a->future[1] != b->future[1]);
    /* And the past is all that there is: drift ends at its last value, the naive forecast is it. */
    assert_true(a->baselines[MZ_BASELINE_NAIVE * HORIZON] == a->values[N_VALUES - HORIZON - 1]);
    const double slope =
        (a->values[N_VALUES - HORIZON - 1] - a->values[0]) / (N_VALUES - HORIZON - 1);
    const double drift = a->values[N_VALUES - HORIZON - 1] + slope;
    assert_true(fabs(a->baselines[MZ_BASELINE_DRIFT * HORIZON] - drift) < 1e-9);
    for (int run = 0; run < N_RUNS; run++) {
        mz_forecast_batch_close(&batches[run]);
    }
    mz_forecaster_close(forecaster);
    mz_context_close(&ctx);
}

/* Two minutes of work are given up two seconds after an interrupt, and the batch is as if they had
 * never been asked for. The last test: what was interrupted stays so. */
static void an_interrupted_batch_is_given_up(void **state) {
    (void)state;
    static mz_forecast_batch batch;
    mz_context ctx;
    giver g = {.id = "a"};
    const mz_forecast_source source = {.next = give, .self = &g};
    const mz_context_options slow = {.n_threads = 1, .isa = MZ_ISA_SCALAR};
    mz_assert_ok(&ctx, mz_context_init(&ctx, &slow));
    batch = (mz_forecast_batch){
        .ctx = &ctx, .options = {.horizon = MZ_MAX_HORIZON}, .season = MZ_SEASON_UNUSED};
    mz_assert_ok(&ctx,
                 mz_zoo_load_forecaster(&ctx, TINY, &(mz_load_options){0}, &batch.forecaster));
    fill(g.values);
    mz_assert_ok(&ctx, mz_forecast_batch_next(&batch, &source));
    assert_int_equal(batch.n_ready, 1);
    mz_cli_catch_interrupts();
    assert_int_equal(raise(SIGINT), 0);
    mz_assert_ok(&ctx, mz_forecast_batch_run(&batch));
    assert_int_equal(batch.n_ready, 0);
    assert_int_equal(batch.n_entries, 0);
    mz_forecast_batch_close(&batch);
    mz_forecaster_close(batch.forecaster);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bands_are_forecast_and_width),
        cmocka_unit_test(what_is_held_out_is_not_seen),
        cmocka_unit_test(an_interrupted_batch_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
