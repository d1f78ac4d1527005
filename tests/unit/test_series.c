/* Filling gaps and scaling. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "encoders/series/series.h"

enum { MAX_VALUES = 16 };

static mz_context *context_of(void **state) {
    return *state;
}

static void assert_values(const double *actual, int64_t n_actual, const double *expected,
                          int64_t n_expected) {
    assert_int_equal(n_actual, n_expected);
    for (int64_t i = 0; i < n_expected; i++) {
        assert_true(fabs(actual[i] - expected[i]) <= 1e-12);
    }
}

static void gaps_are_filled(void **state) {
    static const struct {
        mz_missing policy;
        int64_t n_values, n_expected;
        double values[MAX_VALUES], expected[MAX_VALUES];
        mz_gap_report report;
    } cases[] = {
        {MZ_MISSING_LINEAR, 5, 5, {1, NAN, NAN, 4, 5}, {1, 2, 3, 4, 5}, {0, 2, 0}},
        {MZ_MISSING_LINEAR, 7, 4, {NAN, NAN, 1, NAN, 3, 5, NAN}, {1, 2, 3, 5}, {2, 1, 1}},
        {MZ_MISSING_FORWARD, 7, 5, {NAN, 7, NAN, NAN, 3, 4, NAN}, {7, 7, 7, 3, 4}, {1, 2, 1}},
        {MZ_MISSING_DROP, 7, 3, {NAN, 7, NAN, NAN, 3, 4, NAN}, {7, 3, 4}, {1, 2, 1}},
        {MZ_MISSING_LINEAR, 3, 0, {NAN, NAN, NAN}, {0}, {3, 0, 0}},
        {MZ_MISSING_DROP, 3, 0, {NAN, NAN, NAN}, {0}, {3, 0, 0}},
        {MZ_MISSING_LINEAR, 0, 0, {0}, {0}, {0, 0, 0}},
        {MZ_MISSING_ERROR, 3, 3, {1, 2, 3}, {1, 2, 3}, {0, 0, 0}},
        {MZ_MISSING_ERROR, 0, 0, {0}, {0}, {0, 0, 0}},
        {MZ_MISSING_LINEAR, 1, 1, {8}, {8}, {0, 0, 0}},
        {MZ_MISSING_FORWARD, 3, 1, {NAN, 8, NAN}, {8}, {1, 0, 1}},
    };
    char id[] = "s";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double values[MAX_VALUES];
        memcpy(values, cases[i].values, sizeof values);
        mz_series series = {.id = id, .values = values, .n_values = cases[i].n_values};
        mz_gap_report report = {-1, -1, -1};
        mz_assert_ok(context_of(state),
                     mz_series_fill(context_of(state), &series, cases[i].policy, 1, &report));
        assert_values(values, series.n_values, cases[i].expected, cases[i].n_expected);
        assert_int_equal(report.n_leading, cases[i].report.n_leading);
        assert_int_equal(report.n_inner, cases[i].report.n_inner);
        assert_int_equal(report.n_trailing, cases[i].report.n_trailing);
    }
}

/* The line between the two ends of f64 rises by more than f64 holds. */
static void huge_gap_stays_finite(void **state) {
    double values[] = {-DBL_MAX, NAN, NAN, NAN, DBL_MAX};
    mz_series series = {.values = values, .n_values = 5};
    mz_gap_report report;
    mz_assert_ok(context_of(state),
                 mz_series_fill(context_of(state), &series, MZ_MISSING_LINEAR, 1, &report));
    for (int i = 1; i < 4; i++) {
        assert_true(fabs(values[i] / DBL_MAX - 0.5 * (i - 2)) <= 1e-15);
    }
}

static void missing_can_be_an_error(void **state) {
    char id[] = "sales";
    double values[] = {1, 2, NAN, 4, NAN};
    mz_series series = {.id = id, .values = values, .n_values = 5};
    mz_gap_report report = {7, 7, 7};
    assert_int_equal(mz_series_fill(context_of(state), &series, MZ_MISSING_ERROR, 1, &report),
                     MZ_ERR_ARG);
    assert_string_equal(context_of(state)->error.message,
                        "series \"sales\": 2 of 5 values are missing, the first at position 3");
    assert_int_equal(series.n_values, 5);
    assert_int_equal(report.n_leading, 7);
}

static void known_statistics(void **state) {
    (void)state;
    const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};
    const mz_series_scale scale = mz_series_scale_of(values, 8, MZ_NORMALIZE_WINDOW);
    assert_true(scale.mean == 5);
    assert_true(scale.scale == 2);
    const mz_series_scale none = mz_series_scale_of(values, 8, MZ_NORMALIZE_NONE);
    assert_true(none.mean == 0);
    assert_true(none.scale == 1);
}

static void constant_series_have_scale_1(void **state) {
    (void)state;
    const double constants[] = {0,        0.1,     -3.7e-5, 1e300,     DBL_MAX,
                                -DBL_MAX, DBL_MIN, 5e-324,  123456.789};
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        double values[7];
        for (int k = 0; k < 7; k++) {
            values[k] = constants[i];
        }
        const mz_series_scale scale = mz_series_scale_of(values, 7, MZ_NORMALIZE_WINDOW);
        assert_true(scale.mean == constants[i]);
        assert_true(scale.scale == 1);
    }
}

/* Mean and deviation follow a factor from one end of f64 to the other, and the scaled values stay
 * what they are. */
static void statistics_follow_any_magnitude(void **state) {
    (void)state;
    const double shape[] = {0.25, -1, 0.5, 1, 0.125, -0.75};
    const mz_series_scale unit = mz_series_scale_of(shape, 6, MZ_NORMALIZE_WINDOW);
    float expected[6];
    mz_series_scale_apply(&unit, shape, 6, expected);
    const int exponents[] = {1023, 1000, 512, 100, 0, -100, -512, -960};
    for (size_t i = 0; i < sizeof exponents / sizeof exponents[0]; i++) {
        double values[6];
        for (int k = 0; k < 6; k++) {
            values[k] = ldexp(shape[k], exponents[i]);
        }
        const mz_series_scale scale = mz_series_scale_of(values, 6, MZ_NORMALIZE_WINDOW);
        assert_true(scale.mean == ldexp(unit.mean, exponents[i]));
        assert_true(scale.scale == ldexp(unit.scale, exponents[i]));
        float scaled[6];
        mz_series_scale_apply(&scale, values, 6, scaled);
        mz_assert_close("scaled", scaled, expected, 6, 1e-6);
        double back[6];
        mz_series_scale_invert(&scale, scaled, 6, back);
        for (int k = 0; k < 6; k++) {
            assert_true(fabs(back[k] - values[k]) <= 1e-6 * ldexp(1, exponents[i]));
        }
    }
}

static void ends_of_f64_scale(void **state) {
    (void)state;
    const double values[] = {DBL_MAX, -DBL_MAX, DBL_MAX, -DBL_MAX};
    const mz_series_scale scale = mz_series_scale_of(values, 4, MZ_NORMALIZE_WINDOW);
    assert_true(scale.mean == 0);
    assert_true(scale.scale == DBL_MAX);
    const double lopsided[] = {DBL_MAX, DBL_MAX, DBL_MAX, -DBL_MAX};
    const mz_series_scale half = mz_series_scale_of(lopsided, 4, MZ_NORMALIZE_WINDOW);
    assert_true(half.mean == DBL_MAX / 2);
    float scaled[4];
    mz_series_scale_apply(&half, lopsided, 4, scaled);
    const float expected[4] = {0.57735027f, 0.57735027f, 0.57735027f, -1.7320508f};
    mz_assert_close("scaled", scaled, expected, 4, 1e-6);
}

/* Small changes on a large level: the mean must not swallow them. */
static void deviation_on_a_high_level(void **state) {
    (void)state;
    double values[1000];
    for (int i = 0; i < 1000; i++) {
        values[i] = 1e9 + (i % 2 == 0 ? 0.5 : -0.5);
    }
    const mz_series_scale scale = mz_series_scale_of(values, 1000, MZ_NORMALIZE_WINDOW);
    assert_true(fabs(scale.mean - 1e9) <= 1e-6);
    assert_true(fabs(scale.scale - 0.5) <= 1e-6);
}

static void values_beyond_f32_are_clamped(void **state) {
    (void)state;
    const mz_series_scale none = {.mean = 0, .scale = 1};
    const double values[] = {1e308, -1e308, 1.5};
    float out[3];
    mz_series_scale_apply(&none, values, 3, out);
    assert_true(out[0] == FLT_MAX);
    assert_true(out[1] == -FLT_MAX);
    assert_true(out[2] == 1.5f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_filled),
        cmocka_unit_test(huge_gap_stays_finite),
        cmocka_unit_test(missing_can_be_an_error),
        cmocka_unit_test(known_statistics),
        cmocka_unit_test(constant_series_have_scale_1),
        cmocka_unit_test(statistics_follow_any_magnitude),
        cmocka_unit_test(ends_of_f64_scale),
        cmocka_unit_test(deviation_on_a_high_level),
        cmocka_unit_test(values_beyond_f32_are_clamped),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
