/* Any router with any kind of experts: output and gradients of the CPU backend against the
 * reference, and what holds for every mixture. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tape.h"
#include "experts/router.h"

enum { D = 32, D_OUT = 17, D_FF = 32, RANK = 3, E = 8, HIDDEN = 11, N_TOKENS = 33 };

typedef enum expert_kind {
    GATED,
    BIASED, /* w_1 b_1 w_2 b_2, to another width */
    MIXED,  /* gated, constant, copy, zero; inputs times 2 */
    LORA,
    SHARED,
    SHARED_GATED,
    N_EXPERT_KINDS
} expert_kind;

typedef enum router_kind {
    SOFTMAX,
    SIGMOID,
    TOP_P,
    DEEPSPEED1,
    DEEPSPEED2,
    ONE_ROUTER_BY_MODALITY,
    ROUTERS_BY_MODALITY,
    DEEP, /* two layers, and the previous layer's logits */
    N_ROUTER_KINDS
} router_kind;

static const char *const expert_names[N_EXPERT_KINDS] = {"gated",    "biased", "mixed",
                                                         "low-rank", "shared", "shared with gate"};
static const char *const router_names[N_ROUTER_KINDS] = {
    "softmax",         "sigmoid",     "top-p",       "deepspeed top-1",
    "deepspeed top-2", "by modality", "router each", "deep"};

enum { MAX_VALUES = 1 << 16 };

/* A layer, its parameters and its inputs, all in `values`. */
typedef struct layer {
    float values[MAX_VALUES], gradients[MAX_VALUES];
    int64_t n_values;
    mz_moe moe;
    const void *data[8][E];
    const float *bias[2][E];
    int n_banks;
    mz_linear router_of[MZ_MODALITY_COUNT];
    mz_constant_expert constants[1];
    mz_lora_experts lora;
    mz_tensor x, previous;
    int32_t sequence[N_TOKENS];
    uint8_t modality[N_TOKENS];
    mz_rows rows;
} layer;

static mz_tensor matrix(layer *l, int64_t n_rows, int64_t n_cols, float scale) {
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, n_rows, n_cols, l->values + l->n_values);
    assert_true(l->n_values + n_rows * n_cols <= MAX_VALUES);
    mz_fill_uniform(t.data, n_rows * n_cols, (uint64_t)l->n_values + 77, scale);
    l->n_values += n_rows * n_cols;
    return t;
}

static mz_tensor vector(layer *l, int64_t n, float scale) {
    return mz_tensor_1d(MZ_DTYPE_F32, n, matrix(l, 1, n, scale).data);
}

static mz_linear linear(layer *l, int64_t d_out, int64_t d_in) {
    return (mz_linear){.weight = matrix(l, d_out, d_in, 0.3f)};
}

static mz_linear_bank bank(layer *l, int64_t n, int64_t d_out, int64_t d_in) {
    const void **table = l->data[l->n_banks++];
    for (int64_t e = 0; e < n; e++) {
        table[e] = matrix(l, d_out, d_in, 0.3f).data;
    }
    return (mz_linear_bank){.dtype = MZ_DTYPE_F32,
                            .n_experts = n,
                            .d_out = d_out,
                            .d_in = d_in,
                            .ld = d_in,
                            .data = table};
}

static mz_ffn ffn(layer *l) {
    return (mz_ffn){
        .w_gate = linear(l, D_FF, D), .w_up = linear(l, D_FF, D), .w_down = linear(l, D, D_FF)};
}

static void gated_banks(layer *l, int64_t n) {
    l->moe.w_gate = bank(l, n, D_FF, D);
    l->moe.w_up = bank(l, n, D_FF, D);
    l->moe.w_down = bank(l, n, D, D_FF);
}

static void biased_banks(layer *l) {
    mz_linear_bank *banks[] = {&l->moe.w_up, &l->moe.w_down};
    l->moe.w_up = bank(l, E, D_FF, D);
    l->moe.w_down = bank(l, E, D_OUT, D_FF);
    for (int i = 0; i < 2; i++) {
        for (int e = 0; e < E; e++) {
            l->bias[i][e] = vector(l, banks[i]->d_out, 0.5f).data;
        }
        banks[i]->bias = l->bias[i];
    }
    l->moe.activation = MZ_ACTIVATION_GELU;
}

static mz_low_rank_bank low_rank(layer *l, int64_t d_out, int64_t d_in) {
    return (mz_low_rank_bank){
        .a = bank(l, E, RANK, d_in), .b = bank(l, E, d_out, RANK), .scale = 1.5f};
}

static void make_experts(layer *l, expert_kind kind) {
    switch (kind) {
    case BIASED:
        biased_banks(l);
        return;
    case MIXED:
        gated_banks(l, E - 3);
        l->constants[0] =
            (mz_constant_expert){.value = vector(l, D, 1), .w_mix = matrix(l, 2, D, 0.5f)};
        l->moe.plain = (mz_plain_experts){
            .constants = l->constants, .n_constant = 1, .n_copy = 1, .n_zero = 1};
        l->moe.router.n_zero = 1;
        l->moe.input_scale = 2;
        return;
    case LORA:
        l->lora.base = ffn(l);
        l->lora.gate = low_rank(l, D_FF, D);
        l->lora.up = low_rank(l, D_FF, D);
        l->lora.down = low_rank(l, D, D_FF);
        l->moe.lora = &l->lora;
        return;
    case SHARED_GATED:
        l->moe.shared_gate = linear(l, 1, D);
        break;
    default:
        break;
    }
    gated_banks(l, E);
    if (kind != GATED) {
        l->moe.has_shared = true;
        l->moe.shared = ffn(l);
    }
}

static void make_router(layer *l, router_kind kind) {
    mz_router *r = &l->moe.router;
    r->n_experts = E;
    r->top_k = 2;
    r->renormalise = kind != TOP_P && kind != DEEPSPEED1;
    r->ranges[MZ_MODALITY_TEXT] = (mz_expert_range){.first = 2, .n = 6};
    r->ranges[MZ_MODALITY_IMAGE] = (mz_expert_range){.n = 5};
    r->by_modality = kind == ONE_ROUTER_BY_MODALITY || kind == ROUTERS_BY_MODALITY;
    if (kind == SIGMOID) {
        r->kind = MZ_ROUTER_SIGMOID_TOPK;
        r->selection_bias = vector(l, E, 0.2f);
        r->n_groups = 4;
        r->n_top_groups = 2;
        r->group_by_two = true;
        r->scale = 1.7f;
    } else if (kind == TOP_P) {
        r->kind = MZ_ROUTER_TOP_P;
        r->top_k = E;
        r->threshold = 0.5f;
    } else if (kind == DEEPSPEED1 || kind == DEEPSPEED2) {
        r->kind = kind == DEEPSPEED1 ? MZ_ROUTER_DEEPSPEED_TOP1 : MZ_ROUTER_DEEPSPEED_TOP2;
        r->top_k = kind == DEEPSPEED1 ? 1 : 2;
        r->drop = true;
        r->capacity_factor = 0.8f;
    }
    if (kind == DEEP) {
        l->moe.router_hidden = linear(l, HIDDEN, D);
        l->moe.router_residual = linear(l, E, E);
        l->previous = matrix(l, N_TOKENS, E, 1);
    }
    if (kind == ROUTERS_BY_MODALITY) {
        l->router_of[MZ_MODALITY_TEXT] = linear(l, 6, D);
        l->router_of[MZ_MODALITY_IMAGE] = linear(l, 5, D);
        l->moe.router_of = l->router_of;
    } else {
        l->moe.router_proj = linear(l, E, kind == DEEP ? HIDDEN : D);
        l->moe.router_proj.bias = vector(l, E, 0.1f);
    }
}

/* Sequences of 20 and 13 rows. */
static layer *make_layer(router_kind router, expert_kind experts) {
    layer *l = calloc(1, sizeof *l);
    assert_non_null(l);
    make_router(l, router);
    make_experts(l, experts);
    l->x = matrix(l, N_TOKENS, D, 1.5f);
    for (int t = 0; t < N_TOKENS; t++) {
        l->sequence[t] = t < 20 ? 3 : 8;
        l->modality[t] = t % 7 < 4;
    }
    l->rows = (mz_rows){.n_rows = N_TOKENS, .sequence = l->sequence, .modality = l->modality};
    return l;
}

static int64_t width_of(const layer *l) {
    return l->moe.w_down.n_experts > 0 ? l->moe.w_down.d_out : D;
}

/* Rows [begin, begin + n). */
static mz_tensor forward(mz_stream *s, const layer *l, int64_t begin, int64_t n,
                         mz_routing *routing) {
    const mz_tensor x = mz_tensor_rows(&l->x, begin, n);
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_router_validate(&l->moe.router, &s->ctx->error));
    mz_assert_ok(s->ctx, mz_routing_take(s, n, &l->moe.router, routing));
    mz_assert_ok(s->ctx, mz_stream_take(s, n, width_of(l), "output", &y));
    routing->rows = (mz_rows){
        .n_rows = n, .sequence = l->rows.sequence + begin, .modality = l->rows.modality + begin};
    if (l->previous.n_dims > 0) {
        routing->previous_logits = mz_tensor_rows(&l->previous, begin, n);
    }
    mz_assert_ok(s->ctx, mz_op_moe(s, &y, &x, &l->moe, routing, NULL));
    return y;
}

static void run_forward(mz_stream *s, const void *arg, float *out) {
    const layer *l = arg;
    mz_routing routing;
    const mz_tensor y = forward(s, l, 0, N_TOKENS, &routing);
    memcpy(out, y.data, (size_t)(N_TOKENS * width_of(l)) * sizeof *out);
}

/* Gradients of everything; `arg` is written to. */
static void run_backward(mz_stream *s, const void *arg, float *out) {
    layer *l = *(layer *const *)arg;
    mz_tape *tape = NULL;
    mz_routing routing;
    memset(l->gradients, 0, sizeof l->gradients);
    mz_assert_ok(s->ctx, mz_tape_create(s->ctx, &tape));
    mz_assert_ok(s->ctx, mz_tape_attach(tape, s));
    mz_assert_ok(s->ctx, mz_tape_add_parameters(tape, l->values, l->gradients, sizeof l->values));
    const mz_tensor y = forward(s, l, 0, N_TOKENS, &routing);
    const mz_tensor d_y = mz_tape_gradient(s, &y);
    mz_fill_uniform(d_y.data, mz_tensor_n_elements(&d_y), 5, 1);
    mz_assert_ok(s->ctx, mz_backward(s));
    memcpy(out, l->gradients, (size_t)l->n_values * sizeof *out);
    mz_tape_detach(s);
    mz_tape_destroy(s->ctx, tape);
}

static void for_all(void **state, void (*check)(mz_op_streams *streams, layer *l, const char *name,
                                                router_kind router, expert_kind experts)) {
    for (int i = 0; i < N_ROUTER_KINDS * N_EXPERT_KINDS; i++) {
        const router_kind router = (router_kind)(i % N_ROUTER_KINDS);
        const expert_kind experts = (expert_kind)(i / N_ROUTER_KINDS);
        char name[64];
        layer *l = make_layer(router, experts);
        (void)snprintf(name, sizeof name, "%s router, %s experts", router_names[router],
                       expert_names[experts]);
        check(*state, l, name, router, experts);
        free(l);
    }
}

static void check_against_reference(mz_op_streams *streams, layer *l, const char *name,
                                    router_kind router, expert_kind experts) {
    char what[96];
    layer *const itself = l;
    (void)router;
    (void)experts;
    mz_check_op(streams, name, run_forward, l, N_TOKENS * width_of(l), 1e-6);
    (void)snprintf(what, sizeof what, "gradients, %s", name);
    mz_check_op(streams, what, run_backward, &itself, l->n_values, 1e-6);
}

static void test_backends_agree(void **state) {
    for_all(state, check_against_reference);
}

/* ---- Weights in 8 bits ---- */

enum { Q8_BLOCK_BYTES = 34, Q8_BYTES = D * D_FF / 32 * Q8_BLOCK_BYTES };

typedef struct quantised {
    layer *l;
    unsigned char matrices[3 * E][Q8_BYTES];
    const void *tables[3][E];
} quantised;

static void quantise_linear(mz_linear *w, unsigned char *out) {
    mz_dtype_get(MZ_DTYPE_Q8_0)->from_f32(out, w->weight.data, D * D_FF);
    w->weight.dtype = MZ_DTYPE_Q8_0;
    w->weight.data = out;
}

static void quantise_bank(mz_linear_bank *bank, quantised *q, int i) {
    for (int e = 0; e < E; e++) {
        mz_dtype_get(MZ_DTYPE_Q8_0)->from_f32(q->matrices[i * E + e], bank->data[e], D * D_FF);
        q->tables[i][e] = q->matrices[i * E + e];
    }
    bank->dtype = MZ_DTYPE_Q8_0;
    bank->data = q->tables[i];
}

/* Low-rank experts learn on a frozen base in 8 bits; experts in 8 bits take any router. */
static void test_quantised_weights(void **state) {
    static const router_kind routers[] = {SOFTMAX, TOP_P, DEEPSPEED2, ROUTERS_BY_MODALITY};
    assert_int_equal(mz_dtype_get(MZ_DTYPE_Q8_0)->block_bytes, Q8_BLOCK_BYTES);
    for (int i = 0; i < 8; i++) {
        quantised *q = calloc(1, sizeof *q);
        assert_non_null(q);
        layer *l = make_layer(routers[i / 2], i % 2 == 0 ? LORA : GATED);
        q->l = l;
        if (i % 2 == 0) {
            quantise_linear(&l->lora.base.w_gate, q->matrices[0]);
            quantise_linear(&l->lora.base.w_up, q->matrices[1]);
            quantise_linear(&l->lora.base.w_down, q->matrices[2]);
        } else {
            quantise_bank(&l->moe.w_gate, q, 0);
            quantise_bank(&l->moe.w_up, q, 1);
            quantise_bank(&l->moe.w_down, q, 2);
        }
        mz_check_op(*state, router_names[routers[i / 2]], run_forward, l, N_TOKENS * D, 1e-6);
        mz_check_op(*state, router_names[routers[i / 2]], run_backward, &q->l, l->n_values, 1e-6);
        free(l);
        free(q);
    }
}

/* ---- Scratch ---- */

static void check_scratch(mz_op_streams *streams, layer *l, const char *name, router_kind router,
                          expert_kind experts) {
    (void)router;
    (void)experts;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        mz_stream measure;
        mz_routing routing;
        const size_t mark = mz_arena_mark(&s->arena);
        mz_stream_open_measure(s->ctx, s->backend, &measure);
        (void)forward(&measure, l, 0, N_TOKENS, &routing);
        s->arena.peak = mark;
        (void)forward(s, l, 0, N_TOKENS, &routing);
        if (s->arena.peak - mark > measure.arena.peak) {
            fail_msg("%s: %zu bytes of scratch, %zu were measured", name, s->arena.peak - mark,
                     measure.arena.peak);
        }
        mz_arena_release(&s->arena, mark);
    }
}

static void test_scratch_is_measured(void **state) {
    for_all(state, check_scratch);
}

/* ---- What holds for every mixture ---- */

/* A sequence's rows do not depend on the other sequence: the same bits alone. */
static void check_sequences(mz_op_streams *streams, layer *l, const char *name, router_kind router,
                            expert_kind experts) {
    (void)router;
    (void)experts;
    (void)name;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        const size_t row_bytes = (size_t)width_of(l) * sizeof(float);
        mz_routing routing;
        const mz_tensor both = forward(s, l, 0, N_TOKENS, &routing);
        const mz_tensor first = forward(s, l, 0, 20, &routing);
        const mz_tensor second = forward(s, l, 20, 13, &routing);
        assert_memory_equal(both.data, first.data, 20 * row_bytes);
        assert_memory_equal(mz_tensor_f32(&both, 20), second.data, 13 * row_bytes);
        mz_arena_release(&s->arena, mark);
    }
}

static void test_sequences_are_alone(void **state) {
    for_all(state, check_sequences);
}

/* The output of expert e for all rows. */
static void expert_output(mz_stream *s, const layer *l, int e, float *out) {
    const mz_ffn one = {
        .w_gate.weight = mz_tensor_2d(MZ_DTYPE_F32, D_FF, D, (void *)l->moe.w_gate.data[e]),
        .w_up.weight = mz_tensor_2d(MZ_DTYPE_F32, D_FF, D, (void *)l->moe.w_up.data[e]),
        .w_down.weight = mz_tensor_2d(MZ_DTYPE_F32, D, D_FF, (void *)l->moe.w_down.data[e])};
    const mz_tensor y = mz_tensor_2d(MZ_DTYPE_F32, N_TOKENS, D, out);
    mz_assert_ok(s->ctx, mz_op_ffn(s, &y, &l->x, &one));
}

/* Identical experts are one network, whatever a renormalising router chooses. */
static void test_identical_experts(void **state) {
    static const router_kind routers[] = {SOFTMAX, ONE_ROUTER_BY_MODALITY, ROUTERS_BY_MODALITY,
                                          DEEP};
    mz_op_streams *streams = *state;
    for (size_t i = 0; i < sizeof routers / sizeof routers[0]; i++) {
        layer *l = make_layer(routers[i], GATED);
        const mz_linear_bank *banks[] = {&l->moe.w_gate, &l->moe.w_up, &l->moe.w_down};
        for (int b = 0; b < 3; b++) {
            for (int e = 1; e < E; e++) {
                memcpy((void *)banks[b]->data[e], banks[b]->data[0],
                       (size_t)(banks[b]->d_out * banks[b]->d_in) * sizeof(float));
            }
        }
        for (int j = -1; j < streams->n_cpu; j++) {
            mz_stream *s = j < 0 ? &streams->reference : &streams->cpu[j];
            const size_t mark = mz_arena_mark(&s->arena);
            float expected[N_TOKENS * D];
            mz_routing routing;
            expert_output(s, l, 0, expected);
            const mz_tensor y = forward(s, l, 0, N_TOKENS, &routing);
            mz_assert_close(router_names[routers[i]], y.data, expected, N_TOKENS * D, 1e-6);
            mz_arena_release(&s->arena, mark);
        }
        free(l);
    }
}

/* All experts chosen: the dense mixture under the softmax. A router that is sure: that expert. */
static void test_dense_and_certain(void **state) {
    mz_op_streams *streams = *state;
    layer *l = make_layer(SOFTMAX, GATED);
    l->moe.router.top_k = E;
    l->moe.router.renormalise = false;
    for (int j = -1; j < streams->n_cpu; j++) {
        mz_stream *s = j < 0 ? &streams->reference : &streams->cpu[j];
        const size_t mark = mz_arena_mark(&s->arena);
        float outputs[E][N_TOKENS * D];
        float expected[N_TOKENS * D] = {0};
        mz_routing routing;
        mz_tensor p;
        mz_assert_ok(s->ctx, mz_stream_take(s, N_TOKENS, E, "test", &p));
        const mz_tensor y = forward(s, l, 0, N_TOKENS, &routing);
        mz_assert_ok(s->ctx, mz_op_softmax(s, &p, &routing.logits));
        for (int e = 0; e < E; e++) {
            expert_output(s, l, e, outputs[e]);
            for (int i = 0; i < N_TOKENS * D; i++) {
                expected[i] += mz_tensor_f32(&p, i / D)[e] * outputs[e][i];
            }
        }
        mz_assert_close("dense", y.data, expected, N_TOKENS * D, 1e-6);
        l->moe.router.top_k = 2;
        ((float *)l->moe.router_proj.bias.data)[5] += 200;
        const mz_tensor certain = forward(s, l, 0, N_TOKENS, &routing);
        ((float *)l->moe.router_proj.bias.data)[5] -= 200;
        l->moe.router.top_k = E;
        mz_assert_close("certain", certain.data, outputs[5], N_TOKENS * D, 1e-6);
        mz_arena_release(&s->arena, mark);
    }
    free(l);
}

/* Rows whose choices were all dropped are 0, or what the shared expert says. */
static void test_dropped_rows(void **state) {
    mz_op_streams *streams = *state;
    for (int shared = 0; shared < 2; shared++) {
        layer *l = make_layer(DEEPSPEED1, shared != 0 ? SHARED : GATED);
        l->moe.router.capacity_factor = 0;
        l->moe.router.min_capacity = 1;
        for (int j = -1; j < streams->n_cpu; j++) {
            mz_stream *s = j < 0 ? &streams->reference : &streams->cpu[j];
            const size_t mark = mz_arena_mark(&s->arena);
            float expected[N_TOKENS * D] = {0};
            int n_dropped = 0;
            mz_routing routing;
            const mz_tensor y = forward(s, l, 0, N_TOKENS, &routing);
            const mz_tensor out = mz_tensor_2d(MZ_DTYPE_F32, N_TOKENS, D, expected);
            if (shared != 0) {
                mz_assert_ok(s->ctx, mz_op_ffn(s, &out, &l->x, &l->moe.shared));
            }
            for (int t = 0; t < N_TOKENS; t++) {
                if (routing.expert_ids[t] < 0) {
                    mz_assert_close("dropped", mz_tensor_f32(&y, t), expected + t * D, D, 1e-6);
                    n_dropped++;
                }
            }
            assert_true(n_dropped >= N_TOKENS - 2 * E);
            mz_arena_release(&s->arena, mark);
        }
        free(l);
    }
}

/* ---- What is refused ---- */

static void expect_refused(mz_stream *s, const layer *l, mz_status status, const char *text) {
    const size_t mark = mz_arena_mark(&s->arena);
    mz_routing routing;
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_routing_take(s, N_TOKENS, &l->moe.router, &routing));
    mz_assert_ok(s->ctx, mz_stream_take(s, N_TOKENS, D, "output", &y));
    assert_int_equal(mz_op_moe(s, &y, &l->x, &l->moe, &routing, NULL), status);
    if (strstr(s->ctx->error.message, text) == NULL) {
        fail_msg("%s lacks: %s", s->ctx->error.message, text);
    }
    mz_arena_release(&s->arena, mark);
}

static void test_refusals(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    layer *l = make_layer(SOFTMAX, MIXED);
    l->moe.router.n_zero = 0;
    expect_refused(s, l, MZ_ERR_ARG, "1 silent experts of 8 (0 for the router)");
    l->moe.router.n_zero = 1;
    l->moe.plain.n_copy = 2;
    expect_refused(s, l, MZ_ERR_SHAPE, "gate is 5 x [32, 32], expected 4 x [32, 32]");
    l->moe.plain.n_copy = 1;
    l->constants[0].value.shape[0] = D - 1;
    expect_refused(s, l, MZ_ERR_SHAPE, "value is [31]");
    free(l);
    mz_backend lacking = *mz_backend_reference();
    lacking.plain_experts = NULL;
    lacking.mask_logits = NULL;
    const mz_backend *backend = streams->reference.backend;
    streams->reference.backend = &lacking;
    l = make_layer(SOFTMAX, MIXED);
    expect_refused(&streams->reference, l, MZ_ERR_UNSUPPORTED, "lacks the op plain_experts");
    free(l);
    l = make_layer(ONE_ROUTER_BY_MODALITY, GATED);
    expect_refused(&streams->reference, l, MZ_ERR_UNSUPPORTED, "lacks the op mask_logits");
    free(l);
    streams->reference.backend = backend;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backends_agree),      cmocka_unit_test(test_quantised_weights),
        cmocka_unit_test(test_scratch_is_measured), cmocka_unit_test(test_sequences_are_alone),
        cmocka_unit_test(test_identical_experts),   cmocka_unit_test(test_dense_and_certain),
        cmocka_unit_test(test_dropped_rows),        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
