/* Properties of forecasting with the tiny golden checkpoint, whatever its weights say. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/zoo.h"

#define TINY MOEZOO_TESTS_DIR "/golden/time-moe/tiny"

enum { HORIZON = 31, MAX_LEN = 1400 };

static const mz_forecast_options by_window = {
    .horizon = HORIZON, .context_len = 0, .normalize = MZ_NORMALIZE_WINDOW};

static void fill_series(double *out, int64_t n, uint64_t seed) {
    float *noise = malloc((size_t)n * sizeof *noise);
    assert_non_null(noise);
    mz_fill_uniform(noise, n, seed, 0.3f);
    for (int64_t i = 0; i < n; i++) {
        out[i] = sin((double)i * 0.26) + (double)noise[i];
    }
    free(noise);
}

typedef struct fixture {
    mz_context ctx;
    mz_forecaster *forecaster;
} fixture;

static void open_tiny(fixture *f, int n_threads) {
    const mz_context_options options = {.n_threads = n_threads, .isa = MZ_ISA_AUTO};
    const mz_load_options load = {0};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &options));
    mz_assert_ok(&f->ctx, mz_zoo_load_forecaster(&f->ctx, TINY, &load, &f->forecaster));
}

static void close_tiny(fixture *f) {
    mz_forecaster_close(f->forecaster);
    mz_context_close(&f->ctx);
}

static void run_one(fixture *f, const mz_forecast_options *options, const double *values, int64_t n,
                    double *forecast, uint32_t *warnings) {
    mz_forecast_item item = {.values = values, .n_values = n, .forecast = forecast};
    mz_assert_ok(&f->ctx, mz_forecaster_run(f->forecaster, options, &item, 1));
    if (warnings != NULL) {
        *warnings = item.warnings;
    }
}

/* A batch of unequal lengths, some longer than one pass holds, answers bit for bit as single calls
 * do, for any number of threads. */
static void batch_equals_single(void **state) {
    (void)state;
    static const int64_t lengths[] = {2, 1, 700, 64, 65, MAX_LEN, 33, 900};
    enum { N = sizeof lengths / sizeof lengths[0] };
    static double values[N][MAX_LEN];
    static double batch[N][HORIZON];
    mz_forecast_item items[N];
    for (int i = 0; i < N; i++) {
        fill_series(values[i], lengths[i], (uint64_t)i + 1);
        items[i] =
            (mz_forecast_item){.values = values[i], .n_values = lengths[i], .forecast = batch[i]};
    }
    fixture f;
    open_tiny(&f, 1);
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &by_window, items, N));
    close_tiny(&f);
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        open_tiny(&f, n_threads);
        for (int i = 0; i < N; i++) {
            double single[HORIZON];
            run_one(&f, &by_window, values[i], lengths[i], single, NULL);
            assert_memory_equal(single, batch[i], sizeof single);
        }
        close_tiny(&f);
    }
}

/* a x + b gives a y + b: exactly for powers of two, within rounding otherwise. */
static void scale_equivariance(void **state) {
    (void)state;
    static double values[200];
    static double scaled[200];
    double base[HORIZON];
    double other[HORIZON];
    fixture f;
    fill_series(values, 200, 9);
    open_tiny(&f, 0);
    run_one(&f, &by_window, values, 200, base, NULL);
    static const double factors[][2] = {{4, 0}, {1e6, -3e7}, {1e-3, 12}, {1e300, 0}};
    for (size_t k = 0; k < sizeof factors / sizeof factors[0]; k++) {
        for (int i = 0; i < 200; i++) {
            scaled[i] = factors[k][0] * values[i] + factors[k][1];
        }
        run_one(&f, &by_window, scaled, 200, other, NULL);
        for (int h = 0; h < HORIZON; h++) {
            const double expected = factors[k][0] * base[h] + factors[k][1];
            assert_true(fabs(other[h] - expected) <= 1e-4 * fabs(factors[k][0]));
        }
    }
    close_tiny(&f);
}

static void series_without_information(void **state) {
    (void)state;
    double values[40];
    double out[HORIZON];
    uint32_t warnings = 0;
    fixture f;
    open_tiny(&f, 0);
    values[0] = 7.25;
    run_one(&f, &by_window, values, 1, out, &warnings);
    assert_int_equal(warnings, MZ_FORECAST_NAIVE);
    assert_true(out[0] == 7.25 && out[HORIZON - 1] == 7.25);
    for (int i = 0; i < 40; i++) {
        values[i] = -1e308;
    }
    run_one(&f, &by_window, values, 40, out, &warnings);
    assert_int_equal(warnings, MZ_FORECAST_CONSTANT);
    assert_true(out[0] == -1e308 && out[HORIZON - 1] == -1e308);
    values[0] = 1;
    values[1] = 2;
    run_one(&f, &by_window, values, 2, out, &warnings);
    assert_int_equal(warnings, MZ_FORECAST_SHORT);
    assert_true(isfinite(out[0]));
    close_tiny(&f);
}

/* Alternating +-1.7e308: statistics must not overflow, forecasts stay finite. */
static void extreme_values(void **state) {
    (void)state;
    double values[64];
    double out[HORIZON];
    fixture f;
    for (int i = 0; i < 64; i++) {
        values[i] = i % 2 == 0 ? 1.7e308 : -1.7e308;
    }
    open_tiny(&f, 0);
    run_one(&f, &by_window, values, 64, out, NULL);
    for (int h = 0; h < HORIZON; h++) {
        assert_true(isfinite(out[h]));
    }
    mz_forecast_options raw = by_window;
    raw.normalize = MZ_NORMALIZE_NONE;
    mz_forecast_item item = {.values = values, .n_values = 64, .forecast = out};
    assert_int_equal(mz_forecaster_run(f.forecaster, &raw, &item, 1), MZ_ERR_ARG);
    assert_non_null(strstr(f.ctx.error.message, "1.7e+308"));
    close_tiny(&f);
}

/* The context option takes the newest values, and exceeding the trained length is noted. */
static void context_is_the_newest_values(void **state) {
    (void)state;
    static double values[300];
    double whole[HORIZON];
    double cut[HORIZON];
    uint32_t warnings = 0;
    mz_forecast_options options = by_window;
    fixture f;
    fill_series(values, 300, 3);
    open_tiny(&f, 0);
    options.context_len = 100;
    run_one(&f, &options, values, 300, whole, NULL);
    run_one(&f, &by_window, values + 200, 100, cut, NULL);
    assert_memory_equal(whole, cut, sizeof whole);
    options.horizon = 5000;
    double *far = malloc(5000 * sizeof *far);
    assert_non_null(far);
    run_one(&f, &options, values, 300, far, &warnings);
    assert_int_equal(warnings & MZ_FORECAST_BEYOND_TRAINING, MZ_FORECAST_BEYOND_TRAINING);
    free(far);
    close_tiny(&f);
}

static void bad_options(void **state) {
    (void)state;
    double values[4] = {1, 2, 3, 4};
    double out[HORIZON];
    mz_forecast_item item = {.values = values, .n_values = 4, .forecast = out};
    fixture f;
    open_tiny(&f, 1);
    mz_forecast_options options = by_window;
    options.horizon = 0;
    assert_int_equal(mz_forecaster_run(f.forecaster, &options, &item, 1), MZ_ERR_ARG);
    options.horizon = MZ_MAX_HORIZON + 1;
    assert_int_equal(mz_forecaster_run(f.forecaster, &options, &item, 1), MZ_ERR_ARG);
    item.n_values = 0;
    assert_int_equal(mz_forecaster_run(f.forecaster, &by_window, &item, 1), MZ_ERR_ARG);
    assert_int_equal(mz_forecaster_run(f.forecaster, &by_window, &item, 0), MZ_OK);
    close_tiny(&f);
}

/* Loading and forecasting with allocation k failing, for every k: a clean NOMEM each time, and
 * nothing stays allocated. */
static void every_allocation_fails_once(void **state) {
    (void)state;
    double values[70];
    double out[HORIZON];
    mz_status status = MZ_ERR_NOMEM;
    int64_t k = 0;
    fill_series(values, 70, 5);
    while (status != MZ_OK) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, ++k);
        const mz_context_options options = {
            .allocator = &allocator, .n_threads = 2, .isa = MZ_ISA_AUTO};
        mz_context ctx;
        mz_forecaster *f = NULL;
        mz_forecast_item item = {.values = values, .n_values = 70, .forecast = out};
        status = mz_context_init(&ctx, &options);
        if (status == MZ_OK) {
            status = mz_zoo_load_forecaster(&ctx, TINY, &(mz_load_options){0}, &f);
            if (status == MZ_OK) {
                status = mz_forecaster_run(f, &by_window, &item, 1);
            }
            mz_forecaster_close(f);
            mz_context_close(&ctx);
        }
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(counter.n_live, 0);
        assert_true(k < 100000);
    }
    assert_true(k > 10);
}

/* Without normalisation, and with the schedule of one head, a forecast from an earlier position is
 * bit for bit that of the values before it; and no forecast changes because it is asked for. */
static void past_is_what_earlier_values_say(void **state) {
    (void)state;
    enum { N = 3, REACH = 64, LONG = 96 };
    static const int64_t lengths[N] = {50, MAX_LEN, 70};
    static const int64_t n_past[N] = {49, 40, 0};
    static const int64_t horizons[] = {1, HORIZON, LONG};
    static double values[N][MAX_LEN];
    static double past[N][50 * REACH];
    double plain[LONG];
    double forecast[N][LONG];
    fixture f;
    open_tiny(&f, 2);
    for (size_t k = 0; k < sizeof horizons / sizeof horizons[0]; k++) {
        const mz_forecast_options options = {
            .horizon = horizons[k], .normalize = MZ_NORMALIZE_NONE, .overshoot = true};
        const int64_t reach = mz_forecaster_reach(f.forecaster, &options);
        const size_t bytes = (size_t)horizons[k] * sizeof(double);
        mz_forecast_item items[N];
        assert_int_equal(reach, horizons[k] < REACH ? horizons[k] : REACH);
        for (int i = 0; i < N; i++) {
            fill_series(values[i], lengths[i], (uint64_t)i + 1);
            items[i] = (mz_forecast_item){.values = values[i],
                                          .n_values = lengths[i],
                                          .forecast = forecast[i],
                                          .n_past = n_past[i],
                                          .past = past[i]};
        }
        mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, items, N));
        for (int i = 0; i < N; i++) {
            run_one(&f, &options, values[i], lengths[i], plain, NULL);
            assert_memory_equal(plain, forecast[i], bytes);
            for (int64_t row = 0; row < n_past[i]; row += 13) {
                run_one(&f, &options, values[i], lengths[i] - 1 - row, plain, NULL);
                assert_memory_equal(plain, past[i] + row * reach, (size_t)reach * sizeof(double));
            }
        }
        items[0].n_past = lengths[0];
        assert_int_equal(mz_forecaster_run(f.forecaster, &options, items, N), MZ_ERR_ARG);
    }
    close_tiny(&f);
}

/* What a watch saw, and when it had enough. */
typedef struct watcher {
    int64_t n_calls, n_rows, n_total;
    int64_t max_calls;
} watcher;

static bool look_on(void *self, int64_t n_rows, int64_t n_total) {
    watcher *w = self;
    assert_true(n_rows > w->n_rows && n_rows <= n_total);
    w->n_rows = n_rows;
    w->n_total = n_total;
    return ++w->n_calls < w->max_calls;
}

/* A watch sees each pass, can end a run between two, and leaves no trace in the next run. */
static void a_watch_ends_a_run(void **state) {
    (void)state;
    static double values[MAX_LEN];
    double expected[HORIZON];
    double forecast[HORIZON] = {0};
    mz_forecast_item item = {.values = values, .n_values = MAX_LEN, .forecast = forecast};
    const mz_forecast_options all = {.horizon = HORIZON, .context_len = MAX_LEN};
    fixture f;
    fill_series(values, MAX_LEN, 5);
    open_tiny(&f, 1);
    run_one(&f, &all, values, MAX_LEN, expected, NULL);
    watcher patient = {.max_calls = 1000};
    mz_forecaster_set_watch(f.forecaster, (mz_forecast_watch){look_on, &patient});
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &all, &item, 1));
    assert_true(patient.n_calls > 2 && patient.n_total == MAX_LEN + HORIZON);
    for (int64_t n = 1; n < patient.n_calls; n++) {
        watcher hasty = {.max_calls = n};
        mz_forecaster_set_watch(f.forecaster, (mz_forecast_watch){look_on, &hasty});
        assert_int_equal(mz_forecaster_run(f.forecaster, &all, &item, 1), MZ_ERR_INTERRUPTED);
        assert_int_equal(hasty.n_calls, n);
    }
    mz_forecaster_set_watch(f.forecaster, (mz_forecast_watch){0});
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &all, &item, 1));
    assert_memory_equal(forecast, expected, sizeof expected);
    close_tiny(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_equals_single),
        cmocka_unit_test(scale_equivariance),
        cmocka_unit_test(series_without_information),
        cmocka_unit_test(extreme_values),
        cmocka_unit_test(context_is_the_newest_values),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(past_is_what_earlier_values_say),
        cmocka_unit_test(a_watch_ends_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
