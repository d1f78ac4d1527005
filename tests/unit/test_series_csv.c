/* Reading CSV: what is a header, an index, a number, a gap; and the one line said about each fault.
 */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "encoders/series/series_reader_internal.h"

enum { MAX_SERIES = 4, MAX_VALUES = 6 };

typedef struct expected_series {
    const char *id;
    int64_t n_values;
    double values[MAX_VALUES];
} expected_series;

typedef struct good_case {
    const char *text;
    const char *columns;
    int64_t n_series;
    expected_series series[MAX_SERIES];
} good_case;

typedef struct bad_case {
    const char *text;
    const char *columns;
    mz_status status;
    const char *message; /* behind "t.csv: " */
} bad_case;

static mz_context *context_of(void **state) {
    return *state;
}

static mz_status open_text(mz_context *ctx, const char *text, size_t n_bytes, const char *columns,
                           mz_series_reader **out) {
    const mz_series_options options = {.columns = columns};
    return mz_series_open_memory(ctx, text, n_bytes, "t.csv", &options, out);
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

static void run_good(mz_context *ctx, const good_case *cases, size_t n_cases) {
    for (size_t i = 0; i < n_cases; i++) {
        mz_series_reader *reader = NULL;
        mz_assert_ok(
            ctx, open_text(ctx, cases[i].text, strlen(cases[i].text), cases[i].columns, &reader));
        assert_int_equal(mz_series_count(reader), cases[i].n_series);
        int64_t n_values = 0;
        for (int64_t k = 0; k < cases[i].n_series; k++) {
            mz_series series = {0};
            bool end = true;
            mz_assert_ok(ctx, mz_series_next(reader, &series, &end));
            assert_false(end);
            assert_series(&series, &cases[i].series[k]);
            n_values += series.n_values;
        }
        assert_int_equal(mz_series_n_values(reader), n_values);
        mz_series untouched = {.n_values = -5};
        bool end = false;
        mz_assert_ok(ctx, mz_series_next(reader, &untouched, &end));
        assert_true(end);
        assert_int_equal(untouched.n_values, -5);
        mz_series_close(reader);
    }
}

static void run_bad(mz_context *ctx, const bad_case *cases, size_t n_cases) {
    for (size_t i = 0; i < n_cases; i++) {
        mz_series_reader *reader = NULL;
        assert_int_equal(
            open_text(ctx, cases[i].text, strlen(cases[i].text), cases[i].columns, &reader),
            cases[i].status);
        assert_memory_equal(ctx->error.message, "t.csv: ", 7);
        assert_string_equal(ctx->error.message + 7, cases[i].message);
        assert_null(reader);
    }
}

static void delimiters_and_line_ends(void **state) {
    static const good_case cases[] = {
        {"date,y\n2020-01-01,1\n2020-01-02,2.5\n", NULL, 1, {{"y", 2, {1, 2.5}}}},
        {"date;y;z\n2020;1;4\n2021;2;5", NULL, 2, {{"y", 2, {1, 2}}, {"z", 2, {4, 5}}}},
        {"date\ty\n2020\t1\n2021\t2\n", NULL, 1, {{"y", 2, {1, 2}}}},
        {"\ty\n0\t1\n1\t\n2\t3\n", NULL, 1, {{"y", 3, {1, NAN, 3}}}},
        {"date,y\r\n2020,1\r\n2021,2\r\n", NULL, 1, {{"y", 2, {1, 2}}}},
        {"date,y\r2020,1\r2021,2", NULL, 1, {{"y", 2, {1, 2}}}},
        {"\xef\xbb\xbf"
         "date,y\n2020,1\n",
         NULL,
         1,
         {{"y", 1, {1}}}},
        {"\n\ndate,y\n\n2020,1\n   \n2021,2\n\n\n", NULL, 1, {{"y", 2, {1, 2}}}},
        {"\"date\",\"a, \"\"b\"\"\"\n\"2020\",\"1\"\n\"2021\", \"2\" \n",
         NULL,
         1,
         {{"a, \"b\"", 2, {1, 2}}}},
        {"ds,\"two\nlines\"\n2020,1\n", NULL, 1, {{"two\nlines", 1, {1}}}},
        {" date , y \n 2020 , 1 \n", NULL, 1, {{"y", 1, {1}}}},
        /* A decimal comma, and one delimiter more in the text than in the numbers. */
        {"Datum;Wert\n01.02.2020;1,5\n02.02.2020;-2,25e1\n03.02.2020;7\n",
         NULL,
         1,
         {{"Wert", 3, {1.5, -22.5, 7}}}},
        {"1,5;2\n3,5;4\n", NULL, 2, {{"column 1", 2, {1.5, 3.5}}, {"column 2", 2, {2, 4}}}},
        {"date;a,b;c\n1;2;3\n", NULL, 2, {{"a,b", 1, {2}}, {"c", 1, {3}}}},
    };
    run_good(context_of(state), cases, sizeof cases / sizeof cases[0]);
}

static void headers_and_indices(void **state) {
    static const good_case cases[] = {
        {"1\n2\n3\n", NULL, 1, {{"column 1", 3, {1, 2, 3}}}},
        {"y\n2\n3\n", NULL, 1, {{"y", 2, {2, 3}}}},
        {"NA\n2\n", NULL, 1, {{"column 1", 2, {NAN, 2}}}},
        /* A single column is never the index, whatever its name. */
        {"year\n1950\n1951\n", NULL, 1, {{"year", 2, {1950, 1951}}}},
        {"1,2\n3,4\n", NULL, 2, {{"column 1", 2, {1, 3}}, {"column 2", 2, {2, 4}}}},
        {"a,b\n1,2\n3,4\n", NULL, 2, {{"a", 2, {1, 3}}, {"b", 2, {2, 4}}}},
        {"Year,b\n1,2\n3,4\n", NULL, 1, {{"b", 2, {2, 4}}}},
        {"unique_id,2019,2020\n1,2,3\n", NULL, 2, {{"2019", 1, {2}}, {"2020", 1, {3}}}},
        {"what,b\n2020-01,2\n2020-02,4\n", NULL, 1, {{"b", 2, {2, 4}}}},
        /* Labels that begin like numbers, and only later. */
        {"what,b\n1,2\nx2,4\n", NULL, 1, {{"b", 2, {2, 4}}}},
        {"2020-01-01,2\n2020-01-02,4\n", NULL, 1, {{"column 2", 2, {2, 4}}}},
        /* Tables with their index, as pandas writes them. */
        {",a\n0,2\n1,4\n", NULL, 1, {{"a", 2, {2, 4}}}},
        {",0,1\n0,2,5\n1,4,6\n", NULL, 2, {{"0", 2, {2, 4}}, {"1", 2, {5, 6}}}},
        {",7,1\n0,2,5\n",
         NULL,
         3,
         {{"column 1", 2, {NAN, 0}}, {"column 2", 2, {7, 2}}, {"column 3", 2, {1, 5}}}},
        {"a,,c\n1,2,3\n", NULL, 3, {{"a", 1, {1}}, {"column 2", 1, {2}}, {"c", 1, {3}}}},
        {"a,a\n1,2\n", NULL, 2, {{"a", 1, {1}}, {"a", 1, {2}}}},
        /* A delimiter at the end of each line, with values and without. */
        {"date,a,\n1,2,\n2,3,\n", NULL, 1, {{"a", 2, {2, 3}}}},
        {"date,a,\n1,2,\n2,3,9\n", NULL, 2, {{"a", 2, {2, 3}}, {"column 3", 2, {NAN, 9}}}},
        {"date,\n1,\n2,\n", NULL, 1, {{"column 2", 2, {NAN, NAN}}}},
        /* Latin-1 text becomes UTF-8. */
        {"date,Temp\xe9rature\n1,2\n", NULL, 1, {{"Temp\xc3\xa9rature", 1, {2}}}},
    };
    run_good(context_of(state), cases, sizeof cases / sizeof cases[0]);
}

static void missing_values_and_numbers(void **state) {
    static const good_case cases[] = {
        {"date,a\n1,\n2,NA\n3,n/a\n4,NaN\n5,NULL\n6,none\n",
         NULL,
         1,
         {{"a", 6, {NAN, NAN, NAN, NAN, NAN, NAN}}}},
        {"date,a,b\n1,2,-\n2,3,\n3,,\n",
         NULL,
         2,
         {{"a", 3, {2, 3, NAN}}, {"b", 3, {NAN, NAN, NAN}}}},
        {"y\n\"\"\n1\n", NULL, 1, {{"y", 2, {NAN, 1}}}},
        {"date,a\n1,+1.5\n2,.5\n3,5.\n4,1e3\n5,-2.5E-1\n6,0\n",
         NULL,
         1,
         {{"a", 6, {1.5, 0.5, 5, 1000, -0.25, 0}}}},
        {"date,a\n1,1e308\n2,1e-400\n3,1.7976931348623157e308\n4,\" 7 \"\n",
         NULL,
         1,
         {{"a", 4, {1e308, 0, 1.7976931348623157e308, 7}}}},
        {"date,a\n1,0.1\n2,5.827000141143799\n3,123456789012345678901234567890\n",
         NULL,
         1,
         {{"a", 3, {0.1, 5.827000141143799, 123456789012345678901234567890.0}}}},
        /* 1e999 as a label is a label. */
        {"what,a\n1e999,1\nx,2\n", NULL, 1, {{"a", 2, {1, 2}}}},
    };
    run_good(context_of(state), cases, sizeof cases / sizeof cases[0]);
}

static void columns_are_chosen(void **state) {
    static const good_case cases[] = {
        {"date,a,b,c\n1,2,3,4\n2,3,4,5\n", "c,a", 2, {{"c", 2, {4, 5}}, {"a", 2, {2, 3}}}},
        {"date,a,b\n1,2,3\n", " b ", 1, {{"b", 1, {3}}}},
        {"date,a,b\n1,2,3\n", "#3", 1, {{"b", 1, {3}}}},
        {"date,#3,b\n1,2,3\n", "#3", 1, {{"#3", 1, {2}}}},
        {"date,a,a\n1,2,3\n", "#3,#2", 2, {{"a", 1, {3}}, {"a", 1, {2}}}},
        {"1,2\n3,4\n", "#2", 1, {{"column 2", 2, {2, 4}}}},
        {"1,2\n3,4\n", "column 2", 1, {{"column 2", 2, {2, 4}}}},
        /* The index can be read as well, and what is not read need not be numbers. */
        {"Year,a\n1950,x\n1951,1e999\n", "Year", 1, {{"Year", 2, {1950, 1951}}}},
        {"Source,Year,Mean\ng,1850-01,1.5\nh,1850-02,2.5\n", "Mean", 1, {{"Mean", 2, {1.5, 2.5}}}},
        {"d;a;b\nx;1,5;1.5\n", "a", 1, {{"a", 1, {1.5}}}},
    };
    run_good(context_of(state), cases, sizeof cases / sizeof cases[0]);
}

static void wrong_columns_are_named(void **state) {
    static const bad_case cases[] = {
        {"date,a,b\n1,2,3\n", "x", MZ_ERR_MISSING,
         "no column \"x\"; the file has \"date\", \"a\", \"b\""},
        {"date,a\n1,2\n", "a,A", MZ_ERR_MISSING, "no column \"A\"; the file has \"date\", \"a\""},
        {"1,2\n3,4\n", "y", MZ_ERR_MISSING,
         "no column \"y\"; the file has no header, its columns are \"column 1\", \"column 2\""},
        {"date,a\n1,2\n", "#3", MZ_ERR_MISSING, "no column \"#3\"; the file has \"date\", \"a\""},
        {"date,a\n1,2\n", "#0", MZ_ERR_MISSING, "no column \"#0\"; the file has \"date\", \"a\""},
        {"date,a\n1,2\n", "#99999999999999999999", MZ_ERR_MISSING,
         "no column \"#99999999999999999999\"; the file has \"date\", \"a\""},
        {"date,a,b,a\n1,2,3,4\n", "a", MZ_ERR_ARG,
         "columns 2 and 4 are both called \"a\"; choose one by its number, as #2"},
    };
    run_bad(context_of(state), cases, sizeof cases / sizeof cases[0]);
    static const struct {
        const char *columns, *message;
    } usage[] = {
        {"", "columns: an empty name in \"\""},
        {"a,", "columns: an empty name in \"a,\""},
        {"a, ,b", "columns: an empty name in \"a, ,b\""},
        {"a,#2", "columns: \"a\" is named twice"},
    };
    for (size_t i = 0; i < sizeof usage / sizeof usage[0]; i++) {
        mz_series_reader *reader = NULL;
        static const char text[] = "date,a,b\n1,2,3\n";
        assert_int_equal(
            open_text(context_of(state), text, strlen(text), usage[i].columns, &reader),
            MZ_ERR_ARG);
        assert_string_equal(context_of(state)->error.message, usage[i].message);
    }
}

static void wrong_fields_are_named(void **state) {
    static const char hint[] =
        "; choose the columns to read with --columns, or the one that names the series with --id";
    static const struct {
        bad_case fault;
        const char *hint;
    } cases[] = {
        {{"date,a,b\n1,2,3\n2,3,x y\n", NULL, MZ_ERR_FORMAT,
          "row 3, column \"b\": \"x y\" is not a number"},
         hint},
        {{"1,2\n3,oops\n", NULL, MZ_ERR_FORMAT, "row 2, column 2: \"oops\" is not a number"}, hint},
        {{"1,2\n3,oops\n", "#2", MZ_ERR_FORMAT, "row 2, column 2: \"oops\" is not a number"}, ""},
        {{"y\n1\nx\n", NULL, MZ_ERR_FORMAT, "row 3, column \"y\": \"x\" is not a number"}, ""},
        {{"ds\n2020-01-01\n", NULL, MZ_ERR_FORMAT,
          "row 2, column \"ds\": \"2020-01-01\" is not a number"},
         ""},
        {{"Source,Year,Mean\ng,1850-01,1\n", NULL, MZ_ERR_FORMAT,
          "row 2, column \"Year\": \"1850-01\" is not a number"},
         hint},
        {{"date,a\n2020,1\n2021,2\n", "date,a", MZ_OK, NULL}, NULL},
        {{"date,a\n2020-01,1\n", "date", MZ_ERR_FORMAT,
          "row 2, column \"date\": \"2020-01\" is not a number"},
         ""},
        /* Empty lines and quoted line ends: rows are counted as a spreadsheet counts them. */
        {{"date,a\r\n\r\n\"2\n3\",1\r\n4,x\r\n", NULL, MZ_ERR_FORMAT,
          "row 4, column \"a\": \"x\" is not a number"},
         hint},
        {{"date,a\r\r1,1\r2,x", NULL, MZ_ERR_FORMAT, "row 4, column \"a\": \"x\" is not a number"},
         hint},
        /* What is no number. */
        {{"date,a\n1,0x10\n", NULL, MZ_ERR_FORMAT, "row 2, column \"a\": \"0x10\" is not a number"},
         hint},
        {{"date,a\n1,inf\n", NULL, MZ_ERR_FORMAT, "row 2, column \"a\": \"inf\" is not a number"},
         hint},
        {{"date,a\n1,1e\n", NULL, MZ_ERR_FORMAT, "row 2, column \"a\": \"1e\" is not a number"},
         hint},
        {{"date,a\n1,.\n", NULL, MZ_ERR_FORMAT, "row 2, column \"a\": \".\" is not a number"},
         hint},
        {{"date,a\n1,1 2\n", NULL, MZ_ERR_FORMAT, "row 2, column \"a\": \"1 2\" is not a number"},
         hint},
        {{"date,a\n1,12%\n", NULL, MZ_ERR_FORMAT, "row 2, column \"a\": \"12%\" is not a number"},
         hint},
        {{"date,a\n1,\"1,234\"\n", NULL, MZ_ERR_FORMAT,
          "row 2, column \"a\": \"1,234\" is not a number"},
         hint},
        {{"date;a\n1;1.234,5\n", NULL, MZ_ERR_FORMAT,
          "row 2, column \"a\": \"1.234,5\" is not a number"},
         hint},
        {{"date;a\n1;1.234\n2;5,5\n", NULL, MZ_ERR_FORMAT,
          "row 3, column \"a\": \"5,5\" is not a number"},
         "; the decimal mark of row 2 is a point"},
        {{"1.5;2\n3;4,5\n", NULL, MZ_ERR_FORMAT, "row 2, column 2: \"4,5\" is not a number"},
         "; the decimal mark of row 1 is a point"},
        /* Numbers that do not fit. */
        {{"date,a\n1,2\n2,1e999\n", NULL, MZ_ERR_FORMAT,
          "row 3, column \"a\": \"1e999\" is beyond the range of 64-bit floating point"},
         ""},
        {{"-1e400,2\n1,2\n", NULL, MZ_ERR_FORMAT,
          "row 1, column 1: \"-1e400\" is beyond the range of 64-bit floating point"},
         ""},
        /* A long value is cut, not in the middle of a letter. */
        {{"date,a\n1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xa9\xc3\xa9\xc3\xa9\n", NULL,
          MZ_ERR_FORMAT,
          "row 2, column \"a\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\" is not a "
          "number"},
         hint},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].fault.status == MZ_OK) {
            const good_case good = {cases[i].fault.text,
                                    cases[i].fault.columns,
                                    2,
                                    {{"date", 2, {2020, 2021}}, {"a", 2, {1, 2}}}};
            run_good(context_of(state), &good, 1);
            continue;
        }
        char message[MZ_ERROR_BYTES];
        (void)snprintf(message, sizeof message, "%s%s", cases[i].fault.message, cases[i].hint);
        bad_case fault = cases[i].fault;
        fault.message = message;
        run_bad(context_of(state), &fault, 1);
    }
}

static void wrong_files_are_named(void **state) {
    static const bad_case cases[] = {
        {"", NULL, MZ_ERR_FORMAT, "is empty"},
        {"\xef\xbb\xbf", NULL, MZ_ERR_FORMAT, "is empty"},
        {"\n \r\n\n", NULL, MZ_ERR_FORMAT, "is empty"},
        {"date,a\n", NULL, MZ_ERR_FORMAT, "has a header but no data rows"},
        {"y", NULL, MZ_ERR_FORMAT, "has a header but no data rows"},
        {"date,a\n1,2\n2\n", NULL, MZ_ERR_FORMAT, "row 3 has 1 fields, the first row has 2"},
        {"date,a\n1,2,3\n", "a", MZ_ERR_FORMAT, "row 2 has 3 fields, the first row has 2"},
        {"date,a\n1,\"2\n3,4\n", NULL, MZ_ERR_FORMAT, "row 2: a quoted field is not closed"},
        {"\x7f"
         "ELF\x02\x01\x01,1\n",
         NULL, MZ_ERR_FORMAT,
         "binary contents (byte 0x02 at offset 4), expected CSV or JSON lines"},
        {"\xff\xfe"
         "a",
         NULL, MZ_ERR_FORMAT, "is UTF-16 text, expected UTF-8"},
    };
    run_bad(context_of(state), cases, sizeof cases / sizeof cases[0]);
    mz_series_reader *reader = NULL;
    assert_int_equal(open_text(context_of(state), "1,2\n3,\0", 7, NULL, &reader), MZ_ERR_FORMAT);
    assert_string_equal(
        context_of(state)->error.message,
        "t.csv: binary contents (byte 0x00 at offset 6), expected CSV or JSON lines");
}

/* Rows, fields and line ends that lie across the pieces in which a file is read, and values across
 * storage blocks. */
static void long_files_are_read_in_pieces(void **state) {
    enum { N_ROWS = 50000, ROW_BYTES = 40 };
    char *text = malloc((size_t)N_ROWS * ROW_BYTES + 64);
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "date,a,\"b\"\r\n");
    for (int i = 0; i < N_ROWS; i++) {
        n += (size_t)snprintf(text + n, ROW_BYTES, "\"d\n%d\",%d.25,%d\r\n", i, i, -i);
    }
    const char *dir = mz_temp_dir_create();
    const char *path = mz_write_file(dir, "long.csv", text, n);
    mz_series_reader *reader = NULL;
    mz_assert_ok(context_of(state), mz_series_open(context_of(state), path, NULL, &reader));
    assert_int_equal(mz_series_n_values(reader), 2 * N_ROWS);
    for (int k = 0; k < 2; k++) {
        mz_series series;
        bool end;
        mz_assert_ok(context_of(state), mz_series_next(reader, &series, &end));
        assert_string_equal(series.id, k == 0 ? "a" : "b");
        for (int i = 0; i < N_ROWS; i++) {
            assert_true(series.values[i] == (k == 0 ? i + 0.25 : -i));
        }
    }
    mz_series_close(reader);
    free(text);
    mz_temp_dir_remove(dir);
}

/* A field longer than any buffer the reader starts with, and columns by the thousand. */
static void wide_files_are_read(void **state) {
    enum { N_COLUMNS = 30000, FIELD_BYTES = 300000 };
    char *text = malloc(FIELD_BYTES + (size_t)N_COLUMNS * 16);
    assert_non_null(text);
    memset(text, 'x', FIELD_BYTES);
    size_t n = FIELD_BYTES;
    for (int row = 0; row < 2; row++) {
        for (int i = 1; i < N_COLUMNS; i++) {
            n += (size_t)sprintf(text + n, row == 0 ? ",c%d" : ",%d", i);
        }
        text[n++] = '\n';
    }
    mz_series_reader *reader = NULL;
    mz_assert_ok(context_of(state), open_text(context_of(state), text, n, NULL, &reader));
    assert_int_equal(mz_series_count(reader), N_COLUMNS);
    mz_series series = {0};
    bool end = false;
    for (int i = 0; i < N_COLUMNS; i++) {
        mz_assert_ok(context_of(state), mz_series_next(reader, &series, &end));
        assert_int_equal(series.n_values, 1);
        assert_true(i == 0 ? isnan(series.values[0]) : series.values[0] == i);
    }
    assert_string_equal(series.id, "c29999");
    mz_series_close(reader);
    /* The names listed in a message are some of the first. */
    assert_int_equal(open_text(context_of(state), text, n, "nope", &reader), MZ_ERR_MISSING);
    assert_non_null(strstr(context_of(state)->error.message, "\"c19\" and 29980 more"));
    free(text);
}

static void limits_hold(void **state) {
    const size_t n = (size_t)MZ_SERIES_MAX_COLUMNS + 2;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, ',', n);
    mz_series_reader *reader = NULL;
    assert_int_equal(open_text(context_of(state), text, n, NULL, &reader), MZ_ERR_LIMIT);
    assert_string_equal(context_of(state)->error.message, "t.csv: more than 1000000 columns");
    free(text);

    const size_t n_quoted = (size_t)MZ_SERIES_MAX_LINE_BYTES + 100000;
    text = malloc(n_quoted);
    assert_non_null(text);
    memset(text, '1', n_quoted);
    text[0] = '"';
    assert_int_equal(open_text(context_of(state), text, n_quoted, NULL, &reader), MZ_ERR_LIMIT);
    assert_string_equal(context_of(state)->error.message,
                        "t.csv: row 1 is longer than 64 MiB (is a quote never closed?)");
    free(text);
}

static void unreadable_files(void **state) {
    mz_series_reader *reader = NULL;
    assert_int_equal(mz_series_open(context_of(state), "/nonexistent/x.csv", NULL, &reader),
                     MZ_ERR_IO);
    assert_string_equal(context_of(state)->error.message,
                        "/nonexistent/x.csv: cannot open: No such file or directory");
    assert_int_equal(mz_series_open(context_of(state), "/", NULL, &reader), MZ_ERR_IO);
    assert_string_equal(context_of(state)->error.message, "/: cannot read: Is a directory");
    assert_null(reader);
}

/* Standard input is read as it comes. */
static void standard_input(void **state) {
    const char *dir = mz_temp_dir_create();
    const char *path = mz_write_file(dir, "in.csv", "date,y\n1,2\n2,3\n", 15);
    assert_non_null(freopen(path, "rb", stdin));
    mz_series_reader *reader = NULL;
    mz_assert_ok(context_of(state), mz_series_open(context_of(state), "-", NULL, &reader));
    assert_int_equal(mz_series_n_values(reader), 2);
    mz_series_close(reader);
    assert_non_null(freopen("/dev/null", "rb", stdin));
    assert_int_equal(mz_series_open(context_of(state), "-", NULL, &reader), MZ_ERR_FORMAT);
    assert_string_equal(context_of(state)->error.message, "standard input: is empty");
    mz_temp_dir_remove(dir);
}

/* Each allocation fails once; nothing stays behind and the reader says what went wrong. */
static void allocations_fail_cleanly(void **state) {
    (void)state;
    static const char text[] = "date,a,b\n2020-01,1,2\n2020-02,3,4\n";
    const mz_series_options options = {.columns = "b,a"};
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
        const mz_status status =
            mz_series_open_memory(&ctx, text, strlen(text), "t.csv", &options, &reader);
        is_complete = failing.n_calls < failing.fail_at;
        assert_int_equal(status, is_complete ? MZ_OK : MZ_ERR_NOMEM);
        assert_true(is_complete == (reader != NULL));
        mz_series_close(reader);
        assert_int_equal(failing.n_live, n_live_before);
        mz_context_close(&ctx);
        assert_true(fail_at < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delimiters_and_line_ends),
        cmocka_unit_test(headers_and_indices),
        cmocka_unit_test(missing_values_and_numbers),
        cmocka_unit_test(columns_are_chosen),
        cmocka_unit_test(wrong_columns_are_named),
        cmocka_unit_test(wrong_fields_are_named),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(long_files_are_read_in_pieces),
        cmocka_unit_test(wide_files_are_read),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(unreadable_files),
        cmocka_unit_test(standard_input),
        cmocka_unit_test(allocations_fail_cleanly),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
