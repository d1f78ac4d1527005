#include "apps/zoo/native_quantiles.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "apps/zoo/normal_width.h"
#include "tests/testing.h"

static void width_is_that_of_tables(void **state) {
    (void)state;
    assert_true(fabs(mz_normal_width(0.95) - 1.959963985) < 1e-8);
    assert_true(fabs(mz_normal_width(0.5) - 0.674489750) < 1e-8);
    assert_true(mz_normal_width(0) < 1e-15);
    assert_true(isfinite(mz_normal_width(1)) && mz_normal_width(1) > 8);
}

static void steps_are_sorted(void **state) {
    (void)state;
    float values[] = {3, 1, 2, -1, -1, -2, 0, 5, 9};
    const float expected[] = {1, 2, 3, -2, -1, -1, 0, 5, 9};
    float none[] = {2, 1};
    mz_native_quantiles_sort(values, 3, 3);
    assert_memory_equal(values, expected, sizeof values);
    mz_native_quantiles_sort(none, 2, 1);
    assert_true(none[0] == 2 && none[1] == 1);
}

/* A random walk whose model sees the fed-back path as observed: within each head the width is the
 * root of the steps since it; widened, of the steps since the forecast began. */
static void a_random_walk_goes_on_widening(void **state) {
    (void)state;
    enum { HEAD = 64, HORIZON = 200 };
    double values[3][HORIZON];
    for (int h = 0; h < HORIZON; h++) {
        const double width = sqrt(h % HEAD + 1);
        values[0][h] = h - width;
        values[1][h] = h;
        values[2][h] = h + 2 * width;
    }
    mz_native_quantiles_widen(&values[0][0], 3, 1, HORIZON, HEAD);
    for (int h = 0; h < HORIZON; h++) {
        /* The last quarter of a head stands for its end: a little less. */
        const double width = sqrt(h + 1);
        assert_true(values[1][h] == h);
        assert_true(fabs(values[1][h] - values[0][h] - width) < 0.08 * width);
        assert_true(fabs(values[2][h] - values[1][h] - 2 * width) < 0.16 * width);
    }
}

/* Widths that do not grow within the head do not grow beyond it; nor does the first head change. */
static void a_steady_band_stays(void **state) {
    (void)state;
    enum { HEAD = 16, HORIZON = 50 };
    double values[2][HORIZON];
    double expected[2][HORIZON];
    for (int h = 0; h < HORIZON; h++) {
        values[0][h] = sin(h);
        values[1][h] = sin(h) + 1.5;
    }
    memcpy(expected, values, sizeof values);
    mz_native_quantiles_widen(&values[0][0], 2, 0, HORIZON, HEAD);
    for (int h = 0; h < HORIZON; h++) {
        assert_true(values[0][h] == expected[0][h]);
        assert_true(fabs(values[1][h] - expected[1][h]) < 1e-3);
    }
    /* Shrinking widths count as steady; growth as of a trend's error only as the root. */
    for (int h = 0; h < HORIZON; h++) {
        values[0][h] = 0;
        values[1][h] = 10 - h % HEAD * 0.5;
        expected[1][h] = values[1][h];
    }
    mz_native_quantiles_widen(&values[0][0], 2, 0, HORIZON, HEAD);
    assert_memory_equal(values[1], expected[1], sizeof expected[1]);
}

/* Heads too short to show growth, bands without width, a single level: no NaN, and order kept. */
static void odd_bands(void **state) {
    (void)state;
    double narrow[] = {-1, -1, -1, -1, 0, 0, 0, 0, 2, 2, 2, 2};
    double flat[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    double late[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0};
    double one[] = {1, 2, 3};
    mz_native_quantiles_widen(narrow, 3, 1, 4, 2);
    assert_true(narrow[1] == -1 && fabs(narrow[2] + sqrt(2)) < 1e-12);
    assert_true(fabs(narrow[10] - sqrt(8)) < 1e-12 && narrow[9] == 2);
    mz_native_quantiles_widen(flat, 2, 0, 5, 4);
    for (int i = 0; i < 10; i++) {
        assert_true(flat[i] == 0);
    }
    mz_native_quantiles_widen(late, 2, 0, 8, 4); /* no width at the half, none at the end */
    assert_true(late[13] == 1 && late[14] == 0);
    mz_native_quantiles_widen(one, 1, 0, 3, 1);
    assert_true(one[0] == 1 && one[2] == 3);
}

static double value_at(const double *levels, int32_t n, const double *values, double q) {
    const mz_quantile_blend blend = mz_quantile_blend_of(levels, n, q);
    return mz_quantile_blend_value(&blend, values, 1);
}

/* Of a normal distribution every level is exact, inside and outside; levels of the model are its
 * own values to the bit. */
static void levels_between_are_linear_in_the_normal_quantile(void **state) {
    (void)state;
    static const double levels[] = {0.1, 0.25, 0.5, 0.75, 0.9};
    static const double wanted[] = {0.001, 0.05, 0.1, 0.2, 0.5, 0.6, 0.9, 0.975, 0.9999};
    double values[5];
    double before = -DBL_MAX;
    for (int i = 0; i < 5; i++) {
        values[i] = 3 + 2 * copysign(mz_normal_width(fabs(2 * levels[i] - 1)), levels[i] - 0.5);
    }
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const double width = mz_normal_width(fabs(2 * wanted[i] - 1));
        const double expected = 3 + 2 * copysign(width, wanted[i] - 0.5);
        const double value = value_at(levels, 5, values, wanted[i]);
        assert_true(fabs(value - expected) < 1e-9);
        assert_true(value >= before);
        before = value;
    }
    assert_true(value_at(levels, 5, values, 0.1) == values[0]);
    assert_true(value_at(levels, 5, values, 1 - 0.1) == values[4]);
    assert_true(value_at(levels, 5, values, 0.5) == values[2]);
}

static void odd_levels(void **state) {
    (void)state;
    static const double levels[] = {0.4, 0.5};
    static const double median[] = {0.5};
    const double huge[] = {-DBL_MAX, DBL_MAX};
    const double equal[] = {7, 7};
    assert_true(value_at(median, 1, equal, 0.01) == 7);
    assert_true(value_at(levels, 2, equal, 0.999) == 7);
    assert_true(value_at(levels, 2, huge, 0.999) == DBL_MAX);
    assert_true(value_at(levels, 2, huge, 1e-6) == -DBL_MAX);
    assert_true(fabs(value_at(levels, 2, huge, 0.45)) < DBL_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(width_is_that_of_tables),
        cmocka_unit_test(steps_are_sorted),
        cmocka_unit_test(a_random_walk_goes_on_widening),
        cmocka_unit_test(a_steady_band_stays),
        cmocka_unit_test(odd_bands),
        cmocka_unit_test(levels_between_are_linear_in_the_normal_quantile),
        cmocka_unit_test(odd_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
