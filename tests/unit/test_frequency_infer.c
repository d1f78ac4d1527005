/* Finding the frequency of stamps, and the stamps that do not follow one. */
#include "tests/testing.h"

#include <stdio.h>
#include <string.h>

#include "encoders/series/calendar.h"

enum { MAX_STAMPS = 400 };

static mz_context *context_of(void **state) {
    return *state;
}

static mz_stamp at(const char *text) {
    mz_stamp_form form;
    mz_stamp stamp = 0;
    if (!mz_stamp_parse(text, strlen(text), &form, &stamp)) {
        fail_msg("\"%s\" is no stamp", text);
    }
    return stamp;
}

static mz_frequency parse(void **state, const char *name) {
    mz_frequency freq = {0};
    mz_assert_ok(context_of(state), mz_frequency_parse(context_of(state), name, &freq));
    return freq;
}

/* n stamps of the frequency from the first grid point at or after `from`. */
static void fill(void **state, const char *name, const char *from, int64_t n, mz_stamp *stamps) {
    const mz_frequency freq = parse(state, name);
    mz_stamp first = at(from);
    int64_t k;
    (void)mz_frequency_step(&freq, first, 1, &stamps[0]);
    if (mz_frequency_step(&freq, stamps[0], -1, &stamps[0]) && stamps[0] < first) {
        assert_true(mz_frequency_step(&freq, stamps[0], 1, &stamps[0]));
    }
    for (k = 1; k < n; k++) {
        assert_true(mz_frequency_step(&freq, stamps[0], k, &stamps[k]));
    }
}

static void assert_inferred(void **state, const mz_stamp *stamps, int64_t n, const char *expected) {
    mz_frequency freq = {0};
    char name[MZ_FREQUENCY_BYTES];
    mz_assert_ok(context_of(state), mz_frequency_infer(context_of(state), stamps, n, &freq));
    if (strcmp(mz_frequency_name(&freq, name), expected) != 0) {
        char text[MZ_STAMP_BYTES];
        const mz_stamp_form iso = mz_stamp_form_iso();
        fail_msg("%lld stamps from %s: %s, expected %s", (long long)n,
                 n > 0 ? mz_stamp_format(&iso, stamps[0], text) : "-", name, expected);
    }
}

/* ---- inference ---- */

static void regular_stamps_have_their_frequency(void **state) {
    static const char *const names[] = {
        "s",  "10s",    "min",   "5min",   "15min",     "h",      "6h",     "D",
        "2D", "10D",    "B",     "W-MON",  "W-SUN",     "2W-WED", "MS",     "2MS",
        "ME", "MD-15",  "MD-30", "QS",     "QS-FEB",    "QE",     "QE-NOV", "2QE",
        "YS", "YS-APR", "YE",    "YE-JUN", "YD-MAR-15", "5YS",
    };
    static const int64_t counts[] = {3, 6, 40, MAX_STAMPS};
    mz_stamp stamps[MAX_STAMPS] = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
            const int64_t n = counts[k];
            /* Three days of the week, or of months of 30 days, say less than that. */
            if (n == 3 && (strcmp(names[i], "B") == 0 || strcmp(names[i], "MD-30") == 0)) {
                continue;
            }
            if (strcmp(names[i], "5YS") == 0 && n > 40) {
                continue;
            }
            fill(state, names[i], "1924-02-04", n, stamps);
            assert_inferred(state, stamps, n, names[i]);
            fill(state, names[i], "1924-02-04 10:20:30", n, stamps);
            assert_inferred(state, stamps, n, names[i]);
        }
    }
}

/* A name is that of the largest unit. */
static void multiples_become_larger_units(void **state) {
    static const struct {
        const char *freq, *from, *inferred;
    } cases[] = {
        {"60s", "2024-01-01", "min"},       {"90s", "2024-01-01", "90s"},
        {"60min", "2024-01-01", "h"},       {"24h", "2024-01-01", "D"},
        {"36h", "2024-01-01", "36h"},       {"7D", "2024-01-01", "W-MON"},
        {"14D", "2024-01-03", "2W-WED"},    {"3MS", "2024-02-01", "QS-FEB"},
        {"3ME", "2024-03-31", "QE"},        {"12MS", "2024-04-01", "YS-APR"},
        {"12ME", "2024-06-30", "YE-JUN"},   {"5B", "2024-01-02", "W-TUE"},
        {"4QS", "2024-01-01", "YS"},        {"12MD-15", "2024-03-15", "YD-MAR-15"},
        {"3MD-15", "2024-03-15", "3MD-15"},
    };
    mz_stamp stamps[12] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fill(state, cases[i].freq, cases[i].from, 12, stamps);
        assert_inferred(state, stamps, 12, cases[i].inferred);
    }
}

/* Every third stamp is missing, and the frequency is the same. */
static void gaps_do_not_hide_a_frequency(void **state) {
    static const char *const names[] = {"s",     "15min", "h",  "D",  "B",
                                        "W-THU", "MS",    "ME", "QE", "YS"};
    mz_stamp stamps[MAX_STAMPS] = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fill(state, names[i], "2001-01-31", 90, stamps);
        int64_t n = 0;
        for (int64_t k = 0; k < 90; k++) {
            if (k % 9 != 4 && k % 17 != 3) {
                stamps[n++] = stamps[k];
            }
        }
        assert_inferred(state, stamps, n, names[i]);
    }
}

/* Holidays of business days, one Saturday among them, and a late stamp an hour. */
static void strays_do_not_hide_a_frequency(void **state) {
    mz_stamp stamps[MAX_STAMPS] = {0};
    fill(state, "B", "2024-01-01", 60, stamps);
    stamps[24] = at("2024-02-03"); /* for Monday the fifth */
    assert_inferred(state, stamps, 60, "B");
    fill(state, "h", "2024-01-01", 60, stamps);
    stamps[30] += 90 * INT64_C(1000000);
    assert_inferred(state, stamps, 60, "h");
    fill(state, "D", "2024-01-01", 60, stamps);
    stamps[30] += 3600 * INT64_C(1000000);
    assert_inferred(state, stamps, 60, "D");
}

/* Midnights of a clock with summer time, in UTC. */
static void days_in_utc_stay_days(void **state) {
    mz_stamp stamps[MAX_STAMPS] = {0};
    fill(state, "D", "2024-01-01 23:00", 366, stamps);
    for (int i = 90; i < 300; i++) {
        stamps[i] -= INT64_C(3600000000);
    }
    assert_inferred(state, stamps, 366, "D");
}

static void without_a_pattern_there_is_none(void **state) {
    mz_stamp stamps[MAX_STAMPS] = {0};
    assert_inferred(state, stamps, 0, "irregular");
    stamps[0] = at("2024-01-01");
    assert_inferred(state, stamps, 1, "irregular");
    for (int64_t i = 0; i < 50; i++) {
        stamps[i] = i * i * 37 * INT64_C(1000000);
    }
    assert_inferred(state, stamps, 50, "irregular");
    for (int64_t i = 0; i < 50; i++) {
        stamps[i] = i * 500000; /* half a second */
    }
    assert_inferred(state, stamps, 50, "irregular");
    const mz_stamp ends[] = {MZ_STAMP_MIN, MZ_STAMP_MAX};
    assert_inferred(state, ends, 2, "irregular");
}

static void two_stamps_are_a_guess(void **state) {
    static const struct {
        const char *first, *second, *inferred;
    } cases[] = {
        {"2024-01-01", "2024-01-02", "D"},
        {"2024-01-01", "2024-02-01", "MS"},
        {"2024-01-31", "2024-02-29", "ME"},
        {"2024-01-31", "2024-02-01", "D"},
        {"2024-01-01", "2025-01-01", "YS"},
        {"2024-01-01", "2024-01-08", "W-MON"},
        {"2024-01-01 10:00", "2024-01-01 10:15", "15min"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mz_stamp stamps[] = {at(cases[i].first), at(cases[i].second)};
        assert_inferred(state, stamps, 2, cases[i].inferred);
    }
}

/* ---- checking ---- */

static void assert_fault(const mz_stamp_fault *fault, int64_t count, int64_t first) {
    assert_int_equal(fault->count, count);
    assert_int_equal(fault->first, first);
}

static void faults_are_counted_and_placed(void **state) {
    static const char *const texts[] = {
        "2024-01-01",       "2024-01-02", "2024-01-02", "2024-01-05", "2024-01-04",
        "2024-01-05 06:00", "2024-01-06", "2024-01-07", "2024-01-10",
    };
    enum { N = sizeof texts / sizeof texts[0] };
    mz_stamp stamps[N];
    for (int i = 0; i < N; i++) {
        stamps[i] = at(texts[i]);
    }
    const mz_frequency day = parse(state, "D");
    mz_stamp_check check;
    mz_stamp_check_run(&day, stamps, N, &check);
    assert_fault(&check.duplicate, 1, 2);
    assert_fault(&check.disorder, 1, 4);
    assert_fault(&check.off_grid, 1, 5);
    assert_fault(&check.gap, 3, 3); /* before the 5th, the 6th and the 10th */
    assert_int_equal(check.n_missing, 2 + 1 + 2);
    assert_int_equal(check.origin, stamps[0]);
    mz_stamp_check_run(&(mz_frequency){0}, stamps, N, &check);
    assert_fault(&check.duplicate, 1, 2);
    assert_fault(&check.disorder, 1, 4);
    assert_fault(&check.off_grid, 0, -1);
    assert_fault(&check.gap, 0, -1);
    mz_stamp_check_run(&day, stamps, 0, &check);
    assert_fault(&check.duplicate, 0, -1);
    assert_int_equal(check.n_missing, 0);
}

/* The grid is that of most stamps, not that of the first. */
static void most_stamps_make_the_grid(void **state) {
    static const char *const texts[] = {"2024-01-01 00:03", "2024-01-01 01:00", "2024-01-01 02:00",
                                        "2024-01-01 03:00", "2024-01-01 05:00"};
    mz_stamp stamps[5];
    for (int i = 0; i < 5; i++) {
        stamps[i] = at(texts[i]);
    }
    const mz_frequency hour = parse(state, "h");
    mz_stamp_check check;
    mz_stamp_check_run(&hour, stamps, 5, &check);
    assert_fault(&check.off_grid, 1, 0);
    assert_fault(&check.gap, 1, 4);
    assert_int_equal(check.n_missing, 1);
    assert_int_equal(check.origin, stamps[1]);
    /* A frequency that contradicts the stamps: none lies on its anchor. */
    const mz_frequency saturday = parse(state, "W-SAT");
    mz_stamp_check_run(&saturday, stamps, 5, &check);
    assert_fault(&check.off_grid, 5, 0);
}

static void clean_stamps_have_no_fault(void **state) {
    static const char *const names[] = {"7s", "h",     "D",      "B",        "2W-TUE",
                                        "ME", "MD-31", "QS-MAR", "YD-FEB-29"};
    mz_stamp stamps[MAX_STAMPS] = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fill(state, names[i], "1999-12-31 12:00", MAX_STAMPS, stamps);
        const mz_frequency freq = parse(state, names[i]);
        mz_stamp_check check;
        mz_stamp_check_run(&freq, stamps, MAX_STAMPS, &check);
        assert_fault(&check.duplicate, 0, -1);
        assert_fault(&check.disorder, 0, -1);
        assert_fault(&check.off_grid, 0, -1);
        assert_fault(&check.gap, 0, -1);
        assert_int_equal(check.origin, stamps[0]);
    }
}

static void memory_may_run_out(void **state) {
    (void)state;
    mz_failing_allocator failing;
    mz_context ctx = {.allocator = mz_failing_allocator_init(&failing, 1)};
    const mz_stamp stamps[] = {0, 1000000};
    mz_frequency freq = {.n = 77};
    assert_int_equal(mz_frequency_infer(&ctx, stamps, 2, &freq), MZ_ERR_NOMEM);
    assert_int_equal(freq.n, 77);
    assert_int_equal(failing.n_live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_stamps_have_their_frequency),
        cmocka_unit_test(multiples_become_larger_units),
        cmocka_unit_test(gaps_do_not_hide_a_frequency),
        cmocka_unit_test(strays_do_not_hide_a_frequency),
        cmocka_unit_test(days_in_utc_stay_days),
        cmocka_unit_test(without_a_pattern_there_is_none),
        cmocka_unit_test(two_stamps_are_a_guess),
        cmocka_unit_test(faults_are_counted_and_placed),
        cmocka_unit_test(most_stamps_make_the_grid),
        cmocka_unit_test(clean_stamps_have_no_fault),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
