/* What augmentation does to the values of a window. */
#include "encoders/series/series_augment_internal.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "tests/testing.h"

static void assert_near(double actual, double expected, double tolerance) {
    if (!(fabs(actual - expected) <= tolerance)) {
        fail_msg("%.9g, expected %.9g within %g", actual, expected, tolerance);
    }
}

static double wave_and_noise(int64_t i) {
    return 100 + 10 * sin(6.2831853 * (double)i / 24) + 0.01 * (double)i +
           (double)mz_rng_normal(5, 5, (uint64_t)i);
}

static void augmentations_keep_their_promises(void **state) {
    (void)state;
    float original[240];
    float values[240];
    for (int i = 0; i < 240; i++) {
        original[i] = (float)wave_and_noise(i);
    }
    mz_augment_standardise(original, 240);
    for (uint64_t i = 0; i < 300; i++) {
        mz_draw draw;
        mz_draw_init(&draw, 1, i);
        memcpy(values, original, sizeof values);
        mz_augment_gain(&draw, values, 240);
        float lowest = 0;
        for (int k = 0; k < 240; k++) {
            lowest = fminf(lowest, original[k]);
        }
        for (int k = 0; k < 240; k++) { /* about the mean, or about the minimum */
            const float about_mean = values[k] / original[k];
            const float about_lowest = (values[k] - lowest) / (original[k] - lowest + 1e-9f);
            assert_true((about_mean > 0.39f && about_mean < 1.61f) ||
                        (about_lowest > 0.39f && about_lowest < 1.61f) || original[k] == lowest);
        }
        memcpy(values, original, sizeof values);
        mz_augment_jump(&draw, values, 240);
        int n_steps = 0;
        for (int k = 1; k < 240; k++) {
            const float step = (values[k] - original[k]) - (values[k - 1] - original[k - 1]);
            n_steps += fabsf(step) > 1e-4f;
        }
        assert_in_range(n_steps, 1, 2);
        memcpy(values, original, sizeof values);
        mz_augment_trend(&draw, values, 240);
        double largest = 0;
        for (int k = 0; k < 240; k++) {
            largest = fmax(largest, (double)fabsf(values[k] - original[k]));
        }
        assert_true(largest > 0.01 && largest < 40);
        memcpy(values, original, sizeof values);
        mz_augment_censor(&draw, values, 240);
        int n_changed = 0;
        float limit = NAN;
        for (int k = 0; k < 240; k++) {
            if (values[k] != original[k]) {
                assert_true(n_changed == 0 || values[k] == limit);
                limit = values[k];
                n_changed++;
            }
        }
        assert_in_range(n_changed, 3, 120);
    }
}

static void resampling_is_exact(void **state) {
    (void)state;
    float values[12] = {1, 2, 3, 4, 5, 6, 7, 9, 11, 0, 0, 3};
    const float means[] = {2, 5, 9, 1};
    float out[12];
    mz_augment_aggregate(values, 3, 4, out);
    for (int i = 0; i < 4; i++) {
        assert_near((double)out[i], (double)means[i], 1e-6);
    }
    mz_augment_interpolate(values, 4, 2, 0.25, 8, out);
    const float lines[] = {1.25f, 1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4, 4};
    for (int i = 0; i < 8; i++) {
        assert_near((double)out[i], (double)lines[i], 1e-6);
    }
    mz_augment_reverse(values, 3);
    assert_true(values[0] == 3 && values[1] == 2 && values[2] == 1 && values[3] == 4);
    mz_augment_negate(values, 2);
    assert_true(values[0] == -3 && values[1] == -2 && values[2] == 1);
    float equal[5] = {0.1f, 0.1f, 0.1f, 0.1f, 0.1f};
    mz_augment_standardise(equal, 5);
    assert_true(equal[0] == 0 && equal[4] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(augmentations_keep_their_promises),
        cmocka_unit_test(resampling_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
