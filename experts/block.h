/* The transformer block that encoders and decoders share: causal self-attention over a paged KV
 * cache, then a feed-forward network or a mixture of experts, both pre-norm with residuals. */
#ifndef MZ_EXPERTS_BLOCK_H
#define MZ_EXPERTS_BLOCK_H

#include "core/ops.h"
#include "experts/trace.h"

/* Description and weights of one block; filled by a family file, immutable afterwards, shared by
 * threads. */
typedef struct mz_block {
    float norm_eps;
    int64_t n_heads, n_kv_heads, head_dim;
    mz_tensor attn_norm; /* [d_model] f32 */
    mz_linear w_q;       /* [n_heads * head_dim, d_model] */
    mz_linear w_k, w_v;  /* [n_kv_heads * head_dim, d_model] */
    mz_linear w_o;       /* [d_model, n_heads * head_dim] */
    mz_tensor ffn_norm;  /* [d_model] f32 */
    bool has_experts;    /* which of the two follows */
    mz_ffn ffn;
    mz_moe moe;
} mz_block;

/* What one call works on. All arrays are in backend memory. */
typedef struct mz_block_call {
    int layer;                /* for the trace */
    const mz_rows *rows;      /* of x */
    const mz_kv_layer *cache; /* NULL: the rows are whole sequences, which attend to themselves */
    const mz_rope_table *rope;
    const mz_rows *out_rows;   /* the rows whose output is wanted; NULL: all */
    const int32_t *out_index;  /* which rows of x those are, ascending */
    const mz_routing *routing; /* taken by the caller, who wants to look at it; NULL: none. For
                                  all rows: out_rows is NULL then */
    mz_tensor previous_logits; /* [n_rows, n_experts] router logits of the mixture layer before,
                                  which its caller took with `routing`; absent: none */
    const mz_trace *trace;     /* NULL: none */
} mz_block_call;

/* Keys and values of all rows of x enter the cache, where there is one; y holds the block's output
 * for out_rows only, so that the last layer of a decoder computes no more than what is read. x
 * [rows->n_rows, d_model] y  [out_rows->n_rows, d_model], or [rows->n_rows, d_model] Trace:
 * attn_norm, k_cache (rotated keys), v_cache, attn_out, after_attn, ffn_norm, router_logits,
 * expert_ids, gate_weights, shared_gate_logit, shared_out, ffn_out, out. */
mz_status mz_block_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_block *block, const mz_block_call *call);

#endif
