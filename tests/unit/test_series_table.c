/* Rows that are older than what matters are forgotten, and nothing else changes. */
#include "tests/testing.h"

#include <string.h>

#include "encoders/series/series_table.h"

enum { N_ROWS = 500000, N_NEWEST = 100000, STEP_US = 1000000 };

/* Rows 2 to N_ROWS + 1 of a file, one a second; the stamp of row `repeated` is that of the row
 * before it. */
static mz_status fill(mz_series_table *table, int64_t repeated) {
    for (int64_t i = 0; i < N_ROWS; i++) {
        const double values[] = {(double)i, -(double)i};
        const int64_t second = i + 2 == repeated ? i - 1 : i;
        MZ_TRY(mz_series_table_push(table, i + 2, values, second * STEP_US, 0));
    }
    return mz_series_table_settle(table);
}

static void old_rows_are_forgotten(void **state) {
    mz_context *ctx = *state;
    for (int64_t n_newest = 0; n_newest <= N_NEWEST; n_newest += N_NEWEST) {
        const mz_series_options options = {.n_newest = n_newest};
        mz_series_table table = {
            .ctx = ctx, .file = "t", .options = &options, .n_stored = 2, .has_dates = true};
        mz_assert_ok(ctx, fill(&table, 0));
        mz_series series;
        mz_assert_ok(ctx, mz_series_table_get(&table, 1, &series));
        if (n_newest == 0) {
            assert_int_equal(series.n_values, N_ROWS);
        } else {
            assert_in_range(series.n_values, N_NEWEST, 2 * N_NEWEST);
            assert_true(table.values.n_forgotten > 0 && table.values.blocks[0] == NULL);
        }
        for (int64_t i = 0; i < series.n_values; i++) {
            const int64_t row = N_ROWS - series.n_values + i;
            assert_true(series.values[i] == -(double)row);
            assert_true(series.stamps[i] == row * STEP_US);
        }
        assert_int_equal(series.frequency.kind, MZ_FREQUENCY_SECOND);
        mz_series_table_clear(&table);
    }
}

static void rows_keep_their_numbers(void **state) {
    mz_context *ctx = *state;
    const mz_series_options options = {.n_newest = N_NEWEST};
    mz_series_table table = {
        .ctx = ctx, .file = "t", .options = &options, .n_stored = 2, .has_dates = true};
    assert_int_equal(fill(&table, N_ROWS), MZ_ERR_ARG);
    assert_non_null(strstr(ctx->error.message, "t: row 500000 ("));
    assert_non_null(strstr(ctx->error.message, "is a duplicate of row 499999 ("));
    mz_series_table_clear(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_rows_are_forgotten),
        cmocka_unit_test(rows_keep_their_numbers),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
