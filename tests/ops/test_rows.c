/* The element-wise and row-wise ops of the CPU backend against the reference. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/ops/cpu/rows_internal.h"

enum { PAD = 5, N_POSITIONS = 64 };

typedef enum row_op {
    RMS_NORM,
    LAYER_NORM,
    GROUP_NORM, /* of groups, that share weights and have a bias */
    ROPE,
    ROPE_PART,  /* the middle of wider heads */
    ROPE_PAIRS, /* neighbours, at the end of wider heads */
    SOFTMAX,
    GATED,
    GELU,
    GELU_TANH,
    GELU_QUICK,
    RELU,
    TANH,
    ADD,
    ADD_SCALED,
    GATHER,
    GATHER_F16,
    GATHER_BF16,
    COPY,
    N_ROW_OPS
} row_op;

static const struct {
    const char *name;
    double bound; /* relative L2 */
} row_ops[N_ROW_OPS] = {[RMS_NORM] = {"rms_norm", 1e-6},
                        [LAYER_NORM] = {"layer norm", 1e-6},
                        [GROUP_NORM] = {"group norm", 1e-6},
                        [ROPE] = {"rope", 1e-6},
                        [ROPE_PART] = {"rope of a part", 1e-6},
                        [ROPE_PAIRS] = {"rope of pairs", 1e-6},
                        [SOFTMAX] = {"softmax", 1e-6},
                        [GATED] = {"gated", 1e-6},
                        [GELU] = {"gelu", 1e-6},
                        [GELU_TANH] = {"gelu_tanh", 1e-6},
                        [GELU_QUICK] = {"gelu_quick", 1e-6},
                        [RELU] = {"relu", 1e-6},
                        [TANH] = {"tanh", 1e-6},
                        [ADD] = {"add", 0},
                        [ADD_SCALED] = {"add scaled", 1e-6},
                        [GATHER] = {"gather", 0},
                        [GATHER_F16] = {"gather f16", 1e-6},
                        [GATHER_BF16] = {"gather bf16", 1e-6},
                        [COPY] = {"copy", 0}};

static bool is_rope(row_op op) {
    return op == ROPE || op == ROPE_PART || op == ROPE_PAIRS;
}

static bool is_gather(row_op op) {
    return op == GATHER || op == GATHER_F16 || op == GATHER_BF16;
}

/* One call: inputs are a function of the shape and the row, so that a part of the rows can be run
 * alone. */
typedef struct row_case {
    row_op op;
    int64_t n_rows, width;
    int64_t first, n; /* rows that are run */
    int64_t half_dim; /* of rope */
    bool in_place;    /* rope: y is x */
    float scale;      /* of the inputs */
} row_case;

static mz_tensor strided(mz_stream *s, int64_t n_rows, int64_t width, uint64_t seed, float scale) {
    mz_tensor t;
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows, width + PAD, "test", &t));
    mz_fill_uniform(t.data, n_rows * (width + PAD), seed, scale);
    return mz_tensor_cols(&t, 0, width);
}

/* The norm of a case; `vectors` holds two rows of at least width values. */
static mz_norm norm_of(const row_case *c, const mz_tensor *vectors) {
    mz_norm norm = {.kind = c->op == LAYER_NORM ? MZ_NORM_LAYER : MZ_NORM_RMS, .eps = 1e-6f};
    int64_t n = c->width;
    if (c->op == GROUP_NORM) {
        norm.kind = c->width % 2 == 0 ? MZ_NORM_LAYER : MZ_NORM_RMS;
        norm.group = n = c->width % 3 == 0 ? c->width / 3 : c->width;
        norm.offset = 1;
        norm.bias = mz_tensor_1d(MZ_DTYPE_F32, c->width, mz_tensor_f32(vectors, 1));
    }
    norm.weight = mz_tensor_1d(MZ_DTYPE_F32, n, mz_tensor_f32(vectors, 0));
    return norm;
}

/* `a` in another type, rows without gaps. */
static mz_tensor narrowed(mz_stream *s, const mz_tensor *a, mz_dtype dtype) {
    void *data = NULL;
    mz_tensor t = mz_tensor_2d(dtype, a->shape[0], a->shape[1], NULL);
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)mz_tensor_n_elements(a) * sizeof(uint16_t),
                                              "test", &data));
    t.data = data;
    for (int64_t i = 0; i < a->shape[0]; i++) {
        mz_dtype_get(dtype)->from_f32(mz_tensor_row(&t, i), mz_tensor_f32(a, i), a->shape[1]);
    }
    return t;
}

static mz_status call_op(mz_stream *s, const row_case *c, const mz_tensor *y, const mz_tensor *a,
                         const mz_tensor *b) {
    int32_t index[1024];
    int32_t sequence[1024];
    for (int64_t i = 0; i < c->n; i++) {
        const int64_t row = c->first + i;
        index[i] = (int32_t)(is_rope(c->op) ? (row * 7) % N_POSITIONS : c->n_rows - 1 - row / 2);
        sequence[i] = (int32_t)i;
    }
    const mz_rows rows = {.n_rows = c->n, .sequence = sequence, .position = index};
    mz_tensor vectors;
    mz_assert_ok(s->ctx, mz_stream_take(s, 2, N_POSITIONS * (c->width + 1), "test", &vectors));
    mz_fill_uniform(vectors.data, 2 * vectors.ld, 3, 1.0f);
    const mz_norm norm = norm_of(c, &vectors);
    mz_rope_table table = {.n_positions = N_POSITIONS,
                           .half_dim = c->half_dim,
                           .cos = mz_tensor_f32(&vectors, 0),
                           .sin = mz_tensor_f32(&vectors, 1)};
    if (c->op == ROPE_PART || c->op == ROPE_PAIRS) {
        table.head_dim = c->op == ROPE_PART ? 2 * c->half_dim + 5 : 2 * c->half_dim + 3;
        table.first = 3;
        table.interleaved = c->op == ROPE_PAIRS;
    }
    switch (c->op) {
    case RMS_NORM:
    case LAYER_NORM:
    case GROUP_NORM:
        return mz_op_norm(s, y, a, &norm);
    case ROPE:
    case ROPE_PART:
    case ROPE_PAIRS:
        return mz_op_rope(s, y, a, &table, &rows);
    case GELU:
        return mz_op_gated_activation(s, y, a, NULL, MZ_ACTIVATION_GELU);
    case GELU_TANH:
        return mz_op_gated_activation(s, y, a, b, MZ_ACTIVATION_GELU_TANH);
    case GELU_QUICK:
        return mz_op_gated_activation(s, y, a, NULL, MZ_ACTIVATION_GELU_QUICK);
    case TANH:
        return mz_op_gated_activation(s, y, a, b, MZ_ACTIVATION_TANH);
    case RELU:
        return mz_op_gated_activation(s, y, a, b, MZ_ACTIVATION_RELU);
    case SOFTMAX:
        return mz_op_softmax(s, y, a);
    case GATED:
        return mz_op_gated_activation(s, y, a, b, MZ_ACTIVATION_SILU);
    case ADD:
        return mz_op_add(s, y, a, b, 1);
    case ADD_SCALED:
        return mz_op_add(s, y, a, b, -0.37f);
    case GATHER:
        return mz_op_gather_rows(s, y, a, index, 1);
    case COPY:
        return mz_op_gather_rows(s, y, a, NULL, 1);
    default: {
        const mz_tensor x = narrowed(s, a, c->op == GATHER_F16 ? MZ_DTYPE_F16 : MZ_DTYPE_BF16);
        return mz_op_gather_rows(s, y, &x, index, 1.7f);
    }
    }
}

static void run_case(mz_stream *s, const void *arg, float *out) {
    const row_case *c = arg;
    const mz_tensor all_a = strided(s, c->n_rows, c->width, 1, c->scale);
    const mz_tensor all_b = strided(s, c->n_rows, c->width, 2, c->scale);
    const mz_tensor all_y = strided(s, c->n_rows, c->width, 9, 1.0f);
    const mz_tensor part_a = mz_tensor_rows(&all_a, c->first, c->n);
    const mz_tensor a = is_gather(c->op) ? all_a : part_a;
    const mz_tensor b = mz_tensor_rows(&all_b, c->first, c->n);
    const mz_tensor y = mz_tensor_rows(&all_y, c->first, c->n);
    const mz_tensor *result = c->in_place ? &part_a : &y;
    mz_assert_ok(s->ctx, call_op(s, c, result, &a, &b));
    for (int64_t t = 0; t < c->n; t++) {
        memcpy(out + t * c->width, mz_tensor_f32(result, t), (size_t)c->width * sizeof *out);
    }
    /* What lies between and behind the rows is not the op's to touch. */
    mz_fill_uniform(all_b.data, c->n_rows * all_b.ld, c->in_place ? 1 : 9,
                    c->in_place ? c->scale : 1.0f);
    for (int64_t t = 0; t < c->n_rows; t++) {
        const mz_tensor *whole = c->in_place ? &all_a : &all_y;
        const bool own = t >= c->first && t < c->first + c->n;
        const int64_t skip = own ? c->width : 0;
        assert_memory_equal(mz_tensor_f32(whole, t) + skip, mz_tensor_f32(&all_b, t) + skip,
                            (size_t)(c->width + PAD - skip) * sizeof(float));
    }
}

static void check_case(mz_op_streams *streams, const row_case *c) {
    char what[96];
    (void)snprintf(what, sizeof what, "%s [%d, %d] head half %d", row_ops[c->op].name,
                   (int)c->n_rows, (int)c->width, (int)c->half_dim);
    mz_check_op(streams, what, run_case, c, c->n * c->width, row_ops[c->op].bound);
}

static void test_shapes(void **state) {
    static const int64_t n_rows[] = {0, 1, 31, 33, 600};
    static const int64_t widths[] = {1, 2, 7, 31, 33, 384};
    for (row_op op = 0; op < N_ROW_OPS; op++) {
        for (size_t i = 0; i < sizeof n_rows / sizeof n_rows[0] && !is_rope(op); i++) {
            for (size_t j = 0; j < sizeof widths / sizeof widths[0]; j++) {
                check_case(*state, &(row_case){.op = op,
                                               .n_rows = n_rows[i],
                                               .width = widths[j],
                                               .n = n_rows[i],
                                               .scale = 4});
            }
        }
    }
}

/* Sums of many values stay within the bound. */
static void test_long_rows(void **state) {
    static const row_op ops[] = {RMS_NORM, LAYER_NORM, GROUP_NORM, SOFTMAX};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        const row_op op = ops[i];
        check_case(*state, &(row_case){.op = op, .n_rows = 3, .width = 5001, .n = 3, .scale = 4});
        check_case(*state,
                   &(row_case){.op = op, .n_rows = 3, .width = 5001, .n = 3, .scale = 1e-3f});
    }
}

static void test_rope_shapes(void **state) {
    static const int64_t half_dims[] = {1, 3, 16, 31, 32, 33};
    for (size_t i = 0; i < sizeof half_dims / sizeof half_dims[0]; i++) {
        for (int64_t n_heads = 1; n_heads <= 12; n_heads += 11) {
            row_case c = {.op = ROPE,
                          .n_rows = 33,
                          .width = 2 * half_dims[i] * n_heads,
                          .n = 33,
                          .half_dim = half_dims[i],
                          .scale = 2};
            for (c.op = ROPE; c.op <= ROPE_PAIRS; c.op++) {
                const int64_t rest = c.op == ROPE ? 0 : c.op == ROPE_PART ? 5 : 3;
                c.width = (2 * half_dims[i] + rest) * n_heads;
                c.in_place = false;
                check_case(*state, &c);
                c.in_place = true;
                check_case(*state, &c);
            }
        }
    }
}

/* A row alone has the bits that it has among others. */
static void test_row_alone(void **state) {
    mz_op_streams *streams = *state;
    float whole[9 * 96];
    float alone[96];
    for (row_op op = 0; op < N_ROW_OPS; op++) {
        for (int i = 0; i < streams->n_cpu; i += MZ_TEST_THREADS) {
            mz_stream *s = &streams->cpu[i];
            const size_t mark = mz_arena_mark(&s->arena);
            row_case c = {.op = op, .n_rows = 9, .width = 90, .n = 9, .half_dim = 15, .scale = 2};
            if (op == ROPE_PART || op == ROPE_PAIRS) {
                c.half_dim = op == ROPE_PART ? 20 : 6; /* heads of 45 and 15 */
            }
            run_case(s, &c, whole);
            c.n = 1;
            for (c.first = 0; c.first < c.n_rows; c.first++) {
                run_case(s, &c, alone);
                assert_memory_equal(alone, whole + c.first * c.width, 90 * sizeof(float));
            }
            mz_arena_release(&s->arena, mark);
        }
    }
}

/* One op on one short row of given values, on each CPU level. */
static void
on_each_level(mz_op_streams *streams, row_op op, const float *a, const float *b, int64_t n,
              void (*check)(const float *a, const float *b, const float *y, int64_t n)) {
    float y[64];
    assert_true(n <= 64);
    for (int i = 0; i < streams->n_cpu; i += MZ_TEST_THREADS) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        const row_case c = {.op = op, .n_rows = 1, .width = n, .n = 1};
        float in[2][64];
        memcpy(in[0], a, (size_t)n * sizeof *a);
        memcpy(in[1], b, (size_t)n * sizeof *b);
        const mz_tensor ta = mz_tensor_2d(MZ_DTYPE_F32, 1, n, in[0]);
        const mz_tensor tb = mz_tensor_2d(MZ_DTYPE_F32, 1, n, in[1]);
        const mz_tensor ty = mz_tensor_2d(MZ_DTYPE_F32, 1, n, y);
        mz_assert_ok(s->ctx, call_op(s, &c, &ty, &ta, &tb));
        check(a, b, y, n);
        mz_arena_release(&s->arena, mark);
    }
}

static void expect_zeros(const float *a, const float *b, const float *y, int64_t n) {
    (void)a;
    (void)b;
    for (int64_t i = 0; i < n; i++) {
        assert_true(y[i] == 0.0f);
    }
}

static void expect_softmax(const float *a, const float *b, const float *y, int64_t n) {
    (void)b;
    double max = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        max = fmax(max, a[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        sum += exp(a[i] - max);
    }
    for (int64_t i = 0; i < n; i++) {
        const double p = exp(a[i] - max) / sum;
        assert_true(fabs(y[i] - p) <= 1e-6 * p + FLT_MIN);
        assert_true(a[i] != -INFINITY || y[i] == 0.0f);
    }
}

static void test_softmax_extremes(void **state) {
    const float m = -INFINITY;
    const float masked[33] = {m, m, m, m, m, m, m, m, m, m, m, m, m, m, m, m, m,
                              m, m, m, m, m, m, m, m, m, m, m, m, m, m, m, m};
    on_each_level(*state, SOFTMAX, masked, masked, 33, expect_zeros);
    on_each_level(*state, SOFTMAX, masked, masked, 1, expect_zeros);
    const float mixed[] = {m,       1e30f, m, -1e30f, 1e30f, 0, FLT_MAX, m, -FLT_MAX, 3,
                           FLT_MAX, m,     m, m,      m,     m, m,       2, m};
    on_each_level(*state, SOFTMAX, mixed, mixed, 19, expect_softmax);
    const float spread[] = {0,   -1,   -10,   -50, -80,   -86,    -87,    -87.5f,
                            -88, -100, -1000, m,   -0.0f, 1e-40f, -1e-40f};
    on_each_level(*state, SOFTMAX, spread, spread, 15, expect_softmax);
}

static void expect_silu(const float *a, const float *b, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double x = a[i];
        const double expected = x / (1.0 + exp(-x)) * b[i];
        assert_true(isfinite(y[i]));
        assert_true(fabs(y[i] - expected) <= 1e-6 * fabs(expected) + 1e-35);
    }
}

static void test_silu_extremes(void **state) {
    const float gate[] = {0,     -0.0f,  1e-40f,  -1e-40f,  87, -87, 88,   -88,
                          88.5f, -88.5f, 89,      -89,      90, -90, 1e4f, -1e4f,
                          1e38f, -1e38f, FLT_MAX, -FLT_MAX, 1,  -1,  20,   -20};
    float up[24];
    for (int i = 0; i < 24; i++) {
        up[i] = i % 3 == 0 ? 0.75f : 1.0f;
    }
    on_each_level(*state, GATED, gate, up, 24, expect_silu);
}

static void expect_gelu(const float *a, const float *b, const float *y, int64_t n) {
    (void)b;
    for (int64_t i = 0; i < n; i++) {
        const double x = a[i];
        const double expected = x * 0.5 * erfc(-x / sqrt(2.0));
        assert_true(isfinite(y[i]));
        /* far below zero the square in the exponent is rounded: 2e-6 of a value under 1e-9 */
        assert_true(fabs(y[i] - expected) <= (x < -4 ? 1e-5 : 5e-7) * fabs(expected) + 1e-35);
    }
}

static void expect_gelu_tanh(const float *a, const float *b, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double x = a[i];
        const double u = sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
        const double expected = x / (1.0 + exp(-2.0 * u)) * b[i];
        assert_true(isfinite(y[i]));
        assert_true(fabs(y[i] - expected) <= (x < -3 ? 1e-5 : 1e-6) * fabs(expected) + 1e-35);
    }
}

static void test_gelu_extremes(void **state) {
    const float x[] = {0,    -0.0f, 1e-40f, -1e-40f, 1e-6f, -1e-6f, 0.5f,    -0.5f,   1,  -1,
                       2.5f, -2.5f, 4.5f,   -4.5f,   8,     -8,     13,      -13,     63, -63,
                       65,   -65,   1e15f,  -1e15f,  1e38f, -1e38f, FLT_MAX, -FLT_MAX};
    float ones[28];
    for (int i = 0; i < 28; i++) {
        ones[i] = 1;
    }
    on_each_level(*state, GELU, x, ones, 28, expect_gelu);
    on_each_level(*state, GELU_TANH, x, ones, 24, expect_gelu_tanh); /* x^3 is finite */
}

static void expect_sum(const float *a, const float *b, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float sum = a[i] + b[i];
        assert_memory_equal(&y[i], &sum, sizeof sum);
    }
}

static void test_add_keeps_ieee(void **state) {
    const float a[] = {-0.0f, 0.0f, 1e-40f, FLT_MAX, INFINITY, -0.0f, 1.0f, 1e-45f, FLT_MIN};
    const float b[] = {-0.0f, -0.0f, 1e-40f, FLT_MAX, 1, 1e-45f, 0x1p-24f, -1e-45f, -1e-40f};
    on_each_level(*state, ADD, a, b, 9, expect_sum);
}

/* Squares that f32 cannot hold, and rows of nothing but zeros. */
static void test_rms_norm_extremes(void **state) {
    const float scales[] = {1e30f, 1e25f, 1e-3f, 1e-18f, 1e-25f, 1e-40f};
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        const row_case c = {.op = RMS_NORM, .n_rows = 3, .width = 50, .n = 3, .scale = scales[i]};
        mz_check_op(*state, "rms_norm of another magnitude", run_case, &c, 150, 1e-6);
        const row_case l = {.op = LAYER_NORM, .n_rows = 3, .width = 50, .n = 3, .scale = scales[i]};
        mz_check_op(*state, "layer norm of another magnitude", run_case, &l, 150, 1e-6);
    }
    const float zeros[33] = {0};
    on_each_level(*state, RMS_NORM, zeros, zeros, 33, expect_zeros);
    on_each_level(*state, LAYER_NORM, zeros, zeros, 33, expect_zeros);
}

static const mz_row_kernels *const kernel_levels[] = {&mz_row_kernels_scalar, &mz_row_kernels_avx2,
                                                      &mz_row_kernels_avx512};

static void test_exp(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 1 << 16 };
    static float x[N];
    static float y[N];
    for (int level = 0; level < 3 && level * MZ_TEST_THREADS < streams->n_cpu; level++) {
        for (int i = 0; i < N; i++) {
            x[i] = (float)(-87.3 + 175.6 * i / N);
        }
        kernel_levels[level]->exp(y, x, N);
        for (int i = 0; i < N; i++) {
            const double exact = exp((double)x[i]);
            const double ulp = (double)nextafterf((float)exact, INFINITY) - (double)(float)exact;
            assert_true(fabs((double)y[i] - exact) <= 2 * ulp);
        }
        const float special[] = {-INFINITY, -1e30f, -88, 0, -0.0f, 90, 1e30f, INFINITY, NAN};
        const float expected[] = {0, 0, 0, 1, 1, INFINITY, INFINITY, INFINITY};
        kernel_levels[level]->exp(y, special, 9);
        assert_memory_equal(y, expected, sizeof expected);
        assert_true(isnan(y[8]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_rope_shapes),
        cmocka_unit_test(test_row_alone),
        cmocka_unit_test(test_softmax_extremes),
        cmocka_unit_test(test_silu_extremes),
        cmocka_unit_test(test_gelu_extremes),
        cmocka_unit_test(test_add_keeps_ieee),
        cmocka_unit_test(test_rms_norm_extremes),
        cmocka_unit_test(test_exp),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
