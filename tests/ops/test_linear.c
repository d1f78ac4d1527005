/* linear of the CPU backend, on each instruction set, against the reference. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct linear_case {
    int64_t n_tokens, d_in, d_out;
    mz_dtype dtype;
    mz_precision precision;
    bool has_bias;
    int64_t pad;   /* columns between the rows of x, y and the weights */
    float spread;  /* exponents of x lie in [-spread, spread] */
    int64_t alone; /* 1: only the first row of x */
} linear_case;

/* A matrix whose rows lie `pad` elements further apart than they are long; NaN between them. */
static mz_tensor take_padded(mz_stream *s, mz_dtype dtype, int64_t n_rows, int64_t n_cols,
                             int64_t pad) {
    const mz_dtype_info *info = mz_dtype_get(dtype);
    const int64_t ld = n_cols + pad;
    void *data = NULL;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)(n_rows * ld * info->block_bytes + 64),
                                              "test", &data));
    memset(data, 0xff, (size_t)(n_rows * ld * info->block_bytes));
    mz_tensor t = mz_tensor_2d(dtype, n_rows, n_cols, data);
    t.ld = ld;
    return t;
}

static void fill(const mz_tensor *t, uint64_t seed, float scale, float spread) {
    const mz_dtype_info *info = mz_dtype_get(t->dtype);
    static float row[4096];
    for (int64_t i = 0; i < t->shape[0]; i++) {
        const int64_t n = t->shape[1];
        mz_fill_uniform(row, n, seed + (uint64_t)i, 1);
        for (int64_t k = 0; k < n; k++) {
            row[k] = scale * (spread > 0 ? copysignf(powf(10, row[k] * spread), row[k]) : row[k]);
        }
        info->from_f32((uint8_t *)t->data + i * t->ld * info->block_bytes, row, n);
    }
}

static void run_linear(mz_stream *s, const void *arg, float *out) {
    const linear_case *c = arg;
    const int64_t n = c->alone ? c->alone : c->n_tokens;
    const mz_tensor all = take_padded(s, MZ_DTYPE_F32, c->n_tokens, c->d_in, c->pad);
    const mz_tensor x = mz_tensor_rows(&all, 0, n);
    const mz_tensor y = take_padded(s, MZ_DTYPE_F32, n, c->d_out, c->pad);
    mz_linear w = {.weight = take_padded(s, c->dtype, c->d_out, c->d_in, c->pad),
                   .precision = c->precision};
    fill(&all, 11, 1, c->spread);
    fill(&w.weight, 12000, 0.5f, 0);
    if (c->has_bias) {
        const mz_tensor bias = take_padded(s, MZ_DTYPE_F32, 1, c->d_out, 0);
        fill(&bias, 13, 1, 0);
        w.bias = mz_tensor_1d(MZ_DTYPE_F32, c->d_out, bias.data);
    }
    mz_assert_ok(s->ctx, mz_op_linear(s, &y, &x, &w));
    for (int64_t t = 0; t < n; t++) {
        memcpy(out + t * c->d_out, mz_tensor_f32(&y, t), (size_t)c->d_out * sizeof *out);
        for (int64_t i = 0; i < c->pad; i++) { /* nothing is written between the rows */
            assert_true(isnan(mz_tensor_f32(&y, t)[c->d_out + i]));
        }
    }
}

static void check(mz_op_streams *streams, const linear_case *c) {
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    char what[128];
    (void)snprintf(what, sizeof what, "linear %d x %d -> %d, %s weights, %s precision%s",
                   (int)c->n_tokens, (int)c->d_in, (int)c->d_out, dtypes[c->dtype],
                   c->precision == MZ_PRECISION_BF16 ? "bf16" : "f32",
                   c->pad > 0 ? ", strided" : "");
    mz_check_op(streams, what, run_linear, c, c->n_tokens * c->d_out, 1e-6);
}

static const mz_dtype dtypes_of_weights[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};

static void test_token_counts(void **state) {
    static const int64_t counts[] = {0, 1, 2, 3, 4, 5, 11, 12, 13, 16, 17, 31, 33, 64, 97};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (int precision = 0; precision < 2; precision++) {
            for (size_t d = 0; d < 3; d++) {
                check(*state, &(linear_case){.n_tokens = counts[i],
                                             .d_in = 54,
                                             .d_out = 47,
                                             .dtype = dtypes_of_weights[d],
                                             .precision = (mz_precision)precision,
                                             .has_bias = i % 2 == 0});
            }
        }
    }
}

static void test_widths(void **state) {
    static const int64_t d_in[] = {1,  2,  15,  16,  17,  27,  31,  32,
                                   33, 96, 255, 256, 257, 511, 513, 1536};
    static const int64_t d_out[] = {1, 3, 8, 16, 17, 31, 32, 33, 64, 130};
    for (size_t i = 0; i < sizeof d_in / sizeof d_in[0]; i++) {
        for (size_t o = 0; o < sizeof d_out / sizeof d_out[0]; o++) {
            check(*state, &(linear_case){.n_tokens = 5 + (int64_t)(i % 9),
                                         .d_in = d_in[i],
                                         .d_out = d_out[o],
                                         .dtype = dtypes_of_weights[(i + o) % 3],
                                         .precision = (mz_precision)((i + o) / 3 % 2),
                                         .has_bias = o % 2 == 0,
                                         .pad = (int64_t)((i + o) % 4)});
        }
    }
}

/* Real shapes: projections of the 50M model, and more rows than one segment holds. */
static void test_large(void **state) {
    check(*state,
          &(linear_case){
              .n_tokens = 70, .d_in = 384, .d_out = 384, .dtype = MZ_DTYPE_BF16, .has_bias = true});
    check(*state,
          &(linear_case){.n_tokens = 1100, .d_in = 40, .d_out = 33, .dtype = MZ_DTYPE_BF16});
    check(*state, &(linear_case){.n_tokens = 1100,
                                 .d_in = 40,
                                 .d_out = 33,
                                 .dtype = MZ_DTYPE_F32,
                                 .precision = MZ_PRECISION_BF16});
}

/* Values of very different size in one row, within what f32 can add. */
static void test_spread_values(void **state) {
    for (size_t d = 0; d < 3; d++) {
        check(*state, &(linear_case){.n_tokens = 13,
                                     .d_in = 96,
                                     .d_out = 33,
                                     .dtype = dtypes_of_weights[d],
                                     .spread = 18});
    }
}

/* A row's bits are the same alone and among others. */
static void test_row_alone(void **state) {
    mz_op_streams *streams = *state;
    static float many[97 * 47];
    static float one[47];
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        for (size_t d = 0; d < 3; d++) {
            for (int precision = 0; precision < 2; precision++) {
                linear_case c = {.n_tokens = 97,
                                 .d_in = 300,
                                 .d_out = 47,
                                 .dtype = dtypes_of_weights[d],
                                 .precision = (mz_precision)precision,
                                 .has_bias = true};
                const size_t mark = mz_arena_mark(&s->arena);
                run_linear(s, &c, many);
                c.alone = 1;
                run_linear(s, &c, one);
                mz_arena_release(&s->arena, mark);
                assert_memory_equal(one, many, sizeof one);
            }
        }
    }
}

/* Infinite and NaN values stay in their rows. */
static void test_nonfinite_rows(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 29, K = 75, M = 37 };
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        for (int precision = 0; precision < 2; precision++) {
            const size_t mark = mz_arena_mark(&s->arena);
            mz_tensor x = take_padded(s, MZ_DTYPE_F32, N, K, 0);
            const mz_tensor clean = take_padded(s, MZ_DTYPE_F32, N, M, 0);
            const mz_tensor dirty = take_padded(s, MZ_DTYPE_F32, N, M, 0);
            const mz_linear w = {.weight = take_padded(s, MZ_DTYPE_BF16, M, K, 0),
                                 .precision = (mz_precision)precision};
            fill(&x, 1, 1, 0);
            fill(&w.weight, 1000, 1, 0);
            mz_assert_ok(s->ctx, mz_op_linear(s, &clean, &x, &w));
            mz_tensor_f32(&x, 3)[K - 1] = INFINITY;
            mz_tensor_f32(&x, 17)[0] = NAN;
            mz_assert_ok(s->ctx, mz_op_linear(s, &dirty, &x, &w));
            for (int t = 0; t < N; t++) {
                if (t == 3 || t == 17) {
                    assert_false(isfinite(mz_tensor_f32(&dirty, t)[5]));
                } else {
                    assert_memory_equal(mz_tensor_f32(&dirty, t), mz_tensor_f32(&clean, t),
                                        M * sizeof(float));
                }
            }
            mz_arena_release(&s->arena, mark);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_counts), cmocka_unit_test(test_widths),
        cmocka_unit_test(test_large),        cmocka_unit_test(test_spread_values),
        cmocka_unit_test(test_row_alone),    cmocka_unit_test(test_nonfinite_rows),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
