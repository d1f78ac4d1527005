/* ffn, grouped_linear and moe of the CPU backend, on each instruction set, against the
 * reference, which composes them from primitives; and the invariants of a mixture. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/ops/composed.h"

enum { MAX_EXPERTS = 64, N_MAX = 70, D_MAX = 100 };

typedef struct moe_case {
    int64_t n_tokens, d_model, d_ff, d_ff_shared; /* d_ff_shared 0: no shared expert */
    int32_t n_experts, top_k;
    mz_dtype dtype;
    mz_precision precision;
    int32_t one_expert; /* 1 + the expert that all tokens choose; 0: chosen by the router */
    bool equal_experts; /* all hold the same weights */
    bool is_composed;   /* by core/ops/composed.c, whatever the backend has */
    mz_activation activation;
    int64_t n_given; /* tokens of the call, the first ones; 0: all */
} moe_case;

static mz_tensor take_matrix(mz_stream *s, mz_dtype dtype, int64_t n_rows, int64_t n_cols,
                             uint64_t seed, float scale) {
    static float values[1 << 20];
    const int64_t n = n_rows * n_cols;
    void *data = NULL;
    assert_true(n <= 1 << 20);
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)n * 4 + 64, "test", &data));
    mz_fill_uniform(values, n, seed, scale);
    mz_dtype_get(dtype)->from_f32(data, values, n);
    return mz_tensor_2d(dtype, n_rows, n_cols, data);
}

static mz_linear take_linear(mz_stream *s, const moe_case *c, int64_t d_out, int64_t d_in,
                             uint64_t seed) {
    return (mz_linear){.weight = take_matrix(s, c->dtype, d_out, d_in, seed, 0.4f),
                       .precision = c->precision};
}

static mz_linear_bank take_bank(mz_stream *s, const moe_case *c, int64_t d_out, int64_t d_in,
                                uint64_t seed) {
    void *table = NULL;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, MAX_EXPERTS * sizeof(void *), "test", &table));
    const void **data = table;
    for (int32_t e = 0; e < c->n_experts; e++) {
        const uint64_t own = c->equal_experts ? 0 : (uint64_t)e;
        data[e] = take_matrix(s, c->dtype, d_out, d_in, seed + own, 0.4f).data;
    }
    return (mz_linear_bank){.dtype = c->dtype,
                            .precision = c->precision,
                            .n_experts = c->n_experts,
                            .d_out = d_out,
                            .d_in = d_in,
                            .ld = d_in,
                            .data = data};
}

static mz_ffn take_ffn(mz_stream *s, const moe_case *c, int64_t d_ff, uint64_t seed) {
    return (mz_ffn){.activation = c->activation,
                    .w_gate = take_linear(s, c, d_ff, c->d_model, seed),
                    .w_up = take_linear(s, c, d_ff, c->d_model, seed + 1000),
                    .w_down = take_linear(s, c, c->d_model, d_ff, seed + 2000)};
}

static mz_moe take_moe(mz_stream *s, const moe_case *c) {
    mz_moe moe = {
        .router_proj = {.weight = take_matrix(s, MZ_DTYPE_F32, c->n_experts, c->d_model, 5, 0.4f)},
        .router = {.n_experts = c->n_experts, .top_k = c->top_k},
        .w_gate = take_bank(s, c, c->d_ff, c->d_model, 10000),
        .w_up = take_bank(s, c, c->d_ff, c->d_model, 20000),
        .w_down = take_bank(s, c, c->d_model, c->d_ff, 30000),
        .activation = c->activation,
        .has_shared = c->d_ff_shared > 0,
    };
    if (c->one_expert > 0) { /* an input that is 1 in every row speaks for this expert */
        float *w = mz_tensor_f32(&moe.router_proj.weight, c->one_expert - 1);
        w[0] = 100;
    }
    if (moe.has_shared) {
        moe.shared = take_ffn(s, c, c->d_ff_shared, 40000);
        moe.shared_gate = take_linear(s, c, 1, c->d_model, 50000);
    }
    return moe;
}

static mz_tensor take_inputs(mz_stream *s, const moe_case *c) {
    const mz_tensor all = take_matrix(s, MZ_DTYPE_F32, c->n_tokens, c->d_model, 3, 1);
    for (int64_t t = 0; t < c->n_tokens && c->one_expert > 0; t++) {
        mz_tensor_f32(&all, t)[0] = 1;
    }
    return mz_tensor_rows(&all, 0, c->n_given > 0 ? c->n_given : c->n_tokens);
}

static void run_moe(mz_stream *s, const void *arg, float *out) {
    const moe_case *c = arg;
    const mz_moe moe = take_moe(s, c);
    const mz_tensor x = take_inputs(s, c);
    mz_routing routing;
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_stream_take(s, x.shape[0], c->d_model, "test", &y));
    mz_assert_ok(s->ctx, mz_routing_take(s, x.shape[0], &moe.router, &routing));
    if (c->is_composed) {
        mz_assert_ok(s->ctx, mz_composed_moe(s, &y, &x, &moe, &routing, NULL));
    } else {
        mz_assert_ok(s->ctx, mz_op_moe(s, &y, &x, &moe, &routing, NULL));
    }
    memcpy(out, y.data, (size_t)(x.shape[0] * c->d_model) * sizeof *out);
}

static void run_ffn(mz_stream *s, const void *arg, float *out) {
    const moe_case *c = arg;
    const mz_ffn ffn = take_ffn(s, c, c->d_ff, 10000);
    const mz_tensor x = take_inputs(s, c);
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_stream_take(s, x.shape[0], c->d_model, "test", &y));
    if (c->is_composed) {
        mz_assert_ok(s->ctx, mz_composed_ffn(s, &y, &x, &ffn));
    } else {
        mz_assert_ok(s->ctx, mz_op_ffn(s, &y, &x, &ffn));
    }
    memcpy(out, y.data, (size_t)(x.shape[0] * c->d_model) * sizeof *out);
}

/* Where sums are added in another order, a hidden value half-way between two bf16 numbers may round
 * to the other one, 2^-9 away. None did when this was measured: below 1e-5. */
static double bound_of(const moe_case *c) {
    return c->precision == MZ_PRECISION_BF16 ? 2e-3 : 1e-5;
}

static void check(mz_op_streams *streams, mz_op_run run, const moe_case *c) {
    char what[128];
    (void)snprintf(what, sizeof what, "%s: %d tokens, %d x %d (shared %d), top %d of %d, %s, %s",
                   run == run_ffn ? "ffn" : "moe", (int)c->n_tokens, (int)c->d_model, (int)c->d_ff,
                   (int)c->d_ff_shared, (int)c->top_k, (int)c->n_experts,
                   mz_dtype_get(c->dtype)->name,
                   c->precision == MZ_PRECISION_BF16 ? "bf16" : "f32");
    mz_check_op(streams, what, run, c, c->n_tokens * c->d_model, bound_of(c));
}

static const mz_dtype dtypes[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};
static const int64_t token_counts[] = {0, 1, 2, 13, 31, 33, N_MAX};

static void test_gated_ffn(void **state) {
    static const int64_t widths[][2] = {{1, 1}, {16, 31}, {27, 64}, {54, 33}, {D_MAX, 100}};
    for (size_t i = 0; i < sizeof token_counts / sizeof token_counts[0]; i++) {
        for (size_t j = 0; j < sizeof widths / sizeof widths[0]; j++) {
            for (int precision = 0; precision < 2; precision++) {
                check(*state, run_ffn,
                      &(moe_case){.n_tokens = token_counts[i],
                                  .d_model = widths[j][0],
                                  .d_ff = widths[j][1],
                                  .activation = (mz_activation)((i + j) % 5),
                                  .dtype = dtypes[(i + j) % 3],
                                  .precision = (mz_precision)precision});
            }
        }
    }
}

static void test_moe(void **state) {
    static const int32_t shapes[][2] = {{1, 1}, {2, 1}, {8, 2}, {8, 8}, {5, 4}, {MAX_EXPERTS, 6}};
    for (size_t i = 0; i < sizeof token_counts / sizeof token_counts[0]; i++) {
        for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++) {
            for (int precision = 0; precision < 2; precision++) {
                check(*state, run_moe,
                      &(moe_case){.n_tokens = token_counts[i],
                                  .d_model = 54,
                                  .d_ff = 27 + (int64_t)j,
                                  .activation = (mz_activation)((i + j) % 5),
                                  .d_ff_shared = j % 2 == 0 ? 51 : 0,
                                  .n_experts = shapes[j][0],
                                  .top_k = shapes[j][1],
                                  .dtype = dtypes[(i + j) % 3],
                                  .precision = (mz_precision)precision});
            }
        }
    }
}

/* Widths of several blocks of k, and more tokens than a tile. */
static void test_wide(void **state) {
    for (int i = 0; i < 6; i++) {
        check(*state, run_moe,
              &(moe_case){.n_tokens = 17,
                          .d_model = 300,
                          .d_ff = 290,
                          .n_experts = 2,
                          .top_k = 2,
                          .dtype = dtypes[i % 3],
                          .precision = (mz_precision)(i / 3)});
    }
}

/* Every expert but one has no token. */
static void test_all_tokens_to_one_expert(void **state) {
    check(*state, run_moe,
          &(moe_case){.n_tokens = N_MAX,
                      .d_model = 33,
                      .d_ff = 47,
                      .n_experts = 8,
                      .top_k = 1,
                      .dtype = MZ_DTYPE_BF16,
                      .one_expert = 6});
}

static void run_on(mz_stream *s, mz_op_run run, const moe_case *c, float *out) {
    const size_t mark = mz_arena_mark(&s->arena);
    run(s, c, out);
    mz_arena_release(&s->arena, mark);
}

/* Fused and composed give the same bits; a token gives the same bits alone and among others. */
static void test_fused_composed_and_alone(void **state) {
    mz_op_streams *streams = *state;
    static float fused[N_MAX * D_MAX];
    static float other[N_MAX * D_MAX];
    for (int i = 0; i < streams->n_cpu; i++) {
        for (int k = 0; k < 6; k++) {
            moe_case c = {.n_tokens = N_MAX,
                          .d_model = 50,
                          .d_ff = 77,
                          .d_ff_shared = 90,
                          .n_experts = 7,
                          .top_k = 3,
                          .dtype = dtypes[k % 3],
                          .precision = (mz_precision)(k / 3)};
            for (int op = 0; op < 2; op++) {
                const mz_op_run run = op == 0 ? run_moe : run_ffn;
                c.is_composed = false;
                c.n_given = 0;
                run_on(&streams->cpu[i], run, &c, fused);
                c.is_composed = true;
                run_on(&streams->cpu[i], run, &c, other);
                assert_memory_equal(fused, other, (size_t)(c.n_tokens * c.d_model) * sizeof(float));
                c.is_composed = false;
                c.n_given = 1;
                run_on(&streams->cpu[i], run, &c, other);
                assert_memory_equal(fused, other, (size_t)c.d_model * sizeof(float));
            }
        }
    }
}

/* The expert with the seeds of take_moe's first one, on all tokens. */
static void run_first_expert(mz_stream *s, const void *arg, float *out) {
    const moe_case *c = arg;
    const mz_ffn ffn = {.w_gate = take_linear(s, c, c->d_ff, c->d_model, 10000),
                        .w_up = take_linear(s, c, c->d_ff, c->d_model, 20000),
                        .w_down = take_linear(s, c, c->d_model, c->d_ff, 30000)};
    const mz_tensor x = take_inputs(s, c);
    const mz_tensor y = mz_tensor_2d(MZ_DTYPE_F32, c->n_tokens, c->d_model, out);
    mz_assert_ok(s->ctx, mz_op_ffn(s, &y, &x, &ffn));
}

/* With a router that is sure of one expert, the mixture is that expert; and the mixture of all
 * experts, all equal, is one of them, because the probabilities sum to 1. */
static void test_mixture_of_one(void **state) {
    mz_op_streams *streams = *state;
    static float mixture[N_MAX * D_MAX];
    static float expert[N_MAX * D_MAX];
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        moe_case c = {.n_tokens = N_MAX,
                      .d_model = 40,
                      .d_ff = 33,
                      .n_experts = 4,
                      .top_k = 1,
                      .dtype = MZ_DTYPE_F32,
                      .one_expert = 1};
        run_on(s, run_moe, &c, mixture);
        run_on(s, run_first_expert, &c, expert);
        assert_memory_equal(mixture, expert, (size_t)(c.n_tokens * c.d_model) * sizeof(float));
        c.one_expert = 0;
        c.top_k = c.n_experts;
        c.equal_experts = true;
        run_on(s, run_moe, &c, mixture);
        run_on(s, run_first_expert, &c, expert);
        mz_assert_close("equal experts", mixture, expert, c.n_tokens * c.d_model, 1e-6);
    }
}

/* top_k = n_experts is the dense mixture: every expert, weighted with the softmax. */
static void test_dense_mixture(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 9, D = 20, F = 12, E = 3 };
    const moe_case c = {
        .n_tokens = N, .d_model = D, .d_ff = F, .n_experts = E, .top_k = E, .dtype = MZ_DTYPE_F32};
    static float mixture[N * D];
    static float dense[N * D];
    static float one[N * D];
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        run_on(s, run_moe, &c, mixture);
        const size_t mark = mz_arena_mark(&s->arena);
        const mz_tensor x = take_inputs(s, &c);
        const mz_moe moe = take_moe(s, &c);
        memset(dense, 0, sizeof dense);
        for (int32_t e = 0; e < E; e++) {
            const mz_ffn ffn = {
                .w_gate.weight = mz_tensor_2d(MZ_DTYPE_F32, F, D, (void *)moe.w_gate.data[e]),
                .w_up.weight = mz_tensor_2d(MZ_DTYPE_F32, F, D, (void *)moe.w_up.data[e]),
                .w_down.weight = mz_tensor_2d(MZ_DTYPE_F32, D, F, (void *)moe.w_down.data[e])};
            const mz_tensor y = mz_tensor_2d(MZ_DTYPE_F32, N, D, one);
            mz_assert_ok(s->ctx, mz_op_ffn(s, &y, &x, &ffn));
            for (int t = 0; t < N; t++) {
                double logits[E];
                double sum = 0;
                for (int k = 0; k < E; k++) {
                    logits[k] = 0;
                    for (int d = 0; d < D; d++) {
                        logits[k] += (double)mz_tensor_f32(&x, t)[d] *
                                     (double)mz_tensor_f32(&moe.router_proj.weight, k)[d];
                    }
                    sum += exp(logits[k]);
                }
                for (int d = 0; d < D; d++) {
                    dense[t * D + d] += (float)(exp(logits[e]) / sum) * one[t * D + d];
                }
            }
        }
        mz_arena_release(&s->arena, mark);
        mz_assert_close("dense mixture", mixture, dense, N * D, 1e-6);
    }
}

/* One packed form cannot serve two precisions. */
static void test_mixed_precisions(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    const moe_case c = {.n_tokens = 3, .d_model = 8, .d_ff = 8, .dtype = MZ_DTYPE_F32};
    const size_t mark = mz_arena_mark(&s->arena);
    mz_ffn ffn = take_ffn(s, &c, c.d_ff, 1);
    const mz_tensor x = take_inputs(s, &c);
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_stream_take(s, c.n_tokens, c.d_model, "test", &y));
    ffn.w_down.precision = MZ_PRECISION_BF16;
    assert_int_equal(mz_op_ffn(s, &y, &x, &ffn), MZ_ERR_UNSUPPORTED);
    mz_arena_release(&s->arena, mark);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gated_ffn),
        cmocka_unit_test(test_moe),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_all_tokens_to_one_expert),
        cmocka_unit_test(test_fused_composed_and_alone),
        cmocka_unit_test(test_mixture_of_one),
        cmocka_unit_test(test_dense_mixture),
        cmocka_unit_test(test_mixed_precisions),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
