/* Self attention over whole sequences and its backward: the reference against attention over a
 * cache and against finite differences, the CPU backend against the reference. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEQUENCES = 8, MAX_ROWS = 1100, PAD = 3 };

typedef struct attention_case {
    int64_t n_heads, n_kv_heads, head_dim;
    int n_sequences;
    int lengths[MAX_SEQUENCES];
    float magnitude;       /* of q, k and v */
    bool no_q, no_k, no_v; /* gradients that are not wanted */
    int64_t head_dim_v;    /* 0: head_dim */
    int64_t window;
    bool bidirectional;
} attention_case;

/* q, k and v are columns of one tensor, as a fused projection gives them; so are their gradients.
 */
typedef struct attention_data {
    mz_qkv in, d;
    mz_tensor fused, d_fused, y, d_y, log_sums;
    mz_rows rows;
    int32_t sequence[MAX_ROWS], position[MAX_ROWS];
    mz_attention_rule rule;
} attention_data;

static int64_t q_width(const attention_case *c) {
    return c->n_heads * c->head_dim;
}

static int64_t d_v_of(const attention_case *c) {
    return c->head_dim_v != 0 ? c->head_dim_v : c->head_dim;
}

static int64_t y_width(const attention_case *c) {
    return c->n_heads * d_v_of(c);
}

static int64_t fused_width(const attention_case *c) {
    return q_width(c) + c->n_kv_heads * (c->head_dim + d_v_of(c));
}

static int64_t n_rows(const attention_case *c) {
    int64_t n = 0;
    for (int i = 0; i < c->n_sequences; i++) {
        n += c->lengths[i];
    }
    return n;
}

/* A tensor [rows, cols] of uniform values with PAD columns to its right. */
static mz_tensor take_filled(mz_stream *s, int64_t rows, int64_t cols, uint64_t seed,
                             float magnitude) {
    mz_tensor t;
    mz_assert_ok(s->ctx, mz_stream_take(s, rows, cols + PAD, "test", &t));
    mz_fill_uniform(t.data, rows * (cols + PAD), seed, magnitude);
    return mz_tensor_cols(&t, 0, cols);
}

static mz_qkv split(const attention_case *c, const mz_tensor *fused) {
    const int64_t k_width = c->n_kv_heads * c->head_dim;
    return (mz_qkv){
        .q = mz_tensor_cols(fused, 0, q_width(c)),
        .k = mz_tensor_cols(fused, q_width(c), k_width),
        .v = mz_tensor_cols(fused, q_width(c) + k_width, c->n_kv_heads * d_v_of(c)),
        .head_dim = c->head_dim,
        .head_dim_v = c->head_dim_v,
    };
}

/* Gradients hold values already. */
static void make_data(mz_stream *s, const attention_case *c, attention_data *a) {
    const int64_t n = n_rows(c);
    assert_true(n <= MAX_ROWS);
    *a = (attention_data){
        .rows = {.n_rows = n, .sequence = a->sequence, .position = a->position},
        .rule = {.scale = 1.0f / sqrtf((float)c->head_dim),
                 .window = c->window,
                 .bidirectional = c->bidirectional},
    };
    int64_t row = 0;
    for (int i = 0; i < c->n_sequences; i++) {
        for (int p = 0; p < c->lengths[i]; p++) {
            a->sequence[row] = 7 - i;
            a->position[row++] = p;
        }
    }
    a->fused = take_filled(s, n, fused_width(c), 1, c->magnitude);
    a->d_fused = take_filled(s, n, fused_width(c), 2, 0.5f);
    a->y = take_filled(s, n, y_width(c), 3, 1);
    a->d_y = take_filled(s, n, y_width(c), 4, 1);
    a->log_sums = take_filled(s, n, c->n_heads, 5, 1);
    a->in = split(c, &a->fused);
    a->d = split(c, &a->d_fused);
    a->d.q.n_dims = c->no_q ? 0 : 2;
    a->d.k.n_dims = c->no_k ? 0 : 2;
    a->d.v.n_dims = c->no_v ? 0 : 2;
}

/* Copies the columns and checks that those to the right are as they were. */
static float *copy_out(const mz_tensor *t, uint64_t seed, float magnitude, float *out) {
    const int64_t n = t->shape[0];
    float *before = malloc((size_t)(n * t->ld) * sizeof *before + 1);
    assert_non_null(before);
    mz_fill_uniform(before, n * t->ld, seed, magnitude);
    for (int64_t i = 0; i < n; i++) {
        memcpy(out, mz_tensor_f32(t, i), (size_t)t->shape[1] * sizeof *out);
        assert_memory_equal(mz_tensor_f32(t, i) + t->shape[1], before + i * t->ld + t->shape[1],
                            PAD * sizeof(float));
        out += t->shape[1];
    }
    free(before);
    return out;
}

static void forward(mz_stream *s, attention_data *a) {
    mz_assert_ok(s->ctx, mz_op_self_attention(s, &a->y, &a->log_sums, &a->in, &a->rows, &a->rule));
}

static void backward(mz_stream *s, attention_data *a) {
    const size_t used = s->arena.used;
    mz_assert_ok(s->ctx, s->backend->training->self_attention_backward(
                             s, &a->d, &a->d_y, &a->y, &a->log_sums, &a->in, &a->rows, &a->rule));
    assert_int_equal(s->arena.used, used);
}

static void run_forward(mz_stream *s, const void *arg, float *out) {
    static attention_data a;
    make_data(s, arg, &a);
    const size_t used = s->arena.used;
    forward(s, &a);
    assert_int_equal(s->arena.used, used);
    out = copy_out(&a.y, 3, 1, out);
    (void)copy_out(&a.log_sums, 5, 1, out);
}

static void run_backward(mz_stream *s, const void *arg, float *out) {
    static attention_data a;
    make_data(s, arg, &a);
    forward(s, &a);
    backward(s, &a);
    (void)copy_out(&a.d_fused, 2, 0.5f, out);
}

static void check_case(mz_op_streams *streams, const char *what, const attention_case *c) {
    char name[96];
    const int64_t n = n_rows(c);
    (void)snprintf(name, sizeof name, "self attention, %s", what);
    mz_check_op(streams, name, run_forward, c, n * (y_width(c) + c->n_heads), 1e-5);
    (void)snprintf(name, sizeof name, "self attention backward, %s", what);
    mz_check_op(streams, name, run_backward, c, n * fused_width(c), 1e-5);
}

static void test_lengths(void **state) {
    static const int lengths[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 129, 130};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char what[32];
        (void)snprintf(what, sizeof what, "%d rows", lengths[i]);
        check_case(*state, what,
                   &(attention_case){.n_heads = 2,
                                     .n_kv_heads = 2,
                                     .head_dim = 8,
                                     .n_sequences = 1,
                                     .lengths = {lengths[i]},
                                     .magnitude = 2});
    }
}

static void test_shapes(void **state) {
    static const int64_t shapes[][3] = {
        {1, 1, 1},  {2, 2, 6},  {2, 1, 31},  {3, 3, 33},  {4, 2, 24},  {4, 4, 32}, {6, 2, 48},
        {2, 1, 64}, {1, 1, 80}, {2, 2, 128}, {1, 1, 254}, {1, 1, 256}, {9, 3, 10}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char what[64];
        (void)snprintf(what, sizeof what, "%d/%d heads of %d", (int)shapes[i][0], (int)shapes[i][1],
                       (int)shapes[i][2]);
        check_case(*state, what,
                   &(attention_case){.n_heads = shapes[i][0],
                                     .n_kv_heads = shapes[i][1],
                                     .head_dim = shapes[i][2],
                                     .n_sequences = 3,
                                     .lengths = {40, 1, 73},
                                     .magnitude = 2});
    }
}

static attention_case ragged(void) {
    return (attention_case){.n_heads = 4,
                            .n_kv_heads = 2,
                            .head_dim = 20,
                            .n_sequences = 7,
                            .lengths = {2, 130, 1, 1, 65, 33, 2},
                            .magnitude = 2};
}

static void test_ragged(void **state) {
    const attention_case c = ragged();
    check_case(*state, "ragged", &c);
}

static void test_long_sequence(void **state) {
    check_case(*state, "a long sequence",
               &(attention_case){.n_heads = 1,
                                 .n_kv_heads = 1,
                                 .head_dim = 16,
                                 .n_sequences = 2,
                                 .lengths = {450, 3},
                                 .magnitude = 3});
}

/* Values narrower and wider than keys. */
static void test_value_widths(void **state) {
    static const int64_t widths[][2] = {{48, 32}, {20, 33},  {3, 64},
                                        {64, 1},  {256, 14}, {192, 128}};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        char what[64];
        (void)snprintf(what, sizeof what, "keys of %d, values of %d", (int)widths[i][0],
                       (int)widths[i][1]);
        check_case(*state, what,
                   &(attention_case){.n_heads = 4,
                                     .n_kv_heads = 2,
                                     .head_dim = widths[i][0],
                                     .head_dim_v = widths[i][1],
                                     .n_sequences = 3,
                                     .lengths = {40, 1, 73},
                                     .bidirectional = i % 2 == 1,
                                     .magnitude = 2});
    }
}

/* Windows that end within, at and beyond tiles and strips, in one direction and in both. */
static void test_rules(void **state) {
    static const int64_t windows[] = {0, 1, 2, 8, 16, 31, 63, 64, 65, 100, 129, 130, INT64_MAX};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0] * 2; i++) {
        attention_case c = ragged();
        c.n_heads = 2;
        c.n_kv_heads = 1;
        c.window = windows[i / 2];
        c.bidirectional = i % 2 == 1;
        char what[64];
        (void)snprintf(what, sizeof what, "window %lld%s", (long long)c.window,
                       c.bidirectional ? " both ways" : "");
        check_case(*state, what, &c);
        c.lengths[1] = 64;
        c.lengths[4] = 200;
        c.lengths[5] = 0;
        c.no_k = i % 3 == 1;
        check_case(*state, what, &c);
    }
}

/* Absent gradients leave the others as they are: what is wanted is compared, what is not must stay
 * untouched. */
static void test_absent_gradients(void **state) {
    attention_case c = ragged();
    for (int mask = 1; mask < 8; mask++) {
        c.no_q = (mask & 1) != 0;
        c.no_k = (mask & 2) != 0;
        c.no_v = (mask & 4) != 0;
        char what[64];
        (void)snprintf(what, sizeof what, "absent gradients %d", mask);
        check_case(*state, what, &c);
    }
}

/* Nearly one-hot and perfectly flat weights. */
static void test_magnitudes(void **state) {
    attention_case c = ragged();
    c.magnitude = 30;
    mz_check_op(*state, "one-hot weights", run_forward, &c, n_rows(&c) * (q_width(&c) + c.n_heads),
                1e-5);
    c.magnitude = 1e-12f;
    check_case(*state, "flat weights", &c);
}

/* The same numbers as attention over a cache that holds the same keys and values. */
static void test_agrees_with_cache(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->reference;
    attention_case c = ragged();
    c.head_dim_v = 14;
    c.window = 100;
    static attention_data a;
    const size_t mark = mz_arena_mark(&s->arena);
    make_data(s, &c, &a);
    enum { PAGES = 3 };
    int32_t page_table[MAX_SEQUENCES * PAGES];
    for (int i = 0; i < MAX_SEQUENCES * PAGES; i++) {
        page_table[i] = i;
    }
    mz_kv_layer cache = {.n_kv_heads = c.n_kv_heads,
                         .head_dim = c.head_dim,
                         .head_dim_v = c.head_dim_v,
                         .page_table = page_table,
                         .table_stride = PAGES};
    mz_kv_layout layout = {0};
    mz_assert_ok(s->ctx, mz_kv_layout_of(&s->ctx->error, &cache, &layout));
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, MAX_SEQUENCES * PAGES * layout.page_bytes, "pages",
                                              &cache.data));
    mz_tensor expected;
    mz_assert_ok(s->ctx, mz_stream_take(s, a.rows.n_rows, y_width(&c), "expected", &expected));
    mz_assert_ok(s->ctx, mz_op_kv_write(s, &cache, &a.in.k, &a.in.v, &a.rows));
    mz_assert_ok(s->ctx, mz_op_attention(s, &expected, &a.in.q, &cache, &a.rows, &a.rule));
    forward(s, &a);
    for (int64_t t = 0; t < a.rows.n_rows; t++) {
        mz_assert_close("self attention and attention", mz_tensor_f32(&a.y, t),
                        mz_tensor_f32(&expected, t), y_width(&c), 1e-7);
    }
    mz_arena_release(&s->arena, mark);
}

/* Everything in f64, plain: rows of q, k and v side by side, as in the fused tensor. */
typedef struct exact_case {
    const attention_case *shape;
    const attention_data *data;
    double *x;        /* [n_rows, fused_width] */
    double *log_sums; /* [n_rows, n_heads], filled by exact_loss */
} exact_case;

static double exact_score(const exact_case *e, int64_t t, int64_t j, int64_t h) {
    const attention_case *c = e->shape;
    const double *q = e->x + t * fused_width(c) + h * c->head_dim;
    const double *k =
        e->x + j * fused_width(c) + q_width(c) + h / (c->n_heads / c->n_kv_heads) * c->head_dim;
    double sum = 0;
    for (int64_t i = 0; i < c->head_dim; i++) {
        sum += q[i] * k[i];
    }
    return sum * (double)e->data->rule.scale;
}

static bool exact_sees(const attention_case *c, int64_t t, int64_t j) {
    const int64_t ahead = j - t;
    if (ahead > 0 && !c->bidirectional) {
        return false;
    }
    return c->window == 0 || (ahead < c->window && -ahead < c->window);
}

/* <d_y, y> of one row and head, whose sequence is rows [begin, end). */
static double exact_row(const exact_case *e, int64_t t, int64_t h, int64_t begin, int64_t end) {
    const attention_case *c = e->shape;
    const int64_t d_v = d_v_of(c);
    const float *d_y = mz_tensor_f32(&e->data->d_y, t) + h * d_v;
    double total = 0;
    double weighted = 0;
    for (int64_t j = begin; j < end; j++) {
        if (!exact_sees(c, t, j)) {
            continue;
        }
        const double *v = e->x + j * fused_width(c) + q_width(c) + c->n_kv_heads * c->head_dim +
                          h / (c->n_heads / c->n_kv_heads) * d_v;
        const double p = exp(exact_score(e, t, j, h));
        total += p;
        for (int64_t i = 0; i < d_v; i++) {
            weighted += p * (double)d_y[i] * v[i];
        }
    }
    e->log_sums[t * c->n_heads + h] = log(total);
    return weighted / total;
}

/* Sum over rows and heads of <d_y, y>. */
static double exact_loss(const exact_case *e) {
    const attention_data *a = e->data;
    double loss = 0;
    for (int64_t begin = 0, end = 0; begin < a->rows.n_rows; begin = end) {
        while (end < a->rows.n_rows && a->sequence[end] == a->sequence[begin]) {
            end++;
        }
        for (int64_t t = begin; t < end; t++) {
            for (int64_t h = 0; h < e->shape->n_heads; h++) {
                loss += exact_row(e, t, h, begin, end);
            }
        }
    }
    return loss;
}

static void check_differences(mz_stream *s, attention_case c) {
    const size_t mark = mz_arena_mark(&s->arena);
    static attention_data a;
    make_data(s, &c, &a);
    forward(s, &a);
    const int64_t n = n_rows(&c);
    double *x = malloc((size_t)(n * (fused_width(&c) + c.n_heads)) * sizeof *x);
    assert_non_null(x);
    const exact_case e = {&c, &a, x, x + n * fused_width(&c)};
    for (int64_t t = 0; t < n; t++) {
        memset(mz_tensor_f32(&a.d_fused, t), 0, (size_t)fused_width(&c) * sizeof(float));
        for (int64_t i = 0; i < fused_width(&c); i++) {
            x[t * fused_width(&c) + i] = (double)mz_tensor_f32(&a.fused, t)[i];
        }
    }
    backward(s, &a);
    (void)exact_loss(&e);
    double error = 0;
    double norm = 0;
    for (int64_t t = 0; t < n; t++) {
        for (int64_t h = 0; h < c.n_heads; h++) {
            const double expected = e.log_sums[t * c.n_heads + h];
            const double actual = (double)mz_tensor_f32(&a.log_sums, t)[h];
            assert_true(fabs(actual - expected) <= 1e-7 * (1 + fabs(expected)));
        }
    }
    for (int64_t i = 0; i < n * fused_width(&c); i++) {
        const double step = 1e-5;
        const double at = x[i];
        x[i] = at + step;
        const double above = exact_loss(&e);
        x[i] = at - step;
        const double below = exact_loss(&e);
        x[i] = at;
        const double expected = (above - below) / (2 * step);
        const double actual =
            (double)mz_tensor_f32(&a.d_fused, i / fused_width(&c))[i % fused_width(&c)];
        error += (actual - expected) * (actual - expected);
        norm += expected * expected;
    }
    print_message("self attention backward and differences: relative %.2g\n", sqrt(error / norm));
    assert_true(norm > 0 && sqrt(error / norm) <= 5e-7);
    free(x);
    mz_arena_release(&s->arena, mark);
}

static void test_finite_differences(void **state) {
    mz_op_streams *streams = *state;
    const attention_case causal = {.n_heads = 4,
                                   .n_kv_heads = 2,
                                   .head_dim = 6,
                                   .n_sequences = 4,
                                   .lengths = {5, 1, 9, 2},
                                   .magnitude = 1.5f};
    attention_case c = causal;
    check_differences(&streams->reference, c);
    c.window = 3;
    c.head_dim_v = 5;
    check_differences(&streams->reference, c);
    c.bidirectional = true;
    check_differences(&streams->reference, c);
    c.window = 0;
    c.head_dim_v = 7;
    check_differences(&streams->reference, c);
}

/* NaN in one sequence reaches neither results nor gradients of the others, nor changes their bits.
 */
static void test_sequences_are_apart(void **state) {
    mz_op_streams *streams = *state;
    const attention_case c = ragged();
    static attention_data a;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        make_data(s, &c, &a);
        forward(s, &a);
        backward(s, &a);
        const mz_tensor clean[] = {a.y, a.log_sums, a.d_fused};
        make_data(s, &c, &a);
        const int64_t begin = c.lengths[0];
        const int64_t end = begin + c.lengths[1];
        for (int64_t t = begin; t < end; t++) {
            memset(mz_tensor_f32(&a.fused, t), 0xff, (size_t)fused_width(&c) * sizeof(float));
        }
        forward(s, &a);
        backward(s, &a);
        assert_true(isnan(mz_tensor_f32(&a.y, begin)[0]));
        const mz_tensor poisoned[] = {a.y, a.log_sums, a.d_fused};
        for (int64_t t = 0; t < n_rows(&c); t++) {
            for (int k = 0; k < 3 && (t < begin || t >= end); k++) {
                assert_memory_equal(mz_tensor_f32(&poisoned[k], t), mz_tensor_f32(&clean[k], t),
                                    (size_t)clean[k].shape[1] * sizeof(float));
            }
        }
        mz_arena_release(&s->arena, mark);
    }
}

static void expect_error(mz_stream *s, const attention_data *a, mz_status status,
                         const char *message) {
    assert_int_equal(mz_op_self_attention(s, &a->y, &a->log_sums, &a->in, &a->rows, &a->rule),
                     status);
    if (strstr(s->ctx->error.message, message) == NULL) {
        fail_msg("\"%s\" does not contain \"%s\"", s->ctx->error.message, message);
    }
}

static void test_errors(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    const attention_case c = ragged();
    static attention_data good;
    const size_t mark = mz_arena_mark(&s->arena);
    make_data(s, &c, &good);
    attention_data a = good;
    a.y.shape[0]--;
    expect_error(s, &a, MZ_ERR_SHAPE, "self_attention: y is [233, 80], expected [234, 80]");
    a = good;
    a.in.v.shape[1]--;
    expect_error(s, &a, MZ_ERR_SHAPE, "self_attention: v is");
    a = good;
    a.log_sums.shape[1]++;
    expect_error(s, &a, MZ_ERR_SHAPE, "self_attention: log_sums is [234, 5], expected [234, 4]");
    a = good;
    a.in.head_dim = 0;
    expect_error(s, &a, MZ_ERR_SHAPE, "widths 80 and 40 do not divide into heads of 0");
    a.in.head_dim = 16;
    expect_error(s, &a, MZ_ERR_SHAPE, "widths 80 and 40 do not divide into heads of 16");
    a = good;
    a.in.head_dim_v = 10;
    expect_error(s, &a, MZ_ERR_SHAPE, "self_attention: v is [234, 40], expected [234, 20]");
    a.in.head_dim_v = -1;
    expect_error(s, &a, MZ_ERR_SHAPE, "do not divide into heads of 20");
    a = good;
    a.rule.window = -2;
    expect_error(s, &a, MZ_ERR_ARG, "self_attention: a window of -2, expected 0 or more");
    a = good;
    a.in.k.dtype = MZ_DTYPE_F16;
    expect_error(s, &a, MZ_ERR_DTYPE, "self_attention: k is f16, expected f32");
    mz_backend other = *s->backend;
    other.training = NULL;
    mz_stream without = *s;
    without.backend = &other;
    expect_error(&without, &good, MZ_ERR_UNSUPPORTED, "cpu lacks the op self_attention");
    mz_arena_release(&s->arena, mark);
}

static void test_wide_heads(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    const attention_case c = {.n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = MZ_MAX_HEAD_DIM + 2,
                              .n_sequences = 1,
                              .lengths = {2},
                              .magnitude = 1};
    static attention_data a;
    const size_t mark = mz_arena_mark(&s->arena);
    make_data(s, &c, &a);
    expect_error(s, &a, MZ_ERR_UNSUPPORTED, "heads of width 258, at most 256 are supported");
    mz_arena_release(&s->arena, mark);
}

/* What scratch_bytes says is enough, and less is an error that gives back what was taken. */
static void test_scratch(void **state) {
    mz_op_streams *streams = *state;
    const attention_case c = ragged();
    static attention_data a;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream s = streams->cpu[i];
        make_data(&s, &c, &a);
        const mz_op_size size = {.n_rows = n_rows(&c),
                                 .d_in = q_width(&c),
                                 .n_heads = c.n_heads,
                                 .head_dim = c.head_dim};
        const size_t used = s.arena.used;
        s.arena.bound = used + s.backend->scratch_bytes(&s, MZ_OP_SELF_ATTENTION, &size);
        forward(&s, &a);
        s.arena.bound = used + s.backend->scratch_bytes(&s, MZ_OP_SELF_ATTENTION_BACKWARD, &size);
        backward(&s, &a);
        s.arena.bound = used + 64;
        expect_error(&s, &a, MZ_ERR_LIMIT, "self attention");
        assert_int_equal(s.arena.used, used);
        assert_int_equal(s.backend->training->self_attention_backward(
                             &s, &a.d, &a.d_y, &a.y, &a.log_sums, &a.in, &a.rows, &a.rule),
                         MZ_ERR_LIMIT);
        assert_int_equal(s.arena.used, used);
    }
}

/* In measure mode the op notes its scratch; with a profile it counts what the rows see. */
static void test_measure_and_profile(void **state) {
    mz_op_streams *streams = *state;
    const attention_case c = ragged();
    static attention_data a;
    mz_stream s = streams->cpu[0];
    make_data(&s, &c, &a);
    mz_profile profile = {0};
    s.profile = &profile;
    forward(&s, &a);
    double n_seen = 0;
    for (int i = 0; i < c.n_sequences; i++) {
        n_seen += c.lengths[i] * (c.lengths[i] + 1) / 2.0;
    }
    assert_int_equal(profile.ops[MZ_OP_SELF_ATTENTION].n_calls, 1);
    assert_true(profile.ops[MZ_OP_SELF_ATTENTION].flops == 4 * n_seen * (double)q_width(&c));
    a.rule.window = 1;
    a.rule.bidirectional = true;
    profile = (mz_profile){0};
    forward(&s, &a);
    assert_true(profile.ops[MZ_OP_SELF_ATTENTION].flops ==
                4 * (double)n_rows(&c) * (double)q_width(&c));
    a.rule.window = 0;
    n_seen = 0;
    for (int i = 0; i < c.n_sequences; i++) {
        n_seen += c.lengths[i] * c.lengths[i];
    }
    profile = (mz_profile){0};
    forward(&s, &a);
    assert_true(profile.ops[MZ_OP_SELF_ATTENTION].flops == 4 * n_seen * (double)q_width(&c));
    mz_stream measured;
    mz_stream_open_measure(s.ctx, s.backend, &measured);
    forward(&measured, &a);
    const mz_op_size size = {
        .n_rows = n_rows(&c), .d_in = q_width(&c), .n_heads = c.n_heads, .head_dim = c.head_dim};
    assert_true(measured.arena.peak >= s.backend->scratch_bytes(&s, MZ_OP_SELF_ATTENTION, &size));
    assert_int_equal(measured.arena.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_cache),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_ragged),
        cmocka_unit_test(test_long_sequence),
        cmocka_unit_test(test_value_widths),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_absent_gradients),
        cmocka_unit_test(test_magnitudes),
        cmocka_unit_test(test_sequences_are_apart),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_wide_heads),
        cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_measure_and_profile),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
