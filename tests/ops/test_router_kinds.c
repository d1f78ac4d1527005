/* Every kind of router: choices by hand, weights and gradients against plain f64 and finite
 * differences (the choice held fixed), the CPU backend against the reference. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "experts/router.h"

enum { N_EXPERTS = 12, N_TOKENS = 23, MAX_K = 12 };

/* The f32 nearest to values whose sums have ties. */
static float bias_values[N_EXPERTS] = {0.5f, 0,     -0.25f, 0.125f, 0, 0.25f,
                                       0,    -0.5f, 0.75f,  0,      0, -0.125f};

typedef struct named_router {
    const char *name;
    mz_router router;
} named_router;

static mz_tensor selection_bias(void) {
    return mz_tensor_1d(MZ_DTYPE_F32, N_EXPERTS, bias_values);
}

enum { N_ROUTERS = 17 };

static void make_routers(named_router *out) {
    const mz_tensor bias = selection_bias();
    const mz_router top3 = {.n_experts = N_EXPERTS, .top_k = 3};
    for (int i = 0; i < N_ROUTERS; i++) {
        out[i].router = top3;
    }
    out[0].name = "softmax";
    out[1].name = "renormalised";
    out[1].router.renormalise = true;
    out[2].name = "scaled";
    out[2].router.scale = 2.5f;
    out[2].router.renormalise = true;
    out[3].name = "biased softmax";
    out[3].router.selection_bias = bias;
    out[4].name = "groups by best";
    out[4].router.n_groups = 4;
    out[4].router.n_top_groups = 2;
    out[5].name = "groups by two";
    out[5].router.n_groups = 3;
    out[5].router.n_top_groups = 1;
    out[5].router.group_by_two = true;
    out[5].router.renormalise = true;
    out[6].name = "sigmoid";
    out[6].router.kind = MZ_ROUTER_SIGMOID_TOPK;
    out[7].name = "sigmoid, biased, groups, renormalised, scaled";
    out[7].router = (mz_router){.kind = MZ_ROUTER_SIGMOID_TOPK,
                                .n_experts = N_EXPERTS,
                                .top_k = 4,
                                .renormalise = true,
                                .scale = 1.5f,
                                .selection_bias = bias,
                                .n_groups = 6,
                                .n_top_groups = 3,
                                .group_by_two = true};
    out[8].name = "top-p";
    out[8].router = (mz_router){
        .kind = MZ_ROUTER_TOP_P, .n_experts = N_EXPERTS, .top_k = N_EXPERTS, .threshold = 0.6f};
    out[9].name = "top-p, bounded, renormalised";
    out[9].router = out[8].router;
    out[9].router.top_k = 3;
    out[9].router.threshold = 0.9f;
    out[9].router.renormalise = true;
    out[10].name = "deepspeed top-1";
    out[10].router = (mz_router){.kind = MZ_ROUTER_DEEPSPEED_TOP1,
                                 .n_experts = N_EXPERTS,
                                 .top_k = 1,
                                 .capacity_factor = 0.7f,
                                 .min_capacity = 1,
                                 .drop = true};
    out[11].name = "deepspeed top-2";
    out[11].router = out[10].router;
    out[11].router.kind = MZ_ROUTER_DEEPSPEED_TOP2;
    out[11].router.top_k = 2;
    out[11].router.renormalise = true;
    out[12].name = "deepspeed top-2, nothing dropped";
    out[12].router = out[11].router;
    out[12].router.drop = false;
    out[13].name = "by modality";
    out[13].router.by_modality = true;
    out[13].router.renormalise = true;
    out[14].name = "silent experts, renormalised";
    out[14].router.n_zero = 5;
    out[14].router.renormalise = true;
    out[15].name = "silent experts, as they are";
    out[15].router.n_zero = 5;
    out[16].name = "unit weights";
    out[16].router.unit_weights = true;
    out[16].router.scale = 0.5f;
}

/* ---- One call ---- */

typedef enum logit_kind { SMOOTH, COARSE, WITH_NAN, ALL_NAN, MASKED, N_LOGIT_KINDS } logit_kind;

typedef struct router_case {
    const named_router *named;
    logit_kind kind;
    int64_t n_tokens;
    bool with_noise;
} router_case;

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

/* Sequences of 9, 1 and the other rows. */
static mz_rows make_rows(mz_stream *s, int64_t n) {
    void *sequence = NULL;
    void *modality = NULL;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)n * sizeof(int32_t), "test", &sequence));
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)n, "test", &modality));
    for (int64_t t = 0; t < n; t++) {
        ((int32_t *)sequence)[t] = t < 9 ? 4 : t < 10 ? 1 : 2;
        ((uint8_t *)modality)[t] = (uint8_t)(t % 5 < 3);
    }
    return (mz_rows){.n_rows = n, .sequence = sequence, .modality = modality};
}

static void route(mz_stream *s, const router_case *c, mz_routing *r) {
    const mz_router *router = &c->named->router;
    const int64_t n = c->n_tokens;
    mz_assert_ok(s->ctx, mz_router_validate(router, &s->ctx->error));
    mz_assert_ok(s->ctx, mz_routing_take(s, n, router, r));
    mz_fill_uniform(r->logits.data, n * N_EXPERTS, 21, 3.0f);
    for (int64_t i = 0; i < n * N_EXPERTS; i++) {
        float *logit = (float *)r->logits.data + i;
        *logit = logit_of(c->kind, *logit, i);
        *logit = router->by_modality && i / N_EXPERTS % 2 != i % 2 ? -INFINITY : *logit;
    }
    r->rows = make_rows(s, n);
    if (c->with_noise) {
        mz_assert_ok(s->ctx, mz_stream_take(s, n, N_EXPERTS, "noise", &r->noise));
        mz_fill_uniform(r->noise.data, n * N_EXPERTS, 5, 2.0f);
    }
    mz_assert_ok(s->ctx, mz_op_route(s, router, r));
    mz_assert_ok(s->ctx, mz_op_dispatch(s, r));
}

/* ---- The CPU backend against the reference, and what holds for every routing ---- */

/* Ids, offsets and both permutations as numbers, then their sense. */
static void run_discrete(mz_stream *s, const void *arg, float *out) {
    const router_case *c = arg;
    mz_routing r;
    route(s, c, &r);
    const int64_t n_slots = r.n_tokens * r.top_k;
    int64_t n_used = 0;
    for (int64_t j = 0; j < n_slots; j++) {
        const int32_t id = r.expert_ids[j];
        const int32_t row = r.slot_row[j];
        out[j] = (float)id;
        out[n_slots + j] = (float)row;
        n_used += id >= 0;
        assert_true(id >= -1 && id < N_EXPERTS);
        assert_true((row >= 0) == (id >= 0));
        assert_true(id >= 0 || r.gate_weights[j] == 0);
        if (row >= 0) {
            assert_int_equal(r.row_index[row], j);
            assert_true(row >= r.expert_offsets[id] && row < r.expert_offsets[id + 1]);
        }
    }
    for (int32_t e = 0; e <= N_EXPERTS && n_slots > 0; e++) {
        out[2 * n_slots + e] = (float)r.expert_offsets[e];
    }
    assert_true(n_slots == 0 || r.expert_offsets[N_EXPERTS] == n_used);
}

static void run_weights(mz_stream *s, const void *arg, float *out) {
    const router_case *c = arg;
    mz_routing r;
    route(s, c, &r);
    memcpy(out, r.gate_weights, (size_t)(r.n_tokens * r.top_k) * sizeof *out);
}

static void run_backward(mz_stream *s, const void *arg, float *out) {
    const router_case *c = arg;
    mz_routing r;
    mz_tensor d_weights;
    mz_tensor d_logits;
    route(s, c, &r);
    mz_assert_ok(s->ctx, mz_stream_take(s, r.n_tokens, r.top_k, "test", &d_weights));
    mz_assert_ok(s->ctx, mz_stream_take(s, r.n_tokens, N_EXPERTS, "test", &d_logits));
    mz_fill_uniform(d_weights.data, r.n_tokens * r.top_k, 8, 1.0f);
    mz_fill_uniform(d_logits.data, r.n_tokens * N_EXPERTS, 9, 1.0f);
    mz_assert_ok(s->ctx, s->backend->training->route_backward(s, &d_logits, &d_weights,
                                                              &c->named->router, &r));
    memcpy(out, d_logits.data, (size_t)(r.n_tokens * N_EXPERTS) * sizeof *out);
}

static void test_backends_agree(void **state) {
    static const int64_t counts[] = {0, 1, N_TOKENS, 97};
    named_router routers[N_ROUTERS];
    make_routers(routers);
    for (int i = 0; i < N_ROUTERS * N_LOGIT_KINDS * 4; i++) {
        const router_case c = {.named = &routers[i % N_ROUTERS],
                               .kind = (logit_kind)(i / N_ROUTERS % N_LOGIT_KINDS),
                               .n_tokens = counts[i / N_ROUTERS / N_LOGIT_KINDS],
                               .with_noise = i % 2 == 0};
        const int64_t n_slots = c.n_tokens * c.named->router.top_k;
        char what[128];
        (void)snprintf(what, sizeof what, "%s, logits %d, %d tokens", c.named->name, (int)c.kind,
                       (int)c.n_tokens);
        mz_check_op(*state, what, run_discrete, &c, 2 * n_slots + (n_slots > 0 ? N_EXPERTS + 1 : 0),
                    0);
        mz_check_op(*state, what, run_weights, &c, n_slots, 1e-6);
        mz_check_op(*state, what, run_backward, &c, c.n_tokens * N_EXPERTS, 1e-6);
    }
}

/* ---- Weights and gradients in plain f64 ---- */

/* The weights of a token whose choices are `ids`. */
static void plain_weights(const mz_router *router, const int32_t *ids, const double *logits,
                          double *weights) {
    double scores[N_EXPERTS];
    double total = 0;
    double sum = 0;
    for (int e = 0; e < N_EXPERTS; e++) {
        scores[e] = exp(logits[e]);
        total += scores[e];
    }
    for (int e = 0; e < N_EXPERTS; e++) {
        scores[e] = router->kind == MZ_ROUTER_SIGMOID_TOPK ? scores[e] / (1 + scores[e])
                                                           : scores[e] / total;
    }
    for (int32_t k = 0; k < router->top_k; k++) {
        weights[k] = ids[k] >= 0 && ids[k] < N_EXPERTS - router->n_zero ? scores[ids[k]] : 0;
        sum += weights[k];
    }
    for (int32_t k = 0; k < router->top_k; k++) {
        weights[k] /= router->renormalise && sum > 0 ? sum : 1;
        weights[k] = router->unit_weights && ids[k] >= 0 ? 1 : weights[k];
        weights[k] *= router->scale != 0 ? (double)router->scale : 1;
    }
}

static double plain_loss(const mz_router *router, const int32_t *ids, const double *logits,
                         const float *g) {
    double weights[MAX_K];
    double sum = 0;
    plain_weights(router, ids, logits, weights);
    for (int32_t k = 0; k < router->top_k; k++) {
        sum += (double)g[k] * weights[k];
    }
    return sum;
}

static void check_token(const mz_router *router, const mz_routing *r, int64_t t, const float *g,
                        const float *d_logits, const char *name) {
    const int32_t *ids = r->expert_ids + t * r->top_k;
    double logits[N_EXPERTS];
    double weights[MAX_K];
    float expected[N_EXPERTS];
    float expected_weights[MAX_K];
    const double h = 1e-5;
    for (int e = 0; e < N_EXPERTS; e++) {
        logits[e] = (double)mz_tensor_f32(&r->logits, t)[e];
    }
    plain_weights(router, ids, logits, weights);
    for (int32_t k = 0; k < r->top_k; k++) {
        expected_weights[k] = (float)weights[k];
    }
    mz_assert_close(name, r->gate_weights + t * r->top_k, expected_weights, r->top_k, 1e-6);
    double size = 0;
    for (int e = 0; e < N_EXPERTS; e++) {
        const double middle = logits[e];
        logits[e] = middle + h;
        const double above = plain_loss(router, ids, logits, g);
        logits[e] = middle - h;
        const double below = plain_loss(router, ids, logits, g);
        logits[e] = middle;
        expected[e] = (float)((above - below) / (2 * h));
        size += fabs((double)expected[e]);
    }
    if (size < 1e-9) { /* a constant: one weight renormalised */
        memset(expected, 0, sizeof expected);
        for (int e = 0; e < N_EXPERTS; e++) {
            assert_true(fabsf(d_logits[e]) < 1e-9f);
        }
        return;
    }
    mz_assert_close(name, d_logits, expected, N_EXPERTS, 1e-6);
}

static void test_weights_and_their_derivative(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->reference;
    named_router routers[N_ROUTERS];
    make_routers(routers);
    for (int i = 0; i < N_ROUTERS; i++) {
        const router_case c = {
            .named = &routers[i], .n_tokens = N_TOKENS, .with_noise = i % 2 == 0};
        const mz_router *router = &routers[i].router;
        float g[N_TOKENS * MAX_K];
        float d[N_TOKENS * N_EXPERTS] = {0};
        const size_t mark = mz_arena_mark(&s->arena);
        mz_routing r;
        route(s, &c, &r);
        mz_fill_uniform(g, N_TOKENS * r.top_k, 31, 1.0f);
        const mz_tensor d_weights = mz_tensor_2d(MZ_DTYPE_F32, N_TOKENS, r.top_k, g);
        const mz_tensor d_logits = mz_tensor_2d(MZ_DTYPE_F32, N_TOKENS, N_EXPERTS, d);
        mz_assert_ok(s->ctx,
                     s->backend->training->route_backward(s, &d_logits, &d_weights, router, &r));
        for (int64_t t = 0; t < N_TOKENS; t++) {
            check_token(router, &r, t, g + t * r.top_k, d + t * N_EXPERTS, routers[i].name);
        }
        mz_arena_release(&s->arena, mark);
    }
}

/* ---- Choices by hand ---- */

enum { MAX_HAND = 32 };

/* Routes `n` rows of logits on every stream and compares with ids and, unless NULL, weights. */
static void expect_rows(mz_op_streams *streams, const mz_router *router, const mz_rows *rows,
                        const float *logits, const float *noise, int64_t n, const int32_t *ids,
                        const float *weights) {
    for (int i = -1; i < streams->n_cpu; i++) {
        mz_stream *s = i < 0 ? &streams->reference : &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        const int64_t n_logits = n * router->n_experts;
        mz_routing r;
        mz_assert_ok(s->ctx, mz_router_validate(router, &s->ctx->error));
        mz_assert_ok(s->ctx, mz_routing_take(s, n, router, &r));
        memcpy(r.logits.data, logits, (size_t)n_logits * sizeof(float));
        if (noise != NULL) {
            mz_assert_ok(s->ctx, mz_stream_take(s, n, router->n_experts, "noise", &r.noise));
            memcpy(r.noise.data, noise, (size_t)n_logits * sizeof(float));
        }
        if (rows != NULL) {
            r.rows = *rows;
        }
        mz_assert_ok(s->ctx, mz_op_route(s, router, &r));
        for (int64_t j = 0; j < n * router->top_k; j++) {
            assert_int_equal(r.expert_ids[j], ids[j]);
            if (weights != NULL) {
                assert_true(fabsf(r.gate_weights[j] - weights[j]) < 1e-4f);
            }
        }
        mz_arena_release(&s->arena, mark);
    }
}

static void test_groups(void **state) {
    /* best group scores 3, 2.9, 1; sums of two 3, 5.8, 1.9 */
    const float logits[] = {3, 0, 2.9f, 2.9f, 1, 0.9f};
    mz_router router = {.n_experts = 6, .top_k = 2, .n_groups = 3, .n_top_groups = 1};
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){0, 1}, NULL);
    router.group_by_two = true;
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 3}, NULL);
    const float equal[] = {1, 1, 1, 1, 1, 1};
    expect_rows(*state, &router, NULL, equal, NULL, 1, (const int32_t[]){0, 1}, NULL);
    /* NaN is never chosen by a group's rule: the slot stays open */
    const float with_nan[] = {0, 0, 9, NAN, 0, 0};
    router.group_by_two = false;
    expect_rows(*state, &router, NULL, with_nan, NULL, 1, (const int32_t[]){2, -1}, NULL);
}

static void test_bias_chooses_and_does_not_weigh(void **state) {
    float bias[] = {0, 0, 1, 0};
    const float logits[] = {0, -1, -2, 0};
    mz_router router = {.kind = MZ_ROUTER_SIGMOID_TOPK,
                        .n_experts = 4,
                        .top_k = 2,
                        .selection_bias = mz_tensor_1d(MZ_DTYPE_F32, 4, bias)};
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 0},
                (const float[]){0.1192f, 0.5f});
    router.renormalise = true;
    router.scale = 2;
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 0},
                (const float[]){0.3850f, 1.6150f});
}

static void test_top_p(void **state) {
    const float logits[] = {0, logf(2), logf(5), 0, logf(1)}; /* p = .1 .2 .5 .1 .1 */
    mz_router router = {.kind = MZ_ROUTER_TOP_P, .n_experts = 5, .top_k = 5, .threshold = 0.6f};
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 1, -1, -1, -1},
                (const float[]){0.5f, 0.2f, 0, 0, 0});
    router.threshold = 0.75f;
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 1, 0, -1, -1}, NULL);
    router.threshold = 1; /* never exceeded: all */
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 1, 0, 3, 4}, NULL);
    router.top_k = 2; /* the bound */
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){2, 1}, NULL);
}

/* The vector of the specification: p = .6439 .2369 .0871 .0321. */
static void test_deepspeed_weights(void **state) {
    const float logits[] = {2, 1, 0, -1};
    const float noise[] = {9, 0, 0, 3};
    const mz_router router = {.kind = MZ_ROUTER_DEEPSPEED_TOP2,
                              .n_experts = 4,
                              .top_k = 2,
                              .renormalise = true,
                              .capacity_factor = 2,
                              .drop = true};
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){0, 1},
                (const float[]){0.7311f, 0.2689f});
    expect_rows(*state, &router, NULL, logits, noise, 1, (const int32_t[]){0, 3},
                (const float[]){0.9526f, 0.0474f});
}

/* Six rows that all want expert 0 first and 1 second; capacity 3 of a sequence of 6 (2 * 0.5 * 6 /
 * 2), first choices before second ones; two sequences of 3 have 2 places each. */
static void test_deepspeed_capacity(void **state) {
    float logits[12];
    const int32_t sequence[] = {7, 7, 7, 3, 3, 3};
    const mz_rows rows = {.n_rows = 6, .sequence = sequence};
    mz_router router = {.kind = MZ_ROUTER_DEEPSPEED_TOP2,
                        .n_experts = 2,
                        .top_k = 2,
                        .renormalise = true,
                        .capacity_factor = 0.5f,
                        .drop = true};
    for (int i = 0; i < 12; i++) {
        logits[i] = i % 2 == 0 ? 1 : 0;
    }
    expect_rows(*state, &router, NULL, logits, NULL, 6,
                (const int32_t[]){0, 1, 0, 1, 0, 1, -1, -1, -1, -1, -1, -1},
                (const float[12]){.7311f, .2689f, .7311f, .2689f, .7311f, .2689f});
    expect_rows(*state, &router, &rows, logits, NULL, 6,
                (const int32_t[]){0, 1, 0, 1, -1, -1, 0, 1, 0, 1, -1, -1}, NULL);
    router.min_capacity = 5;
    expect_rows(*state, &router, NULL, logits, NULL, 6,
                (const int32_t[]){0, 1, 0, 1, 0, 1, 0, 1, 0, 1, -1, -1}, NULL);
    /* second choices come after all first ones, of whatever row */
    logits[10] = 0;
    logits[11] = 1;
    router.min_capacity = 0;
    expect_rows(*state, &router, NULL, logits, NULL, 6,
                (const int32_t[]){0, 1, 0, 1, 0, -1, -1, -1, -1, -1, 1, -1},
                (const float[]){.7311f, .2689f, .7311f, .2689f, 1, 0, 0, 0, 0, 0, 1, 0});
}

/* Top-1 keeps the rows of the highest noise, the earlier ones where it is equal. */
static void test_deepspeed_top1(void **state) {
    float logits[10] = {0};
    float noise[10] = {0};
    mz_router router = {.kind = MZ_ROUTER_DEEPSPEED_TOP1,
                        .n_experts = 2,
                        .top_k = 1,
                        .capacity_factor = 0.8f,
                        .drop = true};
    expect_rows(*state, &router, NULL, logits, NULL, 5, (const int32_t[]){0, 0, -1, -1, -1},
                (const float[]){.5f, .5f, 0, 0, 0});
    noise[6] = 0.5f;
    noise[8] = 0.25f;
    expect_rows(*state, &router, NULL, logits, noise, 5, (const int32_t[]){-1, -1, -1, 0, 0}, NULL);
    router.drop = false;
    expect_rows(*state, &router, NULL, logits, noise, 5, (const int32_t[]){0, 0, 0, 0, 0}, NULL);
}

/* 10 rows, 2 experts, factor 1.0f / 5 + a hair: the product in f32 is 1, in f64 a little more. */
static void test_capacity_is_rounded_in_f32(void **state) {
    float logits[20] = {0};
    const mz_router router = {.kind = MZ_ROUTER_DEEPSPEED_TOP1,
                              .n_experts = 2,
                              .top_k = 1,
                              .capacity_factor = 0.2f,
                              .drop = true};
    assert_true(5.0 * (double)0.2f > 1.0 && 5.0f * 0.2f == 1.0f);
    expect_rows(*state, &router, NULL, logits, NULL, 10,
                (const int32_t[]){0, -1, -1, -1, -1, -1, -1, -1, -1, -1}, NULL);
}

static void test_silent_experts(void **state) {
    const float logits[] = {0, logf(3), logf(2), logf(4)}; /* p = .1 .3 .2 .4 */
    mz_router router = {.n_experts = 4, .top_k = 2, .renormalise = true, .n_zero = 1};
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){3, 1},
                (const float[]){0, 1});
    router.n_zero = 3; /* both: no weight at all */
    expect_rows(*state, &router, NULL, logits, NULL, 1, (const int32_t[]){3, 1},
                (const float[]){0, 0});
}

/* ---- Modalities ---- */

static void test_mask_logits(void **state) {
    mz_op_streams *streams = *state;
    const int32_t sequence[] = {0, 0, 0, 0, 1, 1};
    const uint8_t modality[] = {1, 1, 0, 1, 1, 0};
    const mz_rows rows = {.n_rows = 6, .sequence = sequence, .modality = modality};
    mz_router router = {.n_experts = 4, .top_k = 2, .by_modality = true, .text_before_text = true};
    router.ranges[MZ_MODALITY_IMAGE] = (mz_expert_range){.n = 3};
    router.ranges[MZ_MODALITY_TEXT] = (mz_expert_range){.first = 2, .n = 2};
    /* only row 0 is an image before an image; 3 and 4 end their sequence's part */
    static const bool is_image[2][6] = {{true, true, false, true, true, false}, {true}};
    float vision[18];
    float text[12];
    mz_fill_uniform(vision, 18, 1, 1);
    mz_fill_uniform(text, 12, 2, 1);
    for (int i = -1; i < streams->n_cpu; i++) {
        mz_stream *s = i < 0 ? &streams->reference : &streams->cpu[i];
        float out[24];
        float d[24];
        float d_vision[18] = {0};
        float d_text[12] = {0};
        const mz_tensor logits = mz_tensor_2d(MZ_DTYPE_F32, 6, 4, out);
        mz_tensor in[MZ_MODALITY_COUNT] = {0};
        mz_tensor d_in[MZ_MODALITY_COUNT] = {0};
        in[MZ_MODALITY_IMAGE] = mz_tensor_2d(MZ_DTYPE_F32, 6, 3, vision);
        in[MZ_MODALITY_TEXT] = mz_tensor_2d(MZ_DTYPE_F32, 6, 2, text);
        d_in[MZ_MODALITY_IMAGE] = mz_tensor_2d(MZ_DTYPE_F32, 6, 3, d_vision);
        d_in[MZ_MODALITY_TEXT] = mz_tensor_2d(MZ_DTYPE_F32, 6, 2, d_text);
        for (int before = 0; before < 2; before++) {
            router.text_before_text = before == 1;
            mz_assert_ok(s->ctx, mz_op_mask_logits(s, &logits, in, &router, &rows));
            for (int t = 0; t < 6; t++) {
                const bool image = is_image[before][t];
                for (int e = 0; e < 4; e++) {
                    const bool inside = image ? e < 3 : e >= 2;
                    const float value = image ? vision[t * 3 + e % 3] : text[t * 2 + e % 2];
                    assert_true(out[t * 4 + e] == (inside ? value : -INFINITY));
                }
            }
        }
        mz_fill_uniform(d, 24, 3, 1);
        const mz_tensor d_logits = mz_tensor_2d(MZ_DTYPE_F32, 6, 4, d);
        mz_assert_ok(
            s->ctx, s->backend->training->mask_logits_backward(s, d_in, &d_logits, &router, &rows));
        for (int t = 0; t < 6; t++) {
            for (int e = 0; e < 3; e++) {
                assert_true(d_vision[t * 3 + e] == (t == 0 ? d[t * 4 + e] : 0));
                assert_true(e == 2 || d_text[t * 2 + e] == (t == 0 ? 0 : d[t * 4 + 2 + e]));
            }
        }
        in[MZ_MODALITY_TEXT] = (mz_tensor){0};
        assert_int_equal(mz_op_mask_logits(s, &logits, in, &router, &rows), MZ_ERR_ARG);
        assert_non_null(strstr(s->ctx->error.message, "row 1 is of modality 0"));
    }
}

/* ---- Descriptions ---- */

static void expect_refused(const mz_router *router, mz_status status, const char *text) {
    mz_error error = {0};
    assert_int_equal(mz_router_validate(router, &error), status);
    if (strstr(error.message, text) == NULL) {
        fail_msg("%s lacks: %s", error.message, text);
    }
}

static void test_validation(void **state) {
    (void)state;
    const mz_router good = {.n_experts = 8, .top_k = 2};
    mz_error error = {0};
    float bias[7] = {0};
    mz_router r = good;
    assert_int_equal(mz_router_validate(&good, &error), MZ_OK);
    r.kind = MZ_ROUTER_KIND_COUNT;
    expect_refused(&r, MZ_ERR_ARG, "router kind 5, expected 0 to 4");
    r = good;
    r.n_experts = MZ_MAX_EXPERTS + 1;
    expect_refused(&r, MZ_ERR_LIMIT, "1025 experts, expected 1 to 1024");
    r = good;
    r.top_k = 9;
    expect_refused(&r, MZ_ERR_ARG, "9 experts per token, expected 1 to 8");
    r = good;
    r.n_groups = 3;
    r.n_top_groups = 1;
    expect_refused(&r, MZ_ERR_ARG, "the best 1 of 3 groups of 8 experts");
    r.n_groups = 8;
    expect_refused(&r, MZ_ERR_ARG, "2 experts per token from groups that hold 1");
    r = good;
    r.scale = INFINITY;
    expect_refused(&r, MZ_ERR_ARG, "scaled by inf");
    r = good;
    r.selection_bias = mz_tensor_1d(MZ_DTYPE_F32, 7, bias);
    expect_refused(&r, MZ_ERR_ARG, "7 values for 8 experts");
    r = good;
    r.n_zero = 9;
    expect_refused(&r, MZ_ERR_ARG, "9 silent experts of 8");
    r = good;
    r.kind = MZ_ROUTER_TOP_P;
    r.threshold = NAN;
    expect_refused(&r, MZ_ERR_ARG, "threshold nan, expected 0 to 1");
    r = good;
    r.by_modality = true;
    r.ranges[MZ_MODALITY_AUDIO] = (mz_expert_range){.first = 6, .n = 3};
    expect_refused(&r, MZ_ERR_ARG, "modality 2: 3 experts from 6 on, of 8");
    r = good;
    r.kind = MZ_ROUTER_DEEPSPEED_TOP2;
    expect_refused(&r, MZ_ERR_ARG, "deepspeed-top2: 2 experts per token, not renormalised");
    r.renormalise = true;
    r.drop = true;
    r.capacity_factor = -1;
    expect_refused(&r, MZ_ERR_ARG, "capacity factor -1");
}

static void test_kinds_have_names(void **state) {
    (void)state;
    mz_router r = {.by_modality = true};
    for (int kind = 0; kind < MZ_ROUTER_KIND_COUNT; kind++) {
        const mz_router_kind_info *info = mz_router_kind_get((mz_router_kind)kind);
        assert_int_equal(info->kind, kind);
        r.kind = (mz_router_kind)kind;
        assert_true(mz_router_needs_sequences(&r) == info->has_capacity);
    }
    assert_null(mz_router_kind_get(MZ_ROUTER_KIND_COUNT));
    r.kind = MZ_ROUTER_SOFTMAX_TOPK;
    r.text_before_text = true;
    assert_true(mz_router_needs_sequences(&r));
}

static void test_balance_bias(void **state) {
    (void)state;
    int32_t offsets[2][5] = {{0, 3, 3, 4, 5}, {0, 1, 2, 4, 5}}; /* loads 4 1 3 2, mean 2.5 */
    mz_routing routings[2] = {{.n_experts = 4, .expert_offsets = offsets[0]},
                              {.n_experts = 4, .expert_offsets = offsets[1]}};
    float bias[4] = {0, 0, 1, -1};
    mz_router_balance_bias(bias, 4, routings, 2, 0.5f);
    assert_true(bias[0] == -0.5f && bias[1] == 0.5f && bias[2] == 0.5f && bias[3] == -0.5f);
    offsets[0][1] = 2; /* loads 2 1 1 1: the mean is 1.25 */
    mz_router_balance_bias(bias, 4, routings, 1, 0.25f);
    assert_true(bias[0] == -0.75f && bias[1] == 0.75f && bias[2] == 0.75f && bias[3] == -0.25f);
}

/* More experts than a router may have, or slots than experts. */
static void test_op_refuses(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    float logits[4] = {0};
    const mz_router router = {.n_experts = 2, .top_k = 3};
    const mz_routing r = {.n_tokens = 2,
                          .n_experts = 2,
                          .top_k = 3,
                          .logits = mz_tensor_2d(MZ_DTYPE_F32, 2, 2, logits)};
    assert_int_equal(mz_op_route(s, &router, &r), MZ_ERR_ARG);
    assert_non_null(strstr(s->ctx->error.message, "3 of 2 experts in 3 slots"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backends_agree),
        cmocka_unit_test(test_weights_and_their_derivative),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_bias_chooses_and_does_not_weigh),
        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_deepspeed_weights),
        cmocka_unit_test(test_deepspeed_capacity),
        cmocka_unit_test(test_deepspeed_top1),
        cmocka_unit_test(test_capacity_is_rounded_in_f32),
        cmocka_unit_test(test_silent_experts),
        cmocka_unit_test(test_mask_logits),
        cmocka_unit_test(test_validation),
        cmocka_unit_test(test_kinds_have_names),
        cmocka_unit_test(test_balance_bias),
        cmocka_unit_test(test_op_refuses),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
