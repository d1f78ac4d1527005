/* Backwards of linear and grouped_linear: the reference against differences of a forward in f64,
 * and the CPU backend, on each instruction set, against the reference. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"

enum { WANT_X = 1, WANT_WEIGHT = 2, WANT_BIAS = 4, WANT_ALL = 7 };

typedef struct backward_case {
    int64_t n_tokens, d_in, d_out;
    mz_dtype dtype; /* of the weights */
    mz_precision precision;
    int64_t pad;              /* columns between the rows of every matrix */
    int want;                 /* which gradients */
    int32_t n_experts, top_k; /* 0: linear */
    int32_t n_used;           /* experts that have rows; 0: any may */
    bool gather;
} backward_case;

static bool is_grouped(const backward_case *c) {
    return c->n_experts > 0;
}

/* Rows of d_y, and of x. */
static int64_t n_rows_of(const backward_case *c) {
    return is_grouped(c) ? c->n_tokens * c->top_k : c->n_tokens;
}

static int64_t n_x_of(const backward_case *c) {
    return c->gather ? c->n_tokens : n_rows_of(c);
}

static int64_t n_matrices(const backward_case *c) {
    return is_grouped(c) ? c->n_experts : 1;
}

/* Uniform values in rows `pad` elements further apart than they are long; NaN between them. */
static mz_tensor take(mz_stream *s, mz_dtype dtype, int64_t n_rows, int64_t n_cols, int64_t pad,
                      uint64_t seed) {
    const mz_dtype_info *info = mz_dtype_get(dtype);
    static float row[4096];
    void *data = NULL;
    const int64_t ld = n_cols + pad;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)(n_rows * ld * info->block_bytes + 64),
                                              "test", &data));
    memset(data, 0xff, (size_t)(n_rows * ld * info->block_bytes));
    for (int64_t i = 0; i < n_rows; i++) {
        mz_fill_uniform(row, n_cols, seed * 10000 + (uint64_t)i, 1);
        info->from_f32((uint8_t *)data + i * ld * info->block_bytes, row, n_cols);
    }
    mz_tensor t = mz_tensor_2d(dtype, n_rows, n_cols, data);
    t.ld = ld;
    return t;
}

/* What a backward reads and adds to. */
typedef struct operands {
    mz_tensor x, d_y, d_x;
    mz_linear w; /* of a linear */
    mz_linear_gradient d_w;
    mz_linear_bank bank; /* of experts */
    float *d_bank[16];
    const void *bank_data[16];
    mz_routing routing;
} operands;

/* A token's experts are neighbours, from a random one on. */
static void take_routing(mz_stream *s, const backward_case *c, mz_routing *routing) {
    const mz_router router = {.n_experts = c->n_experts, .top_k = c->top_k};
    const int32_t n_used = c->n_used > 0 ? c->n_used : c->n_experts;
    mz_assert_ok(s->ctx, mz_routing_take(s, c->n_tokens, &router, routing));
    for (int64_t t = 0; t < c->n_tokens; t++) {
        const int32_t first = (int32_t)(mz_rng_uniform(77, 0, (uint64_t)t) * (float)n_used);
        for (int32_t k = 0; k < c->top_k; k++) {
            routing->expert_ids[t * c->top_k + k] = (first + k) % n_used;
        }
    }
    mz_assert_ok(s->ctx, s->backend->dispatch(s, routing));
}

static void take_operands(mz_stream *s, const backward_case *c, operands *o) {
    *o = (operands){0};
    o->x = take(s, MZ_DTYPE_F32, n_x_of(c), c->d_in, c->pad, 1);
    o->d_x = take(s, MZ_DTYPE_F32, n_x_of(c), c->d_in, c->pad, 2);
    o->d_y = take(s, MZ_DTYPE_F32, n_rows_of(c), c->d_out, c->pad, 3);
    if (!is_grouped(c)) {
        o->w = (mz_linear){.weight = take(s, c->dtype, c->d_out, c->d_in, c->pad, 4),
                           .precision = c->precision};
        o->d_w.weight = take(s, MZ_DTYPE_F32, c->d_out, c->d_in, c->pad, 5);
        o->d_w.bias =
            mz_tensor_1d(MZ_DTYPE_F32, c->d_out, take(s, MZ_DTYPE_F32, 1, c->d_out, 0, 6).data);
        return;
    }
    for (int32_t e = 0; e < c->n_experts; e++) {
        o->bank_data[e] = take(s, c->dtype, c->d_out, c->d_in, c->pad, 40 + (uint64_t)e).data;
        o->d_bank[e] = take(s, MZ_DTYPE_F32, c->d_out, c->d_in, 0, 60 + (uint64_t)e).data;
    }
    o->bank = (mz_linear_bank){.dtype = c->dtype,
                               .precision = c->precision,
                               .n_experts = c->n_experts,
                               .d_out = c->d_out,
                               .d_in = c->d_in,
                               .ld = c->d_in + c->pad,
                               .data = o->bank_data};
    take_routing(s, c, &o->routing);
}

static void call(mz_stream *s, const backward_case *c, const operands *o) {
    const mz_tensor absent = {0};
    const mz_tensor *d_x = (c->want & WANT_X) != 0 ? &o->d_x : &absent;
    const mz_training_ops *ops = s->backend->training;
    const mz_op_size size = {.n_rows = n_rows_of(c),
                             .d_in = c->d_in,
                             .d_out = c->d_out,
                             .n_experts = c->n_experts,
                             .top_k = c->top_k};
    const size_t before = s->arena.used;
    s->arena.peak = before;
    if (is_grouped(c)) {
        const mz_bank_gradient d_bank = {.weight = (c->want & WANT_WEIGHT) != 0 ? o->d_bank : NULL};
        mz_assert_ok(s->ctx, ops->grouped_linear_backward(s, &d_bank, d_x, &o->d_y, &o->x, &o->bank,
                                                          &o->routing, c->gather));
    } else {
        mz_linear_gradient d_w = o->d_w;
        d_w.weight = (c->want & WANT_WEIGHT) != 0 ? d_w.weight : absent;
        d_w.bias = (c->want & WANT_BIAS) != 0 ? d_w.bias : absent;
        mz_assert_ok(s->ctx, ops->linear_backward(s, &d_w, d_x, &o->d_y, &o->x, &o->w));
    }
    assert_true(s->arena.used == before);
    if (s->backend->scratch_bytes != NULL) { /* the need that is told covers what is taken */
        const mz_op_id op = is_grouped(c) ? MZ_OP_GROUPED_LINEAR_BACKWARD : MZ_OP_LINEAR_BACKWARD;
        assert_true(s->arena.peak - before <= s->backend->scratch_bytes(s, op, &size));
    }
}

static float *copy_rows(float *out, const mz_tensor *t) {
    const int64_t n = t->shape[1];
    for (int64_t i = 0; i < t->shape[0]; i++, out += n) {
        memcpy(out, mz_tensor_f32(t, i), (size_t)n * sizeof *out);
        for (int64_t k = n; k < t->ld; k++) { /* nothing is written between the rows */
            assert_true(isnan(mz_tensor_f32(t, i)[k]));
        }
    }
    return out;
}

/* The gradients that were not wanted are not compared here but in test_absent. */
static int64_t n_results(const backward_case *c) {
    return ((c->want & WANT_X) != 0 ? n_x_of(c) * c->d_in : 0) +
           ((c->want & WANT_WEIGHT) != 0 ? n_matrices(c) * c->d_out * c->d_in : 0) +
           ((c->want & WANT_BIAS) != 0 ? c->d_out : 0);
}

static void copy_results(const backward_case *c, const operands *o, float *out) {
    if ((c->want & WANT_X) != 0) {
        out = copy_rows(out, &o->d_x);
    }
    if ((c->want & WANT_WEIGHT) != 0 && !is_grouped(c)) {
        out = copy_rows(out, &o->d_w.weight);
    }
    for (int32_t e = 0; e < c->n_experts && (c->want & WANT_WEIGHT) != 0; e++) {
        const mz_tensor d_w = mz_tensor_2d(MZ_DTYPE_F32, c->d_out, c->d_in, o->d_bank[e]);
        out = copy_rows(out, &d_w);
    }
    if ((c->want & WANT_BIAS) != 0) {
        memcpy(out, o->d_w.bias.data, (size_t)c->d_out * sizeof *out);
    }
}

static void run_backward(mz_stream *s, const void *arg, float *out) {
    const backward_case *c = arg;
    operands o;
    take_operands(s, c, &o);
    call(s, c, &o);
    copy_results(c, &o, out);
}

/* ---- The reference against differences ---- */

static double value_of(const float *x, double step) {
    return (double)*x + step;
}

/* The loss sum(d_y * y) of the forward, in f64; the value at `moved` is `step` more than it is. */
static double loss(const backward_case *c, const operands *o, const float *moved, double step) {
    double sum = 0;
    for (int64_t e = 0; e < n_matrices(c); e++) {
        const int64_t begin = is_grouped(c) ? o->routing.expert_offsets[e] : 0;
        const int64_t end = is_grouped(c) ? o->routing.expert_offsets[e + 1] : c->n_tokens;
        const float *w = is_grouped(c) ? o->bank_data[e] : o->w.weight.data;
        for (int64_t j = begin * c->d_out; j < end * c->d_out; j++) {
            const int64_t i = j / c->d_out;
            const int64_t row = c->gather ? o->routing.row_index[i] / c->top_k : i;
            const float *bias = is_grouped(c) ? NULL : (const float *)o->w.bias.data + j % c->d_out;
            double y = bias != NULL ? value_of(bias, bias == moved ? step : 0) : 0;
            for (int64_t k = 0; k < c->d_in; k++) {
                const float *a = w + j % c->d_out * (c->d_in + c->pad) + k;
                const float *x = mz_tensor_f32(&o->x, row) + k;
                y += value_of(a, a == moved ? step : 0) * value_of(x, x == moved ? step : 0);
            }
            sum += (double)mz_tensor_f32(&o->d_y, i)[j % c->d_out] * y;
        }
    }
    return sum;
}

/* out[i] += the derivative by values[i]; the loss is linear in each, so that any step is exact. */
static float *add_differences(const backward_case *c, const operands *o, const float *values,
                              int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        const double d = (loss(c, o, values + i, 0.5) - loss(c, o, values + i, -0.5));
        out[i] = (float)((double)out[i] + d);
    }
    return out + n;
}

static void check_differences(mz_stream *s, const backward_case *c) {
    static float actual[4096];
    static float expected[4096];
    operands o;
    const size_t mark = mz_arena_mark(&s->arena);
    assert_true(n_results(c) <= 4096);
    take_operands(s, c, &o);
    const mz_tensor bias = take(s, MZ_DTYPE_F32, 1, c->d_out, 0, 7);
    o.w.bias = mz_tensor_1d(MZ_DTYPE_F32, c->d_out, bias.data);
    copy_results(c, &o, expected);
    float *out = add_differences(c, &o, o.x.data, n_x_of(c) * c->d_in, expected);
    if (is_grouped(c)) {
        for (int32_t e = 0; e < c->n_experts; e++) {
            out = add_differences(c, &o, o.bank_data[e], c->d_out * c->d_in, out);
        }
    } else {
        out = add_differences(c, &o, o.w.weight.data, c->d_out * c->d_in, out);
        out = add_differences(c, &o, bias.data, c->d_out, out);
    }
    assert_true(out == expected + n_results(c));
    call(s, c, &o);
    copy_results(c, &o, actual);
    mz_assert_close("differences", actual, expected, n_results(c), 1e-7);
    mz_arena_release(&s->arena, mark);
}

static void test_differences(void **state) {
    mz_op_streams *streams = *state;
    check_differences(&streams->reference,
                      &(backward_case){.n_tokens = 9, .d_in = 7, .d_out = 5, .want = WANT_ALL});
    for (int gather = 0; gather < 2; gather++) {
        check_differences(&streams->reference, &(backward_case){.n_tokens = 8,
                                                                .d_in = 5,
                                                                .d_out = 4,
                                                                .want = WANT_X | WANT_WEIGHT,
                                                                .n_experts = 4,
                                                                .top_k = 2,
                                                                .n_used = 3,
                                                                .gather = gather == 1});
    }
}

/* ---- The CPU backend against the reference ---- */

static void check(mz_op_streams *streams, const backward_case *c) {
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    char what[128];
    (void)snprintf(what, sizeof what,
                   "%s %d x %d -> %d, %s weights, %s precision, pad %d, want %d, top %d of %d%s",
                   is_grouped(c) ? "grouped" : "linear", (int)c->n_tokens, (int)c->d_in,
                   (int)c->d_out, dtypes[c->dtype],
                   c->precision == MZ_PRECISION_BF16 ? "bf16" : "f32", (int)c->pad, c->want,
                   (int)c->top_k, (int)c->n_experts, c->gather ? ", gathered" : "");
    mz_check_op(streams, what, run_backward, c, n_results(c), 1e-6);
}

/* Each gradient alone, then all of them. */
static void check_each(mz_op_streams *streams, backward_case c) {
    static const int wants[] = {WANT_X, WANT_WEIGHT, WANT_BIAS, WANT_ALL};
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        c.want = wants[i];
        if (is_grouped(&c)) {
            c.want &= WANT_X | WANT_WEIGHT;
        }
        if (c.want != 0) {
            check(streams, &c);
        }
    }
}

static const mz_dtype dtypes_of_weights[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};

static void test_row_counts(void **state) {
    static const int64_t counts[] = {0, 1, 2, 3, 16, 31, 32, 33, 64, 97};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (int k = 0; k < 6; k++) {
            check(*state, &(backward_case){.n_tokens = counts[i],
                                           .d_in = 54,
                                           .d_out = 47,
                                           .dtype = dtypes_of_weights[k % 3],
                                           .precision = (mz_precision)(k / 3),
                                           .pad = (int64_t)(i % 3),
                                           .want = k % 3 == 0 ? WANT_ALL : WANT_X});
        }
    }
}

static void test_widths(void **state) {
    static const int64_t widths[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 65, 130, 257};
    enum { N = sizeof widths / sizeof widths[0] };
    for (int i = 0; i < N * N; i++) {
        check(*state, &(backward_case){.n_tokens = 5 + i % 37,
                                       .d_in = widths[i % N],
                                       .d_out = widths[i / N],
                                       .dtype = dtypes_of_weights[i % 3],
                                       .precision = (mz_precision)(i / 3 % 2),
                                       .pad = i % 4,
                                       .want = i % 5 == 0   ? WANT_X
                                               : i % 5 == 1 ? WANT_WEIGHT
                                                            : WANT_ALL});
    }
}

/* Widths of models, and more rows than a gradient sums at a time. */
static void test_real_shapes(void **state) {
    static const int64_t shapes[][3] = {{33, 192, 192}, {31, 192, 128}, {12, 384, 768},
                                        {5, 384, 1536}, {17, 384, 384}, {511, 33, 40},
                                        {513, 40, 33},  {1100, 70, 34}, {2048, 8, 65}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_each(*state, (backward_case){.n_tokens = shapes[i][0],
                                           .d_in = shapes[i][1],
                                           .d_out = shapes[i][2],
                                           .precision = (mz_precision)(i % 2)});
    }
}

static void test_experts(void **state) {
    static const int64_t counts[] = {0, 1, 2, 31, 33, 90};
    static const int32_t routers[][3] = {{1, 1, 0}, {2, 1, 1}, {8, 2, 0}, {8, 2, 3}, {4, 4, 0}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (size_t r = 0; r < sizeof routers / sizeof routers[0]; r++) {
            for (int k = 0; k < 4; k++) {
                check(*state, &(backward_case){.n_tokens = counts[i],
                                               .d_in = 35 + (int64_t)r,
                                               .d_out = 41 - (int64_t)i,
                                               .dtype = dtypes_of_weights[(i + r) % 3],
                                               .precision = (mz_precision)(k % 2),
                                               .pad = (int64_t)(i % 2),
                                               .want = WANT_X | WANT_WEIGHT,
                                               .n_experts = routers[r][0],
                                               .top_k = routers[r][1],
                                               .n_used = routers[r][2],
                                               .gather = k / 2 == 1});
            }
        }
    }
}

/* A group longer than a gradient sums at a time, beside short ones and one without rows. */
static void test_long_groups(void **state) {
    for (int k = 0; k < 2; k++) {
        check_each(*state, (backward_case){.n_tokens = 1100,
                                           .d_in = 18,
                                           .d_out = 67,
                                           .n_experts = 4,
                                           .top_k = 2,
                                           .n_used = 3,
                                           .gather = k == 1});
    }
    check_each(
        *state,
        (backward_case){
            .n_tokens = 24, .d_in = 384, .d_out = 192, .n_experts = 8, .top_k = 2, .gather = true});
}

/* What is not wanted is left as it was; no gradient at all, given as NULL, is no error. */
static void test_absent(void **state) {
    mz_op_streams *streams = *state;
    static float before[4096];
    static float after[4096];
    for (int i = -1; i < streams->n_cpu; i++) {
        mz_stream *s = i < 0 ? &streams->reference : &streams->cpu[i];
        for (int grouped = 0; grouped < 2; grouped++) {
            const size_t mark = mz_arena_mark(&s->arena);
            backward_case c = {.n_tokens = 9,
                               .d_in = 21,
                               .d_out = 13,
                               .want = grouped == 1 ? WANT_X | WANT_WEIGHT : WANT_ALL,
                               .n_experts = 3 * grouped,
                               .top_k = grouped,
                               .gather = grouped == 1};
            const backward_case none = {.n_tokens = c.n_tokens,
                                        .d_in = c.d_in,
                                        .d_out = c.d_out,
                                        .n_experts = c.n_experts,
                                        .top_k = c.top_k,
                                        .gather = c.gather};
            const mz_training_ops *ops = s->backend->training;
            operands o;
            take_operands(s, &c, &o);
            copy_results(&c, &o, before);
            call(s, &none, &o);
            if (grouped == 1) {
                mz_assert_ok(s->ctx, ops->grouped_linear_backward(s, NULL, NULL, &o.d_y, &o.x,
                                                                  &o.bank, &o.routing, true));
            } else {
                mz_assert_ok(s->ctx, ops->linear_backward(s, NULL, NULL, &o.d_y, &o.x, &o.w));
            }
            copy_results(&c, &o, after);
            assert_memory_equal(before, after, (size_t)n_results(&c) * sizeof(float));
            mz_arena_release(&s->arena, mark);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences), cmocka_unit_test(test_row_counts),
        cmocka_unit_test(test_widths),      cmocka_unit_test(test_real_shapes),
        cmocka_unit_test(test_experts),     cmocka_unit_test(test_long_groups),
        cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
