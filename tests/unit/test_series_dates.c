/* Dates and ids in CSV and JSON lines: which columns are read as what, and the one line said about
 * each fault. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "encoders/series/series_ids.h"
#include "encoders/series/series_reader_internal.h"

enum { MAX_SERIES = 3, MAX_VALUES = 6 };

typedef struct expected_series {
    const char *id;
    double values[MAX_VALUES];
    int64_t n_values;
    const char *last; /* date as written, NULL: none */
    const char *frequency;
    const char *value_name; /* NULL: any */
    const char *error;
} expected_series;

typedef struct good_case {
    const char *text;
    mz_series_options options;
    expected_series series[MAX_SERIES];
    const char *note; /* about the file, NULL: none */
} good_case;

static void check_series(const mz_series *s, const expected_series *e) {
    char text[MZ_STAMP_BYTES];
    assert_string_equal(s->id, e->id);
    if (e->error != NULL) {
        assert_non_null(s->error);
        assert_string_equal(s->error, e->error);
        return;
    }
    assert_null(s->error);
    assert_int_equal(s->n_values, e->n_values);
    for (int64_t i = 0; i < e->n_values; i++) {
        assert_true(s->values[i] == e->values[i] || (isnan(s->values[i]) && isnan(e->values[i])));
    }
    if (e->last == NULL) {
        assert_null(s->stamps);
        return;
    }
    assert_non_null(s->stamps);
    assert_string_equal(mz_stamp_format(&s->form, s->stamps[s->n_values - 1], text), e->last);
    assert_string_equal(mz_frequency_name(&s->frequency, text), e->frequency);
    if (e->value_name != NULL) {
        assert_string_equal(s->value_name, e->value_name);
    }
}

static void run_good(mz_context *ctx, const good_case *cases, size_t n_cases) {
    for (size_t i = 0; i < n_cases; i++) {
        const good_case *c = &cases[i];
        mz_series_reader *reader = NULL;
        const char *const *notes = NULL;
        int64_t n = 0;
        mz_assert_ok(
            ctx, mz_series_open_memory(ctx, c->text, strlen(c->text), "t", &c->options, &reader));
        assert_int_equal(mz_series_notes(reader, &notes), c->note != NULL ? 1 : 0);
        if (c->note != NULL) {
            assert_string_equal(notes[0], c->note);
        }
        for (;; n++) {
            mz_series series;
            bool end = false;
            mz_assert_ok(ctx, mz_series_next(reader, &series, &end));
            if (end) {
                break;
            }
            assert_true(n < MAX_SERIES);
            check_series(&series, &c->series[n]);
        }
        assert_true(n == MAX_SERIES || c->series[n].id == NULL);
        assert_int_equal(mz_series_count(reader), n);
        mz_series_close(reader);
    }
}

static void long_layouts(void **state) {
    static const char three[] = "unique_id,ds,y\na,2024-01-01,1\nb,2024-01-01,5\na,2024-01-02,2\n"
                                "b,2024-01-02,6\na,2024-01-03,3\nb,2024-01-03,7\n";
    static const good_case cases[] = {
        {three,
         {0},
         {{"a", {1, 2, 3}, 3, "2024-01-03", "D", "y", NULL},
          {"b", {5, 6, 7}, 3, "2024-01-03", "D", "y", NULL}},
         NULL},
        {"item_id,timestamp,target\nx,2024-01-01 00:00:00,1\nx,2024-01-01 01:00:00,2\n",
         {0},
         {{"x", {1, 2}, 2, "2024-01-01 01:00:00", "h", "target", NULL}},
         NULL},
        /* In any order of columns and in any case. */
        {"Y;DS;Unique_ID\n1,5;01.02.2024;x\n2;02.02.2024;x\n3;03.02.2024;x\n",
         {.frequency = {.kind = MZ_FREQUENCY_NONE}},
         {{"x", {1.5, 2, 3}, 3, "03.02.2024", "D", "Y", NULL}},
         NULL},
        /* A value column is told by its name, other columns are left out. */
        {"unique_id,ds,price,y\na,2024-01-01,9,1\na,2024-01-02,9,2\n",
         {0},
         {{"a", {1, 2}, 2, "2024-01-02", "D", "y", NULL}},
         "column \"price\" is not read; --columns or --value chooses"},
        {"ds,y,cap,floor\n2024-01-01,1,8,0\n2024-01-02,2,8,0\n",
         {0},
         {{"y", {1, 2}, 2, "2024-01-02", "D", NULL, NULL}},
         "column \"cap\" and 1 more are not read; --columns or --value chooses"},
        /* Or named by the user. */
        {"shop,day,sold\nn,2024-01-01,1\ns,2024-01-01,5\nn,2024-01-02,2\n",
         {.id = "shop", .time = "day", .value = "sold"},
         {{"n", {1, 2}, 2, "2024-01-02", "D", "sold", NULL},
          {"s", {5}, 1, "2024-01-01", "irregular", "sold", NULL}},
         NULL},
        {"shop,sold\nn,1\ns,5\nn,2\n",
         {.id = "shop", .value = "sold"},
         {{"n", {1, 2}, 2, NULL, NULL, "sold", NULL}, {"s", {5}, 1, NULL, NULL, "sold", NULL}},
         NULL},
        /* An id with too few rows to tell has the frequency of the others. */
        {"unique_id,ds,y\na,2024-01-31,1\na,2024-02-29,2\na,2024-03-31,3\nb,2024-01-31,5\n"
         "c,2024-01-31,6\nc,2024-03-31,8\n",
         {0},
         {{"a", {1, 2, 3}, 3, "2024-03-31", "ME", NULL, NULL},
          {"b", {5}, 1, "2024-01-31", "ME", NULL, NULL},
          {"c", {6, NAN, 8}, 3, "2024-03-31", "ME", NULL, NULL}},
         NULL},
        /* What is wrong with the dates of one id is its own error. */
        {"unique_id,ds,y\na,2024-01-02,1\na,2024-01-01,2\nb,2024-01-01,5\n",
         {0},
         {{"a",
           {0},
           0,
           NULL,
           NULL,
           NULL,
           "row 3 (2024-01-01) is earlier than row 2 (2024-01-02) (1 such row); --sort puts them "
           "in "
           "order"},
          {"b", {5}, 1, "2024-01-01", "irregular", NULL, NULL}},
         NULL},
        {"unique_id,ds,y\na,2024-01-02,1\na,2024-01-01,2\nb,2024-01-01,5\n",
         {.sort = true, .frequency = {.kind = MZ_FREQUENCY_DAY, .n = 1}},
         {{"a", {2, 1}, 2, "2024-01-02", "D", NULL, NULL},
          {"b", {5}, 1, "2024-01-01", "D", NULL, NULL}},
         NULL},
        /* Latin-1 ids become UTF-8. */
        {"unique_id,ds,y\n\xe9,2024-01-01,1\n\xe9,2024-01-02,2\n",
         {0},
         {{"\xc3\xa9", {1, 2}, 2, "2024-01-02", "D", NULL, NULL}},
         NULL},
    };
    run_good(*state, cases, sizeof cases / sizeof cases[0]);
}

static void wide_layouts(void **state) {
    static const good_case cases[] = {
        {"date,a,b\n2024-01-31,1,4\n2024-02-29,2,\n2024-03-31,3,6\n",
         {0},
         {{"a", {1, 2, 3}, 3, "2024-03-31", "ME", NULL, NULL},
          {"b", {4, NAN, 6}, 3, "2024-03-31", "ME", NULL, NULL}},
         NULL},
        {"2024-01-01,5\n2024-01-02,6\n2024-01-04,7\n2024-01-05,8\n",
         {0},
         {{"column 2", {5, 6, NAN, 7, 8}, 5, "2024-01-05", "D", NULL, NULL}},
         NULL},
        /* A column that may hold values or dates, in front and in the middle. */
        {"what,a\n2024Q1,5\n2024Q2,6\n2024Q3,7\n",
         {0},
         {{"a", {5, 6, 7}, 3, "2024Q3", "QS", NULL, NULL}},
         NULL},
        {"a,time\n5,2024-01-01 10:00\n6,2024-01-01 10:15\n7,2024-01-01 10:30\n",
         {0},
         {{"a", {5, 6, 7}, 3, "2024-01-01 10:30", "15min", NULL, NULL}},
         NULL},
        {"a,time\n5,1.5\n6,2.5\n",
         {0},
         {{"a", {5, 6}, 2, NULL, NULL, NULL, NULL},
          {"time", {1.5, 2.5}, 2, NULL, NULL, NULL, NULL}},
         NULL},
        /* Years, and numbers that are none. */
        {"year,a\n1999,5\n2000,6\n2001,7\n",
         {0},
         {{"a", {5, 6, 7}, 3, "2001", "YS", NULL, NULL}},
         NULL},
        {"time,a\n1949,5\n1949.083,6\n1949.167,7\n",
         {0},
         {{"a", {5, 6, 7}, 3, NULL, NULL, NULL, NULL}},
         "column \"time\" is not read as dates: \"1949.083\" (row 3) is none"},
        {"date,a\n01/02/2024,5\n02/02/2024,6\n03/02/2024,7\n",
         {.day_first = true},
         {{"a", {5, 6, 7}, 3, "03/02/2024", "D", NULL, NULL}},
         NULL},
        {"date,a\n2024-01-02,5\n2024-01-01,6\n2024-01-02,8\n",
         {.sort = true, .duplicates = MZ_DUPLICATES_MEAN},
         {{"a", {6, 6.5}, 2, "2024-01-02", "D", NULL, NULL}},
         NULL},
        {"date,a\n2024-01-05,5\n2024-01-01,6\nlast,8\n",
         {.ignore_dates = true},
         {{"a", {5, 6, 8}, 3, NULL, NULL, NULL, NULL}},
         NULL},
    };
    run_good(*state, cases, sizeof cases / sizeof cases[0]);
}

static void json_lines(void **state) {
    static const good_case cases[] = {
        {"{\"item_id\":\"a\",\"start\":\"2024-01-31\",\"freq\":\"M\",\"target\":[1,2]}\n",
         {0},
         {{"a", {1, 2}, 2, "2024-02-29", "ME", NULL, NULL}},
         NULL},
        {"{\"id\":\"a\",\"start\":\"2024-01-01 10:00\",\"target\":[1,2]}\n",
         {.frequency = {.kind = MZ_FREQUENCY_MINUTE, .n = 15}},
         {{"a", {1, 2}, 2, "2024-01-01 10:15", "15min", NULL, NULL}},
         NULL},
        /* R's way: points in a season, and year and period. */
        {"{\"id\":\"a\",\"start\":[1949,11],\"freq\":12,\"values\":[1,2,3]}\n"
         "{\"id\":\"b\",\"start\":[1949,4],\"freq\":4,\"values\":[1,2]}\n"
         "{\"id\":\"c\",\"start\":[1,1],\"freq\":1,\"values\":[1,2]}\n",
         {0},
         {{"a", {1, 2, 3}, 3, "1950-01-01", "MS", NULL, NULL},
          {"b", {1, 2}, 2, "1950-01-01", "QS", NULL, NULL},
          {"c", {1, 2}, 2, NULL, NULL, NULL, NULL}},
         NULL},
        {"{\"id\":\"a\",\"timestamps\":[\"2024-01-01\",\"2024-01-02\",\"2024-01-04\"],"
         "\"sequence\":[1,2,4]}\n"
         "{\"id\":\"b\",\"timestamps\":[\"2024-01-02\",\"2024-01-01\"],\"sequence\":[1,2]}\n",
         {0},
         {{"a", {1, 2, NAN, 4}, 4, "2024-01-04", "D", NULL, NULL},
          {"b",
           {0},
           0,
           NULL,
           NULL,
           NULL,
           "timestamp 2 (2024-01-01) is earlier than timestamp 1 (2024-01-02) (1 such row); --sort "
           "puts them in order"}},
         NULL},
        {"{\"id\":\"a\",\"timestamps\":[\"2024-01-01\",\"no date\"],\"sequence\":[1,2]}\n",
         {.ignore_dates = true},
         {{"a", {1, 2}, 2, NULL, NULL, NULL, NULL}},
         NULL},
        {"{\"id\":\"a\",\"start\":\"2024-01-01\",\"target\":[1,2]}\n",
         {0},
         {{"a", {1, 2}, 2, NULL, NULL, NULL, NULL}},
         NULL},
        {"{\"id\":\"a\",\"timestamps\":[1700000000,1700003600,1700007200],\"sequence\":[1,2,4]}\n",
         {0},
         {{"a", {1, 2, 4}, 3, "1700007200", "h", NULL, NULL}},
         NULL},
    };
    run_good(*state, cases, sizeof cases / sizeof cases[0]);
}

typedef struct bad_case {
    const char *text;
    mz_series_options options;
    mz_status status;
    const char *message;
} bad_case;

static void faults_are_named(void **state) {
    static const bad_case cases[] = {
        {"ds,y\n2024-02-28,1\n2024-02-30,2\n",
         {0},
         MZ_ERR_FORMAT,
         "t: column \"ds\": row 3: \"2024-02-30\" is a date that does not exist"},
        {"ds,y\n2024-02-30,1\n",
         {0},
         MZ_ERR_FORMAT,
         "t: column \"ds\": row 2: \"2024-02-30\" is a date that does not exist"},
        {"ds,y\nfoo,1\n2024-03-01,2\n",
         {0},
         MZ_ERR_FORMAT,
         "t: row 2, column \"ds\": \"foo\" is not a date, as the next row has one"},
        {"a,b\nfoo,1\n",
         {.time = "a"},
         MZ_ERR_FORMAT,
         "t: row 2, column \"a\": \"foo\" is not a date"},
        {"ds,y\n2024-01-01,1\n2024-01-01,2\n",
         {0},
         MZ_ERR_ARG,
         "t: row 3 (2024-01-01) is a duplicate of row 2 (2024-01-01) (1 such row); --duplicates "
         "last "
         "or mean makes one of them"},
        /* Rows are counted as a spreadsheet counts them. */
        {"ds,y\n\n2024-01-02,1\n\n\n2024-01-01,2\n",
         {0},
         MZ_ERR_ARG,
         "t: row 6 (2024-01-01) is earlier than row 3 (2024-01-02) (1 such row); --sort puts them "
         "in "
         "order"},
        {"unique_id,ds,y\n,2024-01-01,1\n", {0}, MZ_ERR_FORMAT, "t: row 2: the id is empty"},
        {"id,day,a,b\nx,2024-01-01,1,2\n",
         {.id = "id", .time = "day"},
         MZ_ERR_ARG,
         "t: with ids in column \"id\" one column holds the values; choose it with --value from "
         "\"id\", \"day\", \"a\", \"b\""},
        {"id,day,a\nx,2024-01-01,1\n",
         {.id = "day", .time = "day"},
         MZ_ERR_ARG,
         "t: column \"day\" cannot hold both ids and dates"},
        {"id,day,a\nx,2024-01-01,1\n",
         {.id = "id", .value = "id"},
         MZ_ERR_ARG,
         "t: column \"id\" holds ids and cannot be a series"},
        {"id,day,a\nx,2024-01-01,1\n",
         {.id = "shop"},
         MZ_ERR_MISSING,
         "t: no column \"shop\"; the file has \"id\", \"day\", \"a\""},
        {"unique_id,ds\nx,2024-01-01\n",
         {0},
         MZ_ERR_ARG,
         "t: with ids in column \"unique_id\" one column holds the values; choose it with --value "
         "from "
         "\"unique_id\", \"ds\""},
        {"{\"start\":5,\"target\":[1]}\n",
         {0},
         MZ_ERR_FORMAT,
         "t: line 1: start is a number, expected a date as text"},
        {"{\"start\":\"2024-02-30\",\"target\":[1]}\n",
         {0},
         MZ_ERR_FORMAT,
         "t: line 1: start \"2024-02-30\" is not a date"},
        {"{\"timestamps\":[\"2024-01-01\"],\"target\":[1,2]}\n",
         {0},
         MZ_ERR_FORMAT,
         "t: line 1: 1 timestamps for 2 values"},
        {"{\"timestamps\":[true],\"target\":[1]}\n",
         {0},
         MZ_ERR_FORMAT,
         "t: line 1: timestamps[0] is a truth value, expected a date as text or an epoch"},
        {"{\"start\":\"9999-12-31\",\"freq\":\"D\",\"target\":[1,2]}\n",
         {0},
         MZ_ERR_FORMAT,
         "t: line 1: value 2 lies beyond the year 9999"},
        {"{\"target\":[1]}\n",
         {.id = "a"},
         MZ_ERR_ARG,
         "t: columns can be chosen from CSV only, this is JSON lines"},
    };
    mz_context *ctx = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_series_reader *reader = NULL;
        assert_int_equal(mz_series_open_memory(ctx, cases[i].text, strlen(cases[i].text), "t",
                                               &cases[i].options, &reader),
                         cases[i].status);
        assert_string_equal(ctx->error.message, cases[i].message);
        assert_null(reader);
    }
}

/* Many ids, mixed: numbered in the order in which they come. */
static void many_ids(void **state) {
    enum { N_IDS = 5000, N_ROUNDS = 3 };
    mz_context *ctx = *state;
    mz_series_ids ids = {0};
    for (int round = 0; round < N_ROUNDS; round++) {
        for (int64_t i = 0; i < N_IDS; i++) {
            char id[32];
            int64_t number = -1;
            const int n = snprintf(id, sizeof id, "series %lld", (long long)(i * 7919 % N_IDS));
            mz_assert_ok(ctx, mz_series_ids_find(ctx, &ids, id, (size_t)n, &number));
            assert_int_equal(number, i);
            assert_string_equal(mz_series_ids_text(&ids, number), id);
        }
    }
    assert_int_equal(ids.n, N_IDS);
    mz_series_ids_clear(ctx, &ids);
}

/* Reads all of a text with the allocation number fail_at failing (0: none); returns whether it got
 * through without reaching that one. */
static bool read_with_failure(const char *text, const mz_series_options *options, int64_t fail_at) {
    mz_failing_allocator failing;
    const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
    mz_context ctx;
    assert_int_equal(
        mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
        MZ_OK);
    const int64_t n_live_before = failing.n_live;
    failing.fail_at = failing.n_calls + fail_at;
    mz_series_reader *reader = NULL;
    mz_status status = mz_series_open_memory(&ctx, text, strlen(text), "t", options, &reader);
    bool end = false;
    while (status == MZ_OK && !end) {
        mz_series series = {0};
        status = mz_series_next(reader, &series, &end);
        if (status == MZ_OK && !end && series.error == NULL) {
            mz_gap_report gaps;
            int64_t season = 1;
            status = mz_series_season(&ctx, &series, 0, &season);
            if (status == MZ_OK) {
                status = mz_series_fill(&ctx, &series, MZ_MISSING_SEASONAL, season, &gaps);
            }
        } else if (status == MZ_OK && !end && strstr(series.error, "memory") != NULL) {
            fail_msg("a series is blamed: %s", series.error);
        }
    }
    const bool is_complete = failing.n_calls < failing.fail_at;
    assert_int_equal(status, is_complete ? MZ_OK : MZ_ERR_NOMEM);
    mz_series_close(reader);
    assert_int_equal(failing.n_live, n_live_before);
    mz_context_close(&ctx);
    return is_complete;
}

/* Each allocation fails once: the status says so, no series is blamed, nothing stays behind. */
static void allocations_fail_cleanly(void **state) {
    (void)state;
    const struct {
        const char *text;
        mz_series_options options;
    } cases[] = {
        {"unique_id,ds,y\nb,2024-01-03,1\na,2024-01-01,2\nb,2024-01-01,3\na,2024-01-04,4\n"
         "b,2024-01-01,5\na,2024-01-02,6\nc,2024-01-01,7\nc,2024-01-01,8\n",
         {.sort = true, .duplicates = MZ_DUPLICATES_MEAN}},
        {"unique_id,ds,y\na,2024-01-02,1\na,2024-01-01,2\nb,2024-01-01,3\nb,2024-01-02,\n"
         "b,2024-01-05,3\nb,2024-01-06,3\n",
         {0}},
        {"shop,sold\na,1\nb,2\na,3\n", {.id = "shop", .value = "sold"}},
        {"ds,u,v\n01/31/2024,1,2\n03/31/2024,3,\n02/29/2024,5,6\n05/31/2024,5,6\n", {.sort = true}},
        {"{\"id\":\"a\",\"start\":\"2024-01-01\",\"freq\":\"D\",\"sequence\":[1,null,3]}\n"
         "{\"id\":\"b\",\"timestamps\":[\"2024-01-03\",\"2024-01-01\",\"2024-01-01\",\"2024-01-"
         "05\"],"
         "\"sequence\":[1,2,3,4]}\n",
         {.sort = true, .duplicates = MZ_DUPLICATES_LAST}},
        {"{\"timestamps\":[\"2024-01-03\",\"2024-01-01\"],\"sequence\":[1,2]}\n[1,2,null,4]\n",
         {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t fail_at = 1;
        while (!read_with_failure(cases[i].text, &cases[i].options, fail_at)) {
            fail_at++;
            assert_true(fail_at < 200);
        }
        assert_true(fail_at > 5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_layouts), cmocka_unit_test(wide_layouts),
        cmocka_unit_test(json_lines),   cmocka_unit_test(faults_are_named),
        cmocka_unit_test(many_ids),     cmocka_unit_test(allocations_fail_cleanly),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
