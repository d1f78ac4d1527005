/* Training windows of series that a caller has in memory. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "encoders/series/series_sampler.h"
#include "tests/testing.h"

enum { LONG = 400, MIDDLE = 300, SHORT = 7, MAX_POINTS = 120, SCRATCH_FLOATS = 200, N = 40 };

static mz_context *context_of(void **state) {
    return *state;
}

static mz_series_sampler_config config_of(const mz_series_source *source) {
    mz_series_sampler_config out = mz_series_sampler_config_default();
    out.sources = source;
    out.n_sources = 1;
    out.max_points = MAX_POINTS;
    out.horizon = 10;
    out.augment = (mz_series_augment){0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3};
    return out;
}

static void write_series(FILE *out, const char *id, const double *values, int64_t n) {
    (void)fprintf(out, "{\"id\":\"%s\",\"sequence\":[", id);
    for (int64_t i = 0; i < n; i++) {
        (void)fprintf(out, "%s%.17g", i > 0 ? "," : "", values[i]);
    }
    (void)fputs("]}\n", out);
}

static void assert_same_windows(const mz_series_sampler *a, const mz_series_sampler *b) {
    float values[2][MAX_POINTS];
    float scratch[SCRATCH_FLOATS];
    assert_true(mz_series_sampler_scratch_bytes(a) <= sizeof scratch);
    for (uint64_t i = 0; i < 300; i++) {
        mz_series_window of_a = {.values = values[0]};
        mz_series_window of_b = {.values = values[1]};
        mz_series_sampler_get(a, i, scratch, &of_a);
        mz_series_sampler_get(b, i, scratch, &of_b);
        assert_int_equal(of_a.n_values, of_b.n_values);
        assert_int_equal(of_a.n_context, of_b.n_context);
        assert_int_equal(of_a.series, of_b.series);
        assert_memory_equal(values[0], values[1], (size_t)of_a.n_values * sizeof(float));
    }
}

/* Series too short and in error are left out, the others drawn as from a file. */
static void memory_is_like_a_file(void **state) {
    mz_context *ctx = context_of(state);
    double wave[LONG];
    double noise[LONG];
    char text[1 << 15] = "";
    char path[512];
    char dir[256];
    char ids[4][8] = {"a/1", "a/2", "bad", "b/1"};
    for (int i = 0; i < LONG; i++) {
        wave[i] = 100 + 10 * sin(0.26 * i) + 0.01 * i;
        noise[i] = (double)mz_rng_normal(5, 5, (uint64_t)i);
    }
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    write_series(out, ids[0], wave, LONG);
    write_series(out, ids[1], noise, SHORT);
    write_series(out, ids[3], noise, MIDDLE);
    assert_int_equal(fclose(out), 0);
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    (void)snprintf(path, sizeof path, "%s", mz_write_file(dir, "t.jsonl", text, strlen(text)));
    mz_series series[] = {{.id = ids[0], .values = wave, .n_values = LONG},
                          {.id = ids[1], .values = noise, .n_values = SHORT},
                          {.id = ids[2], .values = noise, .n_values = LONG, .error = "no"},
                          {.id = ids[3], .values = noise, .n_values = MIDDLE}};
    mz_series_source source = mz_series_source_default(MZ_SERIES_SOURCE_TABLE, path);
    mz_series_sampler_config config = config_of(&source);
    mz_series_sampler *of_file = NULL;
    mz_series_sampler *of_memory = NULL;
    mz_assert_ok(ctx, mz_series_sampler_create(ctx, &config, &of_file));
    source = mz_series_source_default(MZ_SERIES_SOURCE_MEMORY, "here");
    source.series = series;
    source.n_series = 4;
    mz_assert_ok(ctx, mz_series_sampler_create(ctx, &config, &of_memory));
    memset(wave, 0, sizeof wave); /* not read any more */
    memset(series, 0, sizeof series);
    mz_series_source_info info;
    mz_series_sampler_describe(of_memory, 0, &info);
    assert_int_equal(info.kind, MZ_SERIES_SOURCE_MEMORY);
    assert_int_equal(info.n_series, 2);
    assert_int_equal(info.n_points, LONG + MIDDLE);
    assert_int_equal(info.n_skipped, 2);
    assert_string_equal(info.path, "here");
    assert_same_windows(of_memory, of_file);
    mz_series_sampler_destroy(ctx, of_memory);
    mz_series_sampler_destroy(ctx, of_file);
    mz_temp_dir_remove(dir);
}

static void gaps_are_filled_in_a_copy(void **state) {
    mz_context *ctx = context_of(state);
    double values[N];
    float window_values[MAX_POINTS];
    float scratch[SCRATCH_FLOATS];
    char id[] = "y";
    for (int i = 0; i < N; i++) {
        values[i] = i;
    }
    values[0] = NAN;
    values[20] = NAN;
    const mz_series series = {.id = id, .values = values, .n_values = N};
    mz_series_source source = mz_series_source_default(MZ_SERIES_SOURCE_MEMORY, "here");
    source.series = &series;
    source.n_series = 1;
    mz_series_sampler_config config = config_of(&source);
    config.augment = (mz_series_augment){0};
    mz_series_sampler *sampler = NULL;
    mz_assert_ok(ctx, mz_series_sampler_create(ctx, &config, &sampler));
    assert_true(isnan(values[0]) && isnan(values[20]) && values[21] == 21);
    mz_series_source_info info;
    mz_series_sampler_describe(sampler, 0, &info);
    assert_int_equal(info.n_points, N - 1);
    for (uint64_t i = 0; i < 20; i++) {
        mz_series_window w = {.values = window_values};
        mz_series_sampler_get(sampler, i, scratch, &w);
        for (int64_t k = 2; k < w.n_values; k++) { /* a line, and the gap on it */
            const double step = (double)(w.values[1] - w.values[0]);
            assert_true(fabs((double)(w.values[k] - w.values[k - 1]) - step) < 1e-4);
        }
    }
    mz_series_sampler_destroy(ctx, sampler);
    source.missing = MZ_MISSING_ERROR;
    assert_int_equal(mz_series_sampler_create(ctx, &config, &sampler), MZ_ERR_ARG);
    source.n_series = 0;
    assert_int_equal(mz_series_sampler_create(ctx, &config, &sampler), MZ_ERR_MISSING);
    assert_non_null(strstr(ctx->error.message, "here: no series of at least 8 values"));
}

static void failed_allocations_leave_nothing(void **state) {
    double values[N] = {0};
    char id[] = "y";
    bool done = false;
    (void)state;
    values[3] = 1;
    const mz_series series = {.id = id, .values = values, .n_values = N};
    mz_series_source source = mz_series_source_default(MZ_SERIES_SOURCE_MEMORY, "here");
    source.series = &series;
    source.n_series = 1;
    const mz_series_sampler_config config = config_of(&source);
    for (int64_t fail_at = 1; !done; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
        mz_context ctx;
        const mz_context_options options = {.allocator = &allocator, .n_threads = 1};
        mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
        mz_series_sampler *sampler = NULL;
        const mz_status status = mz_series_sampler_create(&ctx, &config, &sampler);
        done = status == MZ_OK;
        assert_true(done || status == MZ_ERR_NOMEM);
        mz_series_sampler_destroy(&ctx, sampler);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
        assert_true(fail_at < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_like_a_file),
        cmocka_unit_test(gaps_are_filled_in_a_copy),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
