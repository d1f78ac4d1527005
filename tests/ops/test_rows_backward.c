/* Backwards of the element-wise and row-wise ops: the reference against finite differences in f64,
 * the CPU backend against the reference. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ops/cpu/cpu_rows_backward.h"

enum { PAD = 5, N_POSITIONS = 64 };

static const float eps = 1e-5f;
static const float sum_scale = -1.75f; /* of accumulate */
static const float gather_scale = 2.5f;

typedef enum row_op {
    RMS_NORM,
    LAYER_NORM, /* with a bias */
    GROUP_NORM, /* of groups that share weights, with a bias for each element */
    ROPE,
    ROPE_PART,  /* the middle of wider heads */
    ROPE_PAIRS, /* neighbours, at the end of wider heads */
    SOFTMAX,
    GATED,
    GELU, /* without a factor */
    GELU_TANH,
    GELU_QUICK,
    RELU,
    TANH,
    ACCUMULATE,
    GATHER,
    GATHER_SCALED,
    COPY,
    N_ROW_OPS
} row_op;

static const struct {
    const char *name;
    double bound;    /* relative L2 */
    int n_gradients; /* of a; of a and b */
} row_ops[N_ROW_OPS] = {[RMS_NORM] = {"rms_norm", 1e-6, 2},
                        [LAYER_NORM] = {"layer norm", 1e-6, 2},
                        [GROUP_NORM] = {"group norm", 1e-6, 2},
                        [ROPE] = {"rope", 1e-6, 1},
                        [ROPE_PART] = {"rope of a part", 1e-6, 1},
                        [ROPE_PAIRS] = {"rope of pairs", 1e-6, 1},
                        [SOFTMAX] = {"softmax", 1e-6, 1},
                        [GATED] = {"gated", 1e-6, 2},
                        [GELU] = {"gelu", 1e-6, 1},
                        [GELU_TANH] = {"gelu_tanh", 1e-6, 2},
                        [GELU_QUICK] = {"gelu_quick", 1e-6, 2},
                        [RELU] = {"relu", 1e-6, 2},
                        [TANH] = {"tanh", 1e-6, 2},
                        [ACCUMULATE] = {"accumulate", 1e-6, 1},
                        [GATHER] = {"gather", 0, 1},
                        [GATHER_SCALED] = {"gather scaled", 1e-6, 1},
                        [COPY] = {"copy", 1e-6, 1}};

static bool is_norm(row_op op) {
    return op == RMS_NORM || op == LAYER_NORM || op == GROUP_NORM;
}

static bool is_rope(row_op op) {
    return op == ROPE || op == ROPE_PART || op == ROPE_PAIRS;
}

static bool is_gather(row_op op) {
    return op == GATHER || op == GATHER_SCALED;
}

/* SILU where the op is no activation. */
static mz_activation activation_of(row_op op) {
    return op == GELU         ? MZ_ACTIVATION_GELU
           : op == GELU_TANH  ? MZ_ACTIVATION_GELU_TANH
           : op == GELU_QUICK ? MZ_ACTIVATION_GELU_QUICK
           : op == RELU       ? MZ_ACTIVATION_RELU
           : op == TANH       ? MZ_ACTIVATION_TANH
                              : MZ_ACTIVATION_SILU;
}

enum { WANT_A = 1, WANT_B = 2 };

typedef struct row_case {
    row_op op;
    int64_t n_rows, width;
    int64_t half_dim; /* of rope */
    int wanted;       /* which gradients: WANT_A, WANT_B or both */
    float held;       /* scale of what gradients hold before */
    float scale;      /* of the inputs */
} row_case;

/* A call's arguments: y = op(a, b). b is the other factor of gated, weight and bias of a norm (two
 * rows), and unused otherwise; for softmax a is not an input of the backward, but y is. */
typedef struct row_call {
    mz_tensor a, b, y, d_a, d_b, d_y;
    mz_rope_table table;
    mz_rows rows;
    int32_t *index; /* rows of gather, positions of rope */
} row_call;

static mz_tensor strided(mz_stream *s, int64_t n_rows, int64_t width, uint64_t seed, float scale) {
    mz_tensor t;
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows, width + PAD, "test", &t));
    mz_fill_uniform(t.data, n_rows * (width + PAD), seed, scale);
    return mz_tensor_cols(&t, 0, width);
}

static row_call make_call(mz_stream *s, const row_case *c) {
    const int64_t n_a = is_gather(c->op) ? c->n_rows / 2 + 1 : c->n_rows;
    const int64_t n_b = is_norm(c->op) ? 2 : c->n_rows;
    const float held_a = c->wanted & WANT_A ? c->held : 0;
    const float held_b = c->wanted & WANT_B ? c->held : 0;
    void *memory = NULL;
    row_call k = {.a = strided(s, n_a, c->width, 1, c->scale),
                  .b = strided(s, n_b, c->width, 2, 1.0f),
                  .y = strided(s, c->n_rows, c->width, 3, 1.0f),
                  .d_y = strided(s, c->n_rows, c->width, 4, 1.0f),
                  .d_a = strided(s, n_a, c->width, 5, held_a),
                  .d_b = strided(s, n_b, c->width, 6, held_b)};
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)c->n_rows * 4, "test", &memory));
    k.index = memory;
    k.rows = (mz_rows){.n_rows = c->n_rows, .position = k.index};
    for (int64_t i = 0; i < c->n_rows; i++) {
        k.index[i] = (int32_t)(i * 7 % (is_rope(c->op) ? N_POSITIONS : n_a));
    }
    const mz_tensor angles = strided(s, 2, N_POSITIONS * (c->half_dim + 1), 7, 1.0f);
    k.table = (mz_rope_table){.n_positions = N_POSITIONS,
                              .half_dim = c->half_dim,
                              .cos = mz_tensor_f32(&angles, 0),
                              .sin = mz_tensor_f32(&angles, 1)};
    if (c->op == ROPE_PART || c->op == ROPE_PAIRS) {
        k.table.head_dim = 2 * c->half_dim + (c->op == ROPE_PART ? 2 : 1);
        k.table.first = 1;
        k.table.interleaved = c->op == ROPE_PAIRS;
    }
    for (int64_t t = 0; t < c->n_rows && c->op == SOFTMAX; t++) {
        for (int64_t i = 0; i < c->width; i++) { /* like probabilities */
            mz_tensor_f32(&k.y, t)[i] = fabsf(mz_tensor_f32(&k.y, t)[i]) / (float)c->width;
        }
    }
    return k;
}

/* The norm of a case over its vectors, or over their gradients. */
static mz_norm norm_over(const row_case *c, const mz_tensor *vectors) {
    mz_norm norm = {.kind = c->op == LAYER_NORM ? MZ_NORM_LAYER : MZ_NORM_RMS, .eps = eps};
    int64_t n = c->width;
    if (c->op == GROUP_NORM) {
        norm.kind = c->width % 2 == 0 ? MZ_NORM_LAYER : MZ_NORM_RMS;
        norm.group = n = c->width % 3 == 0 ? c->width / 3 : c->width;
        norm.offset = 1;
    }
    norm.weight = mz_tensor_1d(MZ_DTYPE_F32, n, mz_tensor_f32(vectors, 0));
    if (c->op != RMS_NORM) {
        norm.bias = mz_tensor_1d(MZ_DTYPE_F32, c->width, mz_tensor_f32(vectors, 1));
    }
    return norm;
}

static mz_status call_op(mz_stream *s, const row_case *c, const row_call *k) {
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor absent = {0};
    const mz_tensor *d_a = c->wanted & WANT_A ? &k->d_a : &absent;
    const mz_tensor *d_b = c->wanted & WANT_B ? &k->d_b : &absent;
    switch (c->op) {
    case RMS_NORM:
    case LAYER_NORM:
    case GROUP_NORM: {
        const mz_norm norm = norm_over(c, &k->b);
        const mz_norm gradients = norm_over(c, &k->d_b);
        mz_norm_gradient d = {.x = *d_a};
        if (d_b->n_dims != 0) {
            d.weight = gradients.weight;
            d.bias = gradients.bias;
        }
        return ops->norm_backward(s, &d, &k->d_y, &k->a, &norm);
    }
    case ROPE:
    case ROPE_PART:
    case ROPE_PAIRS:
        return ops->rope_backward(s, d_a, &k->d_y, &k->table, &k->rows);
    case SOFTMAX:
        return ops->softmax_backward(s, d_a, &k->d_y, &k->y);
    case GATED:
    case GELU:
    case GELU_TANH:
    case GELU_QUICK:
    case RELU:
    case TANH: {
        const mz_gated_gradient d = {*d_a, *d_b};
        return ops->gated_activation_backward(s, &d, &k->d_y, &k->a, c->op == GELU ? NULL : &k->b,
                                              activation_of(c->op));
    }
    case ACCUMULATE:
        return ops->accumulate(s, d_a, &k->d_y, sum_scale);
    case COPY:
        return ops->gather_rows_backward(s, d_a, &k->d_y, NULL, 1);
    default:
        return ops->gather_rows_backward(s, d_a, &k->d_y, k->index,
                                         c->op == GATHER ? 1 : gather_scale);
    }
}

static float *copy_rows(float *out, const mz_tensor *t) {
    for (int64_t i = 0; i < t->shape[0]; i++) {
        memcpy(out, mz_tensor_f32(t, i), (size_t)t->shape[1] * sizeof *out);
        out += t->shape[1];
    }
    return out;
}

/* What lies between the rows is not the op's to touch, nor is a gradient that is not wanted. */
static void check_untouched(mz_stream *s, const mz_tensor *d, uint64_t seed, float held,
                            bool is_wanted) {
    const mz_tensor before = strided(s, d->shape[0], d->shape[1], seed, held);
    for (int64_t t = 0; t < d->shape[0]; t++) {
        const int64_t skip = is_wanted ? d->shape[1] : 0;
        assert_memory_equal(mz_tensor_f32(d, t) + skip, mz_tensor_f32(&before, t) + skip,
                            (size_t)(d->ld - skip) * sizeof(float));
    }
}

static int64_t n_results(const row_case *c) {
    const int64_t n_a = is_gather(c->op) ? c->n_rows / 2 + 1 : c->n_rows;
    const int64_t n_b = is_norm(c->op) ? 2 : c->n_rows;
    return (n_a + (row_ops[c->op].n_gradients > 1 ? n_b : 0)) * c->width;
}

static void run_case(mz_stream *s, const void *arg, float *out) {
    const row_case *c = arg;
    const row_call k = make_call(s, c);
    mz_assert_ok(s->ctx, call_op(s, c, &k));
    out = copy_rows(out, &k.d_a);
    if (row_ops[c->op].n_gradients > 1) {
        (void)copy_rows(out, &k.d_b);
    }
    const bool has_a = (c->wanted & WANT_A) != 0;
    const bool has_b = (c->wanted & WANT_B) != 0;
    check_untouched(s, &k.d_a, 5, has_a ? c->held : 0, has_a);
    check_untouched(s, &k.d_b, 6, has_b ? c->held : 0, has_b && row_ops[c->op].n_gradients > 1);
}

static void check_case(mz_op_streams *streams, const row_case *c) {
    char what[96];
    (void)snprintf(what, sizeof what, "%s backward [%d, %d] head half %d wanted %d held %g",
                   row_ops[c->op].name, (int)c->n_rows, (int)c->width, (int)c->half_dim, c->wanted,
                   (double)c->held);
    mz_check_op(streams, what, run_case, c, n_results(c), row_ops[c->op].bound);
}

/* ---- The reference against finite differences ---- */

/* Row x of width n; b holds weights, then biases. */
static void forward_norm(const row_case *c, const row_call *k, const double *x, const double *b,
                         double *y) {
    const mz_norm norm = norm_over(c, &k->b);
    const int64_t n = norm.group > 0 ? norm.group : c->width;
    for (int64_t begin = 0; begin < c->width; begin += n) {
        double mean = 0;
        double squares = 0;
        for (int64_t i = 0; i < n && norm.kind == MZ_NORM_LAYER; i++) {
            mean += x[begin + i] / (double)n;
        }
        for (int64_t i = 0; i < n; i++) {
            squares += (x[begin + i] - mean) * (x[begin + i] - mean) / (double)n;
        }
        for (int64_t i = begin; i < begin + n; i++) {
            const double w = b[i % norm.weight.shape[0]] + (double)norm.offset;
            const double bias = norm.bias.n_dims > 0 ? b[c->width + i] : 0;
            y[i] = w * (x[i] - mean) / sqrt(squares + (double)eps) + bias;
        }
    }
}

static void forward_rope(const row_case *c, const row_call *k, int64_t t, const double *x,
                         double *y) {
    const mz_rope_table *table = &k->table;
    const int64_t head_dim = mz_rope_head_dim(table);
    const int64_t step = table->interleaved ? 2 : 1;
    memcpy(y, x, (size_t)c->width * sizeof *y);
    for (int64_t head = table->first; head < c->width; head += head_dim) {
        for (int64_t i = 0; i < table->half_dim; i++) {
            const double cosine = table->cos[k->index[t] * table->half_dim + i];
            const double sine = table->sin[k->index[t] * table->half_dim + i];
            const int64_t p = head + i * step;
            const int64_t q = p + (table->interleaved ? 1 : table->half_dim);
            y[p] = x[p] * cosine - x[q] * sine;
            y[q] = x[q] * cosine + x[p] * sine;
        }
    }
}

static double forward_activation(row_op op, double x) {
    const double root = sqrt(2 / 3.14159265358979323846);
    switch (op) {
    case GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case GELU_TANH:
        return 0.5 * x * (1 + tanh(root * (x + 0.044715 * x * x * x)));
    case GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case RELU:
        return x > 0 ? x : 0;
    case TANH:
        return tanh(x);
    default:
        return x / (1 + exp(-x));
    }
}

static void forward_row(const row_case *c, const row_call *k, int64_t t, const double *a,
                        const double *b, double *y) {
    const int64_t n = c->width;
    double sum = 0;
    if (is_norm(c->op)) {
        forward_norm(c, k, a + t * n, b, y);
        return;
    }
    if (is_rope(c->op)) {
        forward_rope(c, k, t, a + t * n, y);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        sum += exp(a[t * n + i]);
    }
    for (int64_t i = 0; i < n; i++) {
        const double x = a[t * n + i];
        switch (c->op) {
        case SOFTMAX:
            y[i] = exp(x) / sum;
            break;
        case ACCUMULATE:
            y[i] = (double)sum_scale * x;
            break;
        case COPY:
            y[i] = x;
            break;
        case GATHER:
        case GATHER_SCALED:
            y[i] = (c->op == GATHER ? 1 : (double)gather_scale) * a[k->index[t] * n + i];
            break;
        default:
            y[i] = forward_activation(c->op, x) * (c->op == GELU ? 1 : b[t * n + i]);
        }
    }
}

/* The loss whose gradient in y is d_y. */
static double loss(const row_case *c, const row_call *k, const double *a, const double *b) {
    double y[64];
    double sum = 0;
    for (int64_t t = 0; t < c->n_rows; t++) {
        forward_row(c, k, t, a, b, y);
        for (int64_t i = 0; i < c->width; i++) {
            sum += (double)mz_tensor_f32(&k->d_y, t)[i] * y[i];
        }
    }
    return sum;
}

static double difference(const row_case *c, const row_call *k, const double *a, const double *b,
                         double *value) {
    const double middle = *value;
    const double h = 1e-5;
    *value = middle + h;
    const double above = loss(c, k, a, b);
    *value = middle - h;
    const double below = loss(c, k, a, b);
    *value = middle;
    return (above - below) / (2 * h);
}

static void check_differences(mz_op_streams *streams, const row_case *c) {
    enum { MOST = 512 };
    mz_stream *s = &streams->reference;
    const size_t mark = mz_arena_mark(&s->arena);
    row_call k = make_call(s, c);
    if (c->op == SOFTMAX) {
        mz_assert_ok(s->ctx, mz_op_softmax(s, &k.y, &k.a));
    }
    const mz_tensor *values[2] = {&k.a, &k.b};
    const mz_tensor *gradients[2] = {&k.d_a, &k.d_b};
    double in[2][MOST];
    float expected[2][MOST];
    float actual[MOST];
    for (int v = 0; v < 2; v++) {
        assert_true(mz_tensor_n_elements(values[v]) <= MOST);
        (void)copy_rows(actual, values[v]);
        for (int64_t i = 0; i < mz_tensor_n_elements(values[v]); i++) {
            in[v][i] = (double)actual[i];
        }
        (void)copy_rows(expected[v], gradients[v]);
    }
    for (int v = 0; v < row_ops[c->op].n_gradients; v++) {
        for (int64_t i = 0; i < mz_tensor_n_elements(values[v]); i++) {
            expected[v][i] =
                (float)((double)expected[v][i] + difference(c, &k, in[0], in[1], &in[v][i]));
        }
    }
    mz_assert_ok(s->ctx, call_op(s, c, &k));
    for (int v = 0; v < row_ops[c->op].n_gradients; v++) {
        (void)copy_rows(actual, gradients[v]);
        mz_assert_close(row_ops[c->op].name, actual, expected[v], mz_tensor_n_elements(values[v]),
                        3e-7);
    }
    mz_arena_release(&s->arena, mark);
}

static void test_reference_is_the_derivative(void **state) {
    for (row_op op = 0; op < N_ROW_OPS; op++) {
        for (int held = 0; held < 2; held++) {
            const row_case c = {.op = op,
                                .n_rows = 7,
                                .width = 12,
                                .half_dim = op == ROPE         ? 3
                                            : op == ROPE_PART  ? 2
                                            : op == ROPE_PAIRS ? 1
                                                               : 0,
                                .wanted = WANT_A | WANT_B,
                                .held = (float)held,
                                .scale = 2};
            check_differences(*state, &c);
        }
    }
}

/* ---- The CPU backend against the reference ---- */

static void check_wants(mz_op_streams *streams, row_case c) {
    const int all = row_ops[c.op].n_gradients > 1 ? WANT_A | WANT_B : WANT_A;
    for (c.wanted = 0; c.wanted <= all; c.wanted++) {
        for (int held = 0; held < 2; held++) {
            c.held = 2 * (float)held;
            if (is_norm(c.op) && c.width < 3) {
                /* d_x is eps / x^2 of its terms, d_weight one sum of any size: what they are added
                 * to gives the bound its scale */
                c.held = 20;
            }
            check_case(streams, &c);
        }
    }
}

static void test_shapes(void **state) {
    static const int64_t n_rows[] = {0, 1, 31, 33, 65};
    static const int64_t widths[] = {1, 2, 7, 31, 33, 384};
    for (row_op op = 0; op < N_ROW_OPS; op++) {
        for (size_t i = 0; i < sizeof n_rows / sizeof n_rows[0] && !is_rope(op); i++) {
            for (size_t j = 0; j < sizeof widths / sizeof widths[0]; j++) {
                check_wants(
                    *state,
                    (row_case){.op = op, .n_rows = n_rows[i], .width = widths[j], .scale = 4});
            }
        }
    }
}

/* Of real models, and enough work for every thread. */
static void test_real_shapes(void **state) {
    for (row_op op = 0; op < N_ROW_OPS; op++) {
        row_case c = {.op = op,
                      .n_rows = 600,
                      .width = 128,
                      .half_dim = op == ROPE         ? 32
                                  : op == ROPE_PART  ? 15
                                  : op == ROPE_PAIRS ? 1
                                                     : 0,
                      .wanted = WANT_A | WANT_B,
                      .held = 1,
                      .scale = 3};
        c.width = op == ROPE_PAIRS ? 129 : 128;
        check_case(*state, &c);
        c.n_rows = 70;
        c.width = 1536;
        check_case(*state, &c);
    }
}

static void test_long_rows(void **state) {
    static const row_op ops[] = {RMS_NORM, LAYER_NORM, GROUP_NORM, SOFTMAX};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        check_case(
            *state,
            &(row_case){
                .op = ops[i], .n_rows = 3, .width = 5001, .wanted = WANT_A | WANT_B, .scale = 4});
    }
}

static void test_rope_shapes(void **state) {
    static const int64_t half_dims[] = {1, 3, 16, 31, 32, 33};
    for (size_t i = 0; i < sizeof half_dims / sizeof half_dims[0]; i++) {
        for (int64_t n_heads = 1; n_heads <= 12; n_heads += 11) {
            for (row_op op = ROPE; op <= ROPE_PAIRS; op++) {
                const int64_t rest = op == ROPE ? 0 : op == ROPE_PART ? 2 : 1;
                check_wants(*state, (row_case){.op = op,
                                               .n_rows = 33,
                                               .width = (2 * half_dims[i] + rest) * n_heads,
                                               .half_dim = half_dims[i],
                                               .scale = 2});
            }
        }
    }
}

/* All rows of y from one row of x: the order of the sum is what makes the bits. */
static void run_one_row(mz_stream *s, const void *arg, float *out) {
    const row_case *c = arg;
    row_call k = make_call(s, c);
    for (int64_t i = 0; i < c->n_rows; i++) {
        k.index[i] = 1;
    }
    mz_assert_ok(s->ctx, call_op(s, c, &k));
    (void)copy_rows(out, &k.d_a);
}

static void test_gather_of_one_row(void **state) {
    const row_case c = {
        .op = GATHER, .n_rows = 3000, .width = 33, .wanted = WANT_A, .held = 1, .scale = 1};
    mz_check_op(*state, "gather backward of one row", run_one_row, &c, n_results(&c), 0);
}

/* Squares that f32 cannot hold, and rows of nothing but zeros. */
static void test_norm_extremes(void **state) {
    static const float scales[] = {1e30f, 1e25f, 1e-3f, 1e-18f, 1e-25f, 1e-40f, 0};
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        for (int wanted = WANT_A; wanted <= (WANT_A | WANT_B); wanted++) {
            for (row_op op = RMS_NORM; op <= LAYER_NORM; op++) {
                check_case(
                    *state,
                    &(row_case){
                        .op = op, .n_rows = 3, .width = 50, .wanted = wanted, .scale = scales[i]});
            }
        }
    }
}

static void test_silu_extremes(void **state) {
    mz_op_streams *streams = *state;
    float gate[] = {0,       -0.0f, 1e-40f, -1e-40f, 87,  -87,      88,    -88,   88.5f,
                    -88.5f,  89,    -89,    90,      -90, 1e4f,     -1e4f, 1e38f, -1e38f,
                    FLT_MAX, 1,     -1,     20,      -20, -FLT_MAX, 12,    -12,   16};
    enum { N = sizeof gate / sizeof gate[0] };
    float ones[N];
    for (int i = 0; i < N; i++) {
        ones[i] = 1;
    }
    for (int i = 0; i < streams->n_cpu; i += MZ_TEST_THREADS) {
        float d_gate[N] = {0};
        float d_up[N] = {0};
        const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, 1, N, gate);
        const mz_tensor one = mz_tensor_2d(MZ_DTYPE_F32, 1, N, ones);
        const mz_gated_gradient d = {mz_tensor_2d(MZ_DTYPE_F32, 1, N, d_gate),
                                     mz_tensor_2d(MZ_DTYPE_F32, 1, N, d_up)};
        mz_assert_ok(streams->cpu[i].ctx,
                     mz_cpu_gated_activation_backward(&streams->cpu[i], &d, &one, &x, &one,
                                                      MZ_ACTIVATION_SILU));
        for (int j = 0; j < N; j++) {
            const double v = gate[j];
            const double sigmoid = 1.0 / (1.0 + exp(-v));
            const double rest = 1.0 / (1.0 + exp(v));
            const double slope = sigmoid * (1.0 + v * rest);
            assert_true(fabs((double)d_gate[j] - slope) <= 1e-6 * fabs(slope) + 1e-35);
            assert_true(fabs((double)d_up[j] - v * sigmoid) <= 1e-6 * fabs(v * sigmoid) + 1e-35);
        }
    }
}

/* Scratch is what the backend says, and too little of it is an error that adds nothing. */
static void test_norm_scratch(void **state) {
    (void)state;
    enum { ROWS = 70, WIDTH = 48 };
    const mz_op_size size = {.n_rows = ROWS, .d_in = WIDTH, .d_out = WIDTH};
    static float values[4][ROWS * WIDTH];
    for (int i = 0; i < 3; i++) {
        mz_fill_uniform(values[i], ROWS * WIDTH, (uint64_t)i, 1.0f);
    }
    const mz_tensor d_x = mz_tensor_2d(MZ_DTYPE_F32, ROWS, WIDTH, values[3]);
    const mz_tensor d_y = mz_tensor_2d(MZ_DTYPE_F32, ROWS, WIDTH, values[0]);
    const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, ROWS, WIDTH, values[1]);
    const mz_tensor w = mz_tensor_1d(MZ_DTYPE_F32, WIDTH, values[2]);
    float sum[WIDTH] = {0};
    const mz_tensor d_w = mz_tensor_1d(MZ_DTYPE_F32, WIDTH, sum);
    for (int lacking = 0; lacking < 2; lacking++) {
        mz_context ctx;
        mz_stream s;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.n_threads = 2}));
        mz_stream_open_measure(&ctx, mz_backend_cpu(), &s);
        const size_t bytes = s.backend->scratch_bytes(&s, MZ_OP_NORM_BACKWARD, &size);
        mz_stream_close(&s);
        mz_assert_ok(&ctx, mz_stream_open(&ctx, mz_backend_cpu(), bytes - (size_t)lacking, &s));
        const mz_norm_gradient d = {.x = d_x, .weight = d_w};
        const mz_norm norm = {.eps = eps, .weight = w};
        const mz_status status = mz_cpu_norm_backward(&s, &d, &d_y, &x, &norm);
        assert_int_equal(status, lacking ? MZ_ERR_LIMIT : MZ_OK);
        assert_true((sum[0] != 0) == !lacking && (values[3][0] != 0) == !lacking);
        assert_int_equal(s.arena.used, 0);
        memset(sum, 0, sizeof sum);
        memset(values[3], 0, sizeof values[3]);
        mz_stream_close(&s);
        mz_context_close(&ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_is_the_derivative),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_real_shapes),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_rope_shapes),
        cmocka_unit_test(test_gather_of_one_row),
        cmocka_unit_test(test_norm_extremes),
        cmocka_unit_test(test_silu_extremes),
        cmocka_unit_test(test_norm_scratch),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
