/* Civil dates, and stamps as text. */
#include "tests/testing.h"

#include <string.h>

#include "encoders/series/calendar_internal.h"

/* ---- civil dates ---- */

static void every_day_follows_the_one_before(void **state) {
    (void)state;
    int64_t days = mz_civil_days(1, 1, 1);
    assert_int_equal(days * MZ_DAY_US, MZ_STAMP_MIN);
    assert_int_equal(mz_civil_weekday(days), 0); /* datetime.date(1, 1, 1).weekday() */
    int weekday = 0;
    for (int64_t year = 1; year <= 9999; year++) {
        const bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        assert_int_equal(mz_civil_days(year + 1, 1, 1) - days, is_leap ? 366 : 365);
        for (int month = 1; month <= 12; month++) {
            const int n_days = mz_civil_month_days(year, month);
            for (int day = 1; day <= n_days; day++, days++) {
                const mz_civil c = mz_civil_of(days);
                if (c.year != year || c.month != month || c.day != day ||
                    mz_civil_days(year, month, day) != days || mz_civil_weekday(days) != weekday) {
                    fail_msg("%lld-%d-%d", (long long)year, month, day);
                }
                weekday = (weekday + 1) % 7;
            }
        }
    }
    assert_int_equal(days * MZ_DAY_US - 1, MZ_STAMP_MAX);
}

static void months_have_their_lengths(void **state) {
    (void)state;
    const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (int month = 1; month <= 12; month++) {
        assert_int_equal(mz_civil_month_days(2023, month), lengths[month - 1]);
        assert_int_equal(mz_civil_month_days(2024, month), lengths[month - 1] + (month == 2));
    }
    assert_int_equal(mz_civil_month_days(1900, 2), 28);
    assert_int_equal(mz_civil_month_days(2000, 2), 29);
}

/* datetime.date.fromisocalendar(year, 1, 1) */
static void weeks_begin_on_their_monday(void **state) {
    (void)state;
    assert_int_equal(mz_civil_first_week(2015), mz_civil_days(2014, 12, 29));
    assert_int_equal(mz_civil_first_week(2016), mz_civil_days(2016, 1, 4));
    assert_int_equal(mz_civil_first_week(2018), mz_civil_days(2018, 1, 1));
    assert_int_equal(mz_civil_first_week(2021), mz_civil_days(2021, 1, 4));
}

static void months_have_names(void **state) {
    (void)state;
    for (int month = 1; month <= 12; month++) {
        const char *name = mz_civil_month_name(month);
        bool is_long = false;
        assert_int_equal(mz_civil_month_named(name, strlen(name), &is_long), month);
        assert_int_equal(is_long, strlen(name) > 3);
        assert_int_equal(mz_civil_month_named(name, 3, &is_long), month);
        assert_false(is_long);
        assert_int_equal(mz_civil_month_named(name, 2, &is_long), 0);
    }
    bool is_long;
    assert_int_equal(mz_civil_month_named("SEP", 3, &is_long), 9);
    assert_int_equal(mz_civil_month_named("Janu", 4, &is_long), 0);
    assert_int_equal(mz_civil_month_named("Maya", 4, &is_long), 0);
}

/* ---- reading ---- */

/* A text, and the stamp it shows: seconds since 1970 (from Python's datetime) and microseconds. */
typedef struct known {
    const char *text;
    mz_stamp_layout layout;
    int64_t seconds;
    int64_t us;
    const char *written; /* NULL: as `text` */
} known;

static const known knowns[] = {
    {"2024-01-31", MZ_STAMP_YMD, 1706659200, 0, NULL},
    {"2024/01/31", MZ_STAMP_YMD, 1706659200, 0, NULL},
    {"2024.01.31", MZ_STAMP_YMD, 1706659200, 0, NULL},
    {"20240131", MZ_STAMP_YMD, 1706659200, 0, NULL},
    {"2024-1-5", MZ_STAMP_YMD, 1704412800, 0, NULL},
    {"2024/1/5 3:04", MZ_STAMP_YMD, 1704423840, 0, NULL},
    {"  2024-01-31\t", MZ_STAMP_YMD, 1706659200, 0, "2024-01-31"},
    {"0001-01-01", MZ_STAMP_YMD, -62135596800, 0, NULL},
    {"9999-12-31", MZ_STAMP_YMD, 253402214400, 0, NULL},
    {"2024-02-29", MZ_STAMP_YMD, 1709164800, 0, NULL},
    {"2000-02-29", MZ_STAMP_YMD, 951782400, 0, NULL},
    {"1969-12-31 23:59:59.999999", MZ_STAMP_YMD, -1, 999999, NULL},
    {"31.01.2024", MZ_STAMP_DMY, 1706659200, 0, NULL},
    {"1.2.2024", MZ_STAMP_DMY, 1706745600, 0, NULL},
    {"31/01/2024", MZ_STAMP_DMY, 1706659200, 0, NULL},
    {"31-01-2024", MZ_STAMP_DMY, 1706659200, 0, NULL},
    {"01/31/2024", MZ_STAMP_MDY, 1706659200, 0, NULL},
    {"01-31-2024", MZ_STAMP_MDY, 1706659200, 0, NULL},
    {"1/2/2024", MZ_STAMP_MDY, 1704153600, 0, NULL},
    {"1/31/2024 13:05", MZ_STAMP_MDY, 1706706300, 0, NULL},
    {"1/31/2024 1:05 PM", MZ_STAMP_MDY, 1706706300, 0, NULL},
    {"2024-01", MZ_STAMP_MONTH, 1704067200, 0, NULL},
    {"2024/01", MZ_STAMP_MONTH, 1704067200, 0, NULL},
    {"202401", MZ_STAMP_MONTH, 1704067200, 0, NULL},
    {"2024Q1", MZ_STAMP_QUARTER, 1704067200, 0, NULL},
    {"2024-Q4", MZ_STAMP_QUARTER, 1727740800, 0, NULL},
    {"2024 Q3", MZ_STAMP_QUARTER, 1719792000, 0, NULL},
    {"2024", MZ_STAMP_YEAR, 1704067200, 0, NULL},
    {"2024-W05", MZ_STAMP_WEEK, 1706486400, 0, NULL},
    {"2024W05", MZ_STAMP_WEEK, 1706486400, 0, NULL},
    {"2020-W53", MZ_STAMP_WEEK, 1609113600, 0, NULL},
    {"2015-W01", MZ_STAMP_WEEK, 1419811200, 0, NULL},
    {"Jan 2024", MZ_STAMP_NAMED_MONTH, 1704067200, 0, NULL},
    {"January 2024", MZ_STAMP_NAMED_MONTH, 1704067200, 0, NULL},
    {"jan-2024", MZ_STAMP_NAMED_MONTH, 1704067200, 0, "Jan-2024"},
    {"May 2024", MZ_STAMP_NAMED_MONTH, 1714521600, 0, NULL},
    {"1 Jan 2024", MZ_STAMP_NAMED_DAY, 1704067200, 0, NULL},
    {"01-Jan-2024", MZ_STAMP_NAMED_DAY, 1704067200, 0, NULL},
    {"5 January 2024", MZ_STAMP_NAMED_DAY, 1704412800, 0, NULL},
    {"5 Jan 2024 03:04:05Z", MZ_STAMP_NAMED_DAY, 1704423845, 0, NULL},
    {"Jan 5, 2024", MZ_STAMP_NAMED_MDY, 1704412800, 0, NULL},
    {"January 05 2024", MZ_STAMP_NAMED_MDY, 1704412800, 0, NULL},
    {"Jan 5, 2024 12:30 AM", MZ_STAMP_NAMED_MDY, 1704414600, 0, NULL},
    {"1700000000", MZ_STAMP_EPOCH_S, 1700000000, 0, NULL},
    {"100000000", MZ_STAMP_EPOCH_S, 100000000, 0, NULL},
    {"1700000000.5", MZ_STAMP_EPOCH_S, 1700000000, 500000, NULL},
    {"1700000000.0", MZ_STAMP_EPOCH_S, 1700000000, 0, NULL},
    {"1700000000123", MZ_STAMP_EPOCH_MS, 1700000000, 123000, NULL},
    {"100000000000", MZ_STAMP_EPOCH_MS, 100000000, 0, NULL},
    {"2024-01-31 12", MZ_STAMP_YMD, 1706702400, 0, NULL},
    {"2024-01-31T12:30", MZ_STAMP_YMD, 1706704200, 0, NULL},
    {"2024-01-31T12:30:45", MZ_STAMP_YMD, 1706704245, 0, NULL},
    {"20240131T12:30:45", MZ_STAMP_YMD, 1706704245, 0, NULL},
    {"2024-01-31 12:30:45.5", MZ_STAMP_YMD, 1706704245, 500000, NULL},
    {"2024-01-31 12:30:45,250", MZ_STAMP_YMD, 1706704245, 250000, "2024-01-31 12:30:45.250"},
    {"2024-01-31 12:30:45.000001", MZ_STAMP_YMD, 1706704245, 1, NULL},
    {"2024-01-31 12:30:45.000000000", MZ_STAMP_YMD, 1706704245, 0, "2024-01-31 12:30:45.000000"},
    {"2024-01-31 12:30:45.123456789", MZ_STAMP_YMD, 1706704245, 123456,
     "2024-01-31 12:30:45.123456"},
    {"2024-01-31 24:00", MZ_STAMP_YMD, 1706745600, 0, "2024-02-01 00:00"},
    {"2024-12-31T24:00:00", MZ_STAMP_YMD, 1735689600, 0, "2025-01-01T00:00:00"},
    {"2024-01-31 12:00 AM", MZ_STAMP_YMD, 1706659200, 0, NULL},
    {"2024-01-31 12:00 PM", MZ_STAMP_YMD, 1706702400, 0, NULL},
    {"2024-01-31 01:30pm", MZ_STAMP_YMD, 1706707800, 0, "2024-01-31 01:30 PM"},
    {"2024-01-31 11:59:59 PM", MZ_STAMP_YMD, 1706745599, 0, NULL},
};

static void forms_are_read_and_written(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof knowns / sizeof knowns[0]; i++) {
        const known *k = &knowns[i];
        mz_stamp_form form;
        mz_stamp stamp;
        char text[MZ_STAMP_BYTES];
        if (!mz_stamp_parse(k->text, strlen(k->text), &form, &stamp)) {
            fail_msg("\"%s\" was not read", k->text);
        }
        if (form.layout != k->layout || stamp != k->seconds * MZ_SECOND_US + k->us) {
            fail_msg("\"%s\": layout %d, %lld us", k->text, (int)form.layout, (long long)stamp);
        }
        assert_string_equal(mz_stamp_format(&form, stamp, text),
                            k->written != NULL ? k->written : k->text);
    }
}

/* The zone is part of the form: the stamp is what the clock shows. */
static void zones_stand_in_the_form(void **state) {
    (void)state;
    static const struct {
        const char *zone, *written;
        int32_t offset_s;
    } cases[] = {
        {"Z", NULL, 0},           {"z", "Z", 0},
        {" UTC", NULL, 0},        {"UTC", " UTC", 0},
        {"+00:00", NULL, 0},      {"+0530", NULL, 19800},
        {"-08:00", NULL, -28800}, {" -08:00", "-08:00", -28800},
        {"+01", "+0100", 3600},   {"+14:00", NULL, 50400},
        {"-00:30", NULL, -1800},  {"+23:59", NULL, 86340},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[MZ_STAMP_BYTES] = "2024-01-31T12:30";
        char expected[MZ_STAMP_BYTES] = "2024-01-31T12:30";
        strcat(text, cases[i].zone);
        strcat(expected, cases[i].written != NULL ? cases[i].written : cases[i].zone);
        mz_stamp_form form;
        mz_stamp stamp;
        if (!mz_stamp_parse(text, strlen(text), &form, &stamp)) {
            fail_msg("\"%s\" was not read", text);
        }
        assert_true(form.has_zone);
        assert_int_equal(form.offset_s, cases[i].offset_s);
        assert_int_equal(stamp, 1706704200 * MZ_SECOND_US);
        char written[MZ_STAMP_BYTES];
        assert_string_equal(mz_stamp_format(&form, stamp, written), expected);
    }
}

static void other_text_is_refused(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        " ",
        "abc",
        "-",
        "12",
        "1.5",
        "2024-",
        "2024-01-",
        "2024-00-01",
        "2024-13-01",
        "2024-01-00",
        "2024-01-32",
        "2024-02-30",
        "2023-02-29",
        "1900-02-29",
        "2024-04-31",
        "0000-01-01",
        "10000-01-01",
        "24-01-05",
        "1/5/24",
        "5 Jan 24",
        "00/01/2024",
        "13/13/2024",
        "31/04/2024",
        "30.02.2024",
        "02/30/2024",
        "2024-01/31",
        "2024Q0",
        "2024Q5",
        "2024Q11",
        "2024-W00",
        "2024-W54",
        "2024-W53",
        "2024-W5",
        "Jan",
        "Jan 24",
        "Janu 2024",
        "Foo 2024",
        "Jan/2024",
        "32 Jan 2024",
        "Feb 30, 2024",
        "Jan, 5 2024",
        "2024-01-31T",
        "2024-01-31 ",
        "2024-01-31  12:00",
        "2024-01-31 25:00",
        "2024-01-31 24:01",
        "2024-01-31 12:60",
        "2024-01-31 12:00:60",
        "2024-01-31 12:0",
        "2024-01-31 12:00:",
        "2024-01-31 12:00:00.",
        "2024-01-31 12:00.5",
        "2024-01-31 13:00 PM",
        "2024-01-31 0:30 AM",
        "2024-01-31 12:00+",
        "2024-01-31 12:00+1",
        "2024-01-31 12:00+01:",
        "2024-01-31 12:00+24:00",
        "2024-01-31 12:00+01:60",
        "2024-01-31 12:00ZZ",
        "2024-01-31 12:00 CET",
        "2024-01-31x",
        "9999-12-31 24:00",
        "01/31/2024 12:00Z",
        "2024-01 12:00",
        "2024 12:00",
        "12345",
        "1234567",
        "029001999",
        "029001999901",
        "12345678901",
        "12345678901234",
        "1700000000.",
        "1700000000.5.5",
        "2024-01-31Z",
        "99999999999999999999999999",
        "1700000000,5",
        "20241301",
        "202413",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_stamp_form form = {.n_clock = 99};
        mz_stamp stamp = 77;
        /* The blank behind a date is not part of it. */
        const bool is_read = mz_stamp_parse(cases[i], strlen(cases[i]), &form, &stamp);
        if (is_read != (strcmp(cases[i], "2024-01-31 ") == 0)) {
            fail_msg("\"%s\" was%s read", cases[i], is_read ? "" : " not");
        }
        if (!is_read) {
            assert_int_equal(stamp, 77);
            assert_int_equal(form.n_clock, 99);
        }
    }
    /* Only the bytes given count. */
    mz_stamp_form form;
    mz_stamp stamp;
    assert_true(mz_stamp_parse("2024-01-31garbage", 10, &form, &stamp));
    assert_false(mz_stamp_parse("2024\0", 5, &form, &stamp));
}

static void short_years_are_known(void **state) {
    (void)state;
    static const char *const yes[] = {"1/5/24", "24-01-05",       "5 Jan 24",
                                      "Jan 24", "01.02.24 10:00", "24"};
    static const char *const no[] = {"", "1/5/224", "hello 24", "12:30", "2024-01-05"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        assert_true(mz_stamp_has_short_year(yes[i], strlen(yes[i])));
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        assert_false(mz_stamp_has_short_year(no[i], strlen(no[i])));
    }
}

/* ---- writing ---- */

/* Nothing is lost when a stamp does not fit its form. */
static void forms_widen(void **state) {
    (void)state;
    static const struct {
        const char *form, *stamp, *written;
    } cases[] = {
        {"2024-01-31", "2024-02-01 06:00", "2024-02-01 06:00"},
        {"2024-01-31", "2024-02-01 06:00:01", "2024-02-01 06:00:01"},
        {"20240131", "2024-02-01 06:00", "20240201 06:00"},
        {"2024-01-31T12", "2024-02-01 06:30", "2024-02-01T06:30"},
        {"2024-01-31 12:00", "2024-02-01 00:00:00.25", "2024-02-01 00:00:00.250000"},
        {"2024-01-31 12:00:00.5", "2024-02-01 00:00:00.25", "2024-02-01 00:00:00.250000"},
        {"2024-01", "2024-02-15", "2024-02-15"},
        {"2024-01", "2024-02-01 06:00", "2024-02-01 06:00"},
        {"2024Q1", "2024-04-01", "2024Q2"},
        {"2024Q1", "2024-05-01", "2024-05-01"},
        {"2024", "2025-01-01", "2025"},
        {"2024", "2025-02-01", "2025-02-01"},
        {"2024-W05", "2024-12-30", "2025-W01"},
        {"2024-W05", "2024-12-31", "2024-12-31"},
        {"Jan 2024", "2024-02-01", "Feb 2024"},
        {"January 2024", "2024-02-29", "2024-02-29"},
        {"1700000000", "2024-01-01 00:00:00.125", "1704067200.125000"},
        {"1700000000", "1969-12-31 23:59:59", "-1"},
        {"1/2/2024", "2024-12-31", "12/31/2024"},
        {"31/01/2024", "2024-02-01", "01/02/2024"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_stamp_form form;
        mz_stamp_form other;
        mz_stamp stamp;
        char text[MZ_STAMP_BYTES];
        assert_true(mz_stamp_parse(cases[i].form, strlen(cases[i].form), &form, &stamp));
        assert_true(mz_stamp_parse(cases[i].stamp, strlen(cases[i].stamp), &other, &stamp));
        assert_string_equal(mz_stamp_format(&form, stamp, text), cases[i].written);
    }
}

/* Written and read again, a stamp of any form is the same. */
static void written_stamps_are_read_back(void **state) {
    (void)state;
    uint64_t random = 7;
    for (size_t i = 0; i < sizeof knowns / sizeof knowns[0]; i++) {
        mz_stamp_form form;
        mz_stamp stamp;
        assert_true(mz_stamp_parse(knowns[i].text, strlen(knowns[i].text), &form, &stamp));
        if (form.layout == MZ_STAMP_EPOCH_S || form.layout == MZ_STAMP_EPOCH_MS) {
            continue; /* for a part of the range only */
        }
        for (int k = 0; k < 200; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            const uint64_t span = (uint64_t)(MZ_STAMP_MAX - MZ_STAMP_MIN);
            const mz_stamp any = MZ_STAMP_MIN + (int64_t)(random % span);
            const mz_stamp wanted = k % 2 == 0 ? any : any - mz_floor_mod(any, MZ_DAY_US);
            char text[MZ_STAMP_BYTES];
            (void)mz_stamp_format(&form, wanted, text);
            mz_stamp_numbers numbers;
            mz_stamp back = 0;
            /* Which of two numbers is the month is not the text's to say. */
            if (!mz_stamp_scan(text, strlen(text), &numbers) ||
                !mz_stamp_compose(&numbers,
                                  numbers.form.layout == MZ_STAMP_MDY ? form.layout
                                                                      : numbers.form.layout,
                                  &back) ||
                back != wanted) {
                fail_msg("%lld became \"%s\" in the form of \"%s\"", (long long)wanted, text,
                         knowns[i].text);
            }
        }
    }
}

static void patterns_name_the_form(void **state) {
    (void)state;
    static const struct {
        const char *text, *pattern;
    } cases[] = {
        {"2024-01-31", "YYYY-MM-DD"},
        {"20240131", "YYYYMMDD"},
        {"2024-01-31T12:30:00.125+01:00", "YYYY-MM-DDThh:mm:ss.fff+hh:mm"},
        {"2024-01-31 12:30Z", "YYYY-MM-DD hh:mmZ"},
        {"2024-01-31 12:30 UTC", "YYYY-MM-DD hh:mm UTC"},
        {"31.01.2024", "DD.MM.YYYY"},
        {"01/31/2024 1:30 PM", "MM/DD/YYYY hh:mm AM"},
        {"2024-01", "YYYY-MM"},
        {"2024Q1", "YYYYQn"},
        {"2024", "YYYY"},
        {"2024-W05", "YYYY-Www"},
        {"January 2024", "Jan YYYY"},
        {"5 Jan 2024", "DD Jan YYYY"},
        {"Jan 5, 2024", "Jan DD, YYYY"},
        {"1700000000", "seconds since 1970 in 10 digits"},
        {"1700000000000", "milliseconds since 1970 in 13 digits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_stamp_form form;
        mz_stamp stamp;
        char pattern[MZ_STAMP_BYTES];
        assert_true(mz_stamp_parse(cases[i].text, strlen(cases[i].text), &form, &stamp));
        assert_string_equal(mz_stamp_pattern(&form, pattern), cases[i].pattern);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_day_follows_the_one_before),
        cmocka_unit_test(months_have_their_lengths),
        cmocka_unit_test(weeks_begin_on_their_monday),
        cmocka_unit_test(months_have_names),
        cmocka_unit_test(forms_are_read_and_written),
        cmocka_unit_test(zones_stand_in_the_form),
        cmocka_unit_test(other_text_is_refused),
        cmocka_unit_test(short_years_are_known),
        cmocka_unit_test(forms_widen),
        cmocka_unit_test(written_stamps_are_read_back),
        cmocka_unit_test(patterns_name_the_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
