/* Random draws and synthetic series. */
#include "tests/testing.h"

#include <math.h>
#include <string.h>

#include "encoders/series/series_generator.h"
#include "encoders/series/series_generator_internal.h"

enum { MAX_POINTS = 2112, N_DRAWS = 40000 };

static void assert_near(double actual, double expected, double tolerance) {
    if (!(fabs(actual - expected) <= tolerance)) {
        fail_msg("%.9g, expected %.9g within %g", actual, expected, tolerance);
    }
}

static void draws_are_of_their_distribution(void **state) {
    (void)state;
    mz_draw draw;
    mz_draw_init(&draw, 7, 3);
    double sum = 0;
    double squares = 0;
    double logs = 0;
    int64_t counts[5] = {0};
    int64_t n_true = 0;
    for (int i = 0; i < N_DRAWS; i++) {
        const double u = mz_draw_uniform(&draw, -1, 3);
        assert_true(u >= -1 && u < 3);
        sum += u;
        const double z = mz_draw_normal(&draw);
        squares += z * z;
        const double l = mz_draw_log_uniform(&draw, 0.1, 10);
        assert_true(l >= 0.0999 && l < 10.001);
        logs += log(l);
        counts[mz_draw_int(&draw, 2, 6) - 2]++;
        n_true += mz_draw_chance(&draw, 0.3);
    }
    assert_near(sum / N_DRAWS, 1, 0.03);
    assert_near(squares / N_DRAWS, 1, 0.04);
    assert_near(logs / N_DRAWS, 0, 0.04);
    assert_near((double)n_true / N_DRAWS, 0.3, 0.015);
    for (int k = 0; k < 5; k++) {
        assert_near((double)counts[k] / N_DRAWS, 0.2, 0.015);
    }
    assert_int_equal(mz_draw_int(&draw, 5, 5), 5);
    assert_int_equal(mz_draw_int(&draw, 5, 2), 5);
}

static void normals_are_standard_and_stop_at_n(void **state) {
    (void)state;
    static float values[N_DRAWS + 1];
    mz_draw draw;
    mz_draw_init(&draw, 1, 1);
    values[N_DRAWS - 3] = 99;
    mz_draw_normals(&draw, values, N_DRAWS - 3);
    assert_true(values[N_DRAWS - 3] == 99);
    double mean;
    double deviation;
    mz_part_moments(values, N_DRAWS - 3, &mean, &deviation);
    assert_near(mean, 0, 0.02);
    assert_near(deviation, 1, 0.02);
}

static void choices_follow_weights(void **state) {
    (void)state;
    static const double weights[] = {0, 1, 0, 3, 0};
    mz_draw draw;
    mz_draw_init(&draw, 1, 2);
    int64_t counts[5] = {0};
    for (int i = 0; i < N_DRAWS; i++) {
        counts[mz_draw_choice(&draw, weights, 5)]++;
    }
    assert_int_equal(counts[0] + counts[2] + counts[4], 0);
    assert_near((double)counts[3] / N_DRAWS, 0.75, 0.015);
}

static void shapes_are_standard_and_close(void **state) {
    (void)state;
    static const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 12, 24, 61, 336, 512, 100000};
    for (uint64_t i = 0; i < 600; i++) {
        mz_draw draw;
        mz_draw_init(&draw, 2, i);
        mz_season_shape shape;
        mz_season_shape_draw(&draw, lengths[i % 12], &shape);
        assert_in_range(shape.n, 2, MZ_SEASON_POINTS);
        double mean;
        double deviation;
        mz_part_moments(shape.values, shape.n, &mean, &deviation);
        assert_near(mean, 0, 1e-4);
        assert_true(deviation == 0 || fabs(deviation - 1) < 1e-4);
        assert_true(shape.values[shape.n] == shape.values[0]);
        const double at = 1.5 / shape.n; /* half way between points 1 and 2, five cycles on */
        const double expected = ((double)shape.values[1] + (double)shape.values[2]) / 2;
        assert_near(mz_season_shape_at(&shape, at + 5), expected, 1e-4);
    }
}

static void parts_do_what_they_say(void **state) {
    (void)state;
    float values[400];
    mz_draw draw;
    for (uint64_t i = 0; i < 200; i++) {
        mz_draw_init(&draw, 3, i);
        mz_part_fill(values, 400, 0);
        mz_part_trend(&draw, values, 400, 5);
        for (int k = 1; k < 400; k++) {
            assert_true(fabsf(values[k] - values[k - 1]) < 0.9f); /* no jumps */
        }
        mz_part_exponentiate(values, 400, 0.5);
        for (int k = 0; k < 400; k++) {
            assert_true(values[k] > 0.13f && values[k] < 7.4f); /* exp(-2), exp(2) */
        }
        mz_part_fill(values, 400, 1);
        mz_part_gain(&draw, values, 400, 0.4);
        for (int k = 0; k < 400; k++) {
            assert_true(values[k] > 0.599f && values[k] < 1.401f);
        }
        const double period = mz_part_period(&draw, 400);
        assert_true(period >= 1.3 && period <= 400);
        mz_part_fill(values, 400, 0);
        mz_part_outliers(&draw, values, 400, 0, 9);
        assert_true(values[7] == 0 && values[399] == 0);
    }
}

static void noise_has_its_size(void **state) {
    (void)state;
    static float values[MAX_POINTS];
    double sum = 0;
    for (uint64_t i = 0; i < 200; i++) {
        mz_draw draw;
        mz_draw_init(&draw, 4, i);
        mz_part_fill(values, MAX_POINTS, 0);
        mz_part_noise(&draw, values, MAX_POINTS, 2);
        double mean;
        double deviation;
        mz_part_moments(values, MAX_POINTS, &mean, &deviation);
        assert_true(deviation > 0.2 && deviation < 8);
        sum += deviation;
    }
    assert_near(sum / 200, 2, 0.4);
}

static void seasons_return(void **state) {
    (void)state;
    static float values[240];
    int64_t n_exact = 0;
    for (uint64_t i = 0; i < 100; i++) {
        mz_draw draw;
        mz_draw_init(&draw, 5, i);
        mz_part_fill(values, 240, 0);
        mz_part_season(&draw, values, 240, 24, 1);
        float worst = 0;
        for (int k = 24; k < 240; k++) {
            worst = fmaxf(worst, fabsf(values[k] - values[k - 24]));
        }
        n_exact += worst < 1e-4f;
        assert_true(worst < 4);
    }
    assert_in_range(n_exact, 35, 80); /* the others change in size or shape */
}

static void generation_is_pure(void **state) {
    (void)state;
    static float first[MAX_POINTS];
    static float again[MAX_POINTS];
    for (uint64_t i = 0; i < 60; i++) {
        const mz_series_family family = mz_series_generate(11, i, 700, first);
        (void)mz_series_generate(11, i + 1, 99, again);
        assert_int_equal(mz_series_generate(11, i, 700, again), family);
        assert_memory_equal(first, again, 700 * sizeof *first);
        (void)mz_series_generate(12, i, 700, again);
        assert_memory_not_equal(first, again, 700 * sizeof *first);
    }
}

static void every_family_is_finite_at_every_length(void **state) {
    (void)state;
    static const int64_t lengths[] = {1, 2, 3, 4, 5, 8, 17, 50, 97, 333, 1000, MAX_POINTS};
    static float values[MAX_POINTS + 1];
    for (int family = 0; family < MZ_SERIES_FAMILY_COUNT; family++) {
        assert_true(strlen(mz_series_family_name((mz_series_family)family)) > 0);
        int64_t n_constant = 0;
        for (uint64_t i = 0; i < 240; i++) {
            const int64_t n = lengths[i % 12];
            values[n] = 77;
            mz_series_generate_family((mz_series_family)family, 9, i, n, values);
            assert_true(values[n] == 77);
            bool constant = true;
            for (int64_t k = 0; k < n; k++) {
                assert_true(isfinite(values[k]) && fabsf(values[k]) <= 1e6f);
                constant = constant && values[k] == values[0];
            }
            n_constant += constant && n >= 8;
        }
        if (family != MZ_SERIES_SHAPES && family != MZ_SERIES_INTERMITTENT) {
            assert_in_range(n_constant, 0, 4);
        }
    }
}

static void counts_are_not_negative(void **state) {
    (void)state;
    static float values[500];
    int64_t n_negative = 0;
    int64_t n_whole = 0;
    for (uint64_t i = 0; i < 200; i++) {
        mz_series_generate_family(MZ_SERIES_INTERMITTENT, 1, i, 500, values);
        bool negative = false;
        bool whole = true;
        for (int k = 0; k < 500; k++) {
            negative = negative || values[k] < 0;
            whole = whole && values[k] == floorf(values[k]);
        }
        n_negative += negative;
        n_whole += whole;
    }
    assert_in_range(n_negative, 0, 15); /* the few that are negated */
    assert_in_range(n_whole, 120, 199);
}

static void all_families_are_drawn(void **state) {
    (void)state;
    static float values[MAX_POINTS];
    int64_t short_counts[MZ_SERIES_FAMILY_COUNT] = {0};
    int64_t long_counts[MZ_SERIES_FAMILY_COUNT] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        short_counts[mz_series_generate(5, i, 40, values)]++;
        long_counts[mz_series_generate(5, i, 600, values)]++;
    }
    for (int k = 0; k < MZ_SERIES_FAMILY_COUNT; k++) {
        assert_in_range(short_counts[k], 25, 400);
        assert_in_range(long_counts[k], 8, 350);
    }
    assert_true(short_counts[MZ_SERIES_SHORT] > 4 * long_counts[MZ_SERIES_SHORT]);
    assert_true(long_counts[MZ_SERIES_HOURS] > 2 * short_counts[MZ_SERIES_HOURS]);
}

/* Mean absolute difference at a lag over that at lag 1.5 times as long, about half a cycle off. */
static void hours_have_days(void **state) {
    (void)state;
    static float values[MAX_POINTS];
    int64_t n_daily = 0;
    static const int64_t per_day[] = {24, 48, 96, 144, 288};
    for (uint64_t i = 0; i < 100; i++) {
        mz_series_generate_family(MZ_SERIES_HOURS, 2, i, MAX_POINTS, values);
        double best = 1;
        for (int r = 0; r < 5; r++) {
            double on = 0;
            double off = 1e-9;
            for (int64_t k = 0; k < MAX_POINTS - per_day[r] * 3 / 2; k++) {
                on += (double)fabsf(values[k + per_day[r]] - values[k]);
                off += (double)fabsf(values[k + per_day[r] * 3 / 2] - values[k]);
            }
            best = fmin(best, on / off);
        }
        n_daily += best < 0.85;
    }
    assert_in_range(n_daily, 75, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_of_their_distribution),
        cmocka_unit_test(normals_are_standard_and_stop_at_n),
        cmocka_unit_test(choices_follow_weights),
        cmocka_unit_test(shapes_are_standard_and_close),
        cmocka_unit_test(parts_do_what_they_say),
        cmocka_unit_test(noise_has_its_size),
        cmocka_unit_test(seasons_return),
        cmocka_unit_test(generation_is_pure),
        cmocka_unit_test(every_family_is_finite_at_every_length),
        cmocka_unit_test(counts_are_not_negative),
        cmocka_unit_test(all_families_are_drawn),
        cmocka_unit_test(hours_have_days),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
