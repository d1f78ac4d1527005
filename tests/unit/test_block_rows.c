/* The wanted rows of a block are those of the whole block, also where a row's routing depends on
 * the other rows of its sequence. */
#include "tests/testing.h"

#include <string.h>

#include "experts/block.h"
#include "llm/decoder.h"

enum { N = 21, D = 16, D_FF = 12, E = 4, HEAD = 8, N_OUT = 3 };

/* Weights of a block, filled from one array. */
typedef struct block_memory {
    float values[8192];
    int64_t n_values;
    const void *banks[3][E];
    mz_block block;
} block_memory;

static mz_tensor matrix(block_memory *m, int64_t n_rows, int64_t n_cols) {
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, n_rows, n_cols, m->values + m->n_values);
    assert_true(m->n_values + n_rows * n_cols <= (int64_t)(sizeof m->values / sizeof(float)));
    mz_fill_uniform(t.data, n_rows * n_cols, (uint64_t)m->n_values + 3, 0.4f);
    m->n_values += n_rows * n_cols;
    return t;
}

static mz_linear_bank bank(block_memory *m, int i, int64_t d_out, int64_t d_in) {
    for (int e = 0; e < E; e++) {
        m->banks[i][e] = matrix(m, d_out, d_in).data;
    }
    return (mz_linear_bank){.dtype = MZ_DTYPE_F32,
                            .n_experts = E,
                            .d_out = d_out,
                            .d_in = d_in,
                            .ld = d_in,
                            .data = m->banks[i]};
}

static void make_block(block_memory *m, const mz_router *router) {
    mz_block *b = &m->block;
    *m = (block_memory){0};
    b->attn_norm = b->ffn_norm = (mz_norm){.eps = 1e-6f};
    b->n_heads = b->n_kv_heads = D / HEAD;
    b->head_dim = b->head_dim_v = HEAD;
    b->plain.w_q.weight = matrix(m, D, D);
    b->plain.w_k.weight = matrix(m, D, D);
    b->plain.w_v.weight = matrix(m, D, D);
    b->w_o.weight = matrix(m, D, D);
    b->has_experts = true;
    b->moe.router = *router;
    b->moe.router_proj.weight = matrix(m, E, D);
    b->moe.router_residual.weight = matrix(m, E, E);
    b->moe.w_gate = bank(m, 0, D_FF, D);
    b->moe.w_up = bank(m, 1, D_FF, D);
    b->moe.w_down = bank(m, 2, D, D_FF);
}

static void check_rows(mz_stream *s, const mz_router *router, bool with_previous) {
    static const int32_t wanted[N_OUT] = {4, 11, 20};
    block_memory m;
    float cos_sin[N * HEAD];
    float x_data[N * D];
    float all[N * D];
    float some[N_OUT * D];
    float previous[N * E];
    int32_t sequence[N];
    int32_t position[N];
    uint8_t modality[N];
    int32_t out_sequence[N_OUT];
    int32_t out_position[N_OUT];
    uint8_t out_modality[N_OUT];
    make_block(&m, router);
    mz_fill_uniform(cos_sin, N * HEAD, 1, 1);
    mz_fill_uniform(x_data, N * D, 2, 1);
    mz_fill_uniform(previous, N * E, 4, 2);
    for (int t = 0; t < N; t++) {
        sequence[t] = t < 12 ? 0 : 1;
        position[t] = t < 12 ? t : t - 12;
        modality[t] = t % 3 != 0;
    }
    for (int i = 0; i < N_OUT; i++) {
        out_sequence[i] = sequence[wanted[i]];
        out_position[i] = position[wanted[i]];
        out_modality[i] = modality[wanted[i]];
    }
    const mz_rows rows = {
        .n_rows = N, .sequence = sequence, .position = position, .modality = modality};
    const mz_rows out_rows = {.n_rows = N_OUT,
                              .sequence = out_sequence,
                              .position = out_position,
                              .modality = out_modality};
    const mz_rope_table rope = {.n_positions = N,
                                .half_dim = HEAD / 2,
                                .cos = cos_sin,
                                .sin = cos_sin + N * HEAD / 2,
                                .head_dim = HEAD};
    const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, N, D, x_data);
    const mz_tensor y = mz_tensor_2d(MZ_DTYPE_F32, N, D, all);
    const mz_tensor y_some = mz_tensor_2d(MZ_DTYPE_F32, N_OUT, D, some);
    static const int32_t pages[2] = {0, 1};
    mz_kv_layer cache = {
        .dtype = MZ_DTYPE_F32, .n_kv_heads = D / HEAD, .head_dim = HEAD, .page_table = pages};
    cache.table_stride = 1;
    mz_kv_layout layout;
    mz_assert_ok(s->ctx, mz_kv_layout_of(&s->ctx->error, &cache, &layout));
    const size_t mark = mz_arena_mark(&s->arena);
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, 2 * layout.page_bytes, "cache", &cache.data));
    mz_block_call call = {.rows = &rows, .ropes = &rope, .cache = &cache};
    if (with_previous) {
        call.previous_logits = mz_tensor_2d(MZ_DTYPE_F32, N, E, previous);
    }
    const size_t used = s->arena.used;
    mz_assert_ok(s->ctx, mz_block_forward(s, &y, &x, &m.block, &call));
    call.out_rows = &out_rows;
    call.out_index = wanted;
    mz_assert_ok(s->ctx, mz_block_forward(s, &y_some, &x, &m.block, &call));
    assert_int_equal(s->arena.used, used);
    mz_arena_release(&s->arena, mark);
    for (int i = 0; i < N_OUT; i++) {
        mz_assert_close("wanted row", some + i * D, all + wanted[i] * D, D, 1e-6);
    }
}

static void wanted_rows_are_rows_of_all(void **state) {
    mz_context *ctx = *state;
    mz_stream s;
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), 1 << 20, &s));
    const mz_router softmax = {.n_experts = E, .top_k = 2, .renormalise = true};
    const mz_router limited = {.kind = MZ_ROUTER_DEEPSPEED_TOP1,
                               .n_experts = E,
                               .top_k = 1,
                               .capacity_factor = 0.4f,
                               .drop = true};
    mz_router patches = softmax;
    patches.by_modality = true;
    patches.text_before_text = true;
    patches.ranges[MZ_MODALITY_IMAGE] = (mz_expert_range){.first = 0, .n = 2};
    patches.ranges[MZ_MODALITY_TEXT] = (mz_expert_range){.first = 2, .n = 2};
    check_rows(&s, &softmax, false);
    check_rows(&s, &softmax, true);
    check_rows(&s, &limited, false);
    check_rows(&s, &patches, false);
    mz_stream_close(&s);
}

/* A decoder hands the logits of a mixture layer to the next, past a layer without experts. */
static void decoder_carries_logits(void **state) {
    enum { N_LAYERS = 4 };
    mz_context *ctx = *state;
    mz_stream s;
    const mz_router router = {.n_experts = E, .top_k = 2, .renormalise = true};
    block_memory m[N_LAYERS];
    mz_block blocks[N_LAYERS];
    float cos_sin[N * HEAD];
    float data[N_LAYERS + 1][N * D];
    float actual[N * D];
    float expected[N * D];
    int32_t sequence[N] = {0};
    int32_t position[N];
    mz_routing routings[N_LAYERS];
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), 1 << 20, &s));
    mz_fill_uniform(cos_sin, N * HEAD, 1, 1);
    mz_fill_uniform(data[0], N * D, 2, 1);
    for (int l = 0; l < N_LAYERS; l++) {
        make_block(&m[l], &router);
        mz_fill_uniform(m[l].values, m[l].n_values, 50 + (uint64_t)l, 0.4f);
        blocks[l] = m[l].block;
        mz_assert_ok(ctx, mz_routing_take(&s, N, &router, &routings[l]));
    }
    blocks[1].has_experts = false;
    blocks[1].ffn = (mz_ffn){.w_gate.weight = m[1].block.plain.w_q.weight,
                             .w_up.weight = m[1].block.plain.w_k.weight,
                             .w_down.weight = m[1].block.plain.w_v.weight};
    for (int t = 0; t < N; t++) {
        position[t] = t;
    }
    const mz_rows rows = {.n_rows = N, .sequence = sequence, .position = position};
    const mz_rope_table rope = {.n_positions = N,
                                .half_dim = HEAD / 2,
                                .cos = cos_sin,
                                .sin = cos_sin + N * HEAD / 2,
                                .head_dim = HEAD};
    const mz_decoder decoder = {
        .d_model = D, .n_layers = N_LAYERS, .blocks = blocks, .final_norm = {.eps = 1e-6f}};
    const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, N, D, data[0]);
    const mz_tensor hidden = mz_tensor_2d(MZ_DTYPE_F32, N, D, actual);
    const mz_tensor last = mz_tensor_2d(MZ_DTYPE_F32, N, D, data[N_LAYERS]);
    const mz_tensor normed = mz_tensor_2d(MZ_DTYPE_F32, N, D, expected);
    for (int l = 0; l < N_LAYERS; l++) {
        const mz_tensor in = mz_tensor_2d(MZ_DTYPE_F32, N, D, data[l]);
        const mz_tensor out = mz_tensor_2d(MZ_DTYPE_F32, N, D, data[l + 1]);
        mz_block_call call = {.rows = &rows, .ropes = &rope, .routing = &routings[l]};
        if (l > 1) {
            call.previous_logits = routings[l == 2 ? 0 : 2].logits;
        }
        mz_assert_ok(ctx, mz_block_forward(&s, &out, &in, &blocks[l], &call));
    }
    mz_assert_ok(ctx, mz_op_norm(&s, &normed, &last, &decoder.final_norm));
    mz_batch batch = {.n_tokens = N, .sequence = sequence, .position = position, .n_out = N};
    for (int given = 0; given < 2; given++) {
        memset(actual, 0, sizeof actual);
        batch.routings = given == 1 ? routings : NULL;
        mz_assert_ok(ctx, mz_decoder_forward(&s, &hidden, &x, &decoder, &batch, NULL, &rope, NULL));
        assert_memory_equal(actual, expected, sizeof expected);
    }
    mz_stream_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(wanted_rows_are_rows_of_all),
                                       cmocka_unit_test(decoder_carries_logits)};
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
