/* Rows put in the order of their dates: sorted, merged, on a grid, and what is said about it. */
#include "tests/testing.h"

#include <math.h>
#include <string.h>

#include "encoders/series/timeline.h"

enum { MAX_ROWS = 12 };

static int64_t file_row(const void *self, int64_t i) {
    (void)self;
    return i + 2;
}

/* Rows of a file with a header, and what becomes of them. */
typedef struct time_case {
    const char *dates[MAX_ROWS];
    double values[MAX_ROWS];
    mz_timeline_options options;
    const char *freq;     /* of the options */
    const char *fallback; /* likewise */
    const char *error;    /* or what follows */
    const char *found;    /* frequency */
    int64_t n_points;
    double points[MAX_ROWS];
    const char *first, *last; /* dates */
    const char *note;         /* the first, or NULL */
} time_case;

static mz_stamp stamp_of(const char *text) {
    mz_stamp_form form;
    mz_stamp stamp = 0;
    assert_true(mz_stamp_parse(text, strlen(text), &form, &stamp));
    return stamp;
}

static mz_frequency frequency_of(mz_context *ctx, const char *name) {
    mz_frequency freq = {0};
    if (name != NULL) {
        mz_assert_ok(ctx, mz_frequency_parse(ctx, name, &freq));
    }
    return freq;
}

static void check_points(const time_case *c, const mz_timeline *line, const mz_stamp *stamps) {
    double points[MAX_ROWS];
    mz_stamp times[MAX_ROWS];
    char name[MZ_FREQUENCY_BYTES];
    assert_string_equal(mz_frequency_name(&line->frequency, name), c->found);
    assert_int_equal(line->n_points, c->n_points);
    mz_timeline_values(line, c->values, points);
    mz_timeline_stamps(line, stamps, times);
    for (int64_t i = 0; i < c->n_points; i++) {
        assert_true(points[i] == c->points[i] || (isnan(points[i]) && isnan(c->points[i])));
        assert_true(i == 0 || times[i] > times[i - 1]);
    }
    assert_true(times[0] == stamp_of(c->first));
    assert_true(times[c->n_points - 1] == stamp_of(c->last));
    if (c->note == NULL) {
        assert_int_equal(line->n_notes, 0);
    } else {
        assert_true(line->n_notes > 0);
        assert_string_equal(line->notes[0], c->note);
    }
}

static void run_cases(mz_context *ctx, const time_case *cases, size_t n_cases) {
    const mz_stamp_form form = mz_stamp_form_iso();
    mz_timeline line = {0};
    for (size_t i = 0; i < n_cases; i++) {
        const time_case *c = &cases[i];
        mz_stamp stamps[MAX_ROWS];
        int64_t n = 0;
        for (; n < MAX_ROWS && c->dates[n] != NULL; n++) {
            stamps[n] = stamp_of(c->dates[n]);
        }
        mz_timeline_options options = c->options;
        options.frequency = frequency_of(ctx, c->freq);
        options.fallback = frequency_of(ctx, c->fallback);
        const mz_timeline_rows rows = {
            .stamps = stamps, .n = n, .what = "row", .number = file_row, .form = &form};
        const mz_status status = mz_timeline_build(ctx, &rows, &options, &line);
        if (c->error != NULL) {
            assert_int_equal(status, MZ_ERR_ARG);
            assert_string_equal(ctx->error.message, c->error);
        } else {
            mz_assert_ok(ctx, status);
            check_points(c, &line, stamps);
        }
    }
    mz_timeline_clear(ctx, &line);
}

static void regular_rows_stay(void **state) {
    static const time_case cases[] = {
        {.dates = {"2024-01-01", "2024-01-02", "2024-01-03"},
         .values = {1, 2, 3},
         .found = "D",
         .n_points = 3,
         .points = {1, 2, 3},
         .first = "2024-01-01",
         .last = "2024-01-03"},
        {.dates = {"2024-01-31", "2024-02-29", "2024-03-31"},
         .values = {1, NAN, 3},
         .freq = "M",
         .found = "ME",
         .n_points = 3,
         .points = {1, NAN, 3},
         .first = "2024-01-31",
         .last = "2024-03-31"},
        /* One row tells nothing, but the rest of the file or the user may. */
        {.dates = {"2024-01-01"},
         .values = {1},
         .fallback = "MS",
         .found = "MS",
         .n_points = 1,
         .points = {1},
         .first = "2024-01-01",
         .last = "2024-01-01"},
        {.dates = {"2024-01-01"},
         .values = {1},
         .freq = "W",
         .found = "W-MON",
         .n_points = 1,
         .points = {1},
         .first = "2024-01-01",
         .last = "2024-01-01"},
        /* Two days of a daily file, not a frequency of 3 days. */
        {.dates = {"2024-01-01", "2024-01-04"},
         .values = {1, 2},
         .fallback = "D",
         .found = "D",
         .n_points = 4,
         .points = {1, NAN, NAN, 2},
         .first = "2024-01-01",
         .last = "2024-01-04",
         .note = "2 dates missing in 1 gap, the first before row 3 (2024-01-04)"},
        /* Nor do few rows tell better, where the others' frequency fits. */
        {.dates = {"2024-01-01", "2024-01-03", "2024-01-05"},
         .values = {1, 2, 3},
         .fallback = "D",
         .found = "D",
         .n_points = 5,
         .points = {1, NAN, 2, NAN, 3},
         .first = "2024-01-01",
         .last = "2024-01-05",
         .note = "2 dates missing in 2 gaps, the first before row 3 (2024-01-03)"},
        /* A few missing dates are no contradiction, whatever their share. */
        {.dates = {"2024-01-01", "2024-01-12"},
         .values = {1, 2},
         .freq = "D",
         .found = "D",
         .n_points = 12,
         .points = {1, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, 2},
         .first = "2024-01-01",
         .last = "2024-01-12",
         .note = "10 dates missing in 1 gap, the first before row 3 (2024-01-12)"},
    };
    run_cases(*state, cases, sizeof cases / sizeof cases[0]);
}

static void gaps_become_points(void **state) {
    static const time_case cases[] = {
        {.dates = {"2024-01-30", "2024-01-31", "2024-02-01", "2024-02-03", "2024-02-04",
                   "2024-02-06"},
         .values = {1, 2, 3, 4, 5, 6},
         .found = "D",
         .n_points = 8,
         .points = {1, 2, 3, NAN, 4, 5, NAN, 6},
         .first = "2024-01-30",
         .last = "2024-02-06",
         .note = "2 dates missing in 2 gaps, the first before row 5 (2024-02-03)"},
        {.dates = {"2023-11-30", "2023-12-31", "2024-02-29", "2024-03-31"},
         .values = {1, 2, 3, 4},
         .found = "ME",
         .n_points = 5,
         .points = {1, 2, NAN, 3, 4},
         .first = "2023-11-30",
         .last = "2024-03-31",
         .note = "1 date missing in 1 gap, the first before row 4 (2024-02-29)"},
        /* Sorted, merged and spread at once. */
        {.dates = {"2024-01-05", "2024-01-02", "2024-01-01", "2024-01-02", "2024-01-03"},
         .values = {5, 2, 1, 4, 3},
         .options = {.sort = true, .duplicates = MZ_DUPLICATES_MEAN},
         .found = "D",
         .n_points = 5,
         .points = {1, 3, 3, NAN, 5},
         .first = "2024-01-01",
         .last = "2024-01-05",
         .note = "sorted by date: 2 rows came early, the first is row 3 (2024-01-02)"},
    };
    run_cases(*state, cases, sizeof cases / sizeof cases[0]);
}

static void order_and_duplicates(void **state) {
    static const time_case cases[] = {
        {.dates = {"2024-01-01", "2024-01-03", "2024-01-02", "2024-01-01"},
         .error = "row 4 (2024-01-02) is earlier than row 3 (2024-01-03) (2 such rows); --sort "
                  "puts them in order"},
        {.dates = {"2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"},
         .error = "row 4 (2024-01-02) is a duplicate of row 3 (2024-01-02) (1 such row); "
                  "--duplicates last or mean makes one of them"},
        {.dates = {"2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"},
         .values = {1, 2, 4, 5},
         .options = {.duplicates = MZ_DUPLICATES_LAST},
         .found = "D",
         .n_points = 3,
         .points = {1, 4, 5},
         .first = "2024-01-01",
         .last = "2024-01-03",
         .note = "1 duplicate, the first is row 4 (2024-01-02): the last counts"},
        /* A missing value has no part in a mean. */
        {.dates = {"2024-01-01", "2024-01-02", "2024-01-02", "2024-01-02", "2024-01-03"},
         .values = {1, 2, NAN, 4, 5},
         .options = {.duplicates = MZ_DUPLICATES_MEAN},
         .found = "D",
         .n_points = 3,
         .points = {1, 3, 5},
         .first = "2024-01-01",
         .last = "2024-01-03",
         .note = "2 duplicates, the first is row 4 (2024-01-02): the mean counts"},
        /* The last of the file, also after sorting. */
        {.dates = {"2024-01-02", "2024-01-01", "2024-01-02", "2024-01-03"},
         .values = {9, 1, 2, 3},
         .options = {.sort = true, .duplicates = MZ_DUPLICATES_LAST},
         .found = "D",
         .n_points = 3,
         .points = {1, 2, 3},
         .first = "2024-01-01",
         .last = "2024-01-03",
         .note = "sorted by date: 1 row came early, the first is row 3 (2024-01-01)"},
    };
    run_cases(*state, cases, sizeof cases / sizeof cases[0]);
}

static void contradictions_and_disorder(void **state) {
    static const time_case cases[] = {
        {.dates = {"2024-01-01", "2024-01-02", "2024-02-01"},
         .freq = "MS",
         .error = "--freq MS contradicts the dates: row 3 (2024-01-02) is not on its grid (1 such "
                  "row)"},
        {.dates = {"2024-01-01", "2024-02-01", "2024-03-01"},
         .freq = "D",
         .error = "--freq D contradicts the dates: 58 of its points would be missing between 3 "
                  "rows, whose own frequency is MS"},
        {.dates = {"2024-01-01", "2024-01-03", "2024-01-05"},
         .values = {1, 2, 3},
         .freq = "D",
         .found = "D",
         .n_points = 5,
         .points = {1, NAN, 2, NAN, 3},
         .first = "2024-01-01",
         .last = "2024-01-05",
         .note = "2 dates missing in 2 gaps, the first before row 3 (2024-01-03)"},
        /* Rows without a grid keep their distance of one. */
        {.dates = {"2024-01-01", "2024-01-02", "2024-01-09", "2024-03-05", "2025-07-11"},
         .values = {1, 2, 3, 4, 5},
         .found = "irregular",
         .n_points = 5,
         .points = {1, 2, 3, 4, 5},
         .first = "2024-01-01",
         .last = "2025-07-11",
         .note = "the 5 dates are irregular: taken as equally spaced, and the answer has no dates; "
                 "give --freq"},
        {.dates = {"2024-01-04", "2024-01-05", "2024-01-06", "2024-01-07", "2024-12-01"},
         .values = {1, 2, 3, 4, 5},
         .found = "irregular",
         .n_points = 5,
         .points = {1, 2, 3, 4, 5},
         .first = "2024-01-04",
         .last = "2024-12-01",
         .note = "328 dates of D would be missing between 5 rows: they are irregular, taken as "
                 "equally spaced, and the answer has no dates; give --freq"},
        {.dates = {"2024-01-01"},
         .values = {1},
         .found = "irregular",
         .n_points = 1,
         .points = {1},
         .first = "2024-01-01",
         .last = "2024-01-01",
         .note = "1 date: the frequency is unknown and the answer has no dates; give --freq"},
    };
    run_cases(*state, cases, sizeof cases / sizeof cases[0]);
}

static void nothing_is_nothing(void **state) {
    mz_context *ctx = *state;
    mz_timeline line = {0};
    const mz_timeline_rows rows = {.n = 0};
    mz_assert_ok(ctx, mz_timeline_build(ctx, &rows, &(mz_timeline_options){0}, &line));
    assert_int_equal(line.n_points, 0);
    mz_timeline_values(&line, NULL, NULL);
    mz_timeline_stamps(&line, NULL, NULL);
    mz_timeline_clear(ctx, &line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_rows_stay),    cmocka_unit_test(gaps_become_points),
        cmocka_unit_test(order_and_duplicates), cmocka_unit_test(contradictions_and_disorder),
        cmocka_unit_test(nothing_is_nothing),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
