/* Baselines against statsforecast; properties of the damped trend. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "apps/zoo/baselines.h"
#include "core/json.h"
#include "tests/testing.h"

enum { HORIZON = 8 };

static mz_context ctx;

static int setup(void **state) {
    (void)state;
    return mz_context_init(&ctx, &(mz_context_options){.n_threads = 1}) == MZ_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    mz_context_close(&ctx);
    return 0;
}

static int64_t read_array(const json_t *array, double *out) {
    const size_t n = json_array_size(array);
    assert_true(n <= 400);
    for (size_t i = 0; i < n; i++) {
        out[i] = json_number_value(json_array_get(array, i));
    }
    return (int64_t)n;
}

/* Largest difference over the steps, as part of the forecasts' mean size. */
static double difference(const double *actual, const double *expected) {
    double largest = 0;
    double size = 0;
    for (int h = 0; h < HORIZON; h++) {
        largest = fmax(largest, fabs(actual[h] - expected[h]));
        size += fabs(expected[h]) / HORIZON;
    }
    return isfinite(largest) ? largest / size : INFINITY;
}

/* Theta: statsforecast searches level and smoothing with a simplex that stops early, at a sum of
 * squares that is never lower than here (these series: 4e-6 in the median, 4.7e-3 where values are
 * around 0; 50 series of M3, ABS and R: 3e-12, all but two below 2e-4, 0.013 where it ends in
 * another minimum). Damped trend: statsforecast also searches level and trend before the first
 * value, which are taken from a line here (0.004 in the median, 0.12 at most; mean MASE 1.441,
 * here 1.425). */
static const double bounds[MZ_BASELINE_COUNT] = {[MZ_BASELINE_NAIVE] = 1e-9,
                                                 [MZ_BASELINE_SEASONAL_NAIVE] = 1e-9,
                                                 [MZ_BASELINE_DRIFT] = 1e-9,
                                                 [MZ_BASELINE_DAMPED] = 0.12,
                                                 [MZ_BASELINE_THETA] = 5e-3};

static void agrees_with_statsforecast(void **state) {
    (void)state;
    json_error_t error;
    int n_small = 0;
    int n_damped = 0;
    json_t *root = json_load_file(MOEZOO_TESTS_DIR "/golden/baselines/baselines.json", 0, &error);
    assert_non_null(root);
    assert_true(json_array_size(root) >= 20);
    for (size_t i = 0; i < json_array_size(root); i++) {
        const json_t *item = json_array_get(root, i);
        const json_t *forecasts = json_object_get(item, "forecasts");
        double values[400];
        double expected[400];
        double actual[HORIZON];
        const int64_t n = read_array(json_object_get(item, "values"), values);
        const int64_t season = json_integer_value(json_object_get(item, "season"));
        for (int b = 0; b < MZ_BASELINE_COUNT; b++) {
            const char *name = mz_baseline_name((mz_baseline)b);
            const json_t *forecast = json_object_get(forecasts, name);
            if (b == MZ_BASELINE_DAMPED && forecast == NULL) {
                continue; /* too short for statsforecast's */
            }
            assert_int_equal(read_array(forecast, expected), HORIZON);
            mz_assert_ok(&ctx, mz_baseline_forecast(&ctx, (mz_baseline)b, values, n, season,
                                                    HORIZON, actual));
            const double d = difference(actual, expected);
            if (!(d <= bounds[b])) {
                fail_msg("%s, %s: differs by %.3g, at most %.3g",
                         json_string_value(json_object_get(item, "name")), name, d, bounds[b]);
            }
            n_damped += b == MZ_BASELINE_DAMPED;
            n_small += b == MZ_BASELINE_DAMPED && d < 0.01;
        }
    }
    if (2 * n_small < n_damped) {
        fail_msg("damped: only %d of %d within 1 %%", n_small, n_damped);
    }
    json_decref(root);
}

/* A line with a damped slope is continued; so is a season on it. */
static void damped_follows_a_damped_line(void **state) {
    (void)state;
    double values[60];
    double out[6];
    double level = 10;
    double trend = 2;
    for (int i = 0; i < 60; i++) {
        trend *= 0.97;
        level += trend;
        values[i] = level;
    }
    mz_assert_ok(&ctx, mz_baseline_forecast(&ctx, MZ_BASELINE_DAMPED, values, 60, 1, 6, out));
    for (int h = 0; h < 6; h++) {
        trend *= 0.97;
        level += trend;
        assert_true(fabs(out[h] - level) < 0.02 * level);
    }
    const double pattern[4] = {0.8, 1.1, 1.3, 0.8};
    for (int i = 0; i < 60; i++) {
        values[i] *= pattern[i % 4];
    }
    mz_assert_ok(&ctx, mz_baseline_forecast(&ctx, MZ_BASELINE_DAMPED, values, 60, 4, 4, out));
    for (int h = 0; h < 4; h++) {
        assert_true(fabs(out[h] / pattern[h] - level) < 0.05 * level);
    }
}

/* A season so long that looking for it would take minutes is not taken out. */
static void endless_seasons_are_left_in(void **state) {
    (void)state;
    enum { N = 210000, SEASON = 10000 };
    void *memory = NULL;
    mz_assert_ok(&ctx, mz_calloc(&ctx, N, sizeof(double), "values", &memory));
    double *values = memory;
    for (int i = 0; i < N; i++) {
        values[i] = 100 + (i % SEASON < SEASON / 2 ? 10 : -10);
    }
    double with[HORIZON];
    double without[HORIZON];
    mz_assert_ok(&ctx,
                 mz_baseline_forecast(&ctx, MZ_BASELINE_THETA, values, N, SEASON, HORIZON, with));
    mz_assert_ok(&ctx,
                 mz_baseline_forecast(&ctx, MZ_BASELINE_THETA, values, N, 1, HORIZON, without));
    assert_memory_equal(with, without, sizeof with);
    mz_free(&ctx, memory);
}

static void odd_series_give_finite_answers(void **state) {
    (void)state;
    static const double patterns[][3] = {{0, 0, 0},      {5, 5, 5},          {1e308, -1e308, 1e308},
                                         {1e-320, 0, 0}, {-1e300, 1, 1e300}, {0, 0, 1}};
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        for (int64_t n = 1; n <= 50; n += n < 10 ? 1 : 13) {
            double values[50];
            double out[7];
            for (int64_t i = 0; i < n; i++) {
                values[i] = patterns[p][i % 3];
            }
            for (int b = 0; b < MZ_BASELINE_COUNT; b++) {
                for (int64_t season = 1; season <= 61; season += 3) {
                    mz_assert_ok(&ctx, mz_baseline_forecast(&ctx, (mz_baseline)b, values, n, season,
                                                            7, out));
                    for (int h = 0; h < 7; h++) {
                        assert_true(isfinite(out[h]));
                    }
                }
            }
        }
    }
    double out[1];
    const double one = 1;
    assert_int_equal(mz_baseline_forecast(&ctx, MZ_BASELINE_NAIVE, &one, 0, 1, 1, out), MZ_ERR_ARG);
    assert_int_equal(mz_baseline_forecast(&ctx, MZ_BASELINE_NAIVE, &one, 1, 0, 1, out), MZ_ERR_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_statsforecast),
        cmocka_unit_test(damped_follows_a_damped_line),
        cmocka_unit_test(odd_series_give_finite_answers),
        cmocka_unit_test(endless_seasons_are_left_in),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
