/* The default model's forecasts against the f64 reference of its family. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/zoo.h"
#include "core/file.h"
#include "core/safetensors_write.h"
#include "tests/golden/patch_moe_reference.h"

#define MODEL MOEZOO_TESTS_DIR "/../assets/models/patchmoe-5m"

/* Measured: 3e-6. */
static const double BOUND = 1e-4;

enum { N_VALUES = 260, HORIZON = 80 };

/* The weights widened to f32, as the reference wants them. */
static void widen(mz_context *ctx, const char *dir) {
    mz_weights *weights = NULL;
    mz_assert_ok(ctx, mz_weights_open(ctx, MODEL, &weights));
    const int64_t n = mz_weights_count(weights);
    mz_safetensors_item *items = calloc((size_t)n, sizeof *items);
    assert_non_null(items);
    for (int64_t i = 0; i < n; i++) {
        mz_assert_ok(ctx, mz_weights_at(weights, i, &items[i].name, &items[i].tensor));
        assert_true(mz_weights_find(weights, items[i].name, &items[i].tensor));
        const mz_tensor stored = items[i].tensor;
        const int64_t n_values = mz_tensor_n_elements(&stored);
        float *wide = calloc((size_t)n_values, sizeof *wide);
        assert_non_null(wide);
        mz_dtype_get(stored.dtype)->to_f32(wide, stored.data, n_values);
        items[i].tensor.dtype = MZ_DTYPE_F32;
        items[i].tensor.data = wide;
        items[i].dtype = MZ_DTYPE_F32;
    }
    char *path = NULL;
    mz_assert_ok(ctx, mz_path_join(ctx, dir, "model.safetensors", &path));
    mz_assert_ok(ctx, mz_safetensors_write(ctx, path, items, n, NULL, 0));
    mz_free(ctx, path);
    for (int64_t i = 0; i < n; i++) {
        free(items[i].tensor.data);
    }
    free(items);
    mz_weights_close(ctx, weights);
    char *config = NULL;
    size_t n_bytes = 0;
    mz_assert_ok(ctx, mz_file_read(ctx, MODEL "/config.json", 1 << 20, &config, &n_bytes));
    (void)mz_write_file(dir, "config.json", config, n_bytes);
    mz_free(ctx, config);
}

/* Daily and weekly waves with a trend and some noise. */
static void fill_series(double *out, uint64_t seed) {
    float noise[N_VALUES];
    mz_fill_uniform(noise, N_VALUES, seed, 0.4f);
    for (int i = 0; i < N_VALUES; i++) {
        out[i] = 50 + 0.05 * i + 8 * sin(i * 0.2618) + 3 * sin(i * 0.0374) + (double)noise[i];
    }
}

/* Relative to the deviation of the context, f32 arithmetic of bf16 weights against f64. */
static void forecasts_are_those_of_the_reference(void **state) {
    (void)state;
    char dir[512];
    mz_context ctx;
    mz_forecaster *f = NULL;
    mz_patch_reference reference;
    static double values[N_VALUES];
    static double actual[HORIZON * (1 + MZ_PATCH_REFERENCE_LEVELS)];
    static double expected[HORIZON * (1 + MZ_PATCH_REFERENCE_LEVELS)];
    mz_assert_ok(&ctx, mz_context_init(&ctx, NULL));
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    widen(&ctx, dir);
    mz_assert_ok(&ctx, mz_patch_reference_open(&ctx, dir, &reference));
    mz_assert_ok(&ctx, mz_zoo_load_forecaster(&ctx, MODEL, &(mz_load_options){0}, &f));
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const mz_forecast_options options = {.horizon = HORIZON, .context_len = N_VALUES};
        mz_forecast_item item = {.values = values,
                                 .n_values = N_VALUES,
                                 .forecast = actual,
                                 .quantiles = actual + HORIZON};
        const mz_patch_forecast wanted = {.values = values,
                                          .n = N_VALUES,
                                          .horizon = HORIZON,
                                          .is_scaled = true,
                                          .forecast = expected,
                                          .quantiles = expected + HORIZON};
        fill_series(values, seed);
        mz_assert_ok(&ctx, mz_forecaster_run(f, &options, &item, 1));
        mz_patch_reference_forecast(&reference, &wanted);
        const mz_series_scale scale = mz_series_scale_of(values, N_VALUES, MZ_NORMALIZE_WINDOW);
        double worst = 0;
        for (int i = 0; i < HORIZON * (1 + reference.n_levels); i++) {
            worst = fmax(worst, fabs(actual[i] - expected[i]) / scale.scale);
        }
        print_message("series %d: largest difference %.3g deviations\n", (int)seed, worst);
        assert_true(worst <= BOUND);
    }
    mz_forecaster_close(f);
    mz_patch_reference_close(&reference);
    mz_context_close(&ctx);
    mz_temp_dir_remove(dir);
}

/* It has learnt something: a clean season and trend are continued within a tenth of their size. */
static void a_clean_season_is_continued(void **state) {
    (void)state;
    enum { N = 120, AHEAD = 24 };
    mz_context ctx;
    mz_forecaster *f = NULL;
    double values[N + AHEAD];
    double forecast[AHEAD];
    double error = 0;
    for (int i = 0; i < N + AHEAD; i++) {
        values[i] = 100 + 10 * sin(i * 0.5235988);
    }
    mz_assert_ok(&ctx, mz_context_init(&ctx, NULL));
    mz_assert_ok(&ctx, mz_zoo_load_forecaster(&ctx, MODEL, &(mz_load_options){0}, &f));
    const mz_forecast_options options = {.horizon = AHEAD};
    mz_forecast_item item = {.values = values, .n_values = N, .forecast = forecast};
    mz_assert_ok(&ctx, mz_forecaster_run(f, &options, &item, 1));
    for (int i = 0; i < AHEAD; i++) {
        error += fabs(forecast[i] - values[N + i]) / AHEAD;
    }
    print_message("mean absolute error %.3g of an amplitude of 10\n", error);
    assert_true(error < 1.0);
    mz_forecaster_close(f);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(forecasts_are_those_of_the_reference),
                                       cmocka_unit_test(a_clean_season_is_continued)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
