#include "experts/block.h"

#include <math.h>

/* Sequence and position of the rows whose output is wanted. */
static const mz_rows *out_rows_of(const mz_block_call *call) {
    return call->out_rows != NULL ? call->out_rows : call->rows;
}

/* Rows of `x` that the call wants back: x itself, or a gathered copy. */
static mz_status wanted_rows(mz_stream *s, mz_tensor *out, const mz_tensor *x,
                             const mz_block_call *call) {
    if (call->out_rows == NULL) {
        *out = *x;
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take(s, call->out_rows->n_rows, x->shape[1], "wanted rows", out));
    return mz_op_gather_rows(s, out, x, call->out_index);
}

/* Keys, rotated, and values of all rows. */
static mz_status project_keys(mz_stream *s, mz_tensor *rotated, mz_tensor *v,
                              const mz_tensor *normed, const mz_block *block,
                              const mz_block_call *call) {
    const int64_t n = normed->shape[0];
    const int64_t width = block->n_kv_heads * block->head_dim;
    mz_tensor k;
    MZ_TRY(mz_stream_take(s, n, width, "keys", &k));
    MZ_TRY(mz_stream_take(s, n, width, "rotated keys", rotated));
    MZ_TRY(mz_stream_take(s, n, width, "values", v));
    MZ_TRY(mz_op_linear(s, &k, normed, &block->w_k));
    MZ_TRY(mz_op_linear(s, v, normed, &block->w_v));
    MZ_TRY(mz_op_rope(s, rotated, &k, call->rope, call->rows));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "k_cache", rotated));
    return mz_trace_record(call->trace, s, call->layer, "v_cache", v);
}

/* Keys and values of all rows into the cache. */
static mz_status fill_cache(mz_stream *s, const mz_tensor *normed, const mz_block *block,
                            const mz_block_call *call) {
    const size_t mark = mz_stream_mark(s);
    mz_tensor k;
    mz_tensor v;
    MZ_TRY(project_keys(s, &k, &v, normed, block, call));
    MZ_TRY(mz_op_kv_write(s, call->cache, &k, &v, call->rows));
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* Attention within whole sequences. */
static mz_status attend_rows(mz_stream *s, const mz_tensor *context, const mz_tensor *queries,
                             const mz_tensor *normed, const mz_block *block,
                             const mz_block_call *call, const mz_attention_rule *rule) {
    const int64_t n = normed->shape[0];
    mz_qkv in = {.q = *queries, .head_dim = block->head_dim};
    mz_tensor log_sums;
    MZ_TRY(project_keys(s, &in.k, &in.v, normed, block, call));
    MZ_TRY(mz_stream_take(s, n, block->n_heads, "attention sums", &log_sums));
    return mz_op_self_attention(s, context, &log_sums, &in, call->rows, rule);
}

/* out = W_o attention(rope(W_q normed_out)); `normed` holds all rows. */
static mz_status attend(mz_stream *s, const mz_tensor *out, const mz_tensor *normed_out,
                        const mz_tensor *normed, const mz_block *block, const mz_block_call *call) {
    const size_t mark = mz_stream_mark(s);
    const int64_t n = normed_out->shape[0];
    const int64_t width = block->n_heads * block->head_dim;
    const mz_attention_rule rule = {.scale = 1.0f / sqrtf((float)block->head_dim)};
    mz_tensor q;
    mz_tensor rotated;
    mz_tensor context;
    MZ_TRY(mz_stream_take(s, n, width, "queries", &q));
    MZ_TRY(mz_stream_take(s, n, width, "rotated queries", &rotated));
    MZ_TRY(mz_stream_take(s, n, width, "attention", &context));
    MZ_TRY(mz_op_linear(s, &q, normed_out, &block->w_q));
    MZ_TRY(mz_op_rope(s, &rotated, &q, call->rope, out_rows_of(call)));
    if (call->cache != NULL) {
        MZ_TRY(mz_op_attention(s, &context, &rotated, call->cache, out_rows_of(call), &rule));
    } else {
        MZ_TRY(attend_rows(s, &context, &rotated, normed, block, call, &rule));
    }
    MZ_TRY(mz_op_linear(s, out, &context, &block->w_o));
    mz_stream_release(s, mark);
    return mz_trace_record(call->trace, s, call->layer, "attn_out", out);
}

static mz_status record_routing(mz_stream *s, const mz_routing *routing,
                                const mz_block_call *call) {
    const mz_tensor ids =
        mz_tensor_2d(MZ_DTYPE_I32, routing->n_tokens, routing->top_k, routing->expert_ids);
    const mz_tensor weights =
        mz_tensor_2d(MZ_DTYPE_F32, routing->n_tokens, routing->top_k, routing->gate_weights);
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "router_logits", &routing->logits));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "expert_ids", &ids));
    return mz_trace_record(call->trace, s, call->layer, "gate_weights", &weights);
}

static mz_status mix_experts(mz_stream *s, const mz_tensor *out, const mz_tensor *normed,
                             const mz_block *block, const mz_block_call *call) {
    const size_t mark = mz_stream_mark(s);
    const bool inside = call->trace != NULL && call->trace->inside_moe;
    mz_routing routing;
    mz_moe_probe probe = {0};
    if (call->routing != NULL) {
        routing = *call->routing;
    } else {
        MZ_TRY(mz_routing_take(s, normed->shape[0], &block->moe.router, &routing));
    }
    routing.rows = *out_rows_of(call);
    routing.previous_logits = call->previous_logits;
    MZ_TRY(mz_op_moe(s, out, normed, &block->moe, &routing, inside ? &probe : NULL));
    MZ_TRY(record_routing(s, &routing, call));
    if (inside && block->moe.has_shared) {
        MZ_TRY(
            mz_trace_record(call->trace, s, call->layer, "shared_gate_logit", &probe.shared_logit));
        MZ_TRY(mz_trace_record(call->trace, s, call->layer, "shared_out", &probe.shared_out));
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

mz_status mz_block_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_block *block, const mz_block_call *call) {
    const size_t mark = mz_stream_mark(s);
    const int64_t d = x->shape[1];
    const int64_t n_out = out_rows_of(call)->n_rows;
    mz_tensor normed;
    mz_tensor normed_out;
    mz_tensor residual;
    mz_tensor attn_out;
    mz_tensor after_attn;
    mz_tensor ffn_in;
    mz_tensor ffn_out;
    MZ_TRY(mz_stream_take(s, x->shape[0], d, "attention norm", &normed));
    MZ_TRY(mz_op_rms_norm(s, &normed, x, &block->attn_norm, block->norm_eps));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "attn_norm", &normed));
    if (call->cache != NULL) {
        MZ_TRY(fill_cache(s, &normed, block, call));
    }
    MZ_TRY(wanted_rows(s, &normed_out, &normed, call));
    MZ_TRY(wanted_rows(s, &residual, x, call));

    MZ_TRY(mz_stream_take(s, n_out, d, "attention output", &attn_out));
    MZ_TRY(mz_stream_take(s, n_out, d, "after attention", &after_attn));
    MZ_TRY(attend(s, &attn_out, &normed_out, &normed, block, call));
    MZ_TRY(mz_op_add(s, &after_attn, &residual, &attn_out, 1));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "after_attn", &after_attn));

    MZ_TRY(mz_stream_take(s, n_out, d, "ffn norm", &ffn_in));
    MZ_TRY(mz_stream_take(s, n_out, d, "ffn output", &ffn_out));
    MZ_TRY(mz_op_rms_norm(s, &ffn_in, &after_attn, &block->ffn_norm, block->norm_eps));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "ffn_norm", &ffn_in));
    if (block->has_experts) {
        MZ_TRY(mix_experts(s, &ffn_out, &ffn_in, block, call));
    } else {
        MZ_TRY(mz_op_ffn(s, &ffn_out, &ffn_in, &block->ffn));
    }
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "ffn_out", &ffn_out));
    MZ_TRY(mz_op_add(s, y, &after_attn, &ffn_out, 1));
    mz_stream_release(s, mark);
    return mz_trace_record(call->trace, s, call->layer, "out", y);
}
