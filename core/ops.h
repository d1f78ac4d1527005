/* The ops that models are made of: what each computes, and the structures they pass around.
 *
 * Call these wrappers, never the backend's table: a wrapper checks shapes once, times the op when a
 * profile is attached, and calls the backend's implementation or, for a fused op that the backend
 * lacks, its composition from primitives (core/ops/composed.c).
 *
 * Rules for all ops. Activations are f32 [n_tokens, width] tensors in the memory of the stream's
 * backend; rows may be strided, columns are contiguous. No op overwrites an input. Zero tokens is a
 * no-op. Sums are f32 or wider, in an order that depends neither on the number of threads nor on
 * the other rows of the call. Errors are MZ_ERR_SHAPE and MZ_ERR_DTYPE for arguments, MZ_ERR_LIMIT
 * when scratch does not fit the stream's arena, MZ_ERR_DEVICE. */
#ifndef MZ_CORE_OPS_H
#define MZ_CORE_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_backend mz_backend; /* core/backend.h */
typedef struct mz_profile mz_profile; /* core/profile.h */
typedef struct mz_tape mz_tape;       /* core/tape.h */

/* Where ops run. Opened with mz_stream_open (core/backend.h); belongs to one session and one
 * thread. */
typedef struct mz_stream {
    const mz_backend *backend;
    mz_context *ctx; /* allocator, threads, instruction set, error */
    mz_arena arena;  /* activations and scratch, in backend memory */
    void *arena_base;
    mz_profile *profile; /* NULL: ops are not timed */
    mz_tape *tape;       /* NULL: ops are not recorded (core/tape.h) */
    bool keep;    /* keep every activation until the pass ends (a tape or a trace reads them) */
    void *native; /* the backend's own state */
} mz_stream;

/* Where a token comes from; routers and adapters may look at it. */
typedef enum mz_modality {
    MZ_MODALITY_TEXT = 0,
    MZ_MODALITY_IMAGE,
    MZ_MODALITY_AUDIO,
    MZ_MODALITY_SERIES,
    MZ_MODALITY_COUNT
} mz_modality;

/* How a product treats its f32 inputs. */
typedef enum mz_precision {
    MZ_PRECISION_F32 = 0, /* inputs count in full (on AMX: split into three bf16 parts, which
                             together hold all 24 bits) */
    MZ_PRECISION_BF16,    /* inputs and weights rounded to bf16, sums in f32 */
    MZ_PRECISION_INT8,    /* with block-quantised weights: each row of inputs is quantised once, to
                             8 bits in blocks of 32 or 256 as the weight type pairs with, products
                             within a block in integers; with other weights, and those of Q2_K
                             and Q3_K, as F32; backwards as F32 */
} mz_precision;

typedef enum mz_activation {
    MZ_ACTIVATION_SILU = 0,
    MZ_ACTIVATION_GELU,       /* x Phi(x), by erf */
    MZ_ACTIVATION_GELU_TANH,  /* its tanh form: "gelu_new", "gelu_pytorch_tanh" */
    MZ_ACTIVATION_GELU_QUICK, /* x sigmoid(1.702 x) */
    MZ_ACTIVATION_RELU
} mz_activation;

typedef enum mz_norm_kind { MZ_NORM_RMS = 0, MZ_NORM_LAYER } mz_norm_kind;

/* A norm. All zero but for the kind, eps and weight: of whole rows. */
typedef struct mz_norm {
    mz_norm_kind kind;
    float eps;
    float offset;     /* added to each weight: 1 where checkpoints store w - 1 (Gemma) */
    int64_t group;    /* elements normalised together: a head; 0: the whole row */
    mz_tensor weight; /* [width] f32, or [group], the same for all groups; absent: 1 */
    mz_tensor bias;   /* as the weight; absent: 0 */
} mz_norm;

typedef struct mz_low_rank mz_low_rank;
typedef struct mz_low_rank_bank mz_low_rank_bank;

/* y = x W^T + b, plus the deltas. */
typedef struct mz_linear {
    mz_tensor weight; /* [d_out, d_in] f32, f16, bf16 or block-quantised, backend memory */
    mz_tensor bias;   /* [d_out] f32, or absent */
    mz_precision precision;
    mz_low_rank *deltas; /* the first of a list, which adapters own; NULL: none */
} mz_linear;

/* What an adapter adds to a linear: scale * B (A x) (Hu et al. 2021, section 4.1). */
struct mz_low_rank {
    mz_linear a; /* [rank, d_in], without bias and deltas, as b */
    mz_linear b; /* [d_out, rank] */
    float scale;
    mz_low_rank *next; /* added after this one */
};

/* Feed-forward network: y = W_down (act(W_gate x) * (W_up x)), or without gate
 * y = W_down act(W_up x). */
typedef struct mz_ffn {
    mz_linear w_gate, w_up; /* [d_ff, d_model]; the first absent (weight.n_dims 0) without gate */
    mz_linear w_down;       /* [d_model, d_ff] */
    mz_activation activation;
} mz_ffn;

/* The same matrix of all experts that this process holds; all of one type and shape, without
 * biases. */
typedef struct mz_linear_bank {
    mz_dtype dtype;
    mz_precision precision;
    int64_t n_experts, d_out, d_in;
    int64_t ld; /* elements from one row to the next */
    const void *const
        *data; /* [n_experts] row-major matrices; the table too is in backend memory */
    mz_low_rank_bank *deltas; /* the first of a list, which adapters own; NULL: none */
} mz_linear_bank;

/* The same for a bank: an A and a B for each expert. */
struct mz_low_rank_bank {
    mz_linear_bank a; /* of [rank, d_in], without deltas, as b */
    mz_linear_bank b; /* of [d_out, rank] */
    float scale;
    mz_low_rank_bank *next;
};

/* How a router turns logits into chosen experts and weights. */
typedef enum mz_router_kind {
    MZ_ROUTER_SOFTMAX_TOPK = 0, /* softmax over all, then the top_k probabilities as they are */
} mz_router_kind;

typedef struct mz_router {
    mz_router_kind kind;
    int32_t n_experts;
    int32_t top_k;
} mz_router;

/* A mixture-of-experts layer: y = sum over chosen experts of gate_weight * expert(x), plus
 * sigmoid(shared_gate x) * shared(x) where a shared expert exists. */
typedef struct mz_moe {
    mz_linear router_proj; /* [n_experts, d_model] */
    mz_router router;
    mz_linear_bank w_gate, w_up, w_down;
    mz_activation activation;
    bool has_shared;
    mz_ffn shared;
    mz_linear shared_gate; /* [1, d_model] */
} mz_moe;

/* A routing: who goes where. All arrays are in backend memory, taken from the arena by
 * mz_routing_take. With n_slots = n_tokens * top_k; slot j = token * top_k + rank. */
typedef struct mz_routing {
    int64_t n_tokens;
    int32_t n_experts, top_k;
    mz_tensor logits;        /* [n_tokens, n_experts] f32 */
    int32_t *expert_ids;     /* [n_tokens, top_k] best first; ties: lower id first; NaN loses */
    float *gate_weights;     /* [n_tokens, top_k] */
    int32_t *expert_offsets; /* [n_experts + 1] sorted rows of e: offsets[e] to [e + 1] - 1 */
    int32_t *row_index;      /* [n_slots] slot of sorted row i, ascending within an expert */
    int32_t *slot_row;       /* [n_slots] sorted row of slot j: the inverse of row_index */
} mz_routing;

enum {
    MZ_KV_PAGE = 64,       /* positions in a page of the KV cache */
    MZ_MAX_HEAD_DIM = 256, /* widest attention head */
};

/* One layer of a paged KV cache. Page p begins at k + p * page_stride and v + p * page_stride:
 *   keys    [n_kv_heads][head_dim][MZ_KV_PAGE], transposed: a query meets 64 neighbours at once
 *   values  [n_kv_heads][MZ_KV_PAGE][head_dim] */
typedef struct mz_kv_layer {
    float *k, *v;
    int64_t page_stride; /* elements */
    int64_t n_kv_heads, head_dim;
    const int32_t *page_table; /* [n_sequences, table_stride] page of positions [64 i, 64 i + 64);
                                  backend memory */
    int64_t table_stride;
} mz_kv_layer;

/* Queries, keys and values of whole sequences, or their gradients (then any may be absent). */
typedef struct mz_qkv {
    mz_tensor q;    /* [n_rows, n_heads * head_dim] */
    mz_tensor k, v; /* [n_rows, n_kv_heads * head_dim] */
    int64_t head_dim;
} mz_qkv;

/* Which sequence and position each row of a tensor belongs to. Rows of one sequence are neighbours
 * and ascend. The arrays are in backend memory. */
typedef struct mz_rows {
    int64_t n_rows;
    const int32_t *sequence; /* [n_rows] row of the page table */
    const int32_t *position; /* [n_rows] 0-based */
    const uint8_t *modality; /* [n_rows] mz_modality; NULL: all text */
} mz_rows;

/* What a row of an attention sees, and how scores are made of products. */
typedef struct mz_attention_rule {
    float scale;        /* of q k */
    int64_t window;     /* a row sees keys less than this many positions back; 0: all before it */
    bool bidirectional; /* within whole sequences only: a row sees all of its sequence */
} mz_attention_rule;

/* Cosines and sines of rotary positions (Su et al. 2021). Which elements of a head are a pair:
 * half-split (i, i + half_dim) as in GPT-NeoX, or interleaved (2i, 2i + 1). */
typedef struct mz_rope_table {
    int64_t n_positions, half_dim; /* half_dim pairs are rotated */
    const float *cos, *sin; /* [n_positions, half_dim], backend memory; with the factor that a
                               scaling of the rotation asks for */
    int64_t head_dim;       /* width of a head; 0: 2 half_dim. What is not rotated is copied */
    int64_t first;          /* where in a head the rotated part begins */
    bool interleaved;
} mz_rope_table;

/* ---- Primitive ops: every backend has all of them ---- */

/* y[t] = W x[t] + b + sum over deltas, in their order, of scale * B (A x[t]). With deltas it is
 * composed of mz_op_linear without and mz_op_add, which is also what a tape and a profile see.
 *   x  [n_tokens, d_in]
 *   y  [n_tokens, d_out] */
mz_status mz_op_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w);

/* y_i = weight_i * x_i / sqrt(mean(x^2) + eps) per row (Zhang and Sennrich 2019).
 *   x, y    [n_tokens, width]
 *   weight  [width] f32 */
mz_status mz_op_rms_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                         const mz_tensor *weight, float eps);

/* Rotates each head of each row by its position: with h = head_dim / 2,
 * y_i = x_i cos - x_{i+h} sin and y_{i+h} = x_{i+h} cos + x_i sin.
 *   x, y  [n_rows, n_heads * head_dim]; y may be x
 * That positions lie inside the table is the caller's duty: they may be in device memory. */
mz_status mz_op_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                     const mz_rope_table *table, const mz_rows *rows);

/* y = softmax of each row of x; a row of only -inf gives zeros.
 *   x, y  [n_tokens, width] */
mz_status mz_op_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x);

/* y = act(gate) * up, all [n_tokens, width]. */
mz_status mz_op_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                 const mz_tensor *up, mz_activation activation);

/* y = a + scale * b; with scale 1 the bits of a + b. */
mz_status mz_op_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                    float scale);

/* y[i] = x[rows[i]].
 *   rows  [n] i32, backend memory
 *   y     [n, width] */
mz_status mz_op_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                            const int32_t *rows);

/* Writes keys and values of the rows into their pages.
 *   k, v  [n_rows, n_kv_heads * head_dim] */
mz_status mz_op_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                         const mz_tensor *v, const mz_rows *rows);

/* Attention of each row over the positions of its sequence that the rule lets it see, which the
 * cache holds already (Vaswani et al. 2017; grouped heads: Ainslie et al. 2023; softmax computed
 * tile by tile, the score matrix is never stored). Head h reads kv head h / (n_heads / n_kv_heads).
 *   q, y  [n_rows, n_heads * head_dim]; n_heads a multiple of n_kv_heads
 * Errors also: UNSUPPORTED for head_dim above MZ_MAX_HEAD_DIM. */
mz_status mz_op_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                          const mz_kv_layer *cache, const mz_rows *rows,
                          const mz_attention_rule *rule);

/* Attention within whole sequences, without a cache: row i sees the rows of its sequence up to
 * itself, or as the rule says. Heads and scale as for mz_op_attention. Positions are not looked at:
 * the rows of a sequence are all there, neighbours, oldest first. y         [n_rows, n_heads *
 * head_dim] log_sums  [n_rows, n_heads] log of the sum of exp(score) over what a row sees, for the
 * backward Errors also: UNSUPPORTED as for mz_op_attention, and where the backend lacks it. */
mz_status mz_op_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                               const mz_qkv *in, const mz_rows *rows,
                               const mz_attention_rule *rule);

/* Fills expert_ids and gate_weights from routing->logits. */
mz_status mz_op_route(mz_stream *s, const mz_router *router, const mz_routing *routing);

/* Fills expert_offsets, row_index and slot_row from expert_ids: a stable counting sort. */
mz_status mz_op_dispatch(mz_stream *s, const mz_routing *routing);

/* For each sorted row i of expert e: y[i] = W_e x[r], with r = row_index[i] / top_k if `gather`,
 * else r = i. Deltas as for mz_op_linear.
 *   x  [n_tokens, d_in] if `gather`, else [n_slots, d_in]
 *   y  [n_slots, d_out] */
mz_status mz_op_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                               const mz_linear_bank *bank, const mz_routing *routing, bool gather);

/* y[t] = sum over ranks k, ascending, of gate_weights[t, k] * expert_out[slot_row[t * top_k + k]],
 * then, where shared_out is given, + sigmoid(shared_logit[t]) * shared_out[t].
 *   expert_out    [n_slots, d_model]
 *   shared_out    [n_tokens, d_model], or NULL together with
 *   shared_logit  [n_tokens, 1]
 *   y             [n_tokens, d_model] */
mz_status mz_op_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                        const mz_routing *routing, const mz_tensor *shared_out,
                        const mz_tensor *shared_logit);

/* ---- Fused ops: a backend's own where it has one, otherwise, or where a matrix has deltas,
 * composed ---- */

/* Several products of the same inputs: y[i] = W_i x + b_i, as mz_op_linear. The inputs are read,
 * and where the precision asks for it quantised, once.
 *   x     [n_tokens, d_in]
 *   y[i]  [n_tokens, d_out of W_i], 1 <= n <= MZ_MAX_LINEARS */
enum { MZ_MAX_LINEARS = 4 };
mz_status mz_op_linears(mz_stream *s, int n, const mz_tensor *const *y, const mz_tensor *x,
                        const mz_linear *const *w);

/* Feed-forward network (gated: Shazeer 2020).
 *   x, y  [n_tokens, d_model] */
mz_status mz_op_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn);

/* Receives intermediate results of a mixture layer, which is then composed from primitives. */
typedef struct mz_moe_probe {
    mz_tensor shared_logit; /* [n_tokens, 1], set by the op; absent without shared expert */
    mz_tensor shared_out;   /* [n_tokens, d_model], before the gate */
} mz_moe_probe;

/* The whole mixture-of-experts layer (Shazeer et al. 2017; shared expert: Dai et al. 2024). Fills
 * `routing` (taken by mz_routing_take) on the way; nothing is read back to the host.
 *   x, y   [n_tokens, d_model]
 *   probe  NULL: none */
mz_status mz_op_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                    const mz_routing *routing, mz_moe_probe *probe);

/* ---- Helpers for callers ---- */

/* Takes an f32 [n_rows, n_cols] tensor from the arena (data NULL in measure mode). */
mz_status mz_stream_take(mz_stream *s, int64_t n_rows, int64_t n_cols, const char *what,
                         mz_tensor *out);

/* Takes `bytes` from the arena. */
mz_status mz_stream_take_bytes(mz_stream *s, size_t bytes, const char *what, void **out);

/* Scratch marks. Release does nothing while the stream keeps its activations. */
size_t mz_stream_mark(const mz_stream *s);
void mz_stream_release(mz_stream *s, size_t mark);

/* Takes all arrays of a routing. */
mz_status mz_routing_take(mz_stream *s, int64_t n_tokens, const mz_router *router, mz_routing *out);

#ifdef __cplusplus
}
#endif
#endif
