/* The one form of a column of stamps. */
#include "tests/testing.h"

#include <stdio.h>
#include <string.h>

#include "encoders/series/calendar.h"

enum { MAX_ROWS = 6 };

static mz_context *context_of(void **state) {
    return *state;
}

/* Adds rows numbered from 2 on, as behind a header. Returns the first status that is not OK. */
static mz_status add_rows(mz_context *ctx, mz_stamp_column *column, const char *const *rows,
                          mz_stamp *stamps) {
    for (int i = 0; i < MAX_ROWS && rows[i] != NULL; i++) {
        MZ_TRY(mz_stamp_column_add(ctx, column, rows[i], strlen(rows[i]), i + 2, &stamps[i]));
    }
    mz_stamp_column_settle(column);
    for (int i = 0; i < MAX_ROWS && rows[i] != NULL; i++) {
        stamps[i] = mz_stamp_column_value(column, stamps[i]);
    }
    return MZ_OK;
}

/* The stamps of the rows, as ISO text with the time of day where there is one. */
static void columns_are_read(void **state) {
    static const struct {
        const char *rows[MAX_ROWS];
        const char *stamps[MAX_ROWS];
        const char *next; /* 2024-03-01 in the column's form */
    } cases[] = {
        {{"2024-01-31", "2024-02-01"}, {"2024-01-31", "2024-02-01"}, "2024-03-01"},
        {{"2024-01-31", "2024-02-01 06:00"},
         {"2024-01-31", "2024-02-01 06:00"},
         "2024-03-01 00:00"},
        /* Day or month first is decided by a later row. */
        {{"01/02/2024", "02/02/2024", "13/02/2024"},
         {"2024-02-01", "2024-02-02", "2024-02-13"},
         "01/03/2024"},
        {{"01/02/2024", "02/02/2024", "02/13/2024"},
         {"2024-01-02", "2024-02-02", "2024-02-13"},
         "03/01/2024"},
        {{"01-02-2024 10:00", "13-02-2024 11:30"},
         {"2024-02-01 10:00", "2024-02-13 11:30"},
         "01-03-2024 00:00"},
        {{"31/01/2024 24:00", "01/02/2024 00:30"},
         {"2024-02-01", "2024-02-01 00:30"},
         "01/03/2024 00:00"},
        {{"1.2.2024", "2.2.2024"}, {"2024-02-01", "2024-02-02"}, "1.3.2024"},
        {{"31/12/9998", "01/12/9999"}, {"9998-12-31", "9999-12-01"}, "01/03/2024"},
        /* One zone: the local clock, and the zone behind it. */
        {{"2024-01-31T10:00+01:00", "2024-01-31T11:00+01:00"},
         {"2024-01-31 10:00", "2024-01-31 11:00"},
         "2024-03-01T00:00+01:00"},
        {{"2024-01-31 10:00 UTC", "2024-01-31 11:00 UTC"},
         {"2024-01-31 10:00", "2024-01-31 11:00"},
         "2024-03-01 00:00 UTC"},
        {{"2024-01-31 10:00-0330", "2024-01-31 11:00-0330"},
         {"2024-01-31 10:00", "2024-01-31 11:00"},
         "2024-03-01 00:00-0330"},
        /* Summer time: UTC, or dates where all are midnights. */
        {{"2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00", "2024-03-31T04:00+02:00"},
         {"2024-03-31", "2024-03-31 01:00", "2024-03-31 02:00"},
         "2024-03-01T00:00Z"},
        {{"2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"},
         {"2024-03-31", "2024-04-01"},
         "2024-03-01"},
        {{"2024-10-27T02:00+02:00", "2024-10-27T02:00+01:00"},
         {"2024-10-27", "2024-10-27 01:00"},
         "2024-03-01T00:00Z"},
        {{"2024Q1", "2024Q2"}, {"2024-01-01", "2024-04-01"}, "2024-03-01"},
        {{"1700000000", "1700000060.5"},
         {"2023-11-14 22:13:20", "2023-11-14 22:14:20.500000"},
         "1709251200.0"},
        {{"May 2024", "June 2024"}, {"2024-05-01", "2024-06-01"}, "March 2024"},
    };
    const mz_stamp_form iso = mz_stamp_form_iso();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_stamp_column column = {0};
        mz_stamp stamps[MAX_ROWS];
        mz_assert_ok(context_of(state),
                     add_rows(context_of(state), &column, cases[i].rows, stamps));
        char text[MZ_STAMP_BYTES];
        for (int k = 0; cases[i].stamps[k] != NULL; k++) {
            assert_string_equal(mz_stamp_format(&iso, stamps[k], text), cases[i].stamps[k]);
        }
        const mz_stamp march = INT64_C(1709251200000000);
        assert_string_equal(mz_stamp_format(&column.form, march, text), cases[i].next);
    }
}

static void ambiguity_is_told(void **state) {
    const char *const rows[MAX_ROWS] = {"01/02/2024", "03/04/2024"};
    mz_stamp stamps[MAX_ROWS];
    char note[MZ_STAMP_NOTE_BYTES];
    char text[MZ_STAMP_BYTES];
    const mz_stamp_form iso = mz_stamp_form_iso();
    mz_stamp_column column = {0};
    mz_assert_ok(context_of(state), add_rows(context_of(state), &column, rows, stamps));
    assert_true(column.is_ambiguous);
    assert_true(mz_stamp_column_note(&column, note));
    assert_string_equal(note, "row 2: \"01/02/2024\" is ambiguous, as are all dates: the month was "
                              "read first; --day-first reads the day first");
    assert_string_equal(mz_stamp_format(&iso, stamps[1], text), "2024-03-04");

    mz_stamp_column day_first = {.day_first = true};
    mz_assert_ok(context_of(state), add_rows(context_of(state), &day_first, rows, stamps));
    assert_false(day_first.is_ambiguous);
    assert_false(mz_stamp_column_note(&day_first, note));
    assert_string_equal(note, "");
    assert_string_equal(mz_stamp_format(&iso, stamps[1], text), "2024-04-03");
    assert_string_equal(mz_stamp_format(&day_first.form, stamps[1], text), "03/04/2024");
}

/* What a row says holds against the caller's wish. */
static void rows_outrank_day_first(void **state) {
    const char *const rows[MAX_ROWS] = {"01/02/2024", "01/31/2024"};
    mz_stamp stamps[MAX_ROWS];
    char text[MZ_STAMP_BYTES];
    const mz_stamp_form iso = mz_stamp_form_iso();
    mz_stamp_column column = {.day_first = true};
    mz_assert_ok(context_of(state), add_rows(context_of(state), &column, rows, stamps));
    assert_string_equal(mz_stamp_format(&iso, stamps[0], text), "2024-01-02");
}

static void changes_of_zone_are_told(void **state) {
    const char *const hours[MAX_ROWS] = {"2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"};
    const char *const days[MAX_ROWS] = {"2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"};
    mz_stamp stamps[MAX_ROWS];
    char note[MZ_STAMP_NOTE_BYTES];
    mz_stamp_column column = {0};
    mz_assert_ok(context_of(state), add_rows(context_of(state), &column, hours, stamps));
    assert_true(column.is_utc);
    assert_true(mz_stamp_column_note(&column, note));
    assert_string_equal(note,
                        "times were converted to UTC: the offset changes between row 2 "
                        "(\"2024-03-31T01:00+01:00\") and row 3 (\"2024-03-31T03:00+02:00\")");
    column = (mz_stamp_column){0};
    mz_assert_ok(context_of(state), add_rows(context_of(state), &column, days, stamps));
    assert_true(column.is_local);
    assert_true(mz_stamp_column_note(&column, note));
    assert_non_null(strstr(note, "midnights were read as dates without a zone"));
}

static void faults_name_row_and_text(void **state) {
    static const struct {
        const char *rows[MAX_ROWS];
        const char *message;
    } cases[] = {
        {{"yesterday"},
         "row 2: \"yesterday\" is not a time stamp (as in 2024-01-31, 2024-01-31 12:00, "
         "01/31/2024, 31.01.2024, 2024-01, 2024Q1, 2024-W05, 2024)"},
        {{"2024-01-31", "2024/02/01"},
         "row 3: \"2024/02/01\" is not a time stamp of the form YYYY-MM-DD as in row 2 "
         "(\"2024-01-31\")"},
        {{"2024-01-31", ""},
         "row 3: \"\" is not a time stamp of the form YYYY-MM-DD as in row 2 (\"2024-01-31\")"},
        {{"31/01/2024", "2024-02-01"},
         "row 3: \"2024-02-01\" is not a time stamp of the form DD/MM/YYYY as in row 2 "
         "(\"31/01/2024\")"},
        {{"2024-02-30"}, "row 2: \"2024-02-30\" is a date that does not exist"},
        {{"31/02/2024"}, "row 2: \"31/02/2024\" is a date that does not exist"},
        {{"1/5/24"}, "row 2: \"1/5/24\" has a year of two digits, four are needed"},
        {{"2024-01-05", "24-01-06"},
         "row 3: \"24-01-06\" has a year of two digits, four are needed"},
        {{"01/02/2024", "01/31/2024", "31/01/2024"},
         "row 4: \"31/01/2024\" begins with the day, but row 3 (\"01/31/2024\") begins with the "
         "month"},
        {{"31/01/2024", "01/02/2024", "01/31/2024"},
         "row 4: \"01/31/2024\" begins with the month, but row 2 (\"31/01/2024\") begins with the "
         "day"},
        {{"2024-01-31 10:00Z", "2024-01-31 11:00"},
         "row 3: \"2024-01-31 11:00\" has no time zone, but row 2 (\"2024-01-31 10:00Z\") has a "
         "time zone"},
        {{"2024-01-31 10:00", "2024-01-31 11:00Z"},
         "row 3: \"2024-01-31 11:00Z\" has a time zone, but row 2 (\"2024-01-31 10:00\") has no "
         "time zone"},
        {{"2024-01-31 10:00Z", "2024-01-31 11:00+02:00"},
         "row 3: \"2024-01-31 11:00+02:00\" has another time zone than row 2 "
         "(\"2024-01-31 10:00Z\"), more than an hour apart"},
        {{"2024-01-31 10:00+01:00", "2024-01-31 11:00+02:00", "2024-01-31 12:00+00:30"},
         "row 4: \"2024-01-31 12:00+00:30\" has a third time zone, after those of row 2 "
         "(\"2024-01-31 10:00+01:00\") and row 3 (\"2024-01-31 11:00+02:00\")"},
        {{"0001-01-01 00:00+01:00"},
         "row 2: \"0001-01-01 00:00+01:00\" is in UTC outside of the years 0001 to 9999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_stamp_column column = {0};
        mz_stamp stamps[MAX_ROWS];
        assert_int_equal(add_rows(context_of(state), &column, cases[i].rows, stamps),
                         MZ_ERR_FORMAT);
        assert_string_equal(context_of(state)->error.message, cases[i].message);
    }
}

/* A message stays one line of bounded length. */
static void long_text_is_cut(void **state) {
    char text[4096];
    memset(text, '\n', sizeof text);
    mz_stamp_column column = {0};
    mz_stamp stamp;
    assert_int_equal(mz_stamp_column_add(context_of(state), &column, text, sizeof text, 1, &stamp),
                     MZ_ERR_FORMAT);
    assert_null(strchr(context_of(state)->error.message, '\n'));
    assert_non_null(strstr(context_of(state)->error.message, "is not a time stamp"));
}

/* Every date that can be taken for another is given back whole. */
static void all_dates_survive_packing(void **state) {
    static const int years[] = {1, 1600, 2024, 5337, 5338, 5339, 9999};
    for (size_t y = 0; y < sizeof years / sizeof years[0]; y++) {
        for (int month = 1; month <= 12; month++) {
            for (int day = 1; day <= 28; day++) {
                mz_stamp_form form = {.layout = MZ_STAMP_YMD, .separator = '-'};
                char iso[MZ_STAMP_BYTES];
                char text[MZ_STAMP_BYTES];
                (void)snprintf(iso, sizeof iso, "%04d-%02d-%02d 23:59:59.999999", years[y], month,
                               day);
                (void)snprintf(text, sizeof text, "%02d/%02d/%04d 23:59:59.999999", day, month,
                               years[y]);
                const char *const rows[MAX_ROWS] = {text};
                mz_stamp expected;
                mz_stamp stamps[MAX_ROWS];
                mz_stamp_column column = {.day_first = true};
                assert_true(mz_stamp_parse(iso, strlen(iso), &form, &expected));
                mz_assert_ok(context_of(state), add_rows(context_of(state), &column, rows, stamps));
                assert_int_equal(stamps[0], expected);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_read),          cmocka_unit_test(ambiguity_is_told),
        cmocka_unit_test(rows_outrank_day_first),    cmocka_unit_test(changes_of_zone_are_told),
        cmocka_unit_test(faults_name_row_and_text),  cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(all_dates_survive_packing),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
