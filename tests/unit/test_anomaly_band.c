#include "apps/zoo/anomaly_band.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"
#include "tests/testing.h"

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

static void least_errors(void **state) {
    (void)state;
    const struct {
        double level;
        int64_t n;
    } known[] = {{0.5, 1}, {0.8, 4}, {0.9, 9}, {0.95, 19}, {0.99, 99}, {0.999, 999}, {0.01, 1}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(mz_anomaly_least_errors(known[i].level), known[i].n);
    }
}

static void scores(void **state) {
    (void)state;
    assert_true(mz_anomaly_score(3, 2) == 1.5);
    assert_true(mz_anomaly_score(0, 0) == 0);
    assert_true(mz_anomaly_score(1e-300, 0) == MZ_ANOMALY_MAX_SCORE);
    assert_true(mz_anomaly_score(1e9, 1e-9) == MZ_ANOMALY_MAX_SCORE);
    assert_true(isnan(mz_anomaly_score(NAN, 1)) && isnan(mz_anomaly_score(1, NAN)));
}

/* Blocks of one value: the width at a block comes from the ones before it alone. */
static void widths_know_the_past_only(void **state) {
    (void)state;
    const double errors[] = {4, 1, 3, 2, 9, 1, 5};
    /* Level 0.75 needs 3 errors: rank ceil((n + 1) * 0.75). 9 left a band of 4 and counts as 8. */
    const double expected[] = {NAN, NAN, NAN, 4, 4, 8, 8};
    double widths[7];
    assert_int_equal(mz_anomaly_least_errors(0.75), 3);
    assert_int_equal(mz_anomaly_widths(&ctx, errors, 7, 1, 0.75, widths), MZ_OK);
    for (int i = 0; i < 7; i++) {
        assert_true(isnan(expected[i]) ? isnan(widths[i]) : widths[i] == expected[i]);
    }
}

/* However low the level: the band reaches to the smallest of the errors. */
static void lowest_levels(void **state) {
    (void)state;
    const double errors[] = {4, 3, 5};
    const double levels[] = {5e-324, 1e-300, 1e-11};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        double widths[3];
        assert_int_equal(mz_anomaly_least_errors(levels[i]), 1);
        assert_int_equal(mz_anomaly_widths(&ctx, errors, 3, 1, levels[i], widths), MZ_OK);
        assert_true(isnan(widths[0]) && widths[1] == 4 && widths[2] == 3);
    }
}

/* Missing values leave no errors; where a step has too few, its neighbours are taken in. */
static void missing_values_and_neighbours(void **state) {
    (void)state;
    const double errors[] = {1, NAN, 2, NAN, NAN, 3, NAN, 4, 5, 6, 7, 8};
    double widths[12];
    assert_int_equal(mz_anomaly_widths(&ctx, errors, 3, 4, 0.75, widths), MZ_OK);
    for (int h = 0; h < 4; h++) {
        assert_true(isnan(widths[h]));     /* nothing before */
        assert_true(isnan(widths[4 + h])); /* two errors before, three are needed */
    }
    for (int h = 0; h < 4; h++) {
        assert_true(widths[8 + h] == 4); /* all four: rank ceil(5 * 0.75) = 4 */
    }
}

enum { N_BLOCKS = 2000, HORIZON = 4 };

static double exponential(int i) {
    return -log(1 - mz_rng_uniform(11, 0, (uint64_t)i));
}

/* Most values of a long series are missing: the others lie outside as often as they should. */
static void share_among_missing_values(void **state) {
    (void)state;
    static double errors[N_BLOCKS * HORIZON], widths[N_BLOCKS * HORIZON];
    int n_known = 0;
    int n_outside = 0;
    for (int i = 0; i < N_BLOCKS * HORIZON; i++) {
        errors[i] = i % 3 == 0 ? exponential(i) : NAN;
    }
    assert_int_equal(mz_anomaly_widths(&ctx, errors, N_BLOCKS, HORIZON, 0.9, widths), MZ_OK);
    for (int i = 100 * HORIZON; i < N_BLOCKS * HORIZON; i++) {
        n_known += !isnan(errors[i]);
        n_outside += errors[i] > widths[i];
    }
    assert_true(fabs((double)n_outside / n_known - 0.1) < 0.02);
}

static void a_constant_series_can_change(void **state) {
    (void)state;
    double errors[40] = {0};
    double widths[40];
    for (int i = 10; i < 40; i++) {
        errors[i] = i;
    }
    assert_int_equal(mz_anomaly_widths(&ctx, errors, 40, 1, 0.9, widths), MZ_OK);
    assert_true(widths[9] == 0 && widths[10] == 0);
    assert_true(widths[13] > 0);
    assert_true(widths[39] >= 30);
}

static double share_outside(const double *errors, const double *widths, int begin, int end) {
    int n = 0;
    for (int i = begin * HORIZON; i < end * HORIZON; i++) {
        n += errors[i] > widths[i];
    }
    return (double)n / ((end - begin) * HORIZON);
}

/* Exchangeable errors lie outside as often as the level says. */
static void share_of_quiet_values(void **state) {
    (void)state;
    static double errors[N_BLOCKS * HORIZON], widths[N_BLOCKS * HORIZON];
    const double levels[] = {0.9, 0.95, 0.99};
    for (int i = 0; i < N_BLOCKS * HORIZON; i++) {
        errors[i] = exponential(i);
    }
    for (int l = 0; l < 3; l++) {
        assert_int_equal(mz_anomaly_widths(&ctx, errors, N_BLOCKS, HORIZON, levels[l], widths),
                         MZ_OK);
        const double wanted = 1 - levels[l];
        const double share = share_outside(errors, widths, 100, N_BLOCKS);
        assert_true(fabs(share - wanted) < 0.2 * wanted);
    }
}

/* One huge error leaves later bands nearly alone; a lasting change ends to be an anomaly. */
static void outliers_and_shifts(void **state) {
    (void)state;
    static double errors[N_BLOCKS * HORIZON], widths[N_BLOCKS * HORIZON];
    static double quiet[N_BLOCKS * HORIZON];
    for (int i = 0; i < N_BLOCKS * HORIZON; i++) {
        errors[i] = exponential(i);
    }
    assert_int_equal(mz_anomaly_widths(&ctx, errors, N_BLOCKS, HORIZON, 0.95, quiet), MZ_OK);
    errors[1000 * HORIZON] = 1e9;
    for (int i = 1500 * HORIZON; i < N_BLOCKS * HORIZON; i++) {
        errors[i] *= 16;
    }
    assert_int_equal(mz_anomaly_widths(&ctx, errors, N_BLOCKS, HORIZON, 0.95, widths), MZ_OK);
    assert_memory_equal(widths, quiet, 1001 * HORIZON * sizeof(double));
    for (int i = 1001 * HORIZON; i < 1500 * HORIZON; i++) {
        assert_true(widths[i] < 1.1 * quiet[i]);
    }
    assert_true(share_outside(errors, widths, 1500, 1505) > 0.5);
    assert_true(share_outside(errors, widths, 1600, 1650) < 0.2);
    assert_true(share_outside(errors, widths, 1800, N_BLOCKS) < 0.07);
}

/* A long block of which little is known: each step reaches far for enough errors, and gathering
 * them anew at each length of that reach would take minutes. */
static void long_blocks_with_gaps(void **state) {
    (void)state;
    enum { N_STEPS = 10000, KNOWN_EVERY = 10 };
    double *errors = calloc(4 * (size_t)N_STEPS, sizeof *errors);
    assert_non_null(errors);
    double *widths = errors + (ptrdiff_t)2 * N_STEPS;
    for (int i = 0; i < 2 * N_STEPS; i++) {
        errors[i] = i % KNOWN_EVERY == 0 ? 1 + i % 3 : (double)NAN;
    }
    assert_int_equal(mz_anomaly_widths(&ctx, errors, 2, N_STEPS, 0.999, widths), MZ_OK);
    for (int i = 0; i < N_STEPS; i++) {
        assert_true(isnan(widths[i]));
        assert_true(widths[N_STEPS + i] == 3);
    }
    free(errors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(least_errors),
        cmocka_unit_test_setup_teardown(lowest_levels, setup, teardown),
        cmocka_unit_test(scores),
        cmocka_unit_test_setup_teardown(widths_know_the_past_only, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_values_and_neighbours, setup, teardown),
        cmocka_unit_test_setup_teardown(share_among_missing_values, setup, teardown),
        cmocka_unit_test_setup_teardown(a_constant_series_can_change, setup, teardown),
        cmocka_unit_test_setup_teardown(share_of_quiet_values, setup, teardown),
        cmocka_unit_test_setup_teardown(outliers_and_shifts, setup, teardown),
        cmocka_unit_test_setup_teardown(long_blocks_with_gaps, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
