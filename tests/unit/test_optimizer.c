#include "core/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/weights.h"
#include "tests/testing.h"

/* The settings of tests/golden/time-moe/train. */
static const mz_optimizer_group no_bias_decay = {.pattern = "*.?_proj.bias",
                                                 .sets = MZ_GROUP_WEIGHT_DECAY};
static const mz_optimizer_config published = {
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip_norm = 1.0};

/* A made model: a few parameters of odd sizes, one longer than two tasks' worth. */
enum { N_MODEL = 5 };
static const struct {
    const char *name;
    int64_t rows, cols;
} layout[N_MODEL] = {{"embed.weight", 7, 5},
                     {"layer.0.weight", 97, 401},
                     {"layer.0.bias", 1, 31},
                     {"layer.1.norm", 1, 1},
                     {"empty", 0, 3}};

typedef struct model {
    mz_parameters parameters;
    float *values[N_MODEL], *gradients[N_MODEL];
} model;

static int64_t size_of(int i) {
    return layout[i].rows * layout[i].cols;
}

static void set_gradients(model *m, uint64_t step, float scale) {
    for (int i = 0; i < N_MODEL; i++) {
        mz_fill_uniform(m->gradients[i], size_of(i), 1000 * step + (uint64_t)i, scale);
    }
}

static void make_model(mz_context *ctx, model *m) {
    *m = (model){0};
    for (int i = 0; i < N_MODEL; i++) {
        m->values[i] = calloc((size_t)size_of(i) + 1, sizeof(float));
        m->gradients[i] = calloc((size_t)size_of(i) + 1, sizeof(float));
        assert_non_null(m->values[i]);
        assert_non_null(m->gradients[i]);
        mz_fill_uniform(m->values[i], size_of(i), (uint64_t)i, 1);
        const mz_tensor value =
            mz_tensor_2d(MZ_DTYPE_F32, layout[i].rows, layout[i].cols, m->values[i]);
        const mz_tensor gradient =
            mz_tensor_2d(MZ_DTYPE_F32, layout[i].rows, layout[i].cols, m->gradients[i]);
        mz_assert_ok(ctx,
                     mz_parameters_add(ctx, &m->parameters, layout[i].name, &value, &gradient));
    }
}

static void free_model(mz_context *ctx, model *m) {
    mz_parameters_free(ctx, &m->parameters);
    for (int i = 0; i < N_MODEL; i++) {
        free(m->values[i]);
        free(m->gradients[i]);
    }
}

static mz_optimizer *create(mz_context *ctx, const mz_optimizer_config *config,
                            const mz_parameters *parameters) {
    mz_optimizer *o = NULL;
    mz_assert_ok(ctx, mz_optimizer_create(ctx, config, parameters, &o));
    return o;
}

static void assert_message(const mz_context *ctx, const char *part) {
    if (strstr(ctx->error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, ctx->error.message);
    }
}

static mz_tensor find_state(const mz_optimizer *o, const char *name) {
    for (int64_t i = 0; i < mz_optimizer_n_states(o); i++) {
        const char *actual = NULL;
        mz_tensor t;
        mz_optimizer_state(o, i, &actual, &t);
        if (strcmp(actual, name) == 0) {
            return t;
        }
    }
    return (mz_tensor){0};
}

/* --- PyTorch --- */

/* Step 1 of the authors' trainer: its weights, gradients and what PyTorch made of them. */
static void a_step_of_pytorch(void **state) {
    mz_context *ctx = *state;
    mz_weights *io = NULL;
    mz_weights *before = NULL;
    mz_assert_ok(
        ctx, mz_weights_open(ctx, MOEZOO_TESTS_DIR "/golden/time-moe/train/io.safetensors", &io));
    mz_assert_ok(ctx, mz_weights_open(ctx, MOEZOO_TESTS_DIR "/golden/time-moe/train", &before));
    mz_parameters parameters = {0};
    const int64_t n = mz_weights_count(before);
    assert_int_equal(n, 58);
    float *memory = calloc(200000, sizeof(float));
    assert_non_null(memory);
    float *next = memory;
    for (int64_t i = 0; i < n; i++) {
        const char *name = NULL;
        char key[256];
        mz_tensor value;
        mz_tensor gradient;
        mz_assert_ok(ctx, mz_weights_at(before, i, &name, &value));
        (void)snprintf(key, sizeof key, "step1.grad.%s", name);
        assert_true(mz_weights_find(io, key, &gradient));
        const size_t n_values = (size_t)mz_tensor_n_elements(&value);
        memcpy(next, value.data, n_values * sizeof(float));
        value.data = next;
        next += n_values;
        mz_assert_ok(ctx, mz_parameters_add(ctx, &parameters, name, &value, &gradient));
    }
    mz_optimizer_config config = published;
    config.groups = &no_bias_decay;
    config.n_groups = 1;
    mz_optimizer *o = create(ctx, &config, &parameters);
    double norm = 0;
    mz_assert_ok(ctx, mz_optimizer_step(o, 1e-4, &norm));
    assert_true(fabs(norm - 0.8630155545458492) < 1e-7); /* of the run in float64 */
    for (int64_t i = 0; i < n; i++) {
        const mz_parameter *p = &parameters.items[i];
        char key[256];
        mz_tensor after;
        (void)snprintf(key, sizeof key, "step1.param.%s", p->name);
        assert_true(mz_weights_find(io, key, &after));
        mz_assert_close(key, p->value.data, after.data, mz_tensor_n_elements(&after), 1e-7);
    }
    mz_optimizer_destroy(ctx, o);
    mz_parameters_free(ctx, &parameters);
    free(memory);
    mz_weights_close(ctx, before);
    mz_weights_close(ctx, io);
}

/* --- a twin in f64 --- */

/* Plain AdamW of one parameter. */
typedef struct twin {
    double *w, *m, *v, *ema; /* [n] each */
    double lr_factor, decay;
    bool train;
} twin;

static void twin_step(const mz_optimizer_config *c, twin *t, const float *g, int64_t n, double lr,
                      double norm, int step) {
    const double clip =
        c->clip_norm > 0 && c->clip_norm / (norm + 1e-6) < 1 ? c->clip_norm / (norm + 1e-6) : 1;
    const double e = fmin(c->ema_decay, (1.0 + step) / (10.0 + step));
    for (int64_t i = 0; i < n && t->train; i++) {
        const double x = clip * g[i];
        const double a = lr * t->lr_factor;
        t->w[i] *= 1 - a * t->decay;
        t->m[i] = c->beta1 * t->m[i] + (1 - c->beta1) * x;
        t->v[i] = c->beta2 * t->v[i] + (1 - c->beta2) * x * x;
        const double m = t->m[i] / (1 - pow(c->beta1, step));
        const double v = t->v[i] / (1 - pow(c->beta2, step));
        t->w[i] -= a * m / (sqrt(v) + c->eps);
        t->ema[i] = e * t->ema[i] + (1 - e) * t->w[i];
    }
}

static void assert_near(const char *what, const float *actual, const double *expected, int64_t n,
                        double bound) {
    float *rounded = calloc((size_t)n + 1, sizeof *rounded);
    assert_non_null(rounded);
    for (int64_t i = 0; i < n; i++) {
        rounded[i] = (float)expected[i];
    }
    mz_assert_close(what, actual, rounded, n, bound);
    free(rounded);
}

/* All trained gradients as one vector. */
static double norm_of(const model *m, const twin *twins) {
    double sum = 0;
    for (int i = 0; i < N_MODEL; i++) {
        for (int64_t k = 0; k < size_of(i) && twins[i].train; k++) {
            sum += (double)m->gradients[i][k] * m->gradients[i][k];
        }
    }
    return sqrt(sum);
}

static void make_twins(const model *m, twin *twins) {
    for (int i = 0; i < N_MODEL; i++) {
        const size_t n = (size_t)size_of(i) + 1;
        double *memory = calloc(4 * n, sizeof *memory);
        assert_non_null(memory);
        twins[i] = (twin){memory, memory + n, memory + 2 * n, memory + 3 * n, 1, 0.1, true};
        for (int64_t k = 0; k < size_of(i); k++) {
            twins[i].w[k] = m->values[i][k];
            twins[i].ema[k] = m->values[i][k];
        }
    }
}

static void assert_equals_twins(const mz_optimizer *o, const model *m, const twin *twins) {
    for (int i = 0; i < N_MODEL; i++) {
        const char *name = layout[i].name;
        assert_near(name, m->values[i], twins[i].w, size_of(i), 1e-6);
        const struct {
            const char *prefix;
            const double *expected;
        } kinds[] = {{"exp_avg", twins[i].m}, {"exp_avg_sq", twins[i].v}, {"ema", twins[i].ema}};
        for (int k = 0; k < 3; k++) {
            char key[64];
            (void)snprintf(key, sizeof key, "%s.%s", kinds[k].prefix, name);
            const mz_tensor t = find_state(o, key);
            assert_int_equal(t.n_dims, twins[i].train ? 2 : 0);
            if (twins[i].train) {
                assert_int_equal(t.shape[0], layout[i].rows);
                assert_int_equal(t.shape[1], layout[i].cols);
                assert_near(key, t.data, kinds[k].expected, size_of(i), 1e-6);
            }
        }
    }
}

/* Groups, clipping and averages over several steps, one gradient being zero throughout. */
static void steps_of_the_formula(void **state) {
    mz_context *ctx = *state;
    const mz_optimizer_group groups[] = {
        {.pattern = "*", .sets = MZ_GROUP_LR_FACTOR, .lr_factor = 0.5},
        {.pattern = "layer.*",
         .sets = MZ_GROUP_LR_FACTOR | MZ_GROUP_WEIGHT_DECAY,
         .lr_factor = 2,
         .weight_decay = 0.3},
        {.pattern = "*.bias", .sets = MZ_GROUP_WEIGHT_DECAY, .weight_decay = 0},
        {.pattern = "layer.1.*", .sets = MZ_GROUP_TRAIN, .train = false},
    };
    mz_optimizer_config config = published;
    config.ema_decay = 0.3; /* the first three steps use (1 + t) / (10 + t) */
    config.groups = groups;
    config.n_groups = 4;
    model m;
    make_model(ctx, &m);
    twin twins[N_MODEL];
    make_twins(&m, twins);
    twins[0].lr_factor = 0.5;
    twins[1].lr_factor = 2;
    twins[1].decay = 0.3;
    twins[2].lr_factor = 2;
    twins[2].decay = 0;
    twins[3].train = false;
    mz_optimizer *o = create(ctx, &config, &m.parameters);
    assert_true(mz_optimizer_trains(o, 0));
    assert_false(mz_optimizer_trains(o, 3));
    assert_int_equal(mz_optimizer_n_values(o), mz_parameters_n_values(&m.parameters) - 1);
    assert_int_equal(mz_optimizer_n_states(o), 3 * (N_MODEL - 1));
    for (int step = 1; step <= 6; step++) {
        set_gradients(&m, (uint64_t)step, step % 2 == 0 ? 1e-3f : 0.1f); /* norm 0.1 and 10 */
        memset(m.gradients[0], 0, (size_t)size_of(0) * sizeof(float));
        const double lr = 0.01 * step;
        double norm = 0;
        mz_assert_ok(ctx, mz_optimizer_step(o, lr, &norm));
        const double expected = norm_of(&m, twins);
        assert_true(fabs(norm - expected) <= 1e-12 * expected);
        assert_true((norm > 1) == (step % 2 == 1));
        for (int i = 0; i < N_MODEL; i++) {
            twin_step(&config, &twins[i], m.gradients[i], size_of(i), lr, norm, step);
        }
        assert_equals_twins(o, &m, twins);
    }
    assert_int_equal(mz_optimizer_n_steps(o), 6);
    mz_optimizer_destroy(ctx, o);
    free_model(ctx, &m);
    for (int i = 0; i < N_MODEL; i++) {
        free(twins[i].w);
    }
}

/* The 1e-6 of clip_grad_norm_, seen where the norm is as small: half of the gradient is left. */
static void a_tiny_norm_is_clipped_as_by_pytorch(void **state) {
    mz_context *ctx = *state;
    mz_optimizer_config config = published;
    config.clip_norm = 1e-6;
    model m;
    make_model(ctx, &m);
    mz_optimizer *o = create(ctx, &config, &m.parameters);
    m.gradients[3][0] = 1e-6f;
    mz_assert_ok(ctx, mz_optimizer_step(o, 1e-3, NULL));
    const float *mean = find_state(o, "exp_avg.layer.1.norm").data;
    assert_true(fabs(mean[0] / 0.5e-7 - 1) < 1e-5);
    mz_optimizer_destroy(ctx, o);
    free_model(ctx, &m);
}

/* An expert that got no token: only its decay moves it. */
static void a_zero_gradient_decays(void **state) {
    mz_context *ctx = *state;
    model m;
    make_model(ctx, &m);
    mz_optimizer *o = create(ctx, &published, &m.parameters);
    const float before = m.values[0][3];
    double norm = 1;
    mz_assert_ok(ctx, mz_optimizer_step(o, 0.5, &norm));
    assert_true(norm == 0);
    assert_true(m.values[0][3] == before * (float)(1 - 0.5 * 0.1));
    mz_optimizer_destroy(ctx, o);
    free_model(ctx, &m);
}

/* --- properties --- */

static void any_number_of_threads_is_equal(void **state) {
    (void)state;
    float *expected = NULL;
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        mz_context ctx;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.n_threads = n_threads}));
        mz_optimizer_config config = published;
        config.ema_decay = 0.99;
        model m;
        make_model(&ctx, &m);
        mz_optimizer *o = create(&ctx, &config, &m.parameters);
        for (uint64_t step = 1; step <= 3; step++) {
            set_gradients(&m, step, 1);
            mz_assert_ok(&ctx, mz_optimizer_step(o, 1e-2, NULL));
        }
        const size_t bytes = (size_t)size_of(1) * sizeof(float);
        const mz_tensor average = find_state(o, "ema.layer.0.weight");
        if (expected == NULL) {
            expected = calloc(2, bytes);
            assert_non_null(expected);
            memcpy(expected, m.values[1], bytes);
            memcpy(expected + size_of(1), average.data, bytes);
        }
        assert_memory_equal(m.values[1], expected, bytes);
        assert_memory_equal(average.data, expected + size_of(1), bytes);
        mz_optimizer_destroy(&ctx, o);
        free_model(&ctx, &m);
        mz_context_close(&ctx);
    }
    free(expected);
}

/* A second optimizer that takes over the weights, the states and the count goes on bit by bit. */
static void states_are_all_there_is(void **state) {
    mz_context *ctx = *state;
    mz_optimizer_config config = published;
    config.ema_decay = 0.9;
    model a;
    model b;
    make_model(ctx, &a);
    make_model(ctx, &b);
    mz_optimizer *first = create(ctx, &config, &a.parameters);
    mz_optimizer *second = create(ctx, &config, &b.parameters);
    for (uint64_t step = 1; step <= 3; step++) {
        set_gradients(&a, step, 1);
        mz_assert_ok(ctx, mz_optimizer_step(first, 1e-2, NULL));
    }
    for (int i = 0; i < N_MODEL; i++) {
        memcpy(b.values[i], a.values[i], (size_t)size_of(i) * sizeof(float));
    }
    for (int64_t i = 0; i < mz_optimizer_n_states(first); i++) {
        const char *name = NULL;
        mz_tensor from;
        mz_optimizer_state(first, i, &name, &from);
        mz_tensor to = find_state(second, name);
        memcpy(to.data, from.data, (size_t)mz_tensor_n_elements(&from) * sizeof(float));
    }
    assert_int_equal(mz_optimizer_set_n_steps(second, -1), MZ_ERR_ARG);
    assert_message(ctx, "-1 steps done");
    mz_assert_ok(ctx, mz_optimizer_set_n_steps(second, mz_optimizer_n_steps(first)));
    set_gradients(&a, 4, 1);
    set_gradients(&b, 4, 1);
    mz_assert_ok(ctx, mz_optimizer_step(first, 1e-2, NULL));
    mz_assert_ok(ctx, mz_optimizer_step(second, 1e-2, NULL));
    for (int i = 0; i < N_MODEL; i++) {
        assert_memory_equal(a.values[i], b.values[i], (size_t)size_of(i) * sizeof(float));
    }
    mz_optimizer_destroy(ctx, first);
    mz_optimizer_destroy(ctx, second);
    free_model(ctx, &a);
    free_model(ctx, &b);
}

static void averages_change_places(void **state) {
    mz_context *ctx = *state;
    mz_optimizer_config config = published;
    model m;
    make_model(ctx, &m);
    mz_optimizer *plain = create(ctx, &config, &m.parameters);
    assert_int_equal(mz_optimizer_swap_ema(plain), MZ_ERR_ARG);
    assert_message(ctx, "no moving average");
    mz_optimizer_destroy(ctx, plain);
    config.ema_decay = 0.9;
    mz_optimizer *o = create(ctx, &config, &m.parameters);
    set_gradients(&m, 1, 1);
    mz_assert_ok(ctx, mz_optimizer_step(o, 0.1, NULL));
    const float *average = find_state(o, "ema.layer.0.weight").data;
    const int64_t last = size_of(1) - 1;
    const float weight = m.values[1][last];
    const float mean = average[last];
    assert_true(weight != mean);
    mz_assert_ok(ctx, mz_optimizer_swap_ema(o));
    assert_true(m.values[1][last] == mean && average[last] == weight);
    assert_int_equal(mz_optimizer_step(o, 0.1, NULL), MZ_ERR_ARG);
    assert_message(ctx, "averages are in the place of the weights");
    mz_assert_ok(ctx, mz_optimizer_swap_ema(o));
    assert_true(m.values[1][last] == weight && average[last] == mean);
    mz_assert_ok(ctx, mz_optimizer_step(o, 0.1, NULL));
    mz_optimizer_destroy(ctx, o);
    free_model(ctx, &m);
}

/* --- refusals --- */

static void a_gradient_that_is_not_finite(void **state) {
    mz_context *ctx = *state;
    model m;
    make_model(ctx, &m);
    mz_optimizer *o = create(ctx, &published, &m.parameters);
    set_gradients(&m, 1, 1);
    mz_assert_ok(ctx, mz_optimizer_step(o, 0.1, NULL));
    const size_t bytes = (size_t)size_of(1) * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, m.values[1], bytes);
    m.gradients[1][38000] = INFINITY;
    m.gradients[2][30] = NAN;
    double norm = 42;
    assert_int_equal(mz_optimizer_step(o, 0.1, &norm), MZ_ERR_ARG);
    assert_message(ctx, "step 2: the gradient of layer.0.weight is not finite");
    assert_true(norm == 42);
    assert_int_equal(mz_optimizer_n_steps(o), 1);
    assert_memory_equal(m.values[1], before, bytes);
    m.gradients[1][38000] = 3e38f; /* its square is above the largest f32 */
    m.gradients[2][30] = 0;
    mz_assert_ok(ctx, mz_optimizer_step(o, 0.1, &norm));
    assert_true(fabs(norm / 3e38 - 1) < 1e-6);
    free(before);
    mz_optimizer_destroy(ctx, o);
    free_model(ctx, &m);
}

static void assert_refused(mz_context *ctx, const model *m, mz_optimizer_config config,
                           mz_status expected, const char *part) {
    mz_optimizer *o = NULL;
    assert_int_equal(mz_optimizer_create(ctx, &config, &m->parameters, &o), expected);
    assert_null(o);
    assert_message(ctx, part);
}

static void configurations_are_checked(void **state) {
    mz_context *ctx = *state;
    model m;
    make_model(ctx, &m);
    static const double bad[] = {-1, 1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mz_optimizer_config c = published;
        c.beta1 = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "beta1 is");
        c = published;
        c.beta2 = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "beta2 is");
        c = published;
        c.ema_decay = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "ema_decay is");
        if (bad[i] == 1) {
            continue;
        }
        c = published;
        c.eps = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "eps is");
        c = published;
        c.weight_decay = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "weight_decay is");
        c = published;
        c.clip_norm = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "clip_norm is");
        mz_optimizer_group g = {.pattern = "x*",
                                .sets = MZ_GROUP_WEIGHT_DECAY | MZ_GROUP_LR_FACTOR,
                                .lr_factor = bad[i]};
        c = published;
        c.groups = &g;
        c.n_groups = 1;
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "group x*: optimizer: lr_factor is");
        g.lr_factor = 1;
        g.weight_decay = bad[i];
        assert_refused(ctx, &m, c, MZ_ERR_ARG, "group x*: optimizer: weight_decay is");
    }
    mz_optimizer_config c = published;
    c.groups = &(mz_optimizer_group){.pattern = "*", .sets = MZ_GROUP_TRAIN, .train = false};
    c.n_groups = 1;
    assert_refused(ctx, &m, c, MZ_ERR_ARG, "none of the 5 parameters is trained");
    mz_optimizer *o = create(ctx, &published, &m.parameters);
    assert_int_equal(mz_optimizer_step(o, NAN, NULL), MZ_ERR_ARG);
    assert_message(ctx, "learning rate is nan");
    assert_int_equal(mz_optimizer_step(o, -1e-9, NULL), MZ_ERR_ARG);
    mz_optimizer_destroy(ctx, o);
    free_model(ctx, &m);
}

static void parameters_are_checked(void **state) {
    mz_context *ctx = *state;
    model m;
    make_model(ctx, &m);
    mz_parameter *p = &m.parameters.items[1];
    const mz_parameter good = *p;
    p->gradient.shape[0] = 96;
    assert_refused(ctx, &m, published, MZ_ERR_SHAPE,
                   "layer.0.weight is [97, 401], its gradient [96, 401]");
    *p = good;
    p->value.dtype = MZ_DTYPE_BF16;
    assert_refused(ctx, &m, published, MZ_ERR_DTYPE, "layer.0.weight: value (bf16)");
    *p = good;
    p->gradient.ld = 402;
    assert_refused(ctx, &m, published, MZ_ERR_DTYPE, "must be dense f32");
    *p = good;
    p->gradient.n_dims = 0;
    assert_refused(ctx, &m, published, MZ_ERR_DTYPE, "must be dense f32");
    *p = good;
    free_model(ctx, &m);
}

static void every_allocation_may_fail(void **state) {
    mz_context *good = *state;
    model m;
    make_model(good, &m);
    mz_optimizer_config config = published;
    config.ema_decay = 0.5;
    for (int64_t fail_at = 1; fail_at < 100; fail_at++) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
        mz_context ctx;
        assert_int_equal(
            mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
            MZ_OK);
        const int64_t live = counter.n_live;
        counter.fail_at = counter.n_calls + fail_at;
        mz_optimizer *o = NULL;
        const mz_status status = mz_optimizer_create(&ctx, &config, &m.parameters, &o);
        assert_true(status == MZ_OK || (status == MZ_ERR_NOMEM && o == NULL));
        mz_optimizer_destroy(&ctx, o);
        assert_int_equal(counter.n_live, live);
        mz_context_close(&ctx);
        if (status == MZ_OK) {
            assert_true(fail_at > 15);
            free_model(good, &m);
            return;
        }
    }
    fail_msg("creation never succeeded");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_of_pytorch),
        cmocka_unit_test(steps_of_the_formula),
        cmocka_unit_test(a_tiny_norm_is_clipped_as_by_pytorch),
        cmocka_unit_test(a_zero_gradient_decays),
        cmocka_unit_test(any_number_of_threads_is_equal),
        cmocka_unit_test(states_are_all_there_is),
        cmocka_unit_test(averages_change_places),
        cmocka_unit_test(a_gradient_that_is_not_finite),
        cmocka_unit_test(configurations_are_checked),
        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
