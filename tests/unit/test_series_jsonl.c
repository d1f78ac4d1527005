/* Reading JSON lines. */
#include "tests/testing.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "encoders/series/series_reader_internal.h"

enum { MAX_SERIES = 4, MAX_VALUES = 4 };

typedef struct expected_series {
    const char *id;
    int64_t n_values;
    double values[MAX_VALUES];
} expected_series;

typedef struct good_case {
    const char *text;
    int64_t n_series;
    expected_series series[MAX_SERIES];
} good_case;

static mz_context *context_of(void **state) {
    return *state;
}

static mz_status open_text(mz_context *ctx, const char *text, size_t n_bytes,
                           mz_series_reader **out) {
    return mz_series_open_memory(ctx, text, n_bytes, "t.jsonl", NULL, out);
}

static void assert_series(const mz_series *actual, const expected_series *expected) {
    assert_string_equal(actual->id, expected->id);
    assert_int_equal(actual->n_values, expected->n_values);
    for (int64_t i = 0; i < expected->n_values; i++) {
        if (isnan(expected->values[i])) {
            assert_true(isnan(actual->values[i]));
        } else {
            assert_true(actual->values[i] == expected->values[i]);
        }
    }
}

static void assert_reads(mz_context *ctx, mz_series_reader *reader, const good_case *expected) {
    assert_int_equal(mz_series_count(reader), expected->n_series);
    int64_t n_values = 0;
    bool end = false;
    for (int64_t k = 0; k < expected->n_series; k++) {
        mz_series series = {0};
        end = true;
        mz_assert_ok(ctx, mz_series_next(reader, &series, &end));
        assert_false(end);
        assert_series(&series, &expected->series[k]);
        n_values += series.n_values;
    }
    assert_int_equal(mz_series_n_values(reader), n_values);
    mz_series untouched = {.n_values = -5};
    mz_assert_ok(ctx, mz_series_next(reader, &untouched, &end));
    assert_true(end);
    assert_int_equal(untouched.n_values, -5);
}

static void objects_and_arrays(void **state) {
    static const good_case cases[] = {
        {"{\"id\":\"a\",\"sequence\":[1,2.5,null]}\n[3,4]\n",
         2,
         {{"a", 3, {1, 2.5, NAN}}, {"2", 2, {3, 4}}}},
        {"\xef\xbb\xbf\n\n  {\"values\":[1]}\r\n\r\n\t\n{\"target\":[-1e308]}",
         2,
         {{"3", 1, {1}}, {"6", 1, {-1e308}}}},
        {"{\"freq\":12,\"start\":[1949,1],\"values\":[1],\"id\":\"x / \\u00e9\\n\"}",
         1,
         {{"x / \xc3\xa9\n", 1, {1}}}},
        {"{\"id\":17,\"sequence\":[1]}\n{\"id\":null,\"sequence\":[2]}\n{\"id\":1.5,\"sequence\":[]"
         "}",
         3,
         {{"17", 1, {1}}, {"2", 1, {2}}, {"1.5", 0, {0}}}},
        {"[]", 1, {{"1", 0, {0}}}},
        {"[null,null]", 1, {{"1", 2, {NAN, NAN}}}},
        /* Whole numbers have no limit of their own. */
        {"[9223372036854775808,-0,1e-400]", 1, {{"1", 3, {9223372036854775808.0, 0, 0}}}},
        {"{\"values\":[2],\"sequence\":[1]}", 1, {{"1", 1, {1}}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_series_reader *reader = NULL;
        mz_assert_ok(context_of(state),
                     open_text(context_of(state), cases[i].text, strlen(cases[i].text), &reader));
        assert_reads(context_of(state), reader, &cases[i]);
        mz_series_close(reader);
    }
}

static void wrong_lines_are_named(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[1]\n[1,x]\n",
         "line 2, column 4: invalid token near 'x' (each line must be a whole JSON value)"},
        {"{\"id\":\"a\",\n\"sequence\":[1]}\n",
         "line 1, column 10: string or '}' expected near end of file (each line must be a whole "
         "JSON value)"},
        {"[1] [2]\n",
         "line 1, column 5: end of file expected near '[' (each line must be a whole JSON value)"},
        {"[1,NaN]\n",
         "line 1, column 6: invalid token near 'NaN' (each line must be a whole JSON value)"},
        {"[1,1e999]\n", "line 1, column 8: real number overflow near '1e999' (each line must be a "
                        "whole JSON value)"},
        {"{\"id\":\"a\",\"id\":\"b\",\"sequence\":[]}",
         "line 1, column 14: duplicate object key near '\"id\"' (each line must be a whole JSON "
         "value)"},
        {"{\"id\":\"a\"}\n", "line 1: the object has no \"sequence\", \"values\" or \"target\""},
        {"[1]\n\n7\n", "line 3: the line is a number, expected an object or an array"},
        {"{\"sequence\":3}", "line 1: sequence is a number, expected an array of numbers"},
        {"{\"sequence\":[1,\"2\"]}", "line 1: sequence[1] is text, expected a number or null"},
        {"{\"values\":[[1],[2]]}", "line 1: values[0] is an array, expected a number or null"},
        {"[1,true]", "line 1: [1] is a truth value, expected a number or null"},
        {"[{}]", "line 1: [0] is an object, expected a number or null"},
        {"{\"id\":[],\"sequence\":[1]}",
         "line 1: id is an array, expected text or a number up to 2^53"},
        {"{\"id\":1e300,\"sequence\":[1]}",
         "line 1: id is a number, expected text or a number up to 2^53"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_series_reader *reader = NULL;
        assert_int_equal(
            open_text(context_of(state), cases[i].text, strlen(cases[i].text), &reader),
            MZ_ERR_FORMAT);
        assert_memory_equal(context_of(state)->error.message, "t.jsonl: ", 9);
        assert_string_equal(context_of(state)->error.message + 9, cases[i].message);
        assert_null(reader);
    }
}

static void nul_bytes_are_refused(void **state) {
    mz_series_reader *reader = NULL;
    assert_int_equal(open_text(context_of(state), "[1,\0 2]", 7, &reader), MZ_ERR_FORMAT);
    assert_string_equal(
        context_of(state)->error.message,
        "t.jsonl: binary contents (byte 0x00 at offset 3), expected CSV or JSON lines");
}

static void columns_are_for_csv(void **state) {
    mz_series_reader *reader = NULL;
    const mz_series_options options = {.columns = "a"};
    assert_int_equal(
        mz_series_open_memory(context_of(state), "[1]", 3, "t.jsonl", &options, &reader),
        MZ_ERR_ARG);
    assert_string_equal(context_of(state)->error.message,
                        "t.jsonl: columns can be chosen from CSV only, this is JSON lines");
}

static void assert_line_fails(mz_context *ctx, const char *text, size_t n_bytes, mz_status status,
                              const char *part) {
    mz_series_reader *reader = NULL;
    assert_int_equal(open_text(ctx, text, n_bytes, &reader), status);
    if (strstr(ctx->error.message, part) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", ctx->error.message, part);
    }
}

static void deep_nesting_and_limits(void **state) {
    const size_t n_deep = 100000;
    const size_t n_long = (size_t)MZ_SERIES_MAX_LINE_BYTES + 1;
    char *text = malloc(n_long);
    assert_non_null(text);
    memset(text, '[', n_long);
    assert_line_fails(context_of(state), text, n_deep, MZ_ERR_FORMAT,
                      "line 1, column 2049: maximum parsing depth reached");
    assert_line_fails(context_of(state), text, n_long - 1, MZ_ERR_LIMIT,
                      "line 1: more than 1048576 arrays and objects");
    assert_line_fails(context_of(state), text, n_long, MZ_ERR_LIMIT,
                      "line 1 is longer than 64 MiB");
    memset(text + 1, ',', n_long - 2);
    assert_line_fails(context_of(state), text, n_long - 1, MZ_ERR_LIMIT,
                      "line 1: more than 16000000 values a series");
    free(text);
}

/* Lines across the pieces in which a file is read, a caller that changes what he got, and a second
 * pass over a file. */
static void files_are_read_twice(void **state) {
    enum { N_SERIES = 3000, LINE_BYTES = 256 };
    char *text = malloc((size_t)N_SERIES * LINE_BYTES);
    assert_non_null(text);
    size_t n = 0;
    for (int i = 0; i < N_SERIES; i++) {
        n += (size_t)snprintf(text + n, LINE_BYTES,
                              "{\"id\":\"s%d\",\"sequence\":[%d,null,%d.5],\"pad\":\"%*s\"}\n", i,
                              i, i, i % 100, "");
    }
    const char *dir = mz_temp_dir_create();
    const char *path = mz_write_file(dir, "long.jsonl", text, n);
    mz_series_reader *reader = NULL;
    mz_assert_ok(context_of(state), mz_series_open(context_of(state), path, NULL, &reader));
    assert_int_equal(mz_series_count(reader), N_SERIES);
    for (int i = 0; i < N_SERIES; i++) {
        mz_series series;
        bool end = true;
        char id[32];
        (void)snprintf(id, sizeof id, "s%d", i);
        mz_assert_ok(context_of(state), mz_series_next(reader, &series, &end));
        assert_string_equal(series.id, id);
        assert_int_equal(series.n_values, 3);
        assert_true(series.values[0] == i && isnan(series.values[1]) &&
                    series.values[2] == i + 0.5);
        series.values[0] = -1;
        series.n_values = 0;
    }
    mz_series_close(reader);
    free(text);
    mz_temp_dir_remove(dir);
}

static void changed_files_are_noticed(void **state) {
    static const char *const changed[] = {"[1]\n",      "[1]\n[2,3]\n[4]\n", "[1]\n[2,3,4]\n",
                                          "[1]\n[2]\n", "[1]\n[2,x]\n",      ""};
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        const char *dir = mz_temp_dir_create();
        const char *path = mz_write_file(dir, "t.jsonl", "[1]\n[2,3]\n", 10);
        mz_series_reader *reader = NULL;
        mz_assert_ok(context_of(state), mz_series_open(context_of(state), path, NULL, &reader));
        (void)mz_write_file(dir, "t.jsonl", changed[i], strlen(changed[i]));
        mz_status status = MZ_OK;
        bool end = false;
        while (status == MZ_OK && !end) {
            mz_series series;
            status = mz_series_next(reader, &series, &end);
        }
        assert_int_equal(status, MZ_ERR_FORMAT);
        assert_non_null(
            strstr(context_of(state)->error.message, "t.jsonl: changed while it was being read"));
        mz_series_close(reader);
        mz_temp_dir_remove(dir);
    }
}

static void *write_pipe(void *user) {
    FILE *f = fopen(user, "wb");
    if (f != NULL) {
        (void)fputs("{\"id\":\"a\",\"sequence\":[1,2]}\n[3]\n", f);
        (void)fclose(f);
    }
    return NULL;
}

/* What cannot be read twice is copied first. */
static void pipes_and_standard_input(void **state) {
    static const good_case expected = {NULL, 2, {{"a", 2, {1, 2}}, {"2", 1, {3}}}};
    static const char text[] = "\xef\xbb\xbf{\"id\":\"a\",\"sequence\":[1,2]}\n[3]\n";
    const char *dir = mz_temp_dir_create();
    char pipe_path[512];
    (void)snprintf(pipe_path, sizeof pipe_path, "%s/pipe", dir);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_pipe, pipe_path), 0);
    mz_series_reader *reader = NULL;
    mz_assert_ok(context_of(state), mz_series_open(context_of(state), pipe_path, NULL, &reader));
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_reads(context_of(state), reader, &expected);
    mz_series_close(reader);

    const char *path = mz_write_file(dir, "in.jsonl", text, strlen(text));
    assert_non_null(freopen(path, "rb", stdin));
    mz_assert_ok(context_of(state), mz_series_open(context_of(state), "-", NULL, &reader));
    assert_reads(context_of(state), reader, &expected);
    mz_series_close(reader);
    mz_temp_dir_remove(dir);
}

/* Each allocation through the context fails once. */
static void allocations_fail_cleanly(void **state) {
    (void)state;
    static const char text[] =
        "{\"id\":\"a\",\"sequence\":[1,2]}\n[3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]\n";
    bool is_complete = false;
    for (int64_t fail_at = 1; !is_complete; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
        mz_context ctx;
        assert_int_equal(
            mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
            MZ_OK);
        const int64_t n_live_before = failing.n_live;
        failing.fail_at = failing.n_calls + fail_at;
        mz_series_reader *reader = NULL;
        mz_status status = open_text(&ctx, text, strlen(text), &reader);
        bool end = false;
        while (status == MZ_OK && !end) {
            mz_series series;
            status = mz_series_next(reader, &series, &end);
        }
        is_complete = failing.n_calls < failing.fail_at;
        assert_int_equal(status, is_complete ? MZ_OK : MZ_ERR_NOMEM);
        mz_series_close(reader);
        assert_int_equal(failing.n_live, n_live_before);
        mz_context_close(&ctx);
        assert_true(fail_at < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_and_arrays),        cmocka_unit_test(wrong_lines_are_named),
        cmocka_unit_test(nul_bytes_are_refused),     cmocka_unit_test(columns_are_for_csv),
        cmocka_unit_test(deep_nesting_and_limits),   cmocka_unit_test(files_are_read_twice),
        cmocka_unit_test(changed_files_are_noticed), cmocka_unit_test(pipes_and_standard_input),
        cmocka_unit_test(allocations_fail_cleanly),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
