/* Adapters over a small base of two linears, a bank and a head. */
#include "adapters/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/safetensors_write.h"
#include "tests/testing.h"

enum { D = 4, D_Q = 5, D_UP = 6, N_EXPERTS = 3, D_HEAD = 2, N_ROWS = 3, MAX_VALUES = 64 };

/* The model that a base's loading code fills. */
typedef struct model {
    mz_loader loader;
    mz_linear q, k, head;
    mz_linear_bank up;
    mz_tensor norm;
} model;

typedef struct fixture {
    mz_context ctx;
    char base[600];    /* a safetensors file */
    char dirs[3][512]; /* base's, and two adapters' */
} fixture;

static const char *const bank_names[N_EXPERTS] = {"m.experts.0.up.weight", "m.experts.1.up.weight",
                                                  "m.experts.2.up.weight"};

static void write_base(fixture *f) {
    static float q[D_Q * D];
    static float k[D * D];
    static float up[N_EXPERTS][D_UP * D];
    static float head[D_HEAD * D];
    static float norm[D];
    mz_safetensors_item items[4 + N_EXPERTS] = {
        {"m.q.weight", mz_tensor_2d(MZ_DTYPE_F32, D_Q, D, q), MZ_DTYPE_F32},
        {"m.k.weight", mz_tensor_2d(MZ_DTYPE_F32, D, D, k), MZ_DTYPE_F16},
        {"head.weight", mz_tensor_2d(MZ_DTYPE_F32, D_HEAD, D, head), MZ_DTYPE_BF16},
        {"m.norm.weight", mz_tensor_1d(MZ_DTYPE_F32, D, norm), MZ_DTYPE_F32},
    };
    mz_fill_uniform(q, D_Q * D, 1, 1);
    mz_fill_uniform(k, D * D, 2, 1);
    mz_fill_uniform(head, D_HEAD * D, 3, 1);
    mz_fill_uniform(norm, D, 4, 1);
    for (int e = 0; e < N_EXPERTS; e++) {
        mz_fill_uniform(up[e], D_UP * D, 5 + (uint64_t)e, 1);
        items[4 + e] = (mz_safetensors_item){
            bank_names[e], mz_tensor_2d(MZ_DTYPE_F32, D_UP, D, up[e]), MZ_DTYPE_F32};
    }
    mz_assert_ok(&f->ctx, mz_safetensors_write(&f->ctx, f->base, items, 4 + N_EXPERTS, NULL, 0));
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    for (int i = 0; i < 3; i++) {
        (void)snprintf(f->dirs[i], sizeof f->dirs[i], "%s", mz_temp_dir_create());
    }
    (void)snprintf(f->base, sizeof f->base, "%s/model.safetensors", f->dirs[0]);
    write_base(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        mz_temp_dir_remove(f->dirs[i]);
    }
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

static mz_status load_tensors(model *m) {
    mz_loader *l = &m->loader;
    MZ_TRY(mz_loader_matrix(l, &m->q, D_Q, D, MZ_PRECISION_F32, "m.q.weight"));
    MZ_TRY(mz_loader_matrix(l, &m->k, D, D, MZ_PRECISION_F32, "m.%s.weight", "k"));
    MZ_TRY(
        mz_loader_bank(l, &m->up, N_EXPERTS, D_UP, D, MZ_PRECISION_F32, "m.experts", "up.weight"));
    MZ_TRY(mz_loader_vector(l, &m->norm, D, "m.norm.weight"));
    return mz_loader_matrix(l, &m->head, D_HEAD, D, MZ_PRECISION_F32, "head.weight");
}

static mz_status open_model(mz_context *ctx, const char *path, model *m) {
    *m = (model){0};
    MZ_TRY(mz_loader_open(ctx, mz_backend_cpu(), path, NULL, &m->loader));
    mz_status status = load_tensors(m);
    status = status == MZ_OK ? mz_loader_begin_fill(&m->loader) : status;
    status = status == MZ_OK ? load_tensors(m) : status;
    if (status != MZ_OK) {
        mz_loader_close(&m->loader);
    }
    return status;
}

static const char *const targets_of_some[] = {"q", "head", "up"};
static const mz_lora_config some = {
    .rank = 2, .alpha = 6, .targets = targets_of_some, .n_targets = 3, .base = "the/base"};
enum { N_SOME = 2 + N_EXPERTS };

/* All outputs of the model for some rows: of q, k, head, and of the bank with each row in all
 * experts. */
enum { N_OUT = N_ROWS * (D_Q + D + D_HEAD + N_EXPERTS * D_UP) };
static void run_model(mz_context *ctx, const model *m, float *out) {
    mz_stream s;
    mz_routing routing;
    mz_tensor x;
    mz_tensor y;
    const mz_router router = {.n_experts = N_EXPERTS, .top_k = N_EXPERTS};
    const mz_linear *linears[] = {&m->q, &m->k, &m->head};
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), 1 << 20, &s));
    mz_assert_ok(ctx, mz_stream_take(&s, N_ROWS, D, "x", &x));
    mz_fill_uniform(x.data, N_ROWS * D, 77, 1);
    for (int i = 0; i < 3; i++) {
        const int64_t d_out = linears[i]->weight.shape[0];
        mz_assert_ok(ctx, mz_stream_take(&s, N_ROWS, d_out, "y", &y));
        mz_assert_ok(ctx, mz_op_linear(&s, &y, &x, linears[i]));
        memcpy(out, y.data, (size_t)(N_ROWS * d_out) * sizeof *out);
        out += N_ROWS * d_out;
    }
    mz_assert_ok(ctx, mz_routing_take(&s, N_ROWS, &router, &routing));
    for (int32_t j = 0; j < N_ROWS * N_EXPERTS; j++) {
        routing.expert_ids[j] = j % N_EXPERTS;
    }
    mz_assert_ok(ctx, mz_op_dispatch(&s, &routing));
    mz_assert_ok(ctx, mz_stream_take(&s, (int64_t)N_ROWS * N_EXPERTS, D_UP, "y", &y));
    mz_assert_ok(ctx, mz_op_grouped_linear(&s, &y, &x, &m->up, &routing, true));
    memcpy(out, y.data, N_ROWS * N_EXPERTS * D_UP * sizeof *out);
    mz_stream_close(&s);
}

/* Values other than zero for every B (and A). */
static void stir(const mz_parameters *p, uint64_t seed) {
    for (int64_t i = 0; i < p->n; i++) {
        mz_fill_uniform(p->items[i].value.data, mz_tensor_n_elements(&p->items[i].value),
                        seed + (uint64_t)i, 0.7f);
    }
}

/* A stirred adapter with `config`, saved to `dir`. */
static void save_stirred(mz_context *ctx, const model *m, const mz_lora_config *config,
                         uint64_t seed, const char *dir) {
    mz_parameters p = {0};
    mz_lora *lora = NULL;
    mz_assert_ok(ctx, mz_lora_create(ctx, &m->loader, config, seed, &p, &lora));
    stir(&p, seed);
    mz_assert_ok(ctx, mz_lora_save(lora, dir, NULL, MZ_DTYPE_F32));
    mz_lora_destroy(lora);
    mz_parameters_free(ctx, &p);
}

static void fresh_ones_change_nothing(void **state) {
    fixture *f = *state;
    model m;
    mz_parameters p = {0};
    mz_lora *lora = NULL;
    float before[N_OUT];
    float after[N_OUT];
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    run_model(&f->ctx, &m, before);
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &m.loader, &some, 9, &p, &lora));
    assert_int_equal(mz_lora_n_linears(lora), N_SOME);
    assert_int_equal(p.n, 2 * N_SOME);
    assert_int_equal(mz_lora_n_values(lora), mz_parameters_n_values(&p));
    assert_string_equal(p.items[0].name, "base_model.model.m.q.lora_A.weight");
    assert_string_equal(p.items[1].name, "base_model.model.m.q.lora_B.weight");
    assert_string_equal(p.items[4].name, "base_model.model.m.experts.1.up.lora_A.weight");
    assert_true(mz_lora_config_of(lora)->rank == 2 && mz_lora_config_of(lora)->alpha == 6);
    const void *values = NULL;
    void *gradients = NULL;
    size_t n_bytes = 0;
    mz_lora_spaces(lora, &values, &gradients, &n_bytes);
    for (int64_t i = 0; i < p.n; i++) {
        const mz_parameter *one = &p.items[i];
        const int64_t n = mz_tensor_n_elements(&one->value);
        const float *v = one->value.data;
        const float *g = one->gradient.data;
        double most = 0;
        assert_true((const char *)v - (const char *)values ==
                    (const char *)g - (const char *)gradients);
        assert_true((const char *)(v + n) <= (const char *)values + n_bytes);
        for (int64_t j = 0; j < n; j++) {
            most = fmax(most, fabs((double)v[j]));
            assert_true(g[j] == 0);
        }
        assert_true(i % 2 == 1 ? most == 0 : most > 0.2 && most <= 0.5); /* 1 / sqrt(4) */
    }
    mz_lora_attach(lora);
    run_model(&f->ctx, &m, after);
    assert_memory_equal(before, after, sizeof before);
    mz_lora_destroy(lora);
    mz_parameters_free(&f->ctx, &p);
    mz_loader_close(&m.loader);
}

/* A value depends on seed and name, and not on the other targets. */
static void fresh_values_are_of_names(void **state) {
    fixture *f = *state;
    static const char *const all[] = {"all-linear"};
    static const mz_lora_config wide = {.rank = 2, .alpha = 1, .targets = all, .n_targets = 1};
    model m;
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    mz_parameters p[3] = {{0}};
    mz_lora *lora[3] = {NULL};
    const mz_lora_config *configs[] = {&some, &wide, &some};
    for (int i = 0; i < 3; i++) {
        mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &m.loader, configs[i], i < 2 ? 1 : 2, &p[i],
                                             &lora[i]));
    }
    assert_int_equal(mz_lora_n_linears(lora[1]), 3 + N_EXPERTS);
    for (int64_t i = 0; i < p[0].n; i += 2) {
        const mz_parameter *same = mz_parameters_find(&p[1], p[0].items[i].name);
        const size_t n_bytes = (size_t)mz_tensor_n_elements(&same->value) * sizeof(float);
        assert_memory_equal(p[0].items[i].value.data, same->value.data, n_bytes);
        assert_memory_not_equal(p[0].items[i].value.data, p[2].items[i].value.data, n_bytes);
        assert_memory_not_equal(p[0].items[i].value.data, p[0].items[(i + 2) % p[0].n].value.data,
                                sizeof(float));
    }
    for (int i = 0; i < 3; i++) {
        mz_lora_destroy(lora[i]);
        mz_parameters_free(&f->ctx, &p[i]);
    }
    mz_loader_close(&m.loader);
}

static void saved_ones_come_back(void **state) {
    fixture *f = *state;
    model m;
    mz_parameters p = {0};
    mz_parameters q = {0};
    mz_lora *lora = NULL;
    mz_lora *back = NULL;
    float attached[N_OUT];
    float loaded[N_OUT];
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &m.loader, &some, 9, &p, &lora));
    stir(&p, 100);
    mz_lora_attach(lora);
    run_model(&f->ctx, &m, attached);
    mz_assert_ok(&f->ctx, mz_lora_save(lora, f->dirs[1], NULL, MZ_DTYPE_F32));
    mz_lora_detach(lora);
    mz_assert_ok(&f->ctx, mz_lora_load(&f->ctx, &m.loader, f->dirs[1], &q, &back));
    assert_int_equal(q.n, p.n);
    for (int64_t i = 0; i < p.n; i++) {
        assert_string_equal(p.items[i].name, q.items[i].name);
        assert_memory_equal(p.items[i].value.data, q.items[i].value.data,
                            (size_t)mz_tensor_n_elements(&p.items[i].value) * sizeof(float));
    }
    assert_string_equal(mz_lora_config_of(back)->base, "the/base");
    mz_lora_attach(back);
    run_model(&f->ctx, &m, loaded);
    assert_memory_equal(attached, loaded, sizeof loaded);
    mz_lora_destroy(back);

    /* other values in their place, stored narrower */
    mz_tensor values[2 * N_SOME];
    float averaged[2 * N_SOME][MAX_VALUES];
    for (int64_t i = 0; i < p.n; i++) {
        values[i] = p.items[i].value;
        values[i].data = averaged[i];
        for (int64_t j = 0; j < mz_tensor_n_elements(&values[i]); j++) {
            averaged[i][j] = (float)(i + j);
        }
    }
    mz_assert_ok(&f->ctx, mz_lora_save(lora, f->dirs[1], values, MZ_DTYPE_BF16));
    mz_parameters_free(&f->ctx, &q);
    mz_assert_ok(&f->ctx, mz_lora_load(&f->ctx, &m.loader, f->dirs[1], &q, &back));
    assert_true(((float *)q.items[3].value.data)[2] == 5);
    mz_lora_destroy(back);
    mz_lora_destroy(lora);
    mz_parameters_free(&f->ctx, &p);
    mz_parameters_free(&f->ctx, &q);
    mz_loader_close(&m.loader);
}

/* Several adapters add up; whichever goes, the others stay; without any the bits are the base's. */
static void several_add_up(void **state) {
    fixture *f = *state;
    static const char *const only_q[] = {"m.q", "m.experts.1.up"};
    const mz_lora_config second = {.rank = 3, .alpha = 3, .targets = only_q, .n_targets = 2};
    model m;
    mz_lora *lora[2] = {NULL};
    float out[4][N_OUT]; /* base, first, second, both */
    float again[N_OUT];
    float sum[N_OUT];
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    save_stirred(&f->ctx, &m, &some, 1, f->dirs[1]);
    save_stirred(&f->ctx, &m, &second, 2, f->dirs[2]);
    run_model(&f->ctx, &m, out[0]);
    for (int i = 0; i < 2; i++) {
        mz_assert_ok(&f->ctx, mz_lora_load(&f->ctx, &m.loader, f->dirs[1 + i], NULL, &lora[i]));
        mz_lora_attach(lora[i]);
        mz_lora_attach(lora[i]); /* no more than once */
        run_model(&f->ctx, &m, out[1 + i]);
        mz_lora_detach(lora[i]);
        mz_lora_detach(lora[i]);
        assert_true(mz_distance_f32(out[1 + i], out[0], N_OUT).relative_l2 > 0.1);
    }
    mz_lora_attach(lora[0]);
    mz_lora_attach(lora[1]);
    run_model(&f->ctx, &m, out[3]);
    for (int i = 0; i < N_OUT; i++) {
        sum[i] = out[1][i] + (out[2][i] - out[0][i]);
    }
    mz_assert_close("two adapters", out[3], sum, N_OUT, 1e-6);
    mz_lora_destroy(lora[0]);
    run_model(&f->ctx, &m, again);
    assert_memory_equal(again, out[2], sizeof again);
    mz_lora_destroy(lora[1]);
    run_model(&f->ctx, &m, again);
    assert_memory_equal(again, out[0], sizeof again);
    assert_true(m.q.deltas == NULL && m.up.deltas == NULL);
    mz_loader_close(&m.loader);
}

/* Experts that no target means have no parameters, and what they compute stays. */
static void some_experts_of_a_bank(void **state) {
    fixture *f = *state;
    static const char *const one[] = {"m.experts.1.up"};
    const mz_lora_config config = {.rank = 2, .alpha = 3, .targets = one, .n_targets = 1};
    model m;
    mz_parameters p = {0};
    mz_lora *lora = NULL;
    float before[N_OUT];
    float after[N_OUT];
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    run_model(&f->ctx, &m, before);
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &m.loader, &config, 9, &p, &lora));
    assert_int_equal(p.n, 2);
    stir(&p, 3);
    mz_lora_attach(lora);
    run_model(&f->ctx, &m, after);
    const int first = N_ROWS * (D_Q + D + D_HEAD) + N_ROWS * D_UP; /* rows of expert 1 */
    for (int i = 0; i < N_OUT; i++) {
        assert_true((before[i] != after[i]) == (i >= first && i < first + N_ROWS * D_UP));
    }
    mz_lora_destroy(lora);
    mz_parameters_free(&f->ctx, &p);
    mz_loader_close(&m.loader);
}

/* ---- merging ---- */

static double element(const mz_tensor *t, int64_t i) {
    float value = 0;
    const size_t size = (size_t)mz_dtype_get(t->dtype)->block_bytes;
    mz_dtype_get(t->dtype)->to_f32(&value, (const uint8_t *)t->data + (size_t)i * size, 1);
    return (double)value;
}

/* The merged tensor against W + scale B A in f64, within what its type can hold. */
static void check_merged(mz_weights *base, mz_weights *merged, const mz_parameters *p,
                         const char *name, const char *linear, double precision) {
    char a_name[128];
    char b_name[128];
    mz_tensor w;
    mz_tensor actual;
    (void)snprintf(a_name, sizeof a_name, "base_model.model.%s.lora_A.weight", linear);
    (void)snprintf(b_name, sizeof b_name, "base_model.model.%s.lora_B.weight", linear);
    const float *a = mz_parameters_find(p, a_name)->value.data;
    const float *b = mz_parameters_find(p, b_name)->value.data;
    assert_true(mz_weights_find(base, name, &w) && mz_weights_find(merged, name, &actual));
    assert_int_equal(w.dtype, actual.dtype);
    for (int64_t i = 0; i < w.shape[0]; i++) {
        for (int64_t j = 0; j < w.shape[1]; j++) {
            double expected = element(&w, i * w.shape[1] + j);
            for (int64_t r = 0; r < some.rank; r++) {
                expected += 3.0 * (double)b[i * some.rank + r] * (double)a[r * w.shape[1] + j];
            }
            assert_true(fabs(element(&actual, i * w.shape[1] + j) - expected) <=
                        precision * fmax(fabs(expected), 1));
        }
    }
}

static void merged_ones_need_no_adapter(void **state) {
    fixture *f = *state;
    model m;
    mz_parameters p = {0};
    mz_lora *lora = NULL;
    mz_weights *merged = NULL;
    char path[600];
    float attached[N_OUT];
    float alone[N_OUT];
    (void)snprintf(path, sizeof path, "%s/merged.safetensors", f->dirs[1]);
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &m.loader, &some, 9, &p, &lora));
    stir(&p, 5);
    mz_lora_attach(lora);
    run_model(&f->ctx, &m, attached);
    mz_assert_ok(&f->ctx, mz_lora_merge(lora, path));
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, path, &merged));
    assert_int_equal(mz_weights_count(merged), mz_weights_count(m.loader.weights));
    check_merged(m.loader.weights, merged, &p, "m.q.weight", "m.q", 1e-6);
    check_merged(m.loader.weights, merged, &p, "head.weight", "head", 0x1p-8);
    check_merged(m.loader.weights, merged, &p, bank_names[2], "m.experts.2.up", 1e-6);
    static const char *const untouched[] = {"m.k.weight", "m.norm.weight"};
    for (int i = 0; i < 2; i++) {
        mz_tensor w;
        mz_tensor actual;
        assert_true(mz_weights_find(m.loader.weights, untouched[i], &w));
        assert_true(mz_weights_find(merged, untouched[i], &actual));
        assert_int_equal(w.dtype, actual.dtype);
        assert_memory_equal(w.data, actual.data,
                            (size_t)mz_tensor_n_elements(&w) *
                                (size_t)mz_dtype_get(w.dtype)->block_bytes);
    }
    mz_weights_close(&f->ctx, merged);
    mz_lora_destroy(lora);
    mz_parameters_free(&f->ctx, &p);
    mz_loader_close(&m.loader);
    mz_assert_ok(&f->ctx, open_model(&f->ctx, path, &m));
    run_model(&f->ctx, &m, alone);
    mz_assert_close("merged", alone, attached, N_ROWS * (D_Q + D), 1e-6);
    mz_assert_close("merged bf16", alone, attached, N_OUT, 3e-3);
    mz_loader_close(&m.loader);
}

/* ---- what is refused ---- */

static void targets_that_are_none(void **state) {
    fixture *f = *state;
    static const char *const wrong[] = {"q", "qq"};
    const mz_lora_config config = {.rank = 2, .alpha = 3, .targets = wrong, .n_targets = 2};
    model m;
    mz_lora *lora = NULL;
    mz_lora_config bad = some;
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    assert_int_equal(mz_lora_create(&f->ctx, &m.loader, &config, 1, NULL, &lora), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message, "target \"qq\" is no linear"));
    bad.rank = 0;
    assert_int_equal(mz_lora_create(&f->ctx, &m.loader, &bad, 1, NULL, &lora), MZ_ERR_ARG);
    mz_loader_close(&m.loader);
}

static void write_adapter(fixture *f, const char *config, const mz_safetensors_item *items,
                          int64_t n) {
    char path[600];
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", f->dirs[2]);
    (void)mz_write_file(f->dirs[2], "adapter_config.json", config, strlen(config));
    mz_assert_ok(&f->ctx, mz_safetensors_write(&f->ctx, path, items, n, NULL, 0));
}

/* Two tensors, of which one does not fit the base. */
static void files_that_do_not_fit(void **state) {
    fixture *f = *state;
    static float zeros[MAX_VALUES];
    static int32_t ids[MAX_VALUES];
    static const char a_name[] = "base_model.model.m.q.lora_A.weight";
    static const char b_name[] = "base_model.model.m.q.lora_B.weight";
    static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, "
                                 "\"target_modules\": [\"q\", \"z\"]}";
    const mz_safetensors_item a = {a_name, mz_tensor_2d(MZ_DTYPE_F32, 2, D, zeros), MZ_DTYPE_F32};
    const mz_safetensors_item b = {b_name, mz_tensor_2d(MZ_DTYPE_F32, D_Q, 2, zeros), MZ_DTYPE_F32};
    const struct {
        mz_safetensors_item items[3];
        int n;
        mz_status status;
        const char *message;
    } cases[] = {
        {{a, b}, 2, MZ_OK, ""},
        {{a}, 1, MZ_ERR_MISSING, "m.q.lora_B.weight is missing"},
        {{b}, 1, MZ_ERR_MISSING, "m.q.lora_A.weight is missing"},
        {{{a_name, mz_tensor_2d(MZ_DTYPE_F32, 3, D, zeros), MZ_DTYPE_F32}, b},
         2,
         MZ_ERR_SHAPE,
         "m.q.lora_A.weight is [3, 4], rank 2 on the model's [5, 4] needs [2, 4]"},
        {{a, {b_name, mz_tensor_2d(MZ_DTYPE_F32, D_Q + 1, 2, zeros), MZ_DTYPE_F32}},
         2,
         MZ_ERR_SHAPE,
         "m.q.lora_B.weight is [6, 2]"},
        {{{a_name, mz_tensor_1d(MZ_DTYPE_F32, 2 * D, zeros), MZ_DTYPE_F32}, b},
         2,
         MZ_ERR_SHAPE,
         "m.q.lora_A.weight is [8]"},
        {{{a_name, mz_tensor_2d(MZ_DTYPE_I32, 2, D, ids), MZ_DTYPE_I32}, b},
         2,
         MZ_ERR_DTYPE,
         "m.q.lora_A.weight is i32"},
        {{a, b, {"base_model.model.x.z.lora_A.weight", a.tensor, MZ_DTYPE_F32}},
         3,
         MZ_ERR_MISSING,
         "changes the linear x.z, which the model lacks"},
        {{a, b, {"base_model.model.m.k.lora_A.weight", a.tensor, MZ_DTYPE_F32}},
         3,
         MZ_ERR_FORMAT,
         "m.k.lora_A.weight is of no linear that target_modules means"},
        {{a, b, {"m.q.lora_A.weight", a.tensor, MZ_DTYPE_F32}},
         3,
         MZ_ERR_UNSUPPORTED,
         "tensor m.q.lora_A.weight, expected base_model.model.NAME"},
        {{a, b, {"base_model.model.m.q.lora_embedding_A", a.tensor, MZ_DTYPE_F32}},
         3,
         MZ_ERR_UNSUPPORTED,
         "lora_embedding_A"},
        {{a, b, {"base_model.model.m.q.lora_magnitude_vector", a.tensor, MZ_DTYPE_F32}},
         3,
         MZ_ERR_UNSUPPORTED,
         "lora_magnitude_vector"},
    };
    model m;
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_lora *lora = NULL;
        write_adapter(f, config, cases[i].items, cases[i].n);
        const mz_status status = mz_lora_load(&f->ctx, &m.loader, f->dirs[2], NULL, &lora);
        if (status != cases[i].status ||
            (status != MZ_OK && strstr(f->ctx.error.message, cases[i].message) == NULL)) {
            fail_msg("case %zu: %d, %s", i, (int)status, f->ctx.error.message);
        }
        mz_lora_destroy(lora);
    }
    mz_loader_close(&m.loader);
}

static void folders_that_are_none(void **state) {
    fixture *f = *state;
    model m;
    mz_lora *lora = NULL;
    char path[600];
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    assert_int_equal(mz_lora_load(&f->ctx, &m.loader, f->dirs[0], NULL, &lora), MZ_ERR_MISSING);
    save_stirred(&f->ctx, &m, &some, 1, f->dirs[1]);
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", f->dirs[1]);
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(mz_lora_load(&f->ctx, &m.loader, f->dirs[1], NULL, &lora), MZ_ERR_FORMAT);
    (void)remove(path);
    assert_int_equal(mz_lora_load(&f->ctx, &m.loader, f->dirs[1], NULL, &lora), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message, "no adapter_model.safetensors"));
    mz_loader_close(&m.loader);
}

/* A base of fresh values, or of trained ones, has no checkpoint to write. */
static void bases_that_cannot_be_merged(void **state) {
    fixture *f = *state;
    model m = {0};
    mz_parameters trained = {0};
    mz_lora *lora = NULL;
    char path[600];
    const mz_loader_options options = {.parameters = &trained};
    (void)snprintf(path, sizeof path, "%s/merged.safetensors", f->dirs[2]);
    mz_assert_ok(&f->ctx, mz_loader_open(&f->ctx, mz_backend_cpu(), f->base, &options, &m.loader));
    mz_assert_ok(&f->ctx, load_tensors(&m));
    mz_assert_ok(&f->ctx, mz_loader_begin_fill(&m.loader));
    mz_assert_ok(&f->ctx, load_tensors(&m));
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &m.loader, &some, 9, NULL, &lora));
    assert_int_equal(mz_lora_merge(lora, path), MZ_ERR_UNSUPPORTED);
    assert_false(mz_file_exists(path));
    mz_lora_destroy(lora);
    mz_loader_close(&m.loader);
    mz_parameters_free(&f->ctx, &trained);
}

/* ---- memory ---- */

/* Everything once: what it leaves is released by the caller. */
static mz_status everything(mz_context *ctx, const fixture *f, const model *m, mz_parameters *p,
                            mz_lora *lora[2]) {
    char path[600];
    (void)snprintf(path, sizeof path, "%s/merged.safetensors", f->dirs[2]);
    MZ_TRY(mz_lora_load(ctx, &m->loader, f->dirs[1], NULL, &lora[0]));
    MZ_TRY(mz_lora_create(ctx, &m->loader, &some, 1, p, &lora[1]));
    mz_lora_attach(lora[0]);
    mz_lora_attach(lora[1]);
    MZ_TRY(mz_lora_save(lora[1], f->dirs[2], NULL, MZ_DTYPE_F32));
    return mz_lora_merge(lora[0], path);
}

static void allocations_fail(void **state) {
    fixture *f = *state;
    model m;
    mz_status status = MZ_ERR_NOMEM;
    mz_assert_ok(&f->ctx, open_model(&f->ctx, f->base, &m));
    save_stirred(&f->ctx, &m, &some, 1, f->dirs[1]);
    mz_loader_close(&m.loader);
    int64_t n = 1;
    for (; status != MZ_OK; n++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, n);
        mz_context ctx;
        mz_parameters p = {0};
        mz_lora *lora[2] = {NULL, NULL};
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        status = open_model(&ctx, f->base, &m);
        if (status == MZ_OK) {
            status = everything(&ctx, f, &m, &p, lora);
            mz_lora_destroy(lora[1]);
            mz_lora_destroy(lora[0]);
            mz_parameters_free(&ctx, &p);
            mz_loader_close(&m.loader);
        }
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
    }
    assert_true(n > 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_ones_change_nothing), cmocka_unit_test(fresh_values_are_of_names),
        cmocka_unit_test(saved_ones_come_back),      cmocka_unit_test(several_add_up),
        cmocka_unit_test(some_experts_of_a_bank),    cmocka_unit_test(merged_ones_need_no_adapter),
        cmocka_unit_test(targets_that_are_none),     cmocka_unit_test(files_that_do_not_fit),
        cmocka_unit_test(folders_that_are_none),     cmocka_unit_test(bases_that_cannot_be_merged),
        cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
