#include "apps/zoo/conformal.h"

#include <float.h>
#include <math.h>

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

static void origins_cover_the_newest_part(void **state) {
    (void)state;
    int64_t origins[MZ_CONFORMAL_ORIGINS];
    assert_int_equal(mz_conformal_origins(0, 5, origins), 0);
    assert_int_equal(mz_conformal_origins(8, 5, origins), 0);
    assert_int_equal(mz_conformal_origins(9, 5, origins), 1);
    assert_int_equal(origins[0], 8);
    assert_int_equal(mz_conformal_origins(100, 12, origins), 20);
    assert_int_equal(origins[0], 97);
    assert_int_equal(origins[19], 40);
    assert_int_equal(mz_conformal_origins(10000, 12, origins), 20);
    assert_int_equal(origins[0], 9988);
    assert_int_equal(origins[19], 10000 - 20 * 12);
}

/* Twenty errors 1..20 at one step: the rank of level 0.8 is ceil(21 * 0.8) = 17. */
static void width_is_the_error_of_the_rank(void **state) {
    (void)state;
    double errors[20];
    for (int i = 0; i < 20; i++) {
        errors[i] = (i * 7 % 20) + 1;
    }
    const double levels[] = {0, 0.5, 0.8, 0.95, 0.99};
    const double expected[] = {0, 11, 17, 20, 20};
    double widths[5];
    assert_int_equal(mz_conformal_widths(&ctx, errors, 20, 1, levels, 5, widths), MZ_OK);
    assert_memory_equal(widths, expected, sizeof expected);
}

/* Two origins, six steps; step 5 (index 4) pools two neighbours on each side, the others one. */
static void neighbours_are_pooled(void **state) {
    (void)state;
    const double errors[] = {1, 2, 3, 4, 5, 6, 11, 12, 13, 14, NAN, NAN};
    const double levels[] = {0.49};
    const double expected[] = {11, 11, 12, 5, 6, 6};
    double widths[6];
    assert_int_equal(mz_conformal_widths(&ctx, errors, 2, 6, levels, 1, widths), MZ_OK);
    assert_memory_equal(widths, expected, sizeof expected);
}

static void unknown_steps_repeat_the_width(void **state) {
    (void)state;
    const double errors[] = {3, NAN, NAN, NAN};
    const double levels[] = {0.4};
    double widths[4];
    assert_int_equal(mz_conformal_widths(&ctx, errors, 1, 4, levels, 1, widths), MZ_OK);
    for (int h = 0; h < 4; h++) {
        assert_true(widths[h] == 3);
    }
    assert_int_equal(mz_conformal_widths(&ctx, errors, 0, 4, levels, 1, widths), MZ_ERR_ARG);
}

/* Exchangeable errors: the next one lies inside as often as the level says. */
static void coverage_of_exchangeable_errors(void **state) {
    (void)state;
    const double levels[] = {0.5, 0.8, 0.9};
    int inside[3] = {0};
    const int n_trials = 4000;
    for (int t = 0; t < n_trials; t++) {
        double errors[21];
        for (int i = 0; i < 21; i++) {
            const double u = mz_rng_uniform(5, (uint64_t)t, (uint64_t)i);
            errors[i] = -log(1 - u);
        }
        double widths[3];
        assert_int_equal(mz_conformal_widths(&ctx, errors, 20, 1, levels, 3, widths), MZ_OK);
        for (int l = 0; l < 3; l++) {
            assert_true(l == 0 || widths[l] >= widths[l - 1]);
            inside[l] += errors[20] <= widths[l];
        }
    }
    /* Exactly rank / 21 = 11/21, 17/21, 19/21; three standard deviations of 4000 trials. */
    const double exact[] = {11.0 / 21, 17.0 / 21, 19.0 / 21};
    for (int l = 0; l < 3; l++) {
        const double deviation = sqrt(exact[l] * (1 - exact[l]) / n_trials);
        assert_true(fabs((double)inside[l] / n_trials - exact[l]) < 3 * deviation);
    }
}

static void naive_widths(void **state) {
    (void)state;
    const double values[] = {0, 1, 0, 1, 0, 1}; /* differences of deviation 1 */
    const double levels[] = {0, 0.6826894921370859, 0.95};
    double widths[12];
    mz_conformal_naive_widths(values, 6, 4, levels, 3, widths);
    const double z[] = {0, 1, 1.959963984540054};
    for (int l = 0; l < 3; l++) {
        for (int h = 0; h < 4; h++) {
            assert_true(fabs(widths[l * 4 + h] - z[l] * sqrt(h + 1)) < 1e-12);
        }
    }
    mz_conformal_naive_widths(values, 1, 1, levels, 3, widths);
    assert_true(widths[2] == 0);
    const double huge[] = {-DBL_MAX, DBL_MAX, -DBL_MAX};
    mz_conformal_naive_widths(huge, 3, 1, levels, 3, widths);
    assert_true(widths[2] == DBL_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(origins_cover_the_newest_part),
        cmocka_unit_test(width_is_the_error_of_the_rank),
        cmocka_unit_test(neighbours_are_pooled),
        cmocka_unit_test(unknown_steps_repeat_the_width),
        cmocka_unit_test(coverage_of_exchangeable_errors),
        cmocka_unit_test(naive_widths),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
