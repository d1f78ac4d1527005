/* Backwards of route and combine: the reference against finite differences in f64 (the choice of
 * experts held fixed), the CPU backend against the reference. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PAD = 3 };

typedef enum logit_kind { SMOOTH, COARSE, WITH_NAN, ALL_NAN, MASKED, N_LOGIT_KINDS } logit_kind;

static const char *const logit_kinds[N_LOGIT_KINDS] = {"smooth", "coarse", "with NaN", "all NaN",
                                                       "masked"};

/* The gradients of combine. */
enum { WANT_OUT = 1, WANT_WEIGHTS = 2, WANT_SHARED = 4, WANT_LOGIT = 8, WANT_ALL = 15 };

typedef struct moe_case {
    logit_kind kind;
    int64_t n_tokens;
    int32_t n_experts, top_k;
    int64_t width;   /* of combine */
    bool has_shared; /* of combine */
    int wanted;      /* of combine */
    float held;      /* scale of what gradients hold before */
    float logit;     /* scale of shared_logit */
} moe_case;

/* A call's arguments. Inputs and gradients of combine in the order of mz_combine_gradient; those of
 * route are routing.logits and d_logits, with d_in[1] as d_gate_weights. */
typedef struct moe_call {
    mz_router router;
    mz_routing routing;
    mz_tensor in[4], d_in[4];
    mz_tensor d_y, d_logits;
} moe_call;

static mz_tensor strided(mz_stream *s, int64_t n_rows, int64_t width, uint64_t seed, float scale) {
    mz_tensor t;
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows, width + PAD, "test", &t));
    mz_fill_uniform(t.data, n_rows * (width + PAD), seed, scale);
    return mz_tensor_cols(&t, 0, width);
}

static float logit_of(logit_kind kind, float x, int64_t i) {
    switch (kind) {
    case COARSE: /* many ties */
        return roundf(2 * x) / 2;
    case WITH_NAN:
        return i % 3 == 1 ? NAN : x;
    case ALL_NAN:
        return NAN;
    case MASKED:
        return i % 4 != 0 ? -INFINITY : x;
    default:
        return x;
    }
}

static moe_call make_call(mz_stream *s, const moe_case *c) {
    const int64_t n = c->n_tokens;
    moe_call k = {.router = {.n_experts = c->n_experts, .top_k = c->top_k}};
    mz_assert_ok(s->ctx, mz_routing_take(s, n, &k.router, &k.routing));
    k.routing.logits = strided(s, n, c->n_experts, 21, 3.0f);
    for (int64_t t = 0; t < n; t++) {
        for (int64_t e = 0; e < c->n_experts; e++) {
            float *logit = mz_tensor_f32(&k.routing.logits, t) + e;
            *logit = logit_of(c->kind, *logit, t * c->n_experts + e);
        }
    }
    mz_assert_ok(s->ctx, mz_op_route(s, &k.router, &k.routing));
    mz_assert_ok(s->ctx, mz_op_dispatch(s, &k.routing));
    const int64_t shapes[4][2] = {{n * c->top_k, c->width}, {n, c->top_k}, {n, c->width}, {n, 1}};
    for (int i = 0; i < 4; i++) {
        const bool is_wanted = (c->wanted >> i & 1) != 0;
        const float scale = i == 3 ? c->logit : 1.0f;
        k.in[i] = strided(s, shapes[i][0], shapes[i][1], 31 + (uint64_t)i, scale);
        k.d_in[i] =
            strided(s, shapes[i][0], shapes[i][1], 41 + (uint64_t)i, is_wanted ? c->held : 0.0f);
    }
    k.d_y = strided(s, n, c->width, 51, 1.0f);
    k.d_logits = strided(s, n, c->n_experts, 52, c->held);
    return k;
}

static mz_status call_combine(mz_stream *s, const moe_case *c, const moe_call *k) {
    mz_tensor d[4];
    for (int i = 0; i < 4; i++) {
        d[i] = c->wanted >> i & 1 ? k->d_in[i] : (mz_tensor){0};
    }
    const mz_combine_gradient gradient = {d[0], d[1], d[2], d[3]};
    return s->backend->training->combine_backward(s, &gradient, &k->d_y, &k->in[0], &k->routing,
                                                  c->has_shared ? &k->in[2] : NULL,
                                                  c->has_shared ? &k->in[3] : NULL);
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

static void run_combine(mz_stream *s, const void *arg, float *out) {
    const moe_case *c = arg;
    const moe_call k = make_call(s, c);
    mz_assert_ok(s->ctx, call_combine(s, c, &k));
    for (int i = 0; i < 4; i++) {
        const bool is_wanted = (c->wanted >> i & 1) != 0;
        out = copy_rows(out, &k.d_in[i]);
        check_untouched(s, &k.d_in[i], 41 + (uint64_t)i, is_wanted ? c->held : 0.0f,
                        is_wanted && (c->has_shared || i < 2));
    }
}

static void run_route(mz_stream *s, const void *arg, float *out) {
    const moe_case *c = arg;
    const moe_call k = make_call(s, c);
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor absent = {0};
    mz_assert_ok(s->ctx, ops->route_backward(s, &absent, &k.in[1], &k.router, &k.routing));
    check_untouched(s, &k.d_logits, 52, c->held, false);
    mz_assert_ok(s->ctx, ops->route_backward(s, &k.d_logits, &k.in[1], &k.router, &k.routing));
    (void)copy_rows(out, &k.d_logits);
    check_untouched(s, &k.d_logits, 52, c->held, true);
}

/* ---- The reference against finite differences ---- */

enum { MOST = 256 };

/* Inputs as f64: those of combine, then the logits. */
typedef struct moe_point {
    double in[5][MOST];
} moe_point;

static double combine_loss(const moe_case *c, const moe_call *k, const moe_point *at) {
    double sum = 0;
    for (int64_t t = 0; t < c->n_tokens; t++) {
        for (int64_t i = 0; i < c->width; i++) {
            double y = at->in[2][t * c->width + i] / (1.0 + exp(-at->in[3][t]));
            for (int64_t j = t * c->top_k; j < (t + 1) * c->top_k; j++) {
                y += at->in[1][j] * at->in[0][k->routing.slot_row[j] * c->width + i];
            }
            sum += (double)mz_tensor_f32(&k->d_y, t)[i] * y;
        }
    }
    return sum;
}

static double route_loss(const moe_case *c, const moe_call *k, const moe_point *at) {
    double sum = 0;
    for (int64_t t = 0; t < c->n_tokens; t++) {
        const double *logits = at->in[4] + t * c->n_experts;
        double total = 0;
        for (int32_t e = 0; e < c->n_experts; e++) {
            total += exp(logits[e]);
        }
        for (int32_t r = 0; r < c->top_k; r++) {
            sum += (double)mz_tensor_f32(&k->in[1], t)[r] *
                   exp(logits[k->routing.expert_ids[t * c->top_k + r]]) / total;
        }
    }
    return sum;
}

typedef double (*moe_loss)(const moe_case *c, const moe_call *k, const moe_point *at);

/* Adds the derivative in input `which` to `expected` by central differences. */
static void add_differences(const moe_case *c, const moe_call *k, moe_point *at, int which,
                            moe_loss loss, float *expected, int64_t n) {
    const double h = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        const double middle = at->in[which][i];
        at->in[which][i] = middle + h;
        const double above = loss(c, k, at);
        at->in[which][i] = middle - h;
        const double below = loss(c, k, at);
        at->in[which][i] = middle;
        expected[i] = (float)((double)expected[i] + (above - below) / (2 * h));
    }
}

static void check_differences(mz_op_streams *streams, const moe_case *c) {
    mz_stream *s = &streams->reference;
    const size_t mark = mz_arena_mark(&s->arena);
    moe_call k = make_call(s, c);
    moe_point at;
    float expected[5][MOST];
    float actual[MOST];
    (void)copy_rows(k.routing.gate_weights, &k.in[1]); /* any weights will do */
    for (int v = 0; v < 5; v++) {
        const mz_tensor *value = v < 4 ? &k.in[v] : &k.routing.logits;
        assert_true(mz_tensor_n_elements(value) <= MOST);
        (void)copy_rows(actual, value);
        for (int64_t i = 0; i < mz_tensor_n_elements(value); i++) {
            at.in[v][i] = (double)actual[i];
        }
    }
    for (int v = 0; v < 5; v++) {
        (void)copy_rows(expected[v], v < 4 ? &k.d_in[v] : &k.d_logits);
        add_differences(c, &k, &at, v, v < 4 ? combine_loss : route_loss, expected[v],
                        mz_tensor_n_elements(v < 4 ? &k.in[v] : &k.routing.logits));
    }
    mz_assert_ok(s->ctx, call_combine(s, c, &k));
    mz_assert_ok(s->ctx, s->backend->training->route_backward(s, &k.d_logits, &k.in[1], &k.router,
                                                              &k.routing));
    static const char *const names[] = {"expert_out", "gate_weights", "shared_out", "shared_logit",
                                        "logits"};
    for (int v = 0; v < 5; v++) {
        const mz_tensor *d = v < 4 ? &k.d_in[v] : &k.d_logits;
        (void)copy_rows(actual, d);
        mz_assert_close(names[v], actual, expected[v], mz_tensor_n_elements(d), 3e-7);
    }
    mz_arena_release(&s->arena, mark);
}

static void test_reference_is_the_derivative(void **state) {
    for (int held = 0; held < 2; held++) {
        for (int32_t top_k = 1; top_k <= 5; top_k += 2) {
            check_differences(*state, &(moe_case){.n_tokens = 6,
                                                  .n_experts = 5,
                                                  .top_k = top_k,
                                                  .width = 7,
                                                  .has_shared = true,
                                                  .wanted = WANT_ALL,
                                                  .held = (float)held,
                                                  .logit = 2});
        }
    }
}

/* ---- The CPU backend against the reference ---- */

static const int64_t token_counts[] = {0, 1, 31, 33, 97};

static void test_route(void **state) {
    static const int32_t shapes[][2] = {{1, 1},   {2, 1},  {8, 2},  {31, 5},
                                        {33, 33}, {64, 6}, {128, 8}};
    for (logit_kind kind = 0; kind < N_LOGIT_KINDS; kind++) {
        for (size_t i = 0; i < sizeof token_counts / sizeof token_counts[0]; i++) {
            for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++) {
                for (int held = 0; held < 2; held++) {
                    const moe_case c = {.kind = kind,
                                        .n_tokens = token_counts[i],
                                        .n_experts = shapes[j][0],
                                        .top_k = shapes[j][1],
                                        .width = 1,
                                        .held = (float)held};
                    char what[96];
                    (void)snprintf(what, sizeof what, "%s logits, %d tokens, top %d of %d, held %d",
                                   logit_kinds[kind], (int)c.n_tokens, (int)c.top_k,
                                   (int)c.n_experts, held);
                    mz_check_op(*state, what, run_route, &c, c.n_tokens * c.n_experts, 1e-6);
                }
            }
        }
    }
}

static void check_combine(mz_op_streams *streams, const moe_case *c) {
    char what[96];
    (void)snprintf(what, sizeof what, "combine backward, %d tokens, width %d, wanted %d, held %d",
                   (int)c->n_tokens, (int)c->width, c->wanted, (int)c->held);
    const int64_t n = c->n_tokens * ((c->top_k + 1) * (c->width + 1));
    mz_check_op(streams, what, run_combine, c, n, 1e-6);
}

static void test_combine(void **state) {
    static const int64_t widths[] = {1, 31, 33, 384};
    static const int wants[] = {0, WANT_OUT, WANT_WEIGHTS, WANT_SHARED, WANT_LOGIT, WANT_ALL};
    for (size_t i = 0; i < sizeof token_counts / sizeof token_counts[0]; i++) {
        for (size_t j = 0; j < sizeof widths / sizeof widths[0]; j++) {
            for (size_t k = 0; k < sizeof wants / sizeof wants[0]; k++) {
                for (int shared = 0; shared < 2; shared++) {
                    check_combine(*state, &(moe_case){.n_tokens = token_counts[i],
                                                      .n_experts = 8,
                                                      .top_k = shared ? 2 : 5,
                                                      .width = widths[j],
                                                      .has_shared = shared != 0,
                                                      .wanted = wants[k],
                                                      .held = (float)(k % 2),
                                                      .logit = 3});
                }
            }
        }
    }
}

static void test_combine_of_a_real_shape(void **state) {
    check_combine(*state, &(moe_case){.n_tokens = 64,
                                      .n_experts = 60,
                                      .top_k = 4,
                                      .width = 1536,
                                      .has_shared = true,
                                      .wanted = WANT_ALL,
                                      .held = 1,
                                      .logit = 100});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_is_the_derivative),
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_combine),
        cmocka_unit_test(test_combine_of_a_real_shape),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
