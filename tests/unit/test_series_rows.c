/* Windows as rows: against a plain reading of what a row holds and which of its targets count. */
#include "apps/zoo/series_rows.h"

#include <math.h>

#include "tests/testing.h"

enum { MAX_POINTS = 64 };

static const mz_forecaster_parts points = {
    .rows = MZ_ROWS_POINT, .patch_len = 1, .heads = {.n_heads = 2, .length = {1, 5}}};
static const mz_forecaster_parts patches = {.rows = MZ_ROWS_PATCH,
                                            .patch_len = 4,
                                            .transform = MZ_TRANSFORM_ARCSINH,
                                            .heads = {.n_heads = 1, .length = {8}}};

/* A window that is added, and its values as the model reads them. */
typedef struct expected_window {
    int64_t n_values, n_context;
    double weight, row_power;
    double scaled[MAX_POINTS];
} expected_window;

static void make_window(const mz_forecaster_parts *p, expected_window *w, float *values,
                        uint64_t seed) {
    double mean = 0;
    double square = 0;
    mz_fill_uniform(values, w->n_values, seed, 3.0f);
    for (int64_t i = 0; i < w->n_values; i++) {
        values[i] += 10.0f + (float)i;
    }
    for (int64_t i = 0; i < w->n_context; i++) {
        mean += (double)values[i] / (double)w->n_context;
        square += (double)values[i] * (double)values[i] / (double)w->n_context;
    }
    for (int64_t i = 0; i < w->n_values; i++) {
        const double z = ((double)values[i] - mean) / sqrt(square - mean * mean);
        w->scaled[i] = p->transform == MZ_TRANSFORM_ARCSINH ? asinh(z) : z;
    }
}

static void assert_near(double actual, double expected) {
    if (!(fabs(actual - expected) <= 1e-5)) {
        fail_msg("%.9g, expected %.9g", actual, expected);
    }
}

/* The row that ends before value `end`. */
static void check_row(const mz_forecaster_parts *p, const mz_forecast_rows *rows, int64_t row,
                      const expected_window *w, int64_t end, int64_t n_scored) {
    const int64_t len = p->patch_len;
    const float *in = rows->inputs + row * mz_forecaster_parts_input_width(p);
    for (int64_t i = 0; i < len; i++) {
        const int64_t at = end - len + i;
        assert_near((double)in[i], at >= 0 ? w->scaled[at] : 0);
        if (p->rows == MZ_ROWS_PATCH) {
            assert_true(in[len + i] == (at >= 0 ? 1.0f : 0.0f));
        }
    }
    const double weight = end >= w->n_context ? w->weight / pow((double)n_scored, w->row_power) : 0;
    for (int32_t h = 0; h < p->heads.n_heads; h++) {
        const int64_t length = p->heads.length[h];
        for (int64_t i = 0; i < length; i++) {
            const bool there = end + i < w->n_values;
            assert_near((double)rows->targets[h][row * length + i], there ? w->scaled[end + i] : 0);
            assert_near((double)rows->weights[h][row * length + i], there ? weight : 0);
        }
    }
}

/* The rows end at the context's end and at every patch before and behind it, as long as a value
 * follows. */
static int64_t check_window(const mz_forecaster_parts *p, const mz_forecast_rows *rows,
                            int64_t first_row, int32_t sequence, const expected_window *w) {
    const int64_t first_end = (w->n_context - 1) % p->patch_len + 1;
    int64_t n_scored = 0;
    int64_t row = first_row;
    for (int64_t end = w->n_context; end < w->n_values; end += p->patch_len) {
        n_scored++;
    }
    for (int64_t end = first_end; end < w->n_values; end += p->patch_len) {
        assert_int_equal(rows->sequence[row], sequence);
        assert_int_equal(rows->position[row], row - first_row);
        check_row(p, rows, row, w, end, n_scored);
        row++;
    }
    return row;
}

static void check_all(mz_context *ctx, const mz_forecaster_parts *p) {
    static const int64_t sizes[][2] = {{9, 8}, {20, 4},  {20, 13}, {33, 5}, {16, 12},
                                       {8, 1}, {64, 63}, {64, 4},  {13, 6}};
    enum { N = sizeof sizes / sizeof sizes[0] };
    expected_window windows[N];
    mz_series_rows rows;
    mz_series_rows_init(&rows, p);
    for (int round = 0; round < 2; round++) {
        int64_t row = 0;
        mz_series_rows_clear(&rows);
        for (int i = 0; i < N; i++) {
            float values[MAX_POINTS];
            expected_window *w = &windows[i];
            *w = (expected_window){.n_values = sizes[i][0],
                                   .n_context = sizes[i][1] > 1 ? sizes[i][1] : 2,
                                   .weight = 1 + 0.5 * i,
                                   .row_power = 0.5 * (i % 3)};
            make_window(p, w, values, (uint64_t)(i + 10 * round));
            mz_series_window window = {.values = values,
                                       .n_values = w->n_values,
                                       .n_context = w->n_context,
                                       .weight = (float)w->weight};
            mz_assert_ok(ctx, mz_series_rows_add(ctx, &rows, &window, w->row_power));
        }
        const mz_forecast_rows view = mz_series_rows_view(&rows);
        for (int i = 0; i < N; i++) {
            row = check_window(p, &view, row, i, &windows[i]);
        }
        assert_true(view.n_rows == row && rows.n_windows == N);
        assert_int_equal(view.n_heads, p->heads.n_heads);
    }
    mz_series_rows_free(ctx, &rows);
}

static void rows_of_points(void **state) {
    check_all(*state, &points);
}

static void rows_of_patches(void **state) {
    check_all(*state, &patches);
}

/* A context without deviation leaves the distances to it. */
static void a_constant_context_is_not_divided_by(void **state) {
    float values[] = {3, 3, 3, 3, 5, 1};
    mz_context *ctx = *state;
    mz_series_window window = {.values = values, .n_values = 6, .n_context = 4, .weight = 1};
    mz_series_rows rows;
    mz_series_rows_init(&rows, &points);
    mz_assert_ok(ctx, mz_series_rows_add(ctx, &rows, &window, 0));
    const mz_forecast_rows view = mz_series_rows_view(&rows);
    assert_int_equal(view.n_rows, 5);
    assert_true(view.inputs[3] == 0 && view.targets[0][3] == 2 && view.targets[0][4] == -2);
    mz_series_rows_free(ctx, &rows);
}

/* Nothing is lost or left allocated when memory runs out while the rows grow. */
static void without_memory_rows_stay_whole(void **state) {
    (void)state;
    mz_status status = MZ_ERR_NOMEM;
    for (int64_t k = 1; status != MZ_OK; k++) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, k);
        const mz_context_options options = {
            .allocator = &allocator, .n_threads = 1, .isa = MZ_ISA_AUTO};
        mz_context ctx;
        float values[MAX_POINTS];
        status = mz_context_init(&ctx, &options);
        if (status == MZ_OK) {
            mz_series_rows rows;
            mz_series_rows_init(&rows, &patches);
            for (int64_t n = 10; n <= MAX_POINTS && status == MZ_OK; n += 27) {
                mz_fill_uniform(values, n, 1, 1.0f);
                mz_series_window window = {
                    .values = values, .n_values = n, .n_context = 6, .weight = 1};
                const int64_t n_before = rows.n_rows;
                status = mz_series_rows_add(&ctx, &rows, &window, 1);
                assert_true(status == MZ_OK || rows.n_rows == n_before);
            }
            mz_series_rows_free(&ctx, &rows);
            mz_context_close(&ctx);
        }
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(counter.n_live, 0);
        assert_true(k < 1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_points),
        cmocka_unit_test(rows_of_patches),
        cmocka_unit_test(a_constant_context_is_not_divided_by),
        cmocka_unit_test(without_memory_rows_stay_whole),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
