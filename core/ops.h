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
    MZ_ACTIVATION_RELU,
    MZ_ACTIVATION_TANH /* of small networks: not vectorised */
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

/* The same matrix of all experts that this process holds; all of one type and shape. */
typedef struct mz_linear_bank {
    mz_dtype dtype;
    mz_precision precision;
    int64_t n_experts, d_out, d_in;
    int64_t ld; /* elements from one row to the next */
    const void *const
        *data; /* [n_experts] row-major matrices; the table too is in backend memory */
    const float *const *bias; /* [n_experts] of [d_out], as the table of matrices; NULL: none */
    mz_low_rank_bank *deltas; /* the first of a list, which adapters own; NULL: none */
} mz_linear_bank;

/* The same for a bank: an A and a B for each expert. */
struct mz_low_rank_bank {
    mz_linear_bank a; /* of [rank, d_in], without deltas, as b */
    mz_linear_bank b; /* of [d_out, rank] */
    float scale;
    mz_low_rank_bank *next;
};

/* Which sequence and position each row of a tensor belongs to. Rows of one sequence are neighbours
 * and ascend. The arrays are in backend memory. */
typedef struct mz_rows {
    int64_t n_rows;
    const int32_t *sequence; /* [n_rows] row of the page table */
    const int32_t *position; /* [n_rows] 0-based */
    const uint8_t *modality; /* [n_rows] mz_modality; NULL: all text */
} mz_rows;

enum { MZ_MAX_EXPERTS = 1024 }; /* of a router */

/* What a router's scores are and how many experts they choose. What each kind does is written
 * beside mz_op_route. */
typedef enum mz_router_kind {
    MZ_ROUTER_SOFTMAX_TOPK = 0, /* the top_k of the softmax over all experts */
    MZ_ROUTER_SIGMOID_TOPK,     /* the top_k of sigmoid(logit) */
    MZ_ROUTER_TOP_P,            /* the fewest experts whose probabilities exceed a threshold */
    MZ_ROUTER_DEEPSPEED_TOP1,   /* one expert, places limited by a capacity */
    MZ_ROUTER_DEEPSPEED_TOP2,   /* two, the second sampled by noise; limited likewise */
    MZ_ROUTER_KIND_COUNT
} mz_router_kind;

/* Experts [first, first + n) of a router's; n 0: all of them. */
typedef struct mz_expert_range {
    int32_t first, n;
} mz_expert_range;

/* A router. All zero but for kind, n_experts and top_k: scores as they are. Valid ones:
 * mz_router_validate (experts/router.h). */
typedef struct mz_router {
    mz_router_kind kind;
    int32_t n_experts;
    int32_t top_k;     /* slots of a token: the longest list of MZ_ROUTER_TOP_P */
    bool renormalise;  /* the weights of a token sum to 1, before `scale` */
    bool unit_weights; /* each chosen expert weighs `scale`, whatever its score */
    float scale;       /* of the weights; 0: 1 */

    mz_tensor selection_bias; /* [n_experts] f32 added to the scores, for the choice only; absent:
                                 none */
    int32_t n_groups, n_top_groups; /* experts are chosen from the n_top_groups best of n_groups
                                       groups of neighbours; 0: from all */
    bool group_by_two;              /* a group's score is the sum of its two best; else its best */

    float threshold; /* MZ_ROUTER_TOP_P */

    float capacity_factor; /* MZ_ROUTER_DEEPSPEED_*: places of an expert for each n_experts rows
                              (and choice) of a sequence */
    int32_t min_capacity;  /* places of an expert, at least */
    bool drop;             /* rows beyond the capacity are dropped; else nothing is */

    bool by_modality; /* a row chooses among the experts of its modality's range only */
    mz_expert_range ranges[MZ_MODALITY_COUNT];
    bool text_before_text; /* a row whose next row of the sequence is text, or missing, counts as
                              text (MoIIE: the last patch of an image) */

    int32_t n_zero; /* the last experts answer 0: their weight becomes 0 before renormalising */
} mz_router;

/* Experts without a matrix product, behind the others (MoE++; Jin et al. 2024, section 3.1): first
 * the constant ones, a0 x + a1 value with (a0, a1) = softmax(w_mix x), then n_copy that answer x,
 * then n_zero that answer 0. */
typedef struct mz_constant_expert {
    mz_tensor value; /* [d_model] f32 */
    mz_tensor w_mix; /* [2, d_model] f32, dense */
} mz_constant_expert;

typedef struct mz_plain_experts {
    const mz_constant_expert *constants; /* [n_constant], host memory */
    int32_t n_constant, n_copy, n_zero;
} mz_plain_experts;

/* Experts that are low-rank changes of one network: in each of its products W x becomes W x + sum
 * over chosen experts of gate_weight * scale * B_e (A_e x), with one decision for all three
 * (LLaVA-MoLE; Chen et al. 2024, section 3.2). The products of `base` are computed once. */
typedef struct mz_lora_experts {
    mz_ffn base;
    mz_low_rank_bank gate, up, down; /* `next` is not looked at; gate's is unused without gate */
} mz_lora_experts;

/* A mixture-of-experts layer: y = sum over chosen experts of gate_weight * expert(input_scale * x),
 * plus shared(x), or sigmoid(shared_gate x) * shared(x), where a shared expert exists. Experts are
 * feed-forward networks first, as many as the banks hold, then those of `plain`. */
typedef struct mz_moe {
    mz_linear router_proj;     /* [n_experts, d_model], or [n_experts, width of router_hidden] */
    mz_linear router_hidden;   /* [width, d_model]: the router sees tanh(router_hidden x); absent: x
                                */
    mz_linear router_residual; /* [n_experts, n_experts] of the previous layer's logits, which are
                                  added where there are any; absent: none */
    const mz_linear *router_of; /* [MZ_MODALITY_COUNT] a router_proj for each modality, [experts of
                                   its range, d_model]; those of modalities that do not occur may
                                   be absent. NULL: router_proj serves all */
    mz_router router;
    mz_linear_bank w_gate, w_up, w_down; /* w_gate.n_experts 0: without gate. w_down may lead to
                                            another width than d_model */
    mz_activation activation;
    float input_scale;           /* of what the routed experts see; 0: 1 */
    mz_plain_experts plain;      /* all zero: none */
    const mz_lora_experts *lora; /* instead of the banks; NULL: none */
    bool has_shared;
    mz_ffn shared;
    mz_linear shared_gate; /* [1, d_model]; absent: the shared expert weighs 1 */
} mz_moe;

/* A routing: who goes where. All arrays are in backend memory, taken from the arena by
 * mz_routing_take. With n_slots = n_tokens * top_k; slot j = token * top_k + rank. */
typedef struct mz_routing {
    int64_t n_tokens;
    int32_t n_experts, top_k;
    mz_tensor logits;        /* [n_tokens, n_experts] f32; -inf: not open to the row */
    int32_t *expert_ids;     /* [n_tokens, top_k] best first; ties: lower id first; NaN loses; -1:
                                the slot is not used */
    float *gate_weights;     /* [n_tokens, top_k]; 0 where the slot is not used */
    int32_t *expert_offsets; /* [n_experts + 1] sorted rows of e: offsets[e] to [e + 1] - 1; the
                                last is the number of slots in use */
    int32_t *row_index;      /* [n_slots] slot of sorted row i, ascending within an expert */
    int32_t *slot_row;       /* [n_slots] sorted row of slot j: the inverse of row_index; -1 where
                                the slot is not used */

    /* What routers see besides the logits, set by the caller; all zero: nothing. */
    mz_rows rows;    /* sequence and modality of each row; n_rows 0: one sequence of text */
    mz_tensor noise; /* [n_tokens, n_experts] f32: added to the logits for the second choice of
                        MZ_ROUTER_DEEPSPEED_TOP2 (Gumbel: sampled), the order in which
                        MZ_ROUTER_DEEPSPEED_TOP1 gives places, highest first; absent: 0 */
    mz_tensor previous_logits; /* [n_tokens, n_experts] f32 of the mixture layer before; absent:
                                  none */
} mz_routing;

enum {
    MZ_KV_PAGE = 64,       /* positions in a page of the KV cache */
    MZ_KV_BLOCK = 32,      /* elements of a key or value that share a scale in 8 bits */
    MZ_MAX_HEAD_DIM = 256, /* widest attention head */
};

/* One layer of a paged KV cache; page p begins at byte p * page_bytes (mz_kv_layout) of data.
 *
 * F32 and F16 hold keys and values in that type, rounded to nearest, ties to even. Q8_0 holds them
 * in 8 bits: elements [32 b, 32 b + 32) of a head's key (or value) at one position are integers q
 * and a scale s = max |x| / 127 with x about s q, q = x (127 / max |x|) rounded likewise; a block
 * whose largest is below 127 FLT_MIN is all 0, one that holds a NaN or an infinity all NaN. */
typedef struct mz_kv_layer {
    void *data;
    mz_dtype dtype; /* F32, F16 or Q8_0 */
    int64_t n_kv_heads, head_dim;
    int64_t head_dim_v;        /* width of a value; 0: head_dim */
    const int32_t *page_table; /* [n_sequences, table_stride] page of positions [64 i, 64 i + 64);
                                  backend memory */
    int64_t table_stride;
} mz_kv_layer;

/* Where things are in a page: for each kv head, one after the other,
 *   keys          [head_dim][MZ_KV_PAGE], transposed: a query meets 64 neighbours at once
 *   key scales    [ceil(head_dim / 32)][MZ_KV_PAGE] f32, of Q8_0 only
 *   values        [MZ_KV_PAGE][value_stride]
 *   value scales  [ceil(head_dim_v / 32)][MZ_KV_PAGE] f32, of Q8_0 only */
typedef struct mz_kv_layout {
    size_t key_scales, values, value_scales; /* bytes from where a head's keys begin */
    size_t head_bytes, page_bytes;           /* multiples of 64 */
    int64_t head_dim_v;                      /* the width of a value */
    int64_t value_stride;                    /* that, rounded up to 16 */
} mz_kv_layout;

/* Queries, keys and values of whole sequences, or their gradients (then any may be absent). */
typedef struct mz_qkv {
    mz_tensor q; /* [n_rows, n_heads * head_dim] */
    mz_tensor k; /* [n_rows, n_kv_heads * head_dim] */
    mz_tensor v; /* [n_rows, n_kv_heads * head_dim_v] */
    int64_t head_dim;
    int64_t head_dim_v; /* width of a value; 0: head_dim */
} mz_qkv;

/* What a row of an attention sees, and how scores are made of products. */
typedef struct mz_attention_rule {
    float scale;        /* of q k */
    int64_t window;     /* a row sees keys less than this many positions back; 0: all before it */
    bool bidirectional; /* within whole sequences only: a row sees all of its sequence; with a
                           window also keys less than that many positions ahead */
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

/* Per row, or per group of a row, with w = weight + norm->offset:
 *   RMS    y = w x / sqrt(mean(x^2) + eps) + bias (Zhang and Sennrich 2019)
 *   LAYER  y = w (x - mean(x)) / sqrt(variance(x) + eps) + bias (Ba et al. 2016)
 *   x, y   [n_tokens, width]; width a multiple of norm->group */
mz_status mz_op_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm);

/* Rotates each head of each row by its position. With a and b the two elements of a pair i,
 * half_dim pairs a head from element table->first on: y_a = x_a cos_i - x_b sin_i, y_b = x_b cos_i
 * + x_a sin_i. The rest of a head is copied. x, y  [n_rows, n_heads * head_dim]; y may be x That
 * positions lie inside the table is the caller's duty: they may be in device memory. */
mz_status mz_op_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                     const mz_rope_table *table, const mz_rows *rows);

/* y = softmax of each row of x; a row of only -inf gives zeros.
 *   x, y  [n_tokens, width] */
mz_status mz_op_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x);

/* y = act(gate) * up, all [n_tokens, width]; up NULL: y = act(gate). */
mz_status mz_op_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                 const mz_tensor *up, mz_activation activation);

/* y = a + scale * b; with scale 1 the bits of a + b. */
mz_status mz_op_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                    float scale);

/* y[i] = scale * x[rows[i]]; with scale 1 the bits of x.
 *   x     [any, width] of any type that holds weights: an embedding
 *   rows  [n] i32, backend memory; NULL: 0 to n - 1, a copy
 *   y     [n, width] */
mz_status mz_op_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                            const int32_t *rows, float scale);

/* Writes keys and values of the rows into their pages, in the cache's type.
 *   k  [n_rows, n_kv_heads * head_dim]
 *   v  [n_rows, n_kv_heads * head_dim_v]
 * Errors also: UNSUPPORTED for wider heads than MZ_MAX_HEAD_DIM and for a type of the cache that
 * the backend lacks; DTYPE for one that no cache has. */
mz_status mz_op_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                         const mz_tensor *v, const mz_rows *rows);

/* Attention of each row over the positions of its sequence that the rule lets it see, which the
 * cache holds already (Vaswani et al. 2017; grouped heads: Ainslie et al. 2023; softmax computed
 * tile by tile, the score matrix is never stored). Head h reads kv head h / (n_heads / n_kv_heads).
 * Keys and values count as the cache holds them; pages that no row sees are not read.
 *   q  [n_rows, n_heads * head_dim]; n_heads a multiple of n_kv_heads
 *   y  [n_rows, n_heads * head_dim_v]
 * Errors also: those of mz_op_kv_write; UNSUPPORTED for a bidirectional rule; ARG for a negative
 * window. */
mz_status mz_op_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                          const mz_kv_layer *cache, const mz_rows *rows,
                          const mz_attention_rule *rule);

/* Turns keys back by n positions, as if they had been rotated by `table` n positions earlier: all
 * of the pages [first_page, first_page + n_pages) of a sequence. Holds where the angles are
 * products of position and frequency; in a narrow cache keys are rounded again. table  of the
 * cache's head_dim, the one that rotated the keys Errors also: those of mz_op_kv_write; ARG for n
 * outside 0..n_positions - 1 of the table; UNSUPPORTED where the backend lacks it. */
mz_status mz_op_kv_rotate(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                          int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                          int64_t n);

/* Attention within whole sequences, without a cache: row i sees the rows of its sequence up to
 * itself, or as the rule says. Heads and scale as for mz_op_attention. Positions are not looked at:
 * the rows of a sequence are all there, neighbours, oldest first.
 *   y         [n_rows, n_heads * head_dim_v]
 *   log_sums  [n_rows, n_heads] log of the sum of exp(score) over what a row sees, for the backward
 * Errors also: UNSUPPORTED for wider heads than MZ_MAX_HEAD_DIM, and where the backend lacks it;
 * ARG for a negative window. */
mz_status mz_op_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                               const mz_qkv *in, const mz_rows *rows,
                               const mz_attention_rule *rule);

/* Logits of routers that see some experts only: logits[t] = in[m][t] in the range of t's modality m
 * (router->ranges, router->text_before_text), -inf elsewhere.
 *   in      [MZ_MODALITY_COUNT] each [n_tokens, experts of the range]; absent where no row has the
 *           modality
 *   logits  [n_tokens, n_experts]
 * Errors also: ARG naming a row whose modality has no logits; UNSUPPORTED where the backend lacks
 * the op. */
mz_status mz_op_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                            const mz_router *router, const mz_rows *rows);

/* Fills expert_ids and gate_weights from routing->logits, by the router's kind. Scores are compared
 * in f32, ties go to the lower id, NaN loses every comparison and weighs 0, as does an expert whose
 * logit is -inf.
 *   softmax-topk   scores p = softmax over all experts (of those open to the row, with
 *                  by_modality). Weights p; renormalised: p / sum over the chosen, which is the
 *                  softmax over the chosen logits (Shazeer et al. 2017; Jiang et al. 2024)
 *   sigmoid-topk   scores sigmoid(logit), renormalised: / (sum + 1e-20) (DeepSeek-AI 2024b,
 *                  section 2.1.2)
 *   top-p          the shortest list of best experts whose p sum to more than `threshold`, the
 *                  one that crosses it included; top_k experts where no list does. Further
 *                  slots are not used (Huang et al. 2024, section 3.2)
 *   deepspeed      capacity C = ceil(f32(rows of the sequence / n_experts) * f32(factor)),
 *                  computed in f32, at least min_capacity; top-2 doubles the factor. top-1: the
 *                  best expert, weight p, which keeps the C rows of the highest noise, then the
 *                  earlier ones. top-2: the best by logit, then the best other by logit + noise;
 *                  all first choices of a sequence, in order, take places before any second
 *                  choice; weights p / max(sum of p kept, 2^-23). Dropped slots are not used
 *                  (sharded_moe.py of DeepSpeed 0.9.5: top1gating, top2gating)
 * selection_bias and groups enter the choice of the first three kinds, with scores as above plus
 * bias (groups: DeepSeek-AI 2024a, section 2.1.3, and 2024b). Errors also: ARG for more experts
 * than MZ_MAX_EXPERTS or more slots than experts; UNSUPPORTED where a backend lacks the kind. */
mz_status mz_op_route(mz_stream *s, const mz_router *router, const mz_routing *routing);

/* Fills expert_offsets, row_index and slot_row from expert_ids: a stable counting sort of the slots
 * in use. */
mz_status mz_op_dispatch(mz_stream *s, const mz_routing *routing);

/* For each sorted row i of expert e, e below bank->n_experts: y[i] = W_e x[r] + b_e, with r =
 * row_index[i] / top_k if `gather`, else r = i. Other rows of y are left as they are. Deltas as for
 * mz_op_linear.
 *   x  [n_tokens, d_in] if `gather`, else [n_slots, d_in]
 *   y  [n_slots, d_out] */
mz_status mz_op_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                               const mz_linear_bank *bank, const mz_routing *routing, bool gather);

/* What experts without a matrix answer to x, in the rows of expert_out that are theirs. Errors
 * also: UNSUPPORTED where the backend lacks the op. x           [n_tokens, width]; of any width
 * where all answer 0 expert_out  [n_slots, width] */
mz_status mz_op_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                              const mz_plain_experts *plain, const mz_routing *routing);

/* y[t] = sum over ranks k in use, ascending, of gate_weights[t, k] *
 * expert_out[slot_row[t * top_k + k]], then, where shared_out is given, + shared_out[t], times
 * sigmoid(shared_logit[t]) where that is given.
 *   expert_out    [n_slots, d_model]
 *   shared_out    [n_tokens, d_model], or NULL
 *   shared_logit  [n_tokens, 1], or NULL
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

/* Width of the heads that a table turns. */
int64_t mz_rope_head_dim(const mz_rope_table *table);

/* How a layer's pages are laid out; looks at its dtype, heads and widths alone. Errors: DTYPE,
 * SHAPE, UNSUPPORTED as for mz_op_kv_write; LIMIT for a page that memory cannot hold. */
mz_status mz_kv_layout_of(mz_error *err, const mz_kv_layer *cache, mz_kv_layout *out);

/* Width of a value. */
int64_t mz_qkv_head_dim_v(const mz_qkv *in);

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
