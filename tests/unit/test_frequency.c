/* Frequencies: names, anchors and steps. */
#include "tests/testing.h"

#include <string.h>

#include "encoders/series/calendar.h"

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

/* ---- names ---- */

static void names_are_read_and_written(void **state) {
    static const struct {
        const char *name, *written; /* NULL: the same */
        mz_frequency freq;
    } cases[] = {
        {"s", NULL, {MZ_FREQUENCY_SECOND, 1, 0, 0, false}},
        {"S", "s", {MZ_FREQUENCY_SECOND, 1, 0, 0, false}},
        {"10sec", "10s", {MZ_FREQUENCY_SECOND, 10, 0, 0, false}},
        {"min", NULL, {MZ_FREQUENCY_MINUTE, 1, 0, 0, false}},
        {"15T", "15min", {MZ_FREQUENCY_MINUTE, 15, 0, 0, false}},
        {"H", "h", {MZ_FREQUENCY_HOUR, 1, 0, 0, false}},
        {"D", NULL, {MZ_FREQUENCY_DAY, 1, 0, 0, false}},
        {"1d", "D", {MZ_FREQUENCY_DAY, 1, 0, 0, false}},
        {"B", NULL, {MZ_FREQUENCY_BUSINESS_DAY, 1, 0, 0, false}},
        {"W", NULL, {MZ_FREQUENCY_WEEK, 1, 0, 6, true}},
        {"W-MON", NULL, {MZ_FREQUENCY_WEEK, 1, 0, 0, false}},
        {"2W-SUN", NULL, {MZ_FREQUENCY_WEEK, 2, 0, 6, false}},
        {"W-fri", "W-FRI", {MZ_FREQUENCY_WEEK, 1, 0, 4, false}},
        {"MS", NULL, {MZ_FREQUENCY_MONTH_START, 1, 0, 0, false}},
        {"ME", NULL, {MZ_FREQUENCY_MONTH_END, 1, 0, 0, false}},
        {"M", NULL, {MZ_FREQUENCY_MONTH_END, 1, 0, 0, true}},
        {"3MD-15", NULL, {MZ_FREQUENCY_MONTH_DAY, 3, 0, 15, false}},
        {"MD-31", NULL, {MZ_FREQUENCY_MONTH_DAY, 1, 0, 31, false}},
        {"QS", NULL, {MZ_FREQUENCY_QUARTER_START, 1, 1, 0, false}},
        {"QS-OCT", "QS", {MZ_FREQUENCY_QUARTER_START, 1, 1, 0, false}},
        {"QS-MAY", "QS-FEB", {MZ_FREQUENCY_QUARTER_START, 1, 2, 0, false}},
        {"Q", NULL, {MZ_FREQUENCY_QUARTER_END, 1, 12, 0, true}},
        {"Q-DEC", "QE", {MZ_FREQUENCY_QUARTER_END, 1, 12, 0, false}},
        {"QE-FEB", "QE-NOV", {MZ_FREQUENCY_QUARTER_END, 1, 11, 0, false}},
        {"YS", NULL, {MZ_FREQUENCY_YEAR_START, 1, 1, 0, false}},
        {"AS-APR", "YS-APR", {MZ_FREQUENCY_YEAR_START, 1, 4, 0, false}},
        {"5YE-JUN", NULL, {MZ_FREQUENCY_YEAR_END, 5, 6, 0, false}},
        {"A", "Y", {MZ_FREQUENCY_YEAR_END, 1, 12, 0, true}},
        {"A-DEC", "YE", {MZ_FREQUENCY_YEAR_END, 1, 12, 0, false}},
        {"YD-MAR-15", NULL, {MZ_FREQUENCY_YEAR_DATE, 1, 3, 15, false}},
        {"YD-FEB-29", NULL, {MZ_FREQUENCY_YEAR_DATE, 1, 2, 29, false}},
        {"1000000s", NULL, {MZ_FREQUENCY_SECOND, 1000000, 0, 0, false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mz_frequency freq = parse(state, cases[i].name);
        if (!mz_frequency_equal(&freq, &cases[i].freq)) {
            fail_msg("%s: kind %d n %d month %d day %d", cases[i].name, (int)freq.kind, (int)freq.n,
                     freq.month, freq.day);
        }
        char name[MZ_FREQUENCY_BYTES];
        assert_string_equal(mz_frequency_name(&freq, name),
                            cases[i].written != NULL ? cases[i].written : cases[i].name);
        const mz_frequency again = parse(state, name);
        assert_true(mz_frequency_equal(&freq, &again));
    }
    char name[MZ_FREQUENCY_BYTES];
    assert_string_equal(mz_frequency_name(&(mz_frequency){0}, name), "irregular");
}

static void unknown_names_are_refused(void **state) {
    static const char *const cases[] = {
        "",      "x",      "-1D",     "0D",     "1000001s",  "99999999999999999999D",
        "D-MON", "W-",     "W-XXX",   "W-MO",   "W-MOND",    "MS-JAN",
        "MD",    "MD-0",   "MD-32",   "MD-1x",  "QS-15",     "YE-",
        "YD",    "YD-MAR", "YD-MAR-", "YD-15",  "YD-FEB-30", "YD-MAR-15-1",
        "1.5h",  "h1",     "D D",     "minute", "irregular", "15",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_frequency freq = {.n = 77};
        if (mz_frequency_parse(context_of(state), cases[i], &freq) != MZ_ERR_ARG) {
            fail_msg("\"%s\" was not refused", cases[i]);
        }
        assert_int_equal(freq.n, 77);
    }
    assert_int_equal(mz_frequency_parse(context_of(state), "weekly", &(mz_frequency){0}),
                     MZ_ERR_ARG);
    assert_string_equal(
        context_of(state)->error.message,
        "frequency \"weekly\" is unknown; known are s, min, h, D, B, W, W-MON, MS, ME, QS, QE, YS, "
        "YE, MD-15 and YD-MAR-15, with a multiple in front (15min)");
    assert_int_equal(mz_frequency_parse(context_of(state), "0h", &(mz_frequency){0}), MZ_ERR_ARG);
    assert_string_equal(context_of(state)->error.message,
                        "frequency \"0h\": the multiple must be 1 to 1000000");
}

static void open_names_take_the_anchor_of_a_stamp(void **state) {
    static const struct {
        const char *name, *stamp, *anchored;
    } cases[] = {
        {"W", "2024-01-03", "W-WED"},     {"2W", "2024-01-07", "2W-SUN"},
        {"M", "2024-01-01", "MS"},        {"M", "2024-01-31", "ME"},
        {"M", "2024-02-29", "ME"},        {"M", "2023-02-28", "ME"},
        {"M", "2024-02-28", "MD-28"},     {"3M", "2024-01-15", "3MD-15"},
        {"Q", "2024-01-01", "QS"},        {"Q", "2024-02-01", "QS-FEB"},
        {"Q", "2024-03-31", "QE"},        {"Q", "2024-05-31", "QE-NOV"},
        {"2Q", "2024-01-15", "6MD-15"},   {"Y", "2024-01-01", "YS"},
        {"Y", "2024-04-01", "YS-APR"},    {"Y", "2024-12-31", "YE"},
        {"Y", "2024-03-15", "YD-MAR-15"}, {"A", "2024-02-29 06:00", "YE-FEB"},
        {"W-MON", "2024-01-03", "W-MON"}, {"D", "2024-01-03", "D"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_frequency freq = parse(state, cases[i].name);
        mz_frequency_anchor(&freq, at(cases[i].stamp));
        char name[MZ_FREQUENCY_BYTES];
        assert_string_equal(mz_frequency_name(&freq, name), cases[i].anchored);
    }
}

/* ---- steps ---- */

typedef struct step {
    const char *freq, *from;
    int64_t k;
    const char *to;
} step;

static void check_steps(void **state, const step *cases, size_t n) {
    const mz_stamp_form iso = mz_stamp_form_iso();
    for (size_t i = 0; i < n; i++) {
        const mz_frequency freq = parse(state, cases[i].freq);
        mz_stamp to = 77;
        char text[MZ_STAMP_BYTES] = "nothing";
        const bool is_there = mz_frequency_step(&freq, at(cases[i].from), cases[i].k, &to);
        if (is_there) {
            (void)mz_stamp_format(&iso, to, text);
        } else {
            assert_int_equal(to, 77);
        }
        const bool is_expected = strcmp(cases[i].to, "nothing") != 0;
        if (is_there != is_expected || (is_there && to != at(cases[i].to))) {
            fail_msg("%s + %lld %s is %s, expected %s", cases[i].from, (long long)cases[i].k,
                     cases[i].freq, text, cases[i].to);
        }
    }
}

/* Answers of pandas 3.1.1: Timestamp(from) + k * to_offset(freq). */
static void steps_are_those_of_pandas(void **state) {
    static const step cases[] = {
        {"s", "2024-12-31 23:59:59", 1, "2025-01-01"},
        {"15min", "2024-02-28 23:50:00", 1, "2024-02-29 00:05:00"},
        {"h", "2024-02-28 23:00:00", 2, "2024-02-29 01:00:00"},
        {"6h", "2024-01-01 03:00:00", -1, "2023-12-31 21:00:00"},
        {"D", "2024-02-28", 1, "2024-02-29"},
        {"D", "2023-02-28", 1, "2023-03-01"},
        {"D", "2024-03-01", -1, "2024-02-29"},
        {"10D", "2024-02-25", 1, "2024-03-06"},
        {"B", "2024-01-05", 1, "2024-01-08"},
        {"B", "2024-01-06", 1, "2024-01-08"},
        {"B", "2024-01-07", -1, "2024-01-05"},
        {"B", "2024-01-07", 2, "2024-01-09"},
        {"B", "2024-01-08", -1, "2024-01-05"},
        {"3B", "2024-01-04", 2, "2024-01-12"},
        {"B", "2024-01-06 10:30:00", 1, "2024-01-08 10:30:00"},
        {"B", "2024-01-01", 260, "2024-12-30"},
        {"W-SUN", "2024-01-07", 1, "2024-01-14"},
        {"W-WED", "2024-01-07", 1, "2024-01-10"},
        {"W-WED", "2024-01-07", -1, "2024-01-03"},
        {"2W-MON", "2024-01-01", 3, "2024-02-12"},
        {"2W-MON", "2024-01-03", 1, "2024-01-15"},
        {"W-SAT", "2024-01-07 12:00:00", 2, "2024-01-20 12:00:00"},
        {"MS", "2024-01-01", 1, "2024-02-01"},
        {"MS", "2024-01-15", 1, "2024-02-01"},
        {"MS", "2024-01-15", -1, "2024-01-01"},
        {"MS", "2024-11-01", 3, "2025-02-01"},
        {"5MS", "2023-12-01", -2, "2023-02-01"},
        {"ME", "2024-01-31", 1, "2024-02-29"},
        {"ME", "2023-01-31", 1, "2023-02-28"},
        {"ME", "2024-02-29", 12, "2025-02-28"},
        {"ME", "2024-01-15", 1, "2024-01-31"},
        {"ME", "2024-01-15", -1, "2023-12-31"},
        {"ME", "2024-03-31", -1, "2024-02-29"},
        {"2ME", "2024-01-30", 2, "2024-04-30"},
        {"ME", "2024-01-31 18:00:00", 1, "2024-02-29 18:00:00"},
        {"QS", "2024-01-01", 1, "2024-04-01"},
        {"QS", "2024-02-15", 1, "2024-04-01"},
        {"QS", "2024-02-15", -1, "2024-01-01"},
        {"QS-FEB", "2024-02-01", -1, "2023-11-01"},
        {"QS-FEB", "2024-01-10", 1, "2024-02-01"},
        {"QS-NOV", "2024-01-10", 2, "2024-05-01"},
        {"2QS", "2024-10-01", 1, "2025-04-01"},
        {"QE", "2024-03-31", 1, "2024-06-30"},
        {"QE", "2024-02-29", 1, "2024-03-31"},
        {"QE", "2024-01-31", -1, "2023-12-31"},
        {"QE-NOV", "2024-01-31", 1, "2024-02-29"},
        {"QE-JAN", "2024-01-31", 1, "2024-04-30"},
        {"QE-OCT", "2024-06-30", -1, "2024-04-30"},
        {"YS", "2024-01-01", 1, "2025-01-01"},
        {"YS", "2024-06-30", 1, "2025-01-01"},
        {"YS", "2024-06-30", -1, "2024-01-01"},
        {"YS-APR", "2024-04-01", -3, "2021-04-01"},
        {"YS-APR", "2024-01-01", 1, "2024-04-01"},
        {"YE", "2023-12-31", 1, "2024-12-31"},
        {"YE", "2024-06-30", 1, "2024-12-31"},
        {"YE", "2024-06-30", -1, "2023-12-31"},
        {"YE-FEB", "2023-02-28", 1, "2024-02-29"},
        {"YE-FEB", "2024-02-29", 1, "2025-02-28"},
        {"5YE-JUN", "2024-06-30", 2, "2034-06-30"},
        {"YE-JUN", "1901-01-01", 100, "2000-06-30"},
    };
    check_steps(state, cases, sizeof cases / sizeof cases[0]);
}

/* What pandas has no name for. */
static void steps_by_day_of_month_and_year(void **state) {
    static const step cases[] = {
        {"MD-15", "2024-01-15", 1, "2024-02-15"},      {"MD-15", "2024-01-20", 1, "2024-02-15"},
        {"MD-15", "2024-01-20", -1, "2024-01-15"},     {"MD-31", "2024-01-31", 1, "2024-02-29"},
        {"MD-31", "2024-02-29", 1, "2024-03-31"},      {"MD-30", "2023-02-28", 1, "2023-03-30"},
        {"MD-30", "2023-02-28", -1, "2023-01-30"},     {"3MD-15", "2024-01-15", 2, "2024-07-15"},
        {"YD-MAR-15", "2024-03-15", 1, "2025-03-15"},  {"YD-FEB-29", "2024-02-29", 1, "2025-02-28"},
        {"YD-FEB-29", "2024-02-29", 4, "2028-02-29"},  {"YD-MAR-15", "2024-03-14", 1, "2024-03-15"},
        {"YD-MAR-15", "2024-03-14", -1, "2023-03-15"},
    };
    check_steps(state, cases, sizeof cases / sizeof cases[0]);
}

static void steps_end_with_the_calendar(void **state) {
    static const step cases[] = {
        {"D", "9999-12-30", 1, "9999-12-31"},
        {"D", "9999-12-31", 1, "nothing"},
        {"D", "0001-01-02", -1, "0001-01-01"},
        {"D", "0001-01-01", -1, "nothing"},
        {"s", "9999-12-31 23:59:59", 1, "nothing"},
        {"s", "0001-01-01", 315537897599, "9999-12-31 23:59:59"},
        {"s", "0001-01-01", 315537897600, "nothing"},
        {"s", "0001-01-01", INT64_MAX, "nothing"},
        {"1000000s", "0001-01-01", INT64_MAX, "nothing"},
        {"YE", "2024-12-31", INT64_MIN, "nothing"},
        {"1000000YE", "2024-12-31", 400000, "nothing"},
        {"1000000W-MON", "2024-12-31", -400000, "nothing"},
        {"B", "9999-12-31", 1, "nothing"},
        {"ME", "9999-12-15", 1, "9999-12-31"},
        {"ME", "9999-12-31", 1, "nothing"},
        {"MS", "0001-01-15", -1, "0001-01-01"},
        {"YE", "0001-01-01", -1, "nothing"},
        {"YS", "0001-01-01", 9998, "9999-01-01"},
        {"W-SUN", "0001-01-01", 1, "0001-01-07"},
        {"W-SUN", "0001-01-01", -1, "nothing"},
        {"D", "2024-02-03 04:05:06", 0, "2024-02-03 04:05:06"},
        {"ME", "2024-02-03", 0, "2024-02-03"},
    };
    check_steps(state, cases, sizeof cases / sizeof cases[0]);
    mz_stamp to;
    const mz_frequency day = parse(state, "D");
    assert_false(mz_frequency_step(&(mz_frequency){0}, 0, 1, &to));
    assert_false(mz_frequency_step(&day, MZ_STAMP_MAX + 1, -1, &to));
    assert_false(mz_frequency_step(&day, MZ_STAMP_MIN - 1, 1, &to));
}

static const char *const kinds[] = {
    "s",  "7s", "15min", "h",      "6h", "D",      "10D", "B",       "3B", "W-MON",  "2W-SAT",
    "MS", "ME", "MD-15", "5MD-31", "QS", "QS-FEB", "QE",  "2QE-NOV", "YS", "YE-FEB", "YD-FEB-29",
};

/* Steps go forward one by one, k steps are k single ones, and counting finds k again. */
static void counting_inverts_steps(void **state) {
    static const char *const begins[] = {"0001-01-01", "1600-02-29 12:00", "1970-01-01",
                                         "2024-01-31 23:59:59", "9990-06-30"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const mz_frequency freq = parse(state, kinds[i]);
        for (size_t b = 0; b < sizeof begins / sizeof begins[0]; b++) {
            mz_stamp from;
            assert_true(mz_frequency_step(&freq, at(begins[b]), 1, &from));
            mz_stamp before = from;
            for (int64_t k = 1; k < 40; k++) {
                mz_stamp to;
                if (!mz_frequency_step(&freq, from, k, &to)) {
                    break;
                }
                mz_stamp next = 0;
                mz_stamp back = 0;
                int64_t count = -1;
                assert_true(mz_frequency_step(&freq, before, 1, &next));
                assert_true(mz_frequency_step(&freq, to, -k, &back));
                assert_true(to > before);
                assert_int_equal(next, to);
                assert_int_equal(back, from);
                assert_true(mz_frequency_count(&freq, from, to, &count));
                assert_int_equal(count, k);
                assert_true(mz_frequency_count(&freq, to, from, &count));
                assert_int_equal(count, -k);
                assert_false(mz_frequency_count(&freq, from, to - 1, &count));
                assert_int_equal(count, k - 1);
                assert_false(mz_frequency_count(&freq, from, to + 1, &count));
                assert_int_equal(count, k);
                before = to;
            }
        }
    }
    int64_t count = 5;
    assert_false(mz_frequency_count(&(mz_frequency){0}, 0, 1, &count));
    assert_int_equal(count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_and_written),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(open_names_take_the_anchor_of_a_stamp),
        cmocka_unit_test(steps_are_those_of_pandas),
        cmocka_unit_test(steps_by_day_of_month_and_year),
        cmocka_unit_test(steps_end_with_the_calendar),
        cmocka_unit_test(counting_inverts_steps),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
