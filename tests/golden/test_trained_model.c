/* Forecasts of a trained Time-MoE model against expected.json beside it, which the original
 * implementation computed. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/zoo.h"

#define MODEL MOEZOO_TESTS_DIR "/golden/time-moe/nano"

static double number_at(const json_t *array, size_t i) {
    return json_number_value(json_array_get(array, i));
}

/* Largest difference in units of the context's deviation. */
static double worst_difference(mz_context *ctx, mz_forecaster *f, const json_t *test,
                               const json_t *forecast) {
    const json_t *context = json_object_get(test, "context");
    const json_t *expected = json_object_get(forecast, "values");
    const int64_t horizon = json_integer_value(json_object_get(forecast, "horizon"));
    const double deviation = json_number_value(json_object_get(test, "std"));
    const size_t n = json_array_size(context);
    double *values = calloc(n, sizeof *values);
    double *out = calloc((size_t)horizon, sizeof *out);
    double worst = 0;
    assert_true(values != NULL && out != NULL && horizon > 0 && deviation > 0 &&
                json_array_size(expected) == (size_t)horizon);
    for (size_t i = 0; i < n; i++) {
        values[i] = number_at(context, i);
    }
    const mz_forecast_options options = {.horizon = horizon, .context_len = (int64_t)n};
    mz_forecast_item item = {.values = values, .n_values = (int64_t)n, .forecast = out};
    mz_assert_ok(ctx, mz_forecaster_run(f, &options, &item, 1));
    for (int64_t h = 0; h < horizon; h++) {
        worst = fmax(worst, fabs(out[h] - number_at(expected, (size_t)h)) / deviation);
    }
    free(values);
    free(out);
    return worst;
}

static void forecasts_are_the_expected_ones(void **state) {
    (void)state;
    mz_context ctx;
    mz_forecaster *f = NULL;
    json_error_t error;
    size_t i = 0;
    const json_t *test = NULL;
    json_t *expected = json_load_file(MODEL "/expected.json", 0, &error);
    assert_non_null(expected);
    mz_assert_ok(&ctx, mz_context_init(&ctx, NULL));
    mz_assert_ok(&ctx, mz_zoo_load_forecaster(&ctx, MODEL, &(mz_load_options){0}, &f));
    const double bound = json_number_value(
        json_object_get(json_object_get(expected, "tolerance"), "normalised_abs"));
    assert_true(bound > 0);
    assert_true(json_array_size(json_object_get(expected, "cases")) >= 3);
    json_array_foreach(json_object_get(expected, "cases"), i, test) {
        size_t k = 0;
        const json_t *forecast = NULL;
        json_array_foreach(json_object_get(test, "forecasts"), k, forecast) {
            const double worst = worst_difference(&ctx, f, test, forecast);
            print_message("case %zu, forecast %zu: largest difference %.3g deviations\n", i, k,
                          worst);
            assert_true(worst <= bound);
        }
    }
    mz_forecaster_close(f);
    mz_context_close(&ctx);
    json_decref(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(forecasts_are_the_expected_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
