/* The small Time-MoE goldens, from checkpoint to forecast, on the CUDA backend: forecasts of a
 * ragged batch across several chunks, and every intermediate result of one pass. The bound is that
 * of whole models in f32. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/lora.h"
#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/zoo.h"
#include "core/ops/cuda/cuda_backend.h"
#include "core/weights.h"

#define BOUND 1e-4

enum { MAX_VALUES = 64, MAX_HORIZON = 128, MAX_SERIES = 3 };

/* One case folder, its answers and the loaded model. */
typedef struct golden {
    mz_context ctx;
    mz_weights *io;
    mz_forecaster *model;
    const char *sub_case;
    int64_t n_compared;
} golden;

static void skip_without_device(mz_context *ctx) {
    mz_stream s = {0};
    const mz_status status = mz_stream_open(ctx, mz_backend_cuda(), 64, &s);
    if (status == MZ_ERR_DEVICE) {
        printf("skipped: %s\n", ctx->error.message);
        exit(77);
    }
    mz_assert_ok(ctx, status);
    mz_stream_close(&s);
}

static void open_golden(golden *g, const char *folder) {
    char dir[1024];
    char io[1100];
    const mz_context_options options = {.n_threads = 1, .isa = MZ_ISA_AUTO};
    const mz_load_options load = {.backend = mz_backend_cuda(), .precision = MZ_PRECISION_F32};
    *g = (golden){0};
    (void)snprintf(dir, sizeof dir, "%s/golden/time-moe/%s", MOEZOO_TESTS_DIR, folder);
    (void)snprintf(io, sizeof io, "%s/io.safetensors", dir);
    mz_assert_ok(&g->ctx, mz_context_init(&g->ctx, &options));
    skip_without_device(&g->ctx);
    mz_assert_ok(&g->ctx, mz_weights_open(&g->ctx, io, &g->io));
    mz_assert_ok(&g->ctx, mz_zoo_load_forecaster(&g->ctx, dir, &load, &g->model));
}

static void close_golden(golden *g) {
    mz_forecaster_close(g->model);
    mz_weights_close(&g->ctx, g->io);
    mz_context_close(&g->ctx);
}

static const float *answer(golden *g, const char *sub_case, const char *name, int64_t *n) {
    char full[128];
    mz_tensor t;
    (void)snprintf(full, sizeof full, "%s.%s", sub_case, name);
    if (!mz_weights_find(g->io, full, &t)) {
        return NULL;
    }
    *n = mz_tensor_n_elements(&t);
    return t.data;
}

/* Forecasts the sub-cases' inputs in one batch and compares each with the reference's forecast of
 * it alone. */
static void check_forecasts(golden *g, const char *const *sub_cases, int64_t n_series,
                            int64_t horizon) {
    double values[MAX_SERIES][MAX_VALUES];
    double forecasts[MAX_SERIES][MAX_HORIZON];
    mz_forecast_item items[MAX_SERIES];
    char name[32];
    (void)snprintf(name, sizeof name, "forecast_%lld", (long long)horizon);
    for (int64_t i = 0; i < n_series; i++) {
        int64_t n = 0;
        const float *input = answer(g, sub_cases[i], "input", &n);
        assert_non_null(input);
        assert_true(n <= MAX_VALUES && horizon <= MAX_HORIZON);
        for (int64_t k = 0; k < n; k++) {
            values[i][k] = (double)input[k];
        }
        items[i] = (mz_forecast_item){.values = values[i], .n_values = n, .forecast = forecasts[i]};
    }
    const mz_forecast_options options = {
        .horizon = horizon, .context_len = MAX_VALUES, .normalize = MZ_NORMALIZE_NONE};
    mz_assert_ok(&g->ctx, mz_forecaster_run(g->model, &options, items, n_series));
    for (int64_t i = 0; i < n_series; i++) {
        float actual[MAX_HORIZON];
        int64_t n = 0;
        const float *expected = answer(g, sub_cases[i], name, &n);
        assert_non_null(expected);
        assert_int_equal(n, horizon);
        for (int64_t k = 0; k < horizon; k++) {
            actual[k] = (float)forecasts[i][k];
        }
        mz_assert_close(sub_cases[i], actual, expected, horizon, BOUND);
    }
}

/* Compares one traced tensor with the golden of its name, where there is one of that size and
 * layout. */
static mz_status compare_traced(void *self, mz_stream *s, int layer, const char *name,
                                const mz_tensor *t) {
    golden *g = self;
    char full[64];
    int64_t n_expected = 0;
    const int64_t n_rows = mz_tensor_n_rows(t);
    const size_t row_bytes = (size_t)mz_tensor_n_cols(t) * sizeof(float);
    if (layer >= 0) {
        (void)snprintf(full, sizeof full, "layers.%d.%s", layer, mz_time_moe_name(name));
    } else {
        (void)snprintf(full, sizeof full, "%s", name);
    }
    const float *expected = answer(g, g->sub_case, full, &n_expected);
    if (expected == NULL || strcmp(name, "k") == 0 || strcmp(name, "v") == 0) {
        return MZ_OK;
    }
    assert_int_equal(n_expected, mz_tensor_n_elements(t));
    unsigned char *actual = malloc((size_t)n_rows * row_bytes + 1);
    assert_non_null(actual);
    for (int64_t r = 0; r < n_rows; r++) {
        const unsigned char *row =
            (const unsigned char *)t->data + (size_t)(r * t->ld) * sizeof(float);
        MZ_TRY(s->backend->download(s, actual + (size_t)r * row_bytes, row, row_bytes));
    }
    if (t->dtype == MZ_DTYPE_I32) {
        assert_memory_equal(actual, expected, (size_t)n_expected * sizeof(int32_t));
    } else {
        mz_assert_close(full, (const float *)actual, expected, n_expected, BOUND);
    }
    free(actual);
    g->n_compared++;
    return MZ_OK;
}

static void check_trace(golden *g, const char *sub_case, int64_t n_expected) {
    int64_t n = 0;
    const float *input = answer(g, sub_case, "input", &n);
    assert_non_null(input);
    g->sub_case = sub_case;
    const mz_trace trace = {.record = compare_traced, .self = g, .inside_moe = true};
    mz_assert_ok(&g->ctx, mz_forecaster_trace(g->model, input, n, &trace));
    assert_int_equal(g->n_compared, n_expected);
}

static void tiny(void **state) {
    (void)state;
    static const char *const series[] = {"s37", "s1", "s61"};
    golden g;
    open_golden(&g, "tiny");
    check_trace(&g, "s37",
                4 + 3 * 11); /* embed, final_norm, head0, head1, and 11 of each of 3 layers */
    check_forecasts(&g, series, 3, 12);
    check_forecasts(&g, series, 1, 96);
    close_golden(&g);
}

/* Grouped heads, top 3 of 7 experts. */
static void gqa(void **state) {
    (void)state;
    static const char *const series[] = {"s19", "s3"};
    golden g;
    open_golden(&g, "gqa");
    check_forecasts(&g, series, 2, 13);
    close_golden(&g);
}

static void dense(void **state) {
    (void)state;
    static const char *const series[] = {"s23", "s5"};
    golden g;
    open_golden(&g, "dense");
    check_forecasts(&g, series, 2, 12);
    close_golden(&g);
}

static void tiny_bf16(void **state) {
    (void)state;
    static const char *const series[] = {"s37"};
    golden g;
    open_golden(&g, "tiny-bf16");
    check_forecasts(&g, series, 1, 12);
    close_golden(&g);
}

/* A forecast of the tiny model with an adapter on all linears, on one backend. */
static void forecast_with(golden *g, const mz_backend *backend, const char *adapter,
                          double forecast[12]) {
    mz_forecaster *model = NULL;
    double values[40];
    const mz_load_options load = {.backend = backend, .adapter = adapter};
    const mz_forecast_options options = {.horizon = 12};
    mz_forecast_item item = {.values = values, .n_values = 40, .forecast = forecast};
    for (int i = 0; i < 40; i++) {
        values[i] = (double)(i % 7) - 0.1 * (double)(i % 11);
    }
    mz_assert_ok(&g->ctx, mz_zoo_load_forecaster(&g->ctx, MOEZOO_TESTS_DIR "/golden/time-moe/tiny",
                                                 &load, &model));
    mz_assert_ok(&g->ctx, mz_forecaster_run(model, &options, &item, 1));
    mz_forecaster_close(model);
}

/* Adapters, too, answer as in the reference; saved from the device they are what they were. */
static void adapters(void **state) {
    (void)state;
    static const char *const all[] = {"all-linear"};
    static const mz_lora_config config = {.rank = 2, .alpha = 4, .targets = all, .n_targets = 1};
    golden g;
    mz_parameters p = {0};
    mz_lora *lora = NULL;
    mz_forecaster *host = NULL;
    char dir[512];
    char again[512];
    double forecasts[3][12];
    open_golden(&g, "tiny");
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    (void)snprintf(again, sizeof again, "%s", mz_temp_dir_create());
    mz_assert_ok(&g.ctx, mz_zoo_load_forecaster(&g.ctx, MOEZOO_TESTS_DIR "/golden/time-moe/tiny",
                                                &(mz_load_options){0}, &host));
    mz_assert_ok(&g.ctx, mz_lora_create(&g.ctx, &mz_forecaster_parts_of(host)->loader, &config, 1,
                                        &p, &lora));
    for (int64_t i = 1; i < p.n; i += 2) {
        mz_fill_uniform(p.items[i].value.data, mz_tensor_n_elements(&p.items[i].value), (uint64_t)i,
                        0.05f);
    }
    mz_assert_ok(&g.ctx, mz_lora_save(lora, dir, NULL, MZ_DTYPE_F32));
    mz_lora_destroy(lora);
    mz_parameters_free(&g.ctx, &p);
    mz_forecaster_close(host);
    forecast_with(&g, mz_backend_reference(), dir, forecasts[0]);
    forecast_with(&g, mz_backend_cuda(), dir, forecasts[1]);
    forecast_with(&g, mz_backend_cuda(), NULL, forecasts[2]);
    double worst = 0;
    double change = 0;
    for (int i = 0; i < 12; i++) {
        worst = fmax(worst, fabs(forecasts[0][i] - forecasts[1][i]));
        change = fmax(change, fabs(forecasts[2][i] - forecasts[1][i]));
    }
    assert_true(worst < BOUND && change > 10 * BOUND);
    const mz_loader *device = &mz_forecaster_parts_of(g.model)->loader;
    assert_int_equal(mz_lora_load(&g.ctx, device, dir, &p, &lora), MZ_ERR_UNSUPPORTED);
    mz_assert_ok(&g.ctx, mz_lora_load(&g.ctx, device, dir, NULL, &lora));
    mz_assert_ok(&g.ctx, mz_lora_save(lora, again, NULL, MZ_DTYPE_F32));
    mz_lora_destroy(lora);
    forecast_with(&g, mz_backend_cuda(), again, forecasts[0]);
    assert_memory_equal(forecasts[0], forecasts[1], sizeof forecasts[0]);
    mz_temp_dir_remove(dir);
    mz_temp_dir_remove(again);
    close_golden(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny),      cmocka_unit_test(gqa),      cmocka_unit_test(dense),
        cmocka_unit_test(tiny_bf16), cmocka_unit_test(adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
