#include "core/schedule.h"

#include <math.h>
#include <string.h>

#include "tests/testing.h"

static void assert_rate(const mz_schedule *s, int64_t step, double expected) {
    const double actual = mz_schedule_at(s, step);
    if (!(fabs(actual - expected) <= 1e-15)) {
        fail_msg("kind %d, step %lld: %.17g, expected %.17g", (int)s->kind, (long long)step, actual,
                 expected);
    }
}

static const mz_schedule cosine = {
    .kind = MZ_SCHEDULE_COSINE, .lr = 1e-4, .min_lr = 5e-5, .total_steps = 3};
static const mz_schedule wsd = {.kind = MZ_SCHEDULE_WSD,
                                .lr = 0.8,
                                .min_lr = 0.2,
                                .warmup_steps = 4,
                                .total_steps = 20,
                                .decay_steps = 9};

/* The rates of the authors' trainer (tests/golden/time-moe/train). */
static void cosine_as_published(void **state) {
    (void)state;
    assert_rate(&cosine, 0, 1e-4);
    assert_rate(&cosine, 1, 8.75e-5);
    assert_rate(&cosine, 2, 6.25e-5);
    assert_rate(&cosine, 3, 5e-5);
    assert_rate(&cosine, 1000, 5e-5);
}

static void warms_up(void **state) {
    (void)state;
    for (int kind = 0; kind < MZ_SCHEDULE_COUNT; kind++) {
        mz_schedule s = wsd;
        s.kind = (mz_schedule_kind)kind;
        mz_assert_ok(&(mz_context){0}, mz_schedule_check(NULL, &s));
        assert_rate(&s, 0, 0.2);
        assert_rate(&s, 1, 0.4);
        assert_rate(&s, 3, 0.8);
        assert_rate(&s, 4, 0.8);
    }
    const mz_schedule all = {
        .kind = MZ_SCHEDULE_COSINE, .lr = 1, .warmup_steps = 2, .total_steps = 2};
    assert_rate(&all, 1, 1);
    assert_rate(&all, 2, 0);
}

static void constant_stays(void **state) {
    (void)state;
    const mz_schedule s = {.kind = MZ_SCHEDULE_CONSTANT, .lr = 0.3};
    assert_rate(&s, 0, 0.3);
    assert_rate(&s, INT64_MAX, 0.3);
}

static void cosine_after_warm_up(void **state) {
    (void)state;
    const mz_schedule s = {
        .kind = MZ_SCHEDULE_COSINE, .lr = 1, .min_lr = 0, .warmup_steps = 10, .total_steps = 110};
    assert_rate(&s, 10, 1);
    assert_rate(&s, 60, 0.5);
    for (int64_t step = 10; step < 110; step++) {
        assert_true(mz_schedule_at(&s, step + 1) < mz_schedule_at(&s, step));
    }
    assert_rate(&s, 110, 0);
}

static void stable_then_decays(void **state) {
    (void)state;
    assert_rate(&wsd, 11, 0.8);
    assert_rate(&wsd, 12, 0.2 + 0.6 * (1 - sqrt(1.0 / 9)));
    assert_rate(&wsd, 15, 0.2 + 0.6 * (1 - sqrt(4.0 / 9)));
    assert_rate(&wsd, 20, 0.2);
    assert_rate(&wsd, 21, 0.2);
    mz_schedule sudden = wsd;
    sudden.decay_steps = 0;
    assert_rate(&sudden, 19, 0.8);
    assert_rate(&sudden, 20, 0.2);
}

static void assert_refused(mz_schedule s, const char *part) {
    mz_error err = {0};
    assert_int_equal(mz_schedule_check(&err, &s), MZ_ERR_ARG);
    if (strstr(err.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, err.message);
    }
}

static void names_what_is_wrong(void **state) {
    (void)state;
    mz_schedule s = wsd;
    s.lr = 0;
    assert_refused(s, "learning rate is 0, expected a finite number above 0");
    s.lr = NAN;
    assert_refused(s, "learning rate is nan");
    s.lr = INFINITY;
    assert_refused(s, "learning rate is inf");
    s = wsd;
    s.min_lr = 0.9;
    assert_refused(s, "lowest learning rate is 0.9, expected 0 to 0.8");
    s.min_lr = NAN;
    assert_refused(s, "lowest learning rate is nan");
    s = wsd;
    s.total_steps = -1;
    assert_refused(s, "total_steps is -1");
    s = wsd;
    s.warmup_steps = 21;
    assert_refused(s, "warmup_steps is 21, expected 0 to 20");
    s.warmup_steps = -1;
    assert_refused(s, "warmup_steps is -1");
    s = wsd;
    s.decay_steps = 17;
    assert_refused(s, "decay_steps is 17, expected 0 to 16");
    s.kind = MZ_SCHEDULE_COSINE;
    assert_int_equal(mz_schedule_check(NULL, &s), MZ_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine_as_published), cmocka_unit_test(warms_up),
        cmocka_unit_test(constant_stays),      cmocka_unit_test(cosine_after_warm_up),
        cmocka_unit_test(stable_then_decays),  cmocka_unit_test(names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
