#include "experts/attention_internal.h"
#include "experts/router.h"

/* Rows of `x` that the call wants back: x itself, or a gathered copy. */
static mz_status wanted_rows(mz_stream *s, mz_tensor *out, const mz_tensor *x,
                             const mz_block_call *call) {
    if (call->out_rows == NULL) {
        *out = *x;
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take(s, call->out_rows->n_rows, x->shape[1], "wanted rows", out));
    return mz_op_gather_rows(s, out, x, call->out_index, 1);
}

static mz_status record_routing(mz_stream *s, const mz_routing *routing,
                                const mz_block_call *call) {
    const mz_tensor ids =
        mz_tensor_2d(MZ_DTYPE_I32, routing->n_tokens, routing->top_k, routing->expert_ids);
    const mz_tensor weights =
        mz_tensor_2d(MZ_DTYPE_F32, routing->n_tokens, routing->top_k, routing->gate_weights);
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "router_logits", &routing->logits));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "experts", &ids));
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
    routing.rows = *mz_block_out_rows(call);
    routing.previous_logits = call->previous_logits;
    MZ_TRY(mz_op_moe(s, out, normed, &block->moe, &routing, inside ? &probe : NULL));
    MZ_TRY(record_routing(s, &routing, call));
    if (inside && probe.shared_logit.n_dims > 0) {
        MZ_TRY(mz_trace_record(call->trace, s, call->layer, "shared_expert_gate",
                               &probe.shared_logit));
    }
    if (inside && block->moe.has_shared) {
        MZ_TRY(mz_trace_record(call->trace, s, call->layer, "shared_expert", &probe.shared_out));
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* A half's output as it is added to the residual stream: itself, or normed. */
static mz_status post_norm(mz_stream *s, mz_tensor *out, const mz_tensor *x, const mz_norm *norm,
                           const mz_block *block, const mz_block_call *call) {
    *out = *x;
    if (!block->has_post_norms) {
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "post norm", out));
    MZ_TRY(mz_op_norm(s, out, x, norm));
    return mz_trace_record(call->trace, s, call->layer,
                           norm == &block->attn_post_norm ? "post_attention_layernorm"
                                                          : "post_feedforward_layernorm",
                           out);
}

/* out = ffn(norm(x)), with norm NULL of x itself; the residual is not added. */
static mz_status feed_forward(mz_stream *s, mz_tensor *out, const mz_tensor *x, const mz_norm *norm,
                              const mz_block *block, const mz_block_call *call) {
    mz_tensor input = *x;
    mz_tensor result;
    if (norm != NULL) {
        MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "ffn norm", &input));
        MZ_TRY(mz_op_norm(s, &input, x, norm));
        MZ_TRY(mz_trace_record(call->trace, s, call->layer,
                               block->has_post_norms ? "pre_feedforward_layernorm"
                                                     : "post_attention_layernorm",
                               &input));
    }
    MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "ffn output", &result));
    if (block->has_experts) {
        MZ_TRY(mix_experts(s, &result, &input, block, call));
    } else {
        MZ_TRY(mz_op_ffn(s, &result, &input, &block->ffn));
    }
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "ffn_out", &result));
    return post_norm(s, out, &result, &block->ffn_post_norm, block, call);
}

/* All rows, of which the wanted ones are copied. */
static mz_status forward_all_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                  const mz_block *block, const mz_block_call *call) {
    const size_t mark = mz_stream_mark(s);
    mz_block_call all = *call;
    mz_tensor out;
    all.out_rows = NULL;
    all.out_index = NULL;
    MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "all rows", &out));
    MZ_TRY(mz_block_forward(s, &out, x, block, &all));
    MZ_TRY(mz_op_gather_rows(s, y, &out, call->out_index, 1));
    mz_stream_release(s, mark);
    return MZ_OK;
}

mz_status mz_block_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_block *block, const mz_block_call *call) {
    if (call->out_rows != NULL && block->has_experts &&
        (mz_router_needs_sequences(&block->moe.router) || call->previous_logits.n_dims > 0)) {
        return forward_all_rows(s, y, x, block, call);
    }
    const size_t mark = mz_stream_mark(s);
    const int64_t d = x->shape[1];
    const int64_t n_out = mz_block_out_rows(call)->n_rows;
    mz_tensor normed;
    mz_tensor normed_out;
    mz_tensor residual;
    mz_tensor attn_out;
    mz_tensor attn_term;
    mz_tensor after_attn;
    mz_tensor ffn_term;
    MZ_TRY(mz_stream_take(s, x->shape[0], d, "attention norm", &normed));
    MZ_TRY(mz_op_norm(s, &normed, x, &block->attn_norm));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "input_layernorm", &normed));
    MZ_TRY(wanted_rows(s, &normed_out, &normed, call));
    MZ_TRY(wanted_rows(s, &residual, x, call));

    MZ_TRY(mz_stream_take(s, n_out, d, "attention output", &attn_out));
    MZ_TRY(mz_stream_take(s, n_out, d, "after attention", &after_attn));
    MZ_TRY(mz_block_attend(s, &attn_out, &normed_out, &normed, block, call));
    MZ_TRY(post_norm(s, &attn_term, &attn_out, &block->attn_post_norm, block, call));
    MZ_TRY(mz_op_add(s, &after_attn, &residual, &attn_term, 1));

    if (block->order == MZ_BLOCK_SEQUENTIAL) {
        MZ_TRY(mz_trace_record(call->trace, s, call->layer, "h_attn", &after_attn));
        MZ_TRY(feed_forward(s, &ffn_term, &after_attn, &block->ffn_norm, block, call));
    } else {
        MZ_TRY(feed_forward(s, &ffn_term, &normed_out, NULL, block, call));
    }
    MZ_TRY(mz_op_add(s, y, &after_attn, &ffn_term, 1));
    mz_stream_release(s, mark);
    return mz_trace_record(call->trace, s, call->layer, "out", y);
}
