/* route, dispatch and combine of the CPU backend against the reference, and the invariants of a
 * mixture. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum logit_kind {
    SMOOTH,
    COARSE,
    EQUAL,
    WITH_NAN,
    ALL_NAN,
    MASKED,
    HUGE_VALUES,
    N_LOGIT_KINDS
} logit_kind;

static const char *const logit_kinds[N_LOGIT_KINDS] = {"smooth",  "coarse", "equal", "with NaN",
                                                       "all NaN", "masked", "huge"};

typedef struct routing_case {
    logit_kind kind;
    int64_t n_tokens;
    int32_t n_experts, top_k;
    int64_t width; /* of combine */
    bool has_shared;
} routing_case;

static float logit_of(logit_kind kind, float x, int64_t i) {
    switch (kind) {
    case COARSE: /* many ties */
        return roundf(2 * x) / 2;
    case EQUAL:
        return 1.5f;
    case WITH_NAN:
        return i % 3 == 1 ? NAN : roundf(x);
    case ALL_NAN:
        return NAN;
    case MASKED:
        return i % 4 != 0 ? -INFINITY : x;
    case HUGE_VALUES:
        return x * 1e30f;
    default:
        return x;
    }
}

static void make_routing(mz_stream *s, const routing_case *c, mz_router *router,
                         mz_routing *routing) {
    *router =
        (mz_router){.kind = MZ_ROUTER_SOFTMAX_TOPK, .n_experts = c->n_experts, .top_k = c->top_k};
    mz_assert_ok(s->ctx, mz_routing_take(s, c->n_tokens, router, routing));
    float *logits = routing->logits.data;
    const int64_t n = c->n_tokens * c->n_experts;
    mz_fill_uniform(logits, n, 21, 3.0f);
    for (int64_t i = 0; i < n; i++) {
        logits[i] = logit_of(c->kind, logits[i], i);
    }
    memset(routing->expert_ids, 0xff, (size_t)(c->n_tokens * c->top_k) * sizeof(int32_t));
    mz_assert_ok(s->ctx, mz_op_route(s, router, routing));
    mz_assert_ok(s->ctx, mz_op_dispatch(s, routing));
}

/* Ids, offsets and both permutations as numbers, so that they are compared exactly. */
static void run_discrete(mz_stream *s, const void *arg, float *out) {
    mz_router router;
    mz_routing r;
    make_routing(s, arg, &router, &r);
    const int64_t n_slots = r.n_tokens * r.top_k;
    for (int64_t j = 0; j < n_slots; j++) {
        out[j] = (float)r.expert_ids[j];
        out[n_slots + j] = (float)r.row_index[j];
        out[2 * n_slots + j] = (float)r.slot_row[j];
    }
    for (int32_t e = 0; e <= r.n_experts && r.n_tokens > 0; e++) {
        out[3 * n_slots + e] = (float)r.expert_offsets[e];
    }
}

static void run_weights(mz_stream *s, const void *arg, float *out) {
    mz_router router;
    mz_routing r;
    make_routing(s, arg, &router, &r);
    memcpy(out, r.gate_weights, (size_t)(r.n_tokens * r.top_k) * sizeof *out);
}

static const int64_t token_counts[] = {0, 1, 31, 33, 257};
static const int32_t expert_shapes[][2] = {{1, 1},   {2, 1},  {8, 2},    {31, 5},
                                           {33, 33}, {64, 6}, {300, 40}, {1024, 8}};

static void test_route_and_dispatch(void **state) {
    for (logit_kind kind = 0; kind < N_LOGIT_KINDS; kind++) {
        for (size_t i = 0; i < sizeof token_counts / sizeof token_counts[0]; i++) {
            for (size_t j = 0; j < sizeof expert_shapes / sizeof expert_shapes[0]; j++) {
                if (expert_shapes[j][0] > 100 && i > 2) {
                    continue; /* slow in the reference, nothing new */
                }
                const routing_case c = {.kind = kind,
                                        .n_tokens = token_counts[i],
                                        .n_experts = expert_shapes[j][0],
                                        .top_k = expert_shapes[j][1]};
                const int64_t n_slots = c.n_tokens * c.top_k;
                char what[96];
                (void)snprintf(what, sizeof what, "%s logits, %d tokens, top %d of %d",
                               logit_kinds[kind], (int)c.n_tokens, (int)c.top_k, (int)c.n_experts);
                mz_check_op(*state, what, run_discrete, &c,
                            3 * n_slots + (n_slots > 0 ? c.n_experts + 1 : 0), 0);
                mz_check_op(*state, what, run_weights, &c, n_slots, 1e-6);
            }
        }
    }
}

/* Routes one row of logits on each level. */
static void route_row(mz_op_streams *streams, const float *logits, int32_t n_experts, int32_t top_k,
                      const int32_t *ids, const float *weights) {
    for (int i = 0; i < streams->n_cpu; i++) {
        int32_t actual_ids[16];
        float actual_weights[16];
        float copy[16];
        assert_true(n_experts <= 16 && top_k <= 16);
        memcpy(copy, logits, (size_t)n_experts * sizeof *copy);
        mz_stream *s = &streams->cpu[i];
        const mz_router router = {.n_experts = n_experts, .top_k = top_k};
        const mz_routing r = {.n_tokens = 1,
                              .n_experts = n_experts,
                              .top_k = top_k,
                              .expert_ids = actual_ids,
                              .gate_weights = actual_weights,
                              .logits = mz_tensor_2d(MZ_DTYPE_F32, 1, n_experts, copy)};
        mz_assert_ok(s->ctx, mz_op_route(s, &router, &r));
        for (int32_t k = 0; k < top_k; k++) {
            assert_int_equal(actual_ids[k], ids[k]);
            assert_true(fabsf(actual_weights[k] - weights[k]) <= 1e-6f);
            assert_true(weights[k] != 0 || actual_weights[k] == 0);
        }
    }
}

static void test_known_rows(void **state) {
    const float nan_row[] = {NAN, NAN, NAN, NAN};
    route_row(*state, nan_row, 4, 3, (const int32_t[]){0, 1, 2}, (const float[]){0, 0, 0});
    const float masked[] = {NAN, -INFINITY, NAN, -INFINITY};
    route_row(*state, masked, 4, 4, (const int32_t[]){1, 3, 0, 2}, (const float[]){0, 0, 0, 0});
    const float some_nan[] = {NAN, 0, NAN, 0, -INFINITY};
    route_row(*state, some_nan, 5, 4, (const int32_t[]){1, 3, 4, 0},
              (const float[]){0.5f, 0.5f, 0, 0});
    const float zeros[] = {-0.0f, 0.0f, -0.0f};
    route_row(*state, zeros, 3, 2, (const int32_t[]){0, 1}, (const float[]){1.0f / 3, 1.0f / 3});
    /* Logits decide where f32 probabilities would tie. */
    const float close[] = {20.0f, 20.000002f, 19.999998f};
    route_row(*state, close, 3, 3, (const int32_t[]){1, 0, 2},
              (const float[]){1.0f / 3, 1.0f / 3, 1.0f / 3});
    const float far[] = {-3e38f, 3e38f, 0, 1e30f};
    route_row(*state, far, 4, 2, (const int32_t[]){1, 3}, (const float[]){1, 0});
}

static void test_dispatch_invariants(void **state) {
    mz_op_streams *streams = *state;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        const routing_case c = {.kind = COARSE, .n_tokens = 301, .n_experts = 13, .top_k = 3};
        mz_router router;
        mz_routing r;
        make_routing(s, &c, &router, &r);
        assert_int_equal(r.expert_offsets[0], 0);
        assert_int_equal(r.expert_offsets[c.n_experts], c.n_tokens * c.top_k);
        for (int32_t e = 0; e < c.n_experts; e++) {
            for (int32_t row = r.expert_offsets[e]; row < r.expert_offsets[e + 1]; row++) {
                assert_int_equal(r.expert_ids[r.row_index[row]], e);
                assert_int_equal(r.slot_row[r.row_index[row]], row);
                assert_true(row == r.expert_offsets[e] || r.row_index[row - 1] < r.row_index[row]);
            }
        }
        mz_arena_release(&s->arena, mark);
    }
}

static void run_combine(mz_stream *s, const void *arg, float *out) {
    const routing_case *c = arg;
    mz_router router;
    mz_routing r;
    mz_tensor padded[3];
    mz_tensor logit;
    make_routing(s, c, &router, &r);
    const int64_t rows[] = {c->n_tokens * c->top_k, c->n_tokens, c->n_tokens};
    for (int i = 0; i < 3; i++) {
        mz_assert_ok(s->ctx, mz_stream_take(s, rows[i], c->width + 3, "test", &padded[i]));
        mz_fill_uniform(padded[i].data, mz_tensor_n_elements(&padded[i]), 31 + (uint64_t)i, 2.0f);
        padded[i] = mz_tensor_cols(&padded[i], 0, c->width);
    }
    mz_assert_ok(s->ctx, mz_stream_take(s, c->n_tokens, 1, "test", &logit));
    mz_fill_uniform(logit.data, c->n_tokens, 35, 100.0f);
    mz_assert_ok(s->ctx,
                 mz_op_combine(s, &padded[2], &padded[0], &r, c->has_shared ? &padded[1] : NULL,
                               c->has_shared ? &logit : NULL));
    for (int64_t t = 0; t < c->n_tokens; t++) {
        memcpy(out + t * c->width, mz_tensor_f32(&padded[2], t), (size_t)c->width * sizeof *out);
    }
}

static void test_combine(void **state) {
    static const int64_t widths[] = {1, 31, 33, 384};
    for (size_t i = 0; i < sizeof token_counts / sizeof token_counts[0]; i++) {
        for (size_t j = 0; j < sizeof widths / sizeof widths[0]; j++) {
            for (int shared = 0; shared < 2; shared++) {
                const routing_case c = {.n_tokens = token_counts[i],
                                        .n_experts = 8,
                                        .top_k = shared ? 2 : 5,
                                        .width = widths[j],
                                        .has_shared = shared != 0};
                mz_check_op(*state, "combine", run_combine, &c, c.n_tokens * c.width, 1e-6);
            }
        }
    }
}

/* With weight 1 on one rank and 0 on the other, combine brings back what dispatch sorted away. */
static void test_combine_inverts_dispatch(void **state) {
    mz_op_streams *streams = *state;
    enum { N = 77, WIDTH = 21 };
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        const routing_case c = {.kind = COARSE, .n_tokens = N, .n_experts = 7, .top_k = 2};
        mz_router router;
        mz_routing r;
        mz_tensor x;
        mz_tensor sorted;
        mz_tensor y;
        make_routing(s, &c, &router, &r);
        mz_assert_ok(s->ctx, mz_stream_take(s, N, WIDTH, "test", &x));
        mz_assert_ok(s->ctx, mz_stream_take(s, 2 * N, WIDTH, "test", &sorted));
        mz_assert_ok(s->ctx, mz_stream_take(s, N, WIDTH, "test", &y));
        mz_fill_uniform(x.data, N * WIDTH, 41, 1.0f);
        for (int row = 0; row < 2 * N; row++) {
            memcpy(mz_tensor_f32(&sorted, row), mz_tensor_f32(&x, r.row_index[row] / 2),
                   WIDTH * sizeof(float));
        }
        for (int j = 0; j < 2 * N; j++) {
            r.gate_weights[j] = (float)((j % 2) ^ (j / 2 % 2));
        }
        mz_assert_ok(s->ctx, mz_op_combine(s, &y, &sorted, &r, NULL, NULL));
        assert_memory_equal(y.data, x.data, N * WIDTH * sizeof(float));
        mz_arena_release(&s->arena, mark);
    }
}

/* A token alone is routed to the same bits as among others. */
static void test_token_alone(void **state) {
    mz_op_streams *streams = *state;
    static float logits[33 * 40];
    mz_fill_uniform(logits, 33 * 40, 51, 4.0f);
    for (int i = 0; i < streams->n_cpu; i += MZ_TEST_THREADS) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        const mz_router router = {.n_experts = 40, .top_k = 3};
        mz_routing all;
        mz_routing one;
        mz_assert_ok(s->ctx, mz_routing_take(s, 33, &router, &all));
        mz_assert_ok(s->ctx, mz_routing_take(s, 1, &router, &one));
        memcpy(all.logits.data, logits, sizeof logits);
        mz_assert_ok(s->ctx, mz_op_route(s, &router, &all));
        for (int t = 0; t < 33; t++) {
            memcpy(one.logits.data, logits + t * 40, 40 * sizeof(float));
            mz_assert_ok(s->ctx, mz_op_route(s, &router, &one));
            assert_memory_equal(one.expert_ids, all.expert_ids + t * 3, 3 * sizeof(int32_t));
            assert_memory_equal(one.gate_weights, all.gate_weights + t * 3, 3 * sizeof(float));
        }
        mz_arena_release(&s->arena, mark);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_and_dispatch),       cmocka_unit_test(test_known_rows),
        cmocka_unit_test(test_dispatch_invariants),      cmocka_unit_test(test_combine),
        cmocka_unit_test(test_combine_inverts_dispatch), cmocka_unit_test(test_token_alone),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
