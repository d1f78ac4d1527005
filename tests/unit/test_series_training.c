/* What a training of forecasters does when memory is short, and with batches beyond any memory. */
#include "tests/testing.h"

#include <math.h>
#include <string.h>

#include "apps/zoo/series_training.h"
#include "core/json.h"

#define PATCH_MOE MOEZOO_TESTS_DIR "/golden/patch-moe/base/config.json"

enum { N_VALUES = 200 };

/* A kind of training. */
typedef struct kind {
    bool is_fresh, has_lora, recompute;
} kind;

static const kind kinds[] = {
    {.is_fresh = true},
    {.recompute = true},
    {.has_lora = true},
};

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* A config of few weights, and a checkpoint of it. */
typedef struct fixture {
    json_t *config;
    char base[512];
} fixture;

/* Creates a training over one series and the generator. */
static mz_status create(mz_context *ctx, const kind *k, const fixture *f, int64_t batch_points,
                        mz_trainable **out) {
    static const char *const targets[] = {"q_proj", "*experts*"};
    const mz_lora_config lora = {.rank = 2, .alpha = 4, .targets = targets, .n_targets = 2};
    double values[N_VALUES];
    for (int i = 0; i < N_VALUES; i++) {
        values[i] = sin(i * 0.3) + i * 0.01;
    }
    const mz_series series = {.id = "s", .values = values, .n_values = N_VALUES};
    mz_series_source sources[2] = {mz_series_source_default(MZ_SERIES_SOURCE_MEMORY, "memory"),
                                   mz_series_source_default(MZ_SERIES_SOURCE_GENERATOR, NULL)};
    sources[0].series = &series;
    sources[0].n_series = 1;
    mz_series_training_config c = {.checkpoint = k->is_fresh ? NULL : f->base,
                                   .model_config = f->config,
                                   .model_name = "config",
                                   .recompute = k->recompute,
                                   .lora = k->has_lora ? &lora : NULL,
                                   .sampler = mz_series_sampler_config_default(),
                                   .batch_points = batch_points,
                                   .evaluation_examples = 2,
                                   .loss = {.huber_delta = 2,
                                            .balance_factor = 0.02,
                                            .balance_by_layer = true,
                                            .router_z_factor = 0.01}};
    c.sampler.sources = sources;
    c.sampler.n_sources = 2;
    c.sampler.max_points = 48;
    c.sampler.horizon = 16;
    return mz_series_training_create(ctx, &c, out);
}

/* Two micro-batches, an evaluation, and the files. */
static mz_status use(mz_trainable *t, const char *dir) {
    mz_train_report report;
    MZ_TRY(t->gradients(t->self, 0, 0, 1, &report));
    MZ_TRY(t->gradients(t->self, 1, 0, 1, &report));
    MZ_TRY(t->evaluate(t->self, &report));
    return t->save(t->self, dir, NULL, MZ_DTYPE_F32);
}

static void set(json_t *config, const char *key, int value) {
    assert_int_equal(json_object_set_new(config, key, json_integer(value)), 0);
}

static void open_fixture(fixture *f, mz_context *ctx) {
    mz_trainable *t = NULL;
    *f = (fixture){0};
    mz_assert_ok(ctx, mz_json_load(ctx, PATCH_MOE, &f->config));
    set(f->config, "num_hidden_layers", 1);
    set(f->config, "num_experts", 2);
    (void)snprintf(f->base, sizeof f->base, "%s", mz_temp_dir_create());
    mz_assert_ok(ctx, create(ctx, &kinds[0], f, 100, &t));
    mz_assert_ok(ctx, t->save(t->self, f->base, NULL, MZ_DTYPE_F32));
    t->destroy(t->self);
}

static void close_fixture(fixture *f) {
    mz_temp_dir_remove(f->base);
    json_decref(f->config);
}

/* Returns the status, having checked that it is of memory and that nothing is left. */
static mz_status run_with_failure(const fixture *f, int k, int64_t fail_at, const char *dir) {
    mz_failing_allocator failing;
    const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
    mz_context ctx;
    mz_trainable *t = NULL;
    mz_assert_ok(&ctx, mz_context_init(
                           &ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}));
    mz_status status = create(&ctx, &kinds[k], f, 100, &t);
    if (status == MZ_OK) {
        status = use(t, dir);
        t->destroy(t->self);
    }
    if (status != MZ_OK && status != MZ_ERR_NOMEM) {
        fail_msg("kind %d, allocation %lld: %s", k, (long long)fail_at, ctx.error.message);
    }
    mz_context_close(&ctx);
    assert_int_equal(failing.n_live, 0);
    return status;
}

static void each_allocation_may_fail(void **state) {
    fixture f;
    char dir[512];
    open_fixture(&f, *state);
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    for (int k = 0; k < N_KINDS; k++) {
        int64_t n = 2; /* the first is the context's own */
        while (run_with_failure(&f, k, n, dir) != MZ_OK) {
            n++;
        }
        assert_true(n > 60);
    }
    mz_temp_dir_remove(dir);
    close_fixture(&f);
}

/* Before anything of their size is asked for. */
static void batches_beyond_memory_are_refused(void **state) {
    mz_context *ctx = *state;
    fixture f;
    mz_trainable *t = NULL;
    open_fixture(&f, ctx);
    for (int k = 0; k < N_KINDS; k++) {
        assert_int_equal(create(ctx, &kinds[k], &f, INT64_MAX, &t), MZ_ERR_LIMIT);
        assert_non_null(strstr(ctx->error.message, "a batch of 9223372036854775807 points"));
    }
    close_fixture(&f);
}

/* The widest and deepest that a config may ask for. */
static void models_beyond_memory_are_refused(void **state) {
    mz_context *ctx = *state;
    fixture f;
    mz_trainable *t = NULL;
    open_fixture(&f, ctx);
    set(f.config, "hidden_size", 65536);
    set(f.config, "num_attention_heads", 256);
    set(f.config, "num_key_value_heads", 256);
    set(f.config, "num_hidden_layers", 1024);
    set(f.config, "moe_intermediate_size", 1 << 20);
    set(f.config, "shared_expert_intermediate_size", 1 << 20);
    assert_int_equal(create(ctx, &kinds[0], &f, 100, &t), MZ_ERR_LIMIT);
    assert_non_null(strstr(ctx->error.message, "more than this machine's memory"));
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(batches_beyond_memory_are_refused),
        cmocka_unit_test(models_beyond_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
