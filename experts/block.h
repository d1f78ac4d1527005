/* The transformer block that encoders and decoders share: self-attention over a paged KV cache, or
 * within whole sequences, then a feed-forward network or a mixture of experts, with residuals.
 *
 * What differs between published families is a field here: see the family files of the zoo. */
#ifndef MZ_EXPERTS_BLOCK_H
#define MZ_EXPERTS_BLOCK_H

#include "core/ops.h"
#include "experts/trace.h"

/* How the two halves are joined to the residual stream x. */
typedef enum mz_block_order {
    MZ_BLOCK_SEQUENTIAL = 0,    /* h = x + attn(attn_norm(x)); y = h + ffn(ffn_norm(h)) */
    MZ_BLOCK_PARALLEL_ONE_NORM, /* y = x + attn(attn_norm(x)) + ffn(attn_norm(x)) (Wang and
                                   Komatsuzaki 2021) */
} mz_block_order;

/* Queries, keys and values straight from the normed inputs (grouped heads: Ainslie et al. 2023). */
typedef struct mz_plain_attention {
    mz_linear w_q;    /* [n_heads * head_dim, d_model] */
    mz_linear w_k;    /* [n_kv_heads * head_dim, d_model] */
    mz_linear w_v;    /* [n_kv_heads * head_dim_v, d_model] */
    bool has_qk_norm; /* before the rotation; groups and weights as the norms say */
    mz_norm q_norm, k_norm;
} mz_plain_attention;

/* Multi-head latent attention (DeepSeek-AI 2024, section 2.1): keys and values come from one narrow
 * row, and one rotated part of the key is shared by all heads. The cache holds them expanded. A
 * head's first head_dim - rope_dim elements are not rotated. */
typedef struct mz_latent_attention {
    int64_t q_rank; /* 0: queries straight from the normed inputs */
    int64_t kv_rank, rope_dim;
    mz_linear w_q_down;  /* [q_rank, d_model], where there is a rank */
    mz_norm q_norm;      /* [q_rank] */
    mz_linear w_q;       /* [n_heads * head_dim, q_rank or d_model] */
    mz_linear w_kv_down; /* [kv_rank + rope_dim, d_model]: the narrow row, then the shared part */
    mz_norm kv_norm;     /* [kv_rank] */
    mz_linear w_kv; /* [n_heads * (head_dim - rope_dim + head_dim_v), kv_rank]: of each head the
                       key's part, then the value */
} mz_latent_attention;

/* Description and weights of one block; filled by a family file, immutable afterwards, shared by
 * threads. */
typedef struct mz_block {
    mz_block_order order;
    mz_norm attn_norm, ffn_norm;
    bool has_post_norms; /* norms of a half's output before it is added (Gemma team 2025) */
    mz_norm attn_post_norm, ffn_post_norm;
    int64_t n_heads, n_kv_heads, head_dim, head_dim_v;
    int64_t window;    /* a position sees those less than this far back; 0: all before it */
    float score_scale; /* of q k; 0: 1 / sqrt(head_dim) */
    int rope;          /* which table of the call */
    bool is_latent;    /* which of the two follows */
    mz_plain_attention plain;
    mz_latent_attention latent;
    mz_linear w_o;    /* [d_model, n_heads * head_dim_v] */
    bool has_experts; /* which of the two follows */
    mz_ffn ffn;
    mz_moe moe;
} mz_block;

/* What one call works on. All arrays are in backend memory. */
typedef struct mz_block_call {
    int layer;                  /* for the trace */
    const mz_rows *rows;        /* of x */
    const mz_kv_layer *cache;   /* NULL: the rows are whole sequences, which attend to themselves */
    const mz_rope_table *ropes; /* [block->rope + 1 at least]; of heads as the block has them; for
                                   latent attention half_dim rope_dim / 2, first head_dim -
                                   rope_dim */
    const mz_rows *out_rows;    /* the rows whose output is wanted; NULL: all */
    const int32_t *out_index;   /* which rows of x those are, ascending */
    const mz_routing *routing;  /* taken by the caller, who wants to look at it; NULL: none. For
                                   all rows: out_rows is NULL then */
    mz_tensor previous_logits;  /* [n_rows, n_experts] router logits of the mixture layer before,
                                   which its caller took with `routing`; absent: none */
    const mz_trace *trace;      /* NULL: none */
} mz_block_call;

/* Keys and values of all rows of x enter the cache, where there is one; y holds the block's output
 * for out_rows only, so that the last layer of a decoder computes no more than what is read; a
 * router that looks at whole sequences, or at the layer before, still sees all rows.
 *   x  [rows->n_rows, d_model]
 *   y  [out_rows->n_rows, d_model], or [rows->n_rows, d_model]
 * Trace, named as in the published implementations: input_layernorm; q, k (rotated) and v; attn_out
 * (before residual and post norm); h_attn (the residual stream after attention, sequential blocks
 * only); post_attention_layernorm (what the feed-forward reads, where it has a norm of its own; in
 * blocks with post norms that is pre_feedforward_layernorm, and post_attention_layernorm and
 * post_feedforward_layernorm are what is added to the stream);
 * router_logits, experts, gate_weights, shared_expert_gate (the logit), shared_expert; ffn_out
 * (likewise before residual and post norm); out. */
mz_status mz_block_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_block *block, const mz_block_call *call);

#endif
