/* Patch-MoE with made checkpoints: against the f64 reference, and properties of its forecasts. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/zoo.h"
#include "core/json.h"
#include "tests/golden/made_checkpoint.h"
#include "tests/golden/patch_moe_reference.h"

#define RECIPES MOEZOO_TESTS_DIR "/golden/patch-moe/"

enum { MAX_LEN = 700, MAX_HORIZON = 200, MAX_LEVELS = 5, N_RECIPES = 3 };

static const char *const recipes[N_RECIPES] = {RECIPES "base", RECIPES "narrow", RECIPES "points"};

/* A made checkpoint, and its forecaster. */
typedef struct fixture {
    char dir[512];
    mz_context ctx;
    mz_forecaster *forecaster;
} fixture;

static void open_recipe(fixture *f, const char *recipe, int n_threads) {
    const mz_context_options options = {.n_threads = n_threads, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &options));
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    mz_assert_ok(&f->ctx, mz_made_checkpoint_write(&f->ctx, recipe, f->dir, MZ_DTYPE_F32));
    mz_assert_ok(&f->ctx,
                 mz_zoo_load_forecaster(&f->ctx, f->dir, &(mz_load_options){0}, &f->forecaster));
}

static void close_recipe(fixture *f) {
    mz_forecaster_close(f->forecaster);
    mz_context_close(&f->ctx);
    mz_temp_dir_remove(f->dir);
}

/* Mean near 0 and deviation near 1, so that relative distances of forecasts mean something. */
static void fill_series(double *out, int64_t n, uint64_t seed) {
    float noise[MAX_LEN];
    mz_fill_uniform(noise, n, seed, 0.5f);
    for (int64_t i = 0; i < n; i++) {
        out[i] = 1.4 * sin((double)i * 0.26) + (double)noise[i];
    }
}

/* ---- against the reference ---- */

/* The reference's tensors of one pass, one after the other. */
typedef struct heard {
    int layer;
    char name[24];
    int64_t n;
    float *values;
} heard;

typedef struct record {
    heard items[64];
    int n, n_compared;
} record;

static void hear(void *self, int layer, const char *name, const double *values, int64_t n_rows,
                 int64_t n_cols) {
    record *r = self;
    heard *h = &r->items[r->n++];
    *h = (heard){.layer = layer, .n = n_rows * n_cols};
    (void)snprintf(h->name, sizeof h->name, "%s", name);
    h->values = malloc((size_t)h->n * sizeof *h->values);
    assert_non_null(h->values);
    for (int64_t i = 0; i < h->n; i++) {
        h->values[i] = (float)values[i];
    }
}

/* A trace's tensor against the reference's of that name. */
static mz_status compare_traced(void *self, mz_stream *s, int layer, const char *name,
                                const mz_tensor *t) {
    (void)s;
    record *r = self;
    for (int k = 0; k < r->n; k++) {
        const heard *h = &r->items[k];
        char what[64];
        if (h->layer != layer || strcmp(h->name, name) != 0) {
            continue;
        }
        (void)snprintf(what, sizeof what, "layer %d %s", layer, name);
        assert_int_equal(h->n, t->shape[0] * t->shape[1]);
        float *actual = malloc((size_t)h->n * sizeof *actual);
        assert_non_null(actual);
        for (int64_t i = 0; i < h->n; i++) {
            const int64_t at = i / t->shape[1] * t->ld + i % t->shape[1];
            actual[i] = t->dtype == MZ_DTYPE_I32 ? (float)((const int32_t *)t->data)[at]
                                                 : ((const float *)t->data)[at];
        }
        mz_assert_close(what, actual, h->values, h->n, t->dtype == MZ_DTYPE_I32 ? 0 : 1e-5);
        free(actual);
        r->n_compared++;
    }
    return MZ_OK;
}

static void layers_equal_the_reference(void **state) {
    (void)state;
    static const int64_t lengths[] = {1, 5, 16, 17, 200};
    for (int k = 0; k < N_RECIPES; k++) {
        fixture f;
        mz_patch_reference reference;
        open_recipe(&f, recipes[k], 2);
        mz_assert_ok(&f.ctx, mz_patch_reference_open(&f.ctx, f.dir, &reference));
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            const int64_t n = lengths[i];
            const int64_t n_rows = (n + reference.patch_len - 1) / reference.patch_len;
            float z[200];
            double u[200];
            double *out =
                calloc((size_t)(n_rows * reference.head_len * reference.n_levels), sizeof *out);
            static record r;
            assert_non_null(out);
            mz_fill_uniform(z, n, (uint64_t)i + 1, 2.0f);
            for (int64_t t = 0; t < n; t++) {
                u[t] = reference.arcsinh ? asinh((double)z[t]) : (double)z[t];
            }
            r = (record){0};
            mz_patch_reference_rows(&reference, u, n, out, (mz_patch_listener){hear, &r});
            mz_assert_ok(&f.ctx, mz_forecaster_trace(f.forecaster, z, n,
                                                     &(mz_trace){compare_traced, &r, false}));
            assert_int_equal(r.n, 3 + 5 * reference.n_layers);
            assert_int_equal(r.n_compared, r.n);
            for (int t = 0; t < r.n; t++) {
                free(r.items[t].values);
            }
            free(out);
        }
        mz_patch_reference_close(&reference);
        close_recipe(&f);
    }
}

static void assert_forecast(const char *what, const double *actual, const double *expected,
                            int64_t n) {
    double squares = 0;
    double gap = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(isfinite(actual[i]));
        squares += expected[i] * expected[i];
        gap += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    }
    if (!(sqrt(gap) <= 1e-5 * sqrt(squares))) {
        fail_msg("%s: relative L2 %g", what, sqrt(gap / squares));
    }
}

/* Contexts that are no multiple of the patch, horizons within, at and beyond the head. */
static void forecasts_equal_the_reference(void **state) {
    (void)state;
    static const int64_t lengths[] = {1, 5, 16, 17, 200};
    static const int64_t horizons[] = {1, 16, 64, 65, 200};
    enum { N = 5 };
    for (int i = 0; i < N_RECIPES * N * N; i++) {
        static double actual[(MAX_LEVELS + 1) * MAX_HORIZON];
        static double expected[(MAX_LEVELS + 1) * MAX_HORIZON];
        double values[200];
        char what[64];
        fixture f;
        mz_patch_reference reference;
        const int64_t n = lengths[i / N % N];
        const int64_t horizon = horizons[i % N];
        const bool is_scaled = n > 1; /* one value alone has no deviation */
        const mz_forecast_options options = {.horizon = horizon,
                                             .context_len = n,
                                             .normalize = is_scaled ? MZ_NORMALIZE_WINDOW
                                                                    : MZ_NORMALIZE_NONE};
        mz_forecast_item item = {
            .values = values, .n_values = n, .forecast = actual, .quantiles = actual + horizon};
        const mz_patch_forecast wanted = {.values = values,
                                          .n = n,
                                          .horizon = horizon,
                                          .is_scaled = is_scaled,
                                          .forecast = expected,
                                          .quantiles = expected + horizon};
        open_recipe(&f, recipes[i / (N * N)], 1);
        mz_assert_ok(&f.ctx, mz_patch_reference_open(&f.ctx, f.dir, &reference));
        fill_series(values, n, (uint64_t)n);
        mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
        mz_patch_reference_forecast(&reference, &wanted);
        (void)snprintf(what, sizeof what, "%s: %d values, horizon %d",
                       strrchr(recipes[i / (N * N)], '/'), (int)n, (int)horizon);
        assert_forecast(what, actual, expected, horizon);
        assert_forecast(what, actual + horizon, expected + horizon, reference.n_levels * horizon);
        mz_patch_reference_close(&reference);
        close_recipe(&f);
    }
}

/* ---- properties ---- */

static const double *levels_of(const fixture *f, int32_t *n_levels, int32_t *median) {
    const double *levels = NULL;
    *n_levels = mz_forecaster_levels(f->forecaster, &levels);
    for (int32_t i = 0; i < *n_levels; i++) {
        *median = levels[i] == 0.5 ? i : *median;
    }
    return levels;
}

/* A batch of unequal lengths, some longer than one pass holds, answers bit for bit as single calls
 * do, for any number of threads, and with quantiles as without. */
static void batch_equals_single(void **state) {
    (void)state;
    static const int64_t lengths[] = {2, 1, 700, 64, 65, 33, 16, 17};
    enum { N = sizeof lengths / sizeof lengths[0], HORIZON = 150 };
    static double values[N][MAX_LEN];
    static double batch[N][HORIZON];
    static double fans[N][MAX_LEVELS * HORIZON];
    const mz_forecast_options options = {.horizon = HORIZON};
    for (int k = 0; k < N_RECIPES; k++) {
        fixture f;
        mz_forecast_item items[N];
        open_recipe(&f, recipes[k], 1);
        for (int i = 0; i < N; i++) {
            fill_series(values[i], lengths[i], (uint64_t)i + 1);
            items[i] = (mz_forecast_item){.values = values[i],
                                          .n_values = lengths[i],
                                          .forecast = batch[i],
                                          .quantiles = fans[i]};
        }
        mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, items, N));
        close_recipe(&f);
        for (int n_threads = 1; n_threads <= 2; n_threads++) {
            open_recipe(&f, recipes[k], n_threads);
            for (int i = 0; i < N; i++) {
                double single[HORIZON];
                static double fan[MAX_LEVELS * HORIZON];
                int32_t n_levels = 0;
                int32_t median = 0;
                mz_forecast_item item = {
                    .values = values[i], .n_values = lengths[i], .forecast = single};
                (void)levels_of(&f, &n_levels, &median);
                item.quantiles = n_threads == 1 ? fan : NULL;
                mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
                assert_memory_equal(single, batch[i], sizeof single);
                assert_memory_equal(single, fans[i] + median * HORIZON, sizeof single);
                if (item.quantiles != NULL) {
                    assert_memory_equal(fan, fans[i],
                                        (size_t)(n_levels * HORIZON) * sizeof(double));
                }
            }
            close_recipe(&f);
        }
    }
}

/* Quantiles ascend at every step, and a x + b gives a y + b, for negative a with levels mirrored
 * only in the mean, so a is positive here. */
static void scale_equivariance(void **state) {
    (void)state;
    enum { HORIZON = 100, N = 200 };
    static const double factors[][2] = {{4, 0}, {1e6, -3e7}, {1e-3, 12}, {1e300, 0}};
    double values[N];
    double scaled[N];
    double forecast[HORIZON];
    double base[MAX_LEVELS * HORIZON];
    double other[MAX_LEVELS * HORIZON];
    const mz_forecast_options options = {.horizon = HORIZON};
    int32_t n_levels = 0;
    int32_t median = 0;
    fixture f;
    open_recipe(&f, recipes[0], 0);
    (void)levels_of(&f, &n_levels, &median);
    fill_series(values, N, 9);
    mz_forecast_item item = {
        .values = values, .n_values = N, .forecast = forecast, .quantiles = base};
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    for (int i = HORIZON; i < n_levels * HORIZON; i++) {
        assert_true(base[i] >= base[i - HORIZON]);
    }
    for (size_t k = 0; k < sizeof factors / sizeof factors[0]; k++) {
        for (int i = 0; i < N; i++) {
            scaled[i] = factors[k][0] * values[i] + factors[k][1];
        }
        item.values = scaled;
        item.quantiles = other;
        mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
        for (int i = 0; i < n_levels * HORIZON; i++) {
            const double expected = factors[k][0] * base[i] + factors[k][1];
            assert_true(fabs(other[i] - expected) <= 1e-3 * fabs(factors[k][0]));
        }
    }
    close_recipe(&f);
}

/* The context option and what the model was trained for are in points, not in rows. */
static void context_is_counted_in_points(void **state) {
    (void)state;
    enum { HORIZON = 20, N = 300 };
    double values[N];
    double whole[HORIZON];
    double cut[HORIZON];
    fixture f;
    open_recipe(&f, recipes[0], 1);
    fill_series(values, N, 3);
    mz_forecast_options options = {.horizon = HORIZON, .context_len = 101};
    mz_forecast_item item = {.values = values, .n_values = N, .forecast = whole};
    assert_int_equal(mz_forecaster_context_len(f.forecaster, &options, N), 101);
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    assert_int_equal(item.warnings, 0);
    item = (mz_forecast_item){.values = values + N - 101, .n_values = 101, .forecast = cut};
    options.context_len = 0;
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    assert_memory_equal(whole, cut, sizeof cut);
    assert_int_equal(mz_forecaster_max_positions(f.forecaster), 512);
    const mz_forecaster_parts *parts = mz_forecaster_parts_of(f.forecaster);
    assert_int_equal(mz_forecaster_parts_input_width(parts), 2 * 16);
    assert_int_equal(mz_forecaster_parts_output_width(parts, 0), 64 * MAX_LEVELS);
    assert_int_equal(mz_forecaster_context_len(f.forecaster, &options, 1000), 512 - HORIZON);
    double far[MAX_HORIZON];
    double longer[512];
    fill_series(longer, 512, 3);
    item = (mz_forecast_item){.values = longer, .n_values = 512, .forecast = far};
    options = (mz_forecast_options){.horizon = MAX_HORIZON, .context_len = 512 - MAX_HORIZON};
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    assert_int_equal(item.warnings, 0);
    options.context_len++;
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    assert_int_equal(item.warnings, MZ_FORECAST_BEYOND_TRAINING);
    close_recipe(&f);
}

static void odd_series(void **state) {
    (void)state;
    enum { HORIZON = 90, N = 64 };
    double values[N];
    double forecast[HORIZON];
    double fan[MAX_LEVELS * HORIZON];
    double past[1];
    const mz_forecast_options options = {.horizon = HORIZON};
    fixture f;
    open_recipe(&f, recipes[0], 1);
    mz_forecast_item item = {
        .values = values, .n_values = N, .forecast = forecast, .quantiles = fan};
    for (int i = 0; i < N; i++) {
        values[i] = -1e308;
    }
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    assert_int_equal(item.warnings, MZ_FORECAST_CONSTANT);
    assert_true(fan[0] == -1e308 && fan[MAX_LEVELS * HORIZON - 1] == -1e308);
    for (int i = 0; i < N; i++) {
        values[i] = i % 2 == 0 ? 1.7e308 : -1.7e308;
    }
    mz_assert_ok(&f.ctx, mz_forecaster_run(f.forecaster, &options, &item, 1));
    for (int i = 0; i < MAX_LEVELS * HORIZON; i++) {
        assert_true(isfinite(fan[i]));
    }
    item.n_past = 1;
    item.past = past;
    assert_int_equal(mz_forecaster_run(f.forecaster, &options, &item, 1), MZ_ERR_ARG);
    close_recipe(&f);
}

/* Values to rows and back. */
static void points_to_rows(void **state) {
    (void)state;
    float values[] = {0, 1, -1e30f, 3e38f};
    float back[] = {1000, -1000, NAN, 0.5f};
    float row[10];
    const float points[] = {1, 2, 3, 4, 5, 6, 7};
    const float first[] = {0, 0, 0, 1, 2, 0, 0, 0, 1, 1};
    const float last[] = {3, 4, 5, 6, 7, 1, 1, 1, 1, 1};
    const mz_forecaster_parts p = {
        .rows = MZ_ROWS_PATCH, .patch_len = 5, .transform = MZ_TRANSFORM_ARCSINH};
    assert_int_equal(mz_forecaster_parts_n_rows(&p, 1), 1);
    assert_int_equal(mz_forecaster_parts_n_rows(&p, 5), 1);
    assert_int_equal(mz_forecaster_parts_n_rows(&p, 6), 2);
    mz_forecaster_parts_input_row(&p, points, 7, 0, row);
    assert_memory_equal(row, first, sizeof row);
    mz_forecaster_parts_input_row(&p, points, 7, 1, row);
    assert_memory_equal(row, last, sizeof row);
    mz_forecaster_parts_transform(&p, values, 4);
    assert_true(values[0] == 0 && fabs((double)values[1] - 0.881373587) < 1e-6);
    assert_true(fabs((double)values[2] + log(2e30)) < 1e-4);
    mz_forecaster_parts_restore(&p, values, 4);
    assert_true(fabs((double)values[1] - 1) < 1e-6 && values[3] > 1e37f);
    mz_forecaster_parts_restore(&p, back, 4);
    assert_true(back[0] > 8e37f && back[1] == -back[0] && isfinite(back[0]) && isnan(back[2]));
}

/* ---- hostile checkpoints ---- */

static mz_status describe_with(mz_context *ctx, const char *key, const char *json) {
    json_t *config = NULL;
    json_t *value = NULL;
    mz_model_info info;
    char dir[512];
    mz_assert_ok(ctx, mz_json_load(ctx, RECIPES "base/config.json", &config));
    if (json == NULL) {
        (void)json_object_del(config, key);
    } else {
        mz_assert_ok(ctx, mz_json_parse(ctx, json, strlen(json), key, &value));
        (void)json_object_set_new(config, key, value);
    }
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    (void)mz_write_file(dir, "config.json", text, strlen(text));
    const mz_status status = mz_zoo_describe(ctx, dir, &info);
    assert_null(strchr(ctx->error.message, '\n'));
    mz_temp_dir_remove(dir);
    free(text);
    json_decref(config);
    return status;
}

static void hostile_configs(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *key, *json, *message;
        mz_status status;
    } cases[] = {
        {"patch_len", NULL, "patch_len", MZ_ERR_MISSING},
        {"patch_len", "0", "patch_len", MZ_ERR_LIMIT},
        {"patch_len", "\"16\"", "patch_len", MZ_ERR_FORMAT},
        {"patch_len", "12", "head_len 64 is no multiple of patch_len 12", MZ_ERR_FORMAT},
        {"patch_len", "1e3", "patch_len", MZ_ERR_FORMAT},
        {"head_len", "8192", "head_len", MZ_ERR_LIMIT},
        {"head_len", "-64", "head_len", MZ_ERR_LIMIT},
        {"quantiles", NULL, "quantiles", MZ_ERR_MISSING},
        {"quantiles", "0.5", "quantiles is no array", MZ_ERR_FORMAT},
        {"quantiles", "[]", "quantiles has 0 entries", MZ_ERR_LIMIT},
        {"quantiles", "[0.1, 0.9]", "quantiles lacks 0.5", MZ_ERR_FORMAT},
        {"quantiles", "[0.5, 0.1]", "quantiles must ascend, but 0.1 follows 0.5", MZ_ERR_FORMAT},
        {"quantiles", "[0.5, 0.5]", "quantiles must ascend", MZ_ERR_FORMAT},
        {"quantiles", "[0, 0.5]", "quantiles holds 0,", MZ_ERR_LIMIT},
        {"quantiles", "[0.5, 1]", "quantiles holds 1,", MZ_ERR_LIMIT},
        {"quantiles", "[0.5, \"x\"]", "something else than numbers", MZ_ERR_FORMAT},
        {"quantiles",
         "[0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09,0.1,0.11,0.12,0.13,0.14,0.15,0.16,0.17,"
         "0.18,0.19,0.2,0.21,0.22,0.23,0.24,0.25,0.26,0.27,0.28,0.29,0.3,0.31,0.32,0.5]",
         "quantiles has 33 entries", MZ_ERR_LIMIT},
        {"value_transform", NULL, "value_transform", MZ_ERR_MISSING},
        {"value_transform", "\"log\"", "known are: arcsinh, none", MZ_ERR_UNSUPPORTED},
        {"value_transform", "1", "value_transform", MZ_ERR_FORMAT},
        {"hidden_size", "33", "does not divide into 4 heads", MZ_ERR_FORMAT},
        {"hidden_size", "12", "heads of even size", MZ_ERR_FORMAT},
        {"hidden_size", "999999999", "hidden_size", MZ_ERR_LIMIT},
        {"num_key_value_heads", "3", "num_key_value_heads", MZ_ERR_FORMAT},
        {"num_experts", "1", "num_experts_per_tok 2 exceeds num_experts 1", MZ_ERR_FORMAT},
        {"num_experts", "100000", "num_experts", MZ_ERR_LIMIT},
        {"num_experts_per_tok", "0", "num_experts_per_tok", MZ_ERR_LIMIT},
        {"num_hidden_layers", "0", "num_hidden_layers", MZ_ERR_LIMIT},
        {"moe_intermediate_size", NULL, "moe_intermediate_size", MZ_ERR_MISSING},
        {"shared_expert_intermediate_size", "0", "shared_expert", MZ_ERR_LIMIT},
        {"embed_intermediate_size", NULL, "embed_intermediate_size", MZ_ERR_MISSING},
        {"head_intermediate_size", "1.5", "head_intermediate_size", MZ_ERR_FORMAT},
        {"max_position_embeddings", NULL, "max_position_embeddings", MZ_ERR_MISSING},
        {"rope_theta", "0", "rope_theta", MZ_ERR_LIMIT},
        {"rms_norm_eps", "-1", "rms_norm_eps", MZ_ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(describe_with(ctx, cases[i].key, cases[i].json), cases[i].status);
        if (strstr(ctx->error.message, cases[i].message) == NULL) {
            fail_msg("%s: \"%s\"", cases[i].message, ctx->error.message);
        }
    }
}

/* Sizes that the weights do not have. */
static void other_shapes(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *tensor;
    } cases[] = {
        {"\"patch_len\": 16", "\"patch_len\": 32", "model.embed.gate_proj.weight"},
        {"\"head_len\": 64", "\"head_len\": 32", "head.down_proj.weight"},
        {"[0.1, 0.25,", "[0.1,", "head.skip_proj.weight"},
        {"_intermediate_size\": 48", "_intermediate_size\": 47", "model.embed.down_proj.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        mz_forecaster *loaded = NULL;
        char text[4096] = {0};
        char path[600];
        open_recipe(&f, recipes[0], 1);
        (void)snprintf(path, sizeof path, "%s/config.json", f.dir);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        const size_t n = fread(text, 1, sizeof text - 1, file);
        (void)fclose(file);
        char *at = strstr(text, cases[i].from);
        assert_non_null(at);
        char edited[4096];
        (void)snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, cases[i].to,
                       at + strlen(cases[i].from));
        assert_true(n > 0);
        (void)mz_write_file(f.dir, "config.json", edited, strlen(edited));
        assert_int_equal(mz_zoo_load_forecaster(&f.ctx, f.dir, &(mz_load_options){0}, &loaded),
                         MZ_ERR_MISSING);
        assert_non_null(strstr(f.ctx.error.message, cases[i].tensor));
        close_recipe(&f);
    }
}

/* Loading and forecasting with allocation k failing, for every k: a clean NOMEM each time, and
 * nothing stays allocated. */
static void every_allocation_fails_once(void **state) {
    (void)state;
    double values[70];
    double out[80];
    double fan[MAX_LEVELS * 80];
    fixture f;
    mz_status status = MZ_ERR_NOMEM;
    int64_t k = 0;
    fill_series(values, 70, 5);
    open_recipe(&f, recipes[1], 1);
    while (status != MZ_OK) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, ++k);
        const mz_context_options options = {
            .allocator = &allocator, .n_threads = 2, .isa = MZ_ISA_AUTO};
        mz_context ctx;
        mz_forecaster *loaded = NULL;
        mz_forecast_item item = {
            .values = values, .n_values = 70, .forecast = out, .quantiles = fan};
        status = mz_context_init(&ctx, &options);
        if (status == MZ_OK) {
            status = mz_zoo_load_forecaster(&ctx, f.dir, &(mz_load_options){0}, &loaded);
            if (status == MZ_OK) {
                status = mz_forecaster_run(loaded, &(mz_forecast_options){.horizon = 80}, &item, 1);
            }
            mz_forecaster_close(loaded);
            mz_context_close(&ctx);
        }
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(counter.n_live, 0);
        assert_true(k < 100000);
    }
    assert_true(k > 10);
    close_recipe(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_equal_the_reference),
        cmocka_unit_test(forecasts_equal_the_reference),
        cmocka_unit_test(batch_equals_single),
        cmocka_unit_test(scale_equivariance),
        cmocka_unit_test(context_is_counted_in_points),
        cmocka_unit_test(odd_series),
        cmocka_unit_test(points_to_rows),
        cmocka_unit_test_setup_teardown(hostile_configs, mz_context_setup, mz_context_teardown),
        cmocka_unit_test(other_shapes),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
