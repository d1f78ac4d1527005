/* Products with block-quantised weights on the CPU backend, on each instruction set, against the
 * reference. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/half.h"
#include "core/ops/composed.h"
#include "core/rng.h"

enum { MAX_EXPERTS = 8 };

typedef struct product_case {
    int64_t n_tokens, d_in, d_out;
    mz_dtype dtype;
    mz_precision precision;
    bool has_bias;
    int64_t pad;     /* blocks between the rows of the weights, values between those of x and y */
    int64_t first;   /* row of x that the call begins with */
    int64_t n_given; /* rows of the call; 0: all */
} product_case;

static const mz_dtype types[] = {MZ_DTYPE_Q8_0, MZ_DTYPE_Q4_0, MZ_DTYPE_Q4_1, MZ_DTYPE_Q5_0,
                                 MZ_DTYPE_Q5_1, MZ_DTYPE_Q2_K, MZ_DTYPE_Q3_K, MZ_DTYPE_Q4_K,
                                 MZ_DTYPE_Q5_K, MZ_DTYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* Where each type keeps its halves: scale and minimum. */
static int half_offsets(mz_dtype dtype, int offsets[2]) {
    switch (dtype) {
    case MZ_DTYPE_Q4_1:
    case MZ_DTYPE_Q5_1:
    case MZ_DTYPE_Q4_K:
    case MZ_DTYPE_Q5_K:
        offsets[0] = 0;
        offsets[1] = 2;
        return 2;
    case MZ_DTYPE_Q2_K:
        offsets[0] = 80;
        offsets[1] = 82;
        return 2;
    case MZ_DTYPE_Q3_K:
        offsets[0] = 108;
        return 1;
    case MZ_DTYPE_Q6_K:
        offsets[0] = 208;
        return 1;
    default:
        offsets[0] = 0;
        return 1;
    }
}

/* Rows of random blocks: every number, scale and sign of them occurs. Between the rows lie blocks
 * of NaN. The address is odd where the type allows it: files align only the first row. */
static mz_tensor take_weight(mz_stream *s, mz_dtype dtype, int64_t d_out, int64_t d_in, int64_t pad,
                             uint64_t seed) {
    const mz_dtype_info *info = mz_dtype_get(dtype);
    const int64_t n_blocks = d_out * (d_in / info->block_len + pad);
    void *memory = NULL;
    int offsets[2];
    const int n_halves = half_offsets(dtype, offsets);
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)(n_blocks * info->block_bytes) + 2, "test",
                                              &memory));
    uint8_t *data = (uint8_t *)memory + 2;
    for (int64_t i = 0; i < n_blocks; i++) {
        uint8_t *b = data + i * info->block_bytes;
        for (int j = 0; j < info->block_bytes; j++) {
            b[j] = (uint8_t)(256 * mz_rng_uniform(seed, (uint64_t)i, (uint64_t)j));
        }
        for (int h = 0; h < n_halves; h++) {
            const float r = mz_rng_uniform(seed + 1, (uint64_t)i, (uint64_t)h);
            const bool between = i % (d_in / info->block_len + pad) >= d_in / info->block_len;
            const uint16_t half = mz_f16_from_f32(between ? NAN : 0.02f * (r - 0.5f));
            memcpy(b + offsets[h], &half, sizeof half);
        }
    }
    mz_tensor t = mz_tensor_2d(dtype, d_out, d_in, data);
    t.ld = d_in + pad * info->block_len;
    return t;
}

static mz_tensor take_rows(mz_stream *s, int64_t n_rows, int64_t width, int64_t pad,
                           uint64_t seed) {
    mz_tensor t;
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows + 1, width + pad, "test", &t));
    memset(t.data, 0xff, (size_t)((n_rows + 1) * t.ld) * sizeof(float));
    for (int64_t i = 0; i < n_rows; i++) {
        mz_fill_uniform(mz_tensor_f32(&t, i), width, seed + (uint64_t)i, 1);
        mz_tensor_f32(&t, i)[i * 7 % width] *= 1 + 5 * mz_rng_uniform(seed, 1, (uint64_t)i);
    }
    t.shape[0] = n_rows;
    t.shape[1] = width;
    return t;
}

static mz_linear take_linear(mz_stream *s, const product_case *c, int64_t d_out, uint64_t seed) {
    mz_linear w = {.weight = take_weight(s, c->dtype, d_out, c->d_in, c->pad, seed),
                   .precision = c->precision};
    if (c->has_bias) {
        const mz_tensor bias = take_rows(s, 1, d_out, 0, seed + 2);
        w.bias = mz_tensor_1d(MZ_DTYPE_F32, d_out, bias.data);
    }
    return w;
}

static mz_tensor given_rows(const product_case *c, const mz_tensor *all) {
    return mz_tensor_rows(all, c->first, c->n_given > 0 ? c->n_given : c->n_tokens);
}

static void copy_out(float *out, const mz_tensor *y) {
    for (int64_t t = 0; t < y->shape[0]; t++) {
        memcpy(out + t * y->shape[1], mz_tensor_f32(y, t), (size_t)y->shape[1] * sizeof *out);
        for (int64_t i = y->shape[1]; i < y->ld; i++) { /* nothing is written between the rows */
            assert_true(isnan(mz_tensor_f32(y, t)[i]));
        }
    }
}

static mz_tensor take_outputs(mz_stream *s, int64_t n_rows, int64_t width, int64_t pad) {
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows, width + pad, "test", &y));
    memset(y.data, 0xff, (size_t)(n_rows * y.ld) * sizeof(float));
    y.shape[1] = width;
    return y;
}

static void run_linear(mz_stream *s, const void *arg, float *out) {
    const product_case *c = arg;
    const mz_tensor all = take_rows(s, c->n_tokens, c->d_in, c->pad, 11);
    const mz_tensor x = given_rows(c, &all);
    const mz_tensor y = take_outputs(s, x.shape[0], c->d_out, c->pad);
    const mz_linear w = take_linear(s, c, c->d_out, 12000);
    mz_assert_ok(s->ctx, mz_op_linear(s, &y, &x, &w));
    copy_out(out, &y);
}

static const char *name_of(const product_case *c, const char *op) {
    static char what[128];
    static const char *const precisions[] = {"f32", "bf16", "int8"};
    (void)snprintf(what, sizeof what, "%s %d x %d -> %d, %s weights, %s precision%s", op,
                   (int)c->n_tokens, (int)c->d_in, (int)c->d_out, mz_dtype_get(c->dtype)->name,
                   precisions[c->precision], c->pad > 0 ? ", strided" : "");
    return what;
}

/* With a minimum two sums of opposite sign meet in f32: a single output was seen 7e-6 off. */
static double bound_of(const product_case *c) {
    return c->precision == MZ_PRECISION_INT8 ? 1e-5 : 1e-6;
}

static void check_linear(mz_op_streams *streams, const product_case *c) {
    mz_check_op(streams, name_of(c, "linear"), run_linear, c, c->n_tokens * c->d_out, bound_of(c));
}

static void test_row_counts(void **state) {
    static const int64_t counts[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 17, 33};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (int t = 0; t < N_TYPES; t++) {
            check_linear(*state, &(product_case){.n_tokens = counts[i],
                                                 .d_in = 256,
                                                 .d_out = 47,
                                                 .dtype = types[t],
                                                 .precision = MZ_PRECISION_INT8,
                                                 .has_bias = i % 2 == 0});
        }
    }
}

static void test_widths(void **state) {
    static const int64_t blocks[] = {1, 2, 3, 5, 9};
    static const int64_t d_out[] = {1, 7, 8, 9, 31, 32, 33, 65};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        for (size_t o = 0; o < sizeof d_out / sizeof d_out[0]; o++) {
            for (int t = 0; t < N_TYPES; t++) {
                const int block = mz_dtype_get(types[t])->block_len;
                check_linear(*state, &(product_case){.n_tokens = 1 + (int64_t)((i + o) % 2) * 6,
                                                     .d_in = block * blocks[i],
                                                     .d_out = d_out[o],
                                                     .dtype = types[t],
                                                     .precision = MZ_PRECISION_INT8,
                                                     .has_bias = o % 2 == 0,
                                                     .pad = (int64_t)((i + o) % 3)});
            }
        }
    }
}

/* More values than a panel's piece, more rows than a segment. */
static void test_large(void **state) {
    for (int t = 0; t < N_TYPES; t++) {
        check_linear(*state, &(product_case){.n_tokens = 7,
                                             .d_in = 2304,
                                             .d_out = 40,
                                             .dtype = types[t],
                                             .precision = MZ_PRECISION_INT8});
    }
    check_linear(*state, &(product_case){.n_tokens = 1100,
                                         .d_in = 64,
                                         .d_out = 33,
                                         .dtype = MZ_DTYPE_Q4_1,
                                         .precision = MZ_PRECISION_INT8});
}

/* Weights become f32, or bf16, panel by panel. */
static void test_full_inputs(void **state) {
    for (int t = 0; t < N_TYPES; t++) {
        for (int precision = 0; precision < 2; precision++) {
            for (int64_t n = 1; n < 40; n += 16) {
                check_linear(*state, &(product_case){.n_tokens = n,
                                                     .d_in = 768,
                                                     .d_out = 45,
                                                     .dtype = types[t],
                                                     .precision = (mz_precision)precision,
                                                     .has_bias = true,
                                                     .pad = n % 3});
            }
        }
    }
}

/* A row's bits are the same alone, in a few and among many. */
static void test_row_alone(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 33, M = 47 };
    static float many[N * M];
    static float few[N * M];
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        for (int t = 0; t < N_TYPES; t++) {
            product_case c = {.n_tokens = N,
                              .d_in = 1280,
                              .d_out = M,
                              .dtype = types[t],
                              .precision = MZ_PRECISION_INT8,
                              .has_bias = true};
            const size_t mark = mz_arena_mark(&s->arena);
            run_linear(s, &c, many);
            for (int64_t n = 1; n < 9; n++) {
                c.first = 3 * n;
                c.n_given = n;
                mz_arena_release(&s->arena, mark);
                run_linear(s, &c, few);
                assert_memory_equal(few, many + c.first * M, (size_t)(n * M) * sizeof *few);
            }
            mz_arena_release(&s->arena, mark);
        }
    }
}

/* Instruction sets agree but for the scalar one. */
static void test_instruction_sets(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 9, M = 41 };
    static float first[N * M];
    static float other[N * M];
    for (int i = 2 * MZ_TEST_THREADS; i < streams->n_cpu; i += MZ_TEST_THREADS) {
        for (int t = 0; t < N_TYPES; t++) {
            const product_case c = {.n_tokens = N,
                                    .d_in = 512,
                                    .d_out = M,
                                    .dtype = types[t],
                                    .precision = MZ_PRECISION_INT8};
            if (types[t] == MZ_DTYPE_Q2_K || types[t] == MZ_DTYPE_Q3_K) {
                continue;
            }
            mz_stream *a = &streams->cpu[MZ_TEST_THREADS];
            mz_stream *b = &streams->cpu[i];
            const size_t mark_a = mz_arena_mark(&a->arena);
            const size_t mark_b = mz_arena_mark(&b->arena);
            run_linear(a, &c, first);
            run_linear(b, &c, other);
            assert_memory_equal(first, other, sizeof first);
            mz_arena_release(&a->arena, mark_a);
            mz_arena_release(&b->arena, mark_b);
        }
    }
}

/* ---- Several products of the same inputs ---- */

/* Types that pair with 32, with 256, that become f32, and one that is not quantised. */
static void run_linears(mz_stream *s, const void *arg, float *out) {
    const product_case *c = arg;
    static const mz_dtype dtypes[MZ_MAX_LINEARS] = {MZ_DTYPE_Q4_0, MZ_DTYPE_Q6_K, MZ_DTYPE_Q8_0,
                                                    MZ_DTYPE_Q2_K};
    const mz_tensor x = take_rows(s, c->n_tokens, c->d_in, c->pad, 11);
    mz_linear w[MZ_MAX_LINEARS];
    mz_tensor y[MZ_MAX_LINEARS];
    const mz_linear *each_w[MZ_MAX_LINEARS];
    const mz_tensor *each_y[MZ_MAX_LINEARS];
    for (int i = 0; i < MZ_MAX_LINEARS; i++) {
        product_case own = *c;
        own.dtype = c->dtype == MZ_DTYPE_COUNT ? dtypes[i] : c->dtype;
        own.has_bias = i % 2 == 0;
        w[i] = take_linear(s, &own, c->d_out + 16 * i, 100 * (uint64_t)i);
        y[i] = take_outputs(s, c->n_tokens, c->d_out + 16 * i, c->pad);
        each_w[i] = &w[i];
        each_y[i] = &y[i];
    }
    mz_assert_ok(s->ctx, mz_op_linears(s, MZ_MAX_LINEARS, each_y, &x, each_w));
    for (int i = 0; i < MZ_MAX_LINEARS; i++) {
        copy_out(out, &y[i]);
        out += c->n_tokens * y[i].shape[1];
    }
}

static void test_linears(void **state) {
    static const mz_dtype all[] = {MZ_DTYPE_Q4_1, MZ_DTYPE_Q4_K, MZ_DTYPE_COUNT};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (int64_t n = 0; n < 36; n += 1 + 8 * (n > 1)) {
            const product_case c = {.n_tokens = n,
                                    .d_in = 512,
                                    .d_out = 33,
                                    .dtype = all[i],
                                    .precision = MZ_PRECISION_INT8,
                                    .pad = n % 2};
            char what[64];
            (void)snprintf(what, sizeof what, "linears of %d rows, case %d", (int)n, (int)i);
            mz_check_op(*state, what, run_linears, &c, n * (4 * c.d_out + 16 * 6), 1e-5);
        }
    }
}

/* ---- Feed-forward and experts ---- */

typedef struct expert_case {
    int64_t n_tokens, d_model, d_ff, d_ff_shared;
    mz_dtype gate, up, down;
    mz_precision precision;
    int32_t n_experts, top_k;
    bool is_composed;
    bool is_ffn;
    int64_t first, n_given; /* rows of the call; n_given 0: all */
} expert_case;

static mz_linear take_plain(mz_stream *s, const expert_case *c, mz_dtype dtype, int64_t d_out,
                            int64_t d_in, uint64_t seed) {
    mz_linear w = {.precision = c->precision};
    if (mz_dtype_get(dtype)->block_len > 1) {
        w.weight = take_weight(s, dtype, d_out, d_in, 0, seed);
        return w;
    }
    mz_tensor values = take_rows(s, d_out, d_in, 0, seed);
    void *data = NULL;
    const size_t n = (size_t)(d_out * d_in);
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, n * 4, "test", &data));
    mz_dtype_get(dtype)->from_f32(data, values.data, (int64_t)n);
    w.weight = mz_tensor_2d(dtype, d_out, d_in, data);
    return w;
}

static mz_linear_bank take_bank(mz_stream *s, const expert_case *c, mz_dtype dtype, int64_t d_out,
                                int64_t d_in, uint64_t seed) {
    void *table = NULL;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, MAX_EXPERTS * sizeof(void *), "test", &table));
    const void **data = table;
    for (int32_t e = 0; e < c->n_experts; e++) {
        data[e] = take_plain(s, c, dtype, d_out, d_in, seed + 10 * (uint64_t)e).weight.data;
    }
    return (mz_linear_bank){.dtype = dtype,
                            .precision = c->precision,
                            .n_experts = c->n_experts,
                            .d_out = d_out,
                            .d_in = d_in,
                            .ld = d_in,
                            .data = data};
}

static mz_ffn take_ffn(mz_stream *s, const expert_case *c, int64_t d_ff, uint64_t seed) {
    return (mz_ffn){.w_gate = take_plain(s, c, c->gate, d_ff, c->d_model, seed),
                    .w_up = take_plain(s, c, c->up, d_ff, c->d_model, seed + 1),
                    .w_down = take_plain(s, c, c->down, c->d_model, d_ff, seed + 2)};
}

static void run_experts(mz_stream *s, const void *arg, float *out) {
    const expert_case *c = arg;
    const mz_tensor all = take_rows(s, c->n_tokens, c->d_model, 0, 3);
    const mz_tensor x = mz_tensor_rows(&all, c->first, c->n_given > 0 ? c->n_given : c->n_tokens);
    const mz_tensor y = take_outputs(s, x.shape[0], c->d_model, 0);
    if (c->is_ffn) {
        const mz_ffn ffn = take_ffn(s, c, c->d_ff, 500);
        mz_assert_ok(s->ctx, c->is_composed ? mz_composed_ffn(s, &y, &x, &ffn)
                                            : mz_op_ffn(s, &y, &x, &ffn));
        copy_out(out, &y);
        return;
    }
    const mz_tensor logits = take_rows(s, c->n_experts, c->d_model, 0, 700);
    mz_moe moe = {
        .router_proj = {.weight = logits},
        .router = {.kind = MZ_ROUTER_SOFTMAX_TOPK, .n_experts = c->n_experts, .top_k = c->top_k},
        .w_gate = take_bank(s, c, c->gate, c->d_ff, c->d_model, 1000),
        .w_up = take_bank(s, c, c->up, c->d_ff, c->d_model, 2000),
        .w_down = take_bank(s, c, c->down, c->d_model, c->d_ff, 3000),
        .has_shared = c->d_ff_shared > 0,
    };
    if (moe.has_shared) {
        moe.shared = take_ffn(s, c, c->d_ff_shared, 800);
        moe.shared_gate = take_plain(s, c, c->gate, 1, c->d_model, 900);
    }
    mz_routing routing;
    mz_assert_ok(s->ctx, mz_routing_take(s, x.shape[0], &moe.router, &routing));
    mz_assert_ok(s->ctx, c->is_composed ? mz_composed_moe(s, &y, &x, &moe, &routing, NULL)
                                        : mz_op_moe(s, &y, &x, &moe, &routing, NULL));
    copy_out(out, &y);
}

/* Hidden values that differ in their last bits between two ways of adding may round to another of
 * the 255 steps: one of them is 1/127 of the block's largest. */
static double experts_bound(const expert_case *c) {
    return c->precision == MZ_PRECISION_INT8 ? 2e-3 : 2e-5;
}

static void check_experts(mz_op_streams *streams, const expert_case *c) {
    char what[128];
    (void)snprintf(what, sizeof what, "%s of %d rows, %s %s %s, precision %d, top %d of %d",
                   c->is_ffn ? "ffn" : "moe", (int)c->n_tokens, mz_dtype_get(c->gate)->name,
                   mz_dtype_get(c->up)->name, mz_dtype_get(c->down)->name, (int)c->precision,
                   (int)c->top_k, (int)c->n_experts);
    mz_check_op(streams, what, run_experts, c, c->n_tokens * c->d_model, experts_bound(c));
}

/* Types that go together in files, and some that the kernels must treat apart. */
static const mz_dtype triples[][3] = {
    {MZ_DTYPE_Q4_0, MZ_DTYPE_Q4_0, MZ_DTYPE_Q4_0}, {MZ_DTYPE_Q8_0, MZ_DTYPE_Q8_0, MZ_DTYPE_Q8_0},
    {MZ_DTYPE_Q4_K, MZ_DTYPE_Q4_K, MZ_DTYPE_Q6_K}, {MZ_DTYPE_Q5_0, MZ_DTYPE_Q5_1, MZ_DTYPE_Q5_K},
    {MZ_DTYPE_Q4_K, MZ_DTYPE_Q5_K, MZ_DTYPE_Q8_0}, {MZ_DTYPE_Q4_1, MZ_DTYPE_Q4_1, MZ_DTYPE_F16},
    {MZ_DTYPE_Q5_0, MZ_DTYPE_Q8_0, MZ_DTYPE_Q3_K},
};
enum { N_TRIPLES = sizeof triples / sizeof triples[0] };

static void test_ffn(void **state) {
    static const int64_t counts[] = {0, 1, 2, 5, 17, 33};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (size_t t = 0; t < N_TRIPLES; t++) {
            for (int precision = 0; precision < 3; precision += 2) {
                check_experts(*state, &(expert_case){.n_tokens = counts[i],
                                                     .d_model = 256,
                                                     .d_ff = 512,
                                                     .gate = triples[t][0],
                                                     .up = triples[t][1],
                                                     .down = triples[t][2],
                                                     .precision = (mz_precision)precision,
                                                     .is_ffn = true});
            }
        }
    }
}

static void test_moe(void **state) {
    static const int32_t shapes[][2] = {{1, 1}, {MAX_EXPERTS, 1}, {MAX_EXPERTS, 3}};
    static const int64_t counts[] = {1, 2, 9, 70};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++) {
            const mz_dtype *types_of = triples[(i + j) % N_TRIPLES];
            check_experts(*state, &(expert_case){.n_tokens = counts[i],
                                                 .d_model = 256,
                                                 .d_ff = 256,
                                                 .d_ff_shared = j == 2 ? 512 : 0,
                                                 .gate = types_of[0],
                                                 .up = types_of[1],
                                                 .down = types_of[2],
                                                 .precision = MZ_PRECISION_INT8,
                                                 .n_experts = shapes[j][0],
                                                 .top_k = shapes[j][1]});
        }
    }
}

/* The fused ops have the bits of their compositions, and a token the same bits alone. */
static void test_fused_bits(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 41, D = 256 };
    static float whole[N * D];
    static float other[N * D];
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        for (size_t t = 0; t < 6; t++) {
            expert_case c = {.n_tokens = N,
                             .d_model = D,
                             .d_ff = 512,
                             .gate = triples[t][0],
                             .up = triples[t][1],
                             .down = triples[t][2],
                             .precision = MZ_PRECISION_INT8,
                             .n_experts = MAX_EXPERTS,
                             .top_k = 2,
                             .is_ffn = t % 2 == 0};
            const size_t mark = mz_arena_mark(&s->arena);
            run_experts(s, &c, whole);
            mz_arena_release(&s->arena, mark);
            c.first = 20;
            c.n_given = 1;
            run_experts(s, &c, other);
            mz_arena_release(&s->arena, mark);
            assert_memory_equal(other, whole + c.first * D, D * sizeof *other);
            c.first = 0;
            c.n_given = 0;
            c.is_composed = true;
            run_experts(s, &c, other);
            mz_arena_release(&s->arena, mark);
            assert_memory_equal(other, whole, sizeof whole);
        }
    }
}

/* ---- Backward and errors ---- */

/* Gradients of inputs, added to what is there. */
static void run_backward(mz_stream *s, const void *arg, float *out) {
    const product_case *c = arg;
    const mz_tensor d_y = take_rows(s, c->n_tokens, c->d_out, c->pad, 5);
    const mz_tensor x = take_rows(s, c->n_tokens, c->d_in, c->pad, 6);
    const mz_tensor d_x = take_rows(s, c->n_tokens, c->d_in, c->pad, 7);
    const mz_linear w = take_linear(s, c, c->d_out, 12000);
    mz_assert_ok(s->ctx, s->backend->training->linear_backward(s, NULL, &d_x, &d_y, &x, &w));
    copy_out(out, &d_x);
}

static void test_backward(void **state) {
    for (int t = 0; t < N_TYPES; t++) {
        const product_case c = {.n_tokens = 3 + 5 * t,
                                .d_in = 512,
                                .d_out = 37,
                                .dtype = types[t],
                                .precision = MZ_PRECISION_INT8,
                                .pad = t % 2};
        mz_check_op(*state, name_of(&c, "backward"), run_backward, &c, c.n_tokens * c.d_in, 1e-6);
    }
}

/* Infinite and NaN inputs, and very small ones, keep to their rows. */
static void test_extreme_inputs(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 9, M = 40 };
    static float clean[N * M];
    static float dirty[N * M];
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        for (int t = 0; t < N_TYPES; t++) {
            const product_case c = {.n_tokens = N,
                                    .d_in = 512,
                                    .d_out = M,
                                    .dtype = types[t],
                                    .precision = MZ_PRECISION_INT8};
            const mz_tensor x = take_rows(s, N, c.d_in, 0, 11);
            const mz_tensor y = take_outputs(s, N, M, 0);
            const mz_linear w = take_linear(s, &c, M, 12000);
            mz_assert_ok(s->ctx, mz_op_linear(s, &y, &x, &w));
            copy_out(clean, &y);
            mz_tensor_f32(&x, 1)[c.d_in - 1] = INFINITY;
            mz_tensor_f32(&x, 4)[0] = NAN;
            for (int64_t k = 0; k < c.d_in; k++) {
                mz_tensor_f32(&x, 6)[k] *= 1e-38f;
            }
            mz_assert_ok(s->ctx, mz_op_linear(s, &y, &x, &w));
            copy_out(dirty, &y);
            for (int64_t r = 0; r < N; r++) {
                if (r == 1 || r == 4) {
                    assert_false(isfinite(dirty[r * M + 7]));
                } else if (r == 6) {
                    assert_true(fabsf(dirty[r * M + 7]) < 1e-35f);
                } else {
                    assert_memory_equal(dirty + r * M, clean + r * M, M * sizeof *clean);
                }
            }
            mz_arena_release(&s->arena, mark);
        }
    }
}

static void test_rows_of_parts_of_blocks(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_tensor x = take_rows(s, 1, 40, 0, 1);
    const mz_tensor y = take_outputs(s, 1, 8, 0);
    mz_linear w = {.weight = take_weight(s, MZ_DTYPE_Q8_0, 8, 64, 0, 1)};
    w.weight.shape[1] = 40;
    assert_int_equal(mz_op_linear(s, &y, &x, &w), MZ_ERR_SHAPE);
    mz_arena_release(&s->arena, mark);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_counts),
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_full_inputs),
        cmocka_unit_test(test_row_alone),
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_linears),
        cmocka_unit_test(test_ffn),
        cmocka_unit_test(test_moe),
        cmocka_unit_test(test_fused_bits),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_extreme_inputs),
        cmocka_unit_test(test_rows_of_parts_of_blocks),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
