/* Seasons: how long, and whether there is one. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "encoders/series/calendar.h"

enum { MAX_VALUES = 12000 };

static double values[MAX_VALUES];

static mz_context *context_of(void **state) {
    return *state;
}

static void lengths_follow_the_frequency(void **state) {
    static const struct {
        const char *freq;
        int64_t n_values, season;
    } cases[] = {
        {"s", 100, 60},       {"10s", 100, 360},  {"7s", 100, 1},     {"min", 4319, 60},
        {"min", 4320, 1440},  {"5min", 100, 288}, {"15min", 100, 96}, {"7min", 100, 1},
        {"h", 100, 24},       {"6h", 100, 4},     {"48h", 100, 1},    {"D", 100, 7},
        {"7D", 100, 1},       {"2D", 100, 1},     {"B", 100, 5},      {"W-SUN", 100, 52},
        {"2W-SUN", 100, 26},  {"MS", 100, 12},    {"ME", 100, 12},    {"3MD-15", 100, 4},
        {"QS", 100, 4},       {"2QE", 100, 2},    {"YS", 100, 1},     {"5YE", 100, 1},
        {"YD-MAR-1", 100, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_frequency freq = {0};
        mz_assert_ok(context_of(state),
                     mz_frequency_parse(context_of(state), cases[i].freq, &freq));
        if (mz_season_length(&freq, cases[i].n_values) != cases[i].season) {
            fail_msg("%s: %lld", cases[i].freq,
                     (long long)mz_season_length(&freq, cases[i].n_values));
        }
    }
    assert_int_equal(mz_season_length(&(mz_frequency){0}, 100), 1);
}

/* Nearly normal, mean 0, deviation 1; a pure function of its place. */
static double noise(uint64_t i) {
    double sum = 0;
    for (uint64_t k = 0; k < 12; k++) {
        uint64_t x = (i * 12 + k + 1) * UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        sum += (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
    }
    return sum - 6;
}

static int64_t detect(void **state, int64_t n, int64_t expected) {
    int64_t season = 77;
    mz_assert_ok(context_of(state),
                 mz_season_detect(context_of(state), values, n, expected, &season));
    return season;
}

static const double two_pi = 6.283185307179586;

/* Smooth seasons under noise, on a trend and on a wandering level. */
static void smooth_seasons_are_found(void **state) {
    static const int64_t periods[] = {4, 7, 12, 24, 37, 52, 168};
    for (size_t p = 0; p < sizeof periods / sizeof periods[0]; p++) {
        const int64_t n = 25 * periods[p] > 400 ? 25 * periods[p] : 400;
        double level = 0;
        for (int64_t i = 0; i < n; i++) {
            level += 0.05 * noise((uint64_t)(i + 100000));
            values[i] = 1000 + 0.3 * (double)i + level + 0.7 * noise((uint64_t)i) +
                        1.4142 * sin(two_pi * (double)i / (double)periods[p]);
        }
        assert_int_equal(detect(state, n, periods[p]), periods[p]);
        assert_int_equal(detect(state, n, 0), periods[p]);
        assert_int_equal(detect(state, n, periods[p] + periods[p] / 2), 1);
    }
}

/* One high value a season. */
static void sharp_seasons_are_found(void **state) {
    static const int64_t periods[] = {2, 3, 5, 7, 24, 96, 365};
    for (size_t p = 0; p < sizeof periods / sizeof periods[0]; p++) {
        const int64_t n = 12 * periods[p] > 200 ? 12 * periods[p] : 200;
        for (int64_t i = 0; i < n; i++) {
            values[i] = noise((uint64_t)i) + (i % periods[p] == 1 ? 10 : 0);
        }
        assert_int_equal(detect(state, n, periods[p]), periods[p]);
        assert_int_equal(detect(state, n, 0), periods[p]);
    }
}

/* AirPassengers 1949 to 1960 (Box and Jenkins 1976, series G). */
/* Five cycles are few for a bound on correlations, but not for a season that explains nearly all.
 */
static void few_strong_seasons_are_found(void **state) {
    static const struct { int64_t n, season; } cases[] = {{60, 12}, {48, 12}, {30, 7}, {100, 24}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const int64_t m = cases[k].season;
        int64_t season = 0;
        for (int64_t i = 0; i < cases[k].n; i++) {
            values[i] = (double)(i % m * (m - i % m) + i) + 0.5 * noise((uint64_t)i);
        }
        mz_assert_ok(context_of(state),
                     mz_season_detect(context_of(state), values, cases[k].n, 0, &season));
        assert_int_equal(season, m);
    }
}

static void known_series(void **state) {
    static const double passengers[] = {
        112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118, 115, 126, 141, 135, 125, 149,
        170, 170, 158, 133, 114, 140, 145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166,
        171, 180, 193, 181, 183, 218, 230, 242, 209, 191, 172, 194, 196, 196, 236, 235, 229, 243,
        264, 272, 237, 211, 180, 201, 204, 188, 235, 227, 234, 264, 302, 293, 259, 229, 203, 229,
        242, 233, 267, 269, 270, 315, 364, 347, 312, 274, 237, 278, 284, 277, 317, 313, 318, 374,
        413, 405, 355, 306, 271, 306, 315, 301, 356, 348, 355, 422, 465, 467, 404, 347, 305, 336,
        340, 318, 362, 348, 363, 435, 491, 505, 404, 359, 310, 337, 360, 342, 406, 396, 420, 472,
        548, 559, 463, 407, 362, 405, 417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432};
    memcpy(values, passengers, sizeof passengers);
    assert_int_equal(detect(state, 144, 12), 12);
    assert_int_equal(detect(state, 144, 0), 12);
    assert_int_equal(detect(state, 144, 7), 1);
    /* Two and three years. */
    assert_int_equal(detect(state, 35, 12), 1);
    assert_int_equal(detect(state, 36, 12), 12);
}

/* Of 200 series without a season, some 5 % pass for one that has. */
static void noise_has_no_season(void **state) {
    enum { N = 300, N_SERIES = 200 };
    for (int kind = 0; kind < 3; kind++) {
        int n_seven = 0;
        int n_any = 0;
        for (int64_t s = 0; s < N_SERIES; s++) {
            double level = 0;
            for (int64_t i = 0; i < N; i++) {
                const double e = noise((uint64_t)((s * 3 + kind) * N + i));
                level = (kind == 2 ? 0.8 : 1) * level + e;
                values[i] = kind == 0 ? e : level;
            }
            n_seven += detect(state, N, 7) != 1;
            n_any += detect(state, N, 0) != 1;
        }
        assert_in_range(n_seven, 0, N_SERIES / 10);
        assert_in_range(n_any, 0, N_SERIES / 20);
    }
}

static void lines_and_constants_have_no_season(void **state) {
    static const double slopes[] = {0, 1, 0.1, -1e-3, 1e290, 5e-324};
    static const double levels[] = {0, 1e9, -0.1, 1e300};
    for (size_t s = 0; s < sizeof slopes / sizeof slopes[0]; s++) {
        for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
            for (int64_t i = 0; i < 500; i++) {
                values[i] = levels[l] + slopes[s] * (double)i;
            }
            assert_int_equal(detect(state, 500, 12), 1);
            assert_int_equal(detect(state, 500, 0), 1);
        }
    }
}

/* At the ends of f64, and with values missing. */
static void seasons_survive_magnitude_and_gaps(void **state) {
    static const double scales[] = {DBL_MAX / 2, 1e-300, 1};
    for (size_t s = 0; s < sizeof scales / sizeof scales[0]; s++) {
        for (int64_t i = 0; i < 600; i++) {
            values[i] = scales[s] * (sin(two_pi * (double)i / 12) + 0.1 * noise((uint64_t)i));
            values[i] = i % 5 == 3 || i < 9 || i > 590 ? NAN : values[i];
        }
        for (int64_t i = 200; i < 260; i++) {
            values[i] = NAN;
        }
        assert_int_equal(detect(state, 600, 12), 12);
        assert_int_equal(detect(state, 600, 0), 12);
    }
    for (int64_t i = 0; i < 100; i++) {
        values[i] = i == 50 ? 1 : NAN;
    }
    assert_int_equal(detect(state, 100, 12), 1);
    assert_int_equal(detect(state, 100, 0), 1);
}

static void short_series_have_no_season(void **state) {
    for (int64_t i = 0; i < 100; i++) {
        values[i] = i % 2 == 0 ? 1 : -1;
    }
    for (int64_t n = 0; n < 8; n++) {
        assert_int_equal(detect(state, n, 2), 1);
        assert_int_equal(detect(state, n, 0), 1);
    }
    assert_int_equal(detect(state, 100, 1), 1);
    assert_int_equal(detect(state, 100, INT64_MAX), 1);
    assert_int_equal(detect(state, 100, 34), 1);
    assert_int_equal(detect(state, 100, 2), 2);
}

/* Only the newest values count: here the old ones have a season of 7. */
static void old_values_are_left_out(void **state) {
    for (int64_t i = 0; i < MAX_VALUES; i++) {
        const double period = i < MAX_VALUES - 8192 ? 7 : 24;
        values[i] = 10 * sin(two_pi * (double)i / period) + noise((uint64_t)i);
    }
    assert_int_equal(detect(state, MAX_VALUES, 0), 24);
    assert_int_equal(detect(state, MAX_VALUES, 7), 1);
    assert_int_equal(detect(state, MAX_VALUES, 24), 24);
}

static void memory_may_run_out(void **state) {
    (void)state;
    mz_failing_allocator failing;
    mz_context ctx = {.allocator = mz_failing_allocator_init(&failing, 1)};
    int64_t season;
    assert_int_equal(mz_season_detect(&ctx, values, 100, 0, &season), MZ_ERR_NOMEM);
    assert_int_equal(failing.n_live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_follow_the_frequency),
        cmocka_unit_test(smooth_seasons_are_found),
        cmocka_unit_test(sharp_seasons_are_found),
        cmocka_unit_test(few_strong_seasons_are_found),
        cmocka_unit_test(known_series),
        cmocka_unit_test(noise_has_no_season),
        cmocka_unit_test(lines_and_constants_have_no_season),
        cmocka_unit_test(seasons_survive_magnitude_and_gaps),
        cmocka_unit_test(short_series_have_no_season),
        cmocka_unit_test(old_values_are_left_out),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
