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

static void origins_are_the_newest_positions(void **state) {
    (void)state;
    assert_int_equal(mz_conformal_origins(0), 0);
    assert_int_equal(mz_conformal_origins(MZ_CONFORMAL_MIN_PAST), 0);
    assert_int_equal(mz_conformal_origins(MZ_CONFORMAL_MIN_PAST + 1), 1);
    assert_int_equal(mz_conformal_origins(100), 96);
    assert_int_equal(mz_conformal_origins(10000), MZ_CONFORMAL_ORIGINS);
}

static double relative_gap(double a, double b) {
    return fabs(a - b) / fmax(fabs(a), fabs(b));
}

/* Errors 1 to 200 at one step, mixed within twenties, the newest smallest. The level that is asked
 * for is (W + 1) / W times what it was, W the sum of the weights 0.99^i of the origins, and the
 * width is the first error in ascending order at which the weights passed reach that. */
static void width_is_the_weighted_quantile(void **state) {
    (void)state;
    enum { ORIGINS = 200 };
    double errors[ORIGINS];
    double weights[ORIGINS + 1] = {0}; /* of the error of that size */
    double total = 0;
    for (int i = 0; i < ORIGINS; i++) {
        errors[i] = (i * 7 % 20) + i / 20 * 20 + 1;
        weights[(int)errors[i]] = pow(MZ_CONFORMAL_DECAY, i);
        total += pow(MZ_CONFORMAL_DECAY, i);
    }
    const double levels[] = {0, 0.5, 0.8, 0.95, 0.999};
    double widths[5];
    assert_int_equal(mz_conformal_widths(&ctx, errors, ORIGINS, 1, 1, levels, 5, widths), MZ_OK);
    for (int l = 0; l < 5; l++) {
        double passed = 0;
        int expected = 0;
        while (expected < ORIGINS && (expected == 0 || passed < levels[l] * (total + 1))) {
            passed += weights[++expected];
        }
        assert_true(relative_gap(widths[l], expected) < 1e-12);
    }
    assert_true(widths[1] < 70);                           /* of equal weights it would be 100 */
    assert_true(relative_gap(widths[4], ORIGINS) < 1e-12); /* more than all: the largest error */
}

/* All origins have errors proportional to one shape: the band has it too, but for the steps that
 * are pooled, and goes on with the root of the step. */
static void profile_of_the_steps(void **state) {
    (void)state;
    enum { ORIGINS = 40, REACH = 16, HORIZON = 64 };
    double errors[ORIGINS * REACH];
    for (int i = 0; i < ORIGINS; i++) {
        for (int h = 0; h < REACH; h++) {
            errors[i * REACH + h] = h <= i ? (i % 10 + 1) * sqrt(h + 1) : NAN;
        }
    }
    const double levels[] = {0.8};
    double widths[HORIZON];
    assert_int_equal(mz_conformal_widths(&ctx, errors, ORIGINS, REACH, HORIZON, levels, 1, widths),
                     MZ_OK);
    for (int h = 1; h < HORIZON; h++) {
        assert_true(widths[h] >= widths[h - 1]);
    }
    assert_true(relative_gap(widths[11] / widths[3], sqrt(3)) < 0.1);
    assert_true(relative_gap(widths[63] / widths[15], 2) < 1e-12);
}

/* Step h of 1, 2, ... pools 1 + (h - 1) / 4 steps on each side: of errors that begin at step 11 the
 * ninth step sees two among seven, the tenth three. */
static void neighbours_of_a_step(void **state) {
    (void)state;
    enum { ORIGINS = 8, REACH = 16 };
    double errors[ORIGINS * REACH];
    for (int i = 0; i < ORIGINS * REACH; i++) {
        errors[i] = i % REACH >= 10 ? 1 : 0;
    }
    const double levels[] = {0.9};
    double widths[REACH];
    assert_int_equal(mz_conformal_widths(&ctx, errors, ORIGINS, REACH, REACH, levels, 1, widths),
                     MZ_OK);
    assert_true(widths[7] == 0);
    assert_true(relative_gap(widths[8] / widths[15], 2.0 / 7) < 1e-12);
    assert_true(relative_gap(widths[9] / widths[15], 3.0 / 7) < 1e-12);
}

/* Errors that shrink with the step do not make the band narrower. */
static void width_never_shrinks(void **state) {
    (void)state;
    double errors[16 * 8];
    for (int i = 0; i < 16 * 8; i++) {
        errors[i] = 8 - i % 8;
    }
    const double levels[] = {0.5};
    double widths[12];
    assert_int_equal(mz_conformal_widths(&ctx, errors, 16, 8, 12, levels, 1, widths), MZ_OK);
    for (int h = 1; h < 12; h++) {
        assert_true(h < 8 ? widths[h] == widths[0] : widths[h] > widths[h - 1]);
    }
}

static void unknown_and_extreme_errors(void **state) {
    (void)state;
    const double levels[] = {0.4, 0.9};
    double widths[8];
    const double one[] = {3, NAN, NAN, INFINITY};
    assert_int_equal(mz_conformal_widths(&ctx, one, 1, 4, 4, levels, 2, widths), MZ_OK);
    assert_true(widths[0] == 3 && widths[4] == 3);
    assert_true(relative_gap(widths[3], 6) < 1e-12);
    const double none[] = {NAN, INFINITY};
    assert_int_equal(mz_conformal_widths(&ctx, none, 2, 1, 1, levels, 2, widths), MZ_ERR_ARG);
    assert_int_equal(mz_conformal_widths(&ctx, none, 0, 1, 1, levels, 2, widths), MZ_ERR_ARG);
    const double zeros[] = {0, 0, 0, 0};
    assert_int_equal(mz_conformal_widths(&ctx, zeros, 2, 2, 4, levels, 2, widths), MZ_OK);
    for (int i = 0; i < 8; i++) {
        assert_true(widths[i] == 0);
    }
    const double huge[] = {DBL_MAX, DBL_MAX, DBL_MAX / 2, DBL_MAX};
    assert_int_equal(mz_conformal_widths(&ctx, huge, 2, 2, 4, levels, 2, widths), MZ_OK);
    for (int i = 0; i < 8; i++) {
        assert_true(widths[i] > 0 && widths[i] <= DBL_MAX);
    }
    const double tiny[] = {5e-324, 0, 0, 5e-324};
    assert_int_equal(mz_conformal_widths(&ctx, tiny, 2, 2, 4, levels, 2, widths), MZ_OK);
    for (int i = 0; i < 8; i++) {
        assert_true(widths[i] >= 0 && widths[i] < 1e-300);
    }
}

/* Exchangeable errors: the next one lies inside about as often as the level says, and not less
 * often (Barber et al. 2023, theorem 2a). */
static void coverage_of_exchangeable_errors(void **state) {
    (void)state;
    enum { ORIGINS = 40 };
    const double levels[] = {0.5, 0.8, 0.9};
    int inside[3] = {0};
    const int n_trials = 4000;
    for (int t = 0; t < n_trials; t++) {
        double errors[ORIGINS + 1];
        for (int i = 0; i <= ORIGINS; i++) {
            const double u = mz_rng_uniform(5, (uint64_t)t, (uint64_t)i);
            errors[i] = -log(1 - u);
        }
        double widths[3];
        assert_int_equal(mz_conformal_widths(&ctx, errors, ORIGINS, 1, 1, levels, 3, widths),
                         MZ_OK);
        for (int l = 0; l < 3; l++) {
            assert_true(l == 0 || widths[l] >= widths[l - 1]);
            inside[l] += errors[ORIGINS] <= widths[l];
        }
    }
    for (int l = 0; l < 3; l++) {
        const double covered = (double)inside[l] / n_trials;
        const double deviation = sqrt(levels[l] * (1 - levels[l]) / n_trials);
        assert_true(covered > levels[l] - 3 * deviation);
        assert_true(covered < levels[l] + 1.0 / 33 + 3 * deviation); /* 33: sum of the weights */
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
        cmocka_unit_test(origins_are_the_newest_positions),
        cmocka_unit_test(width_is_the_weighted_quantile),
        cmocka_unit_test(profile_of_the_steps),
        cmocka_unit_test(neighbours_of_a_step),
        cmocka_unit_test(width_never_shrinks),
        cmocka_unit_test(unknown_and_extreme_errors),
        cmocka_unit_test(coverage_of_exchangeable_errors),
        cmocka_unit_test(naive_widths),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
