/* The reference implementation of each op: plain loops in the order of the formula, f64 sums, one
 * thread. Never optimised. Contracts stand in core/ops.h. MZ_PRECISION_BF16 rounds inputs and
 * weights to bf16 before multiplying, MZ_PRECISION_INT8 inputs to multiples of their block's
 * largest / 127. */
#ifndef MZ_CORE_OPS_REFERENCE_REFERENCE_OPS_H
#define MZ_CORE_OPS_REFERENCE_REFERENCE_OPS_H

#include "core/ops.h"
#include "core/ops_backward.h"

/* A factor of a product as the precision has it. */
float mz_ref_rounded(float x, mz_precision precision);

/* Element i of weights; rows follow each other without gaps in blocks. */
float mz_ref_weight_at(mz_dtype dtype, const void *data, int64_t i);

mz_status mz_ref_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w);
mz_status mz_ref_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm);
mz_status mz_ref_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                      const mz_rope_table *table, const mz_rows *rows);
mz_status mz_ref_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x);
mz_status mz_ref_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation);
mz_status mz_ref_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                     float scale);
mz_status mz_ref_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const int32_t *rows, float scale);
mz_status mz_ref_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                          const mz_tensor *v, const mz_rows *rows);
mz_status mz_ref_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule);
mz_status mz_ref_kv_rotate(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                           int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                           int64_t n);
mz_status mz_ref_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                const mz_qkv *in, const mz_rows *rows,
                                const mz_attention_rule *rule);
mz_status mz_ref_self_attention_backward(mz_stream *s, const mz_qkv *d, const mz_tensor *d_y,
                                         const mz_tensor *y, const mz_tensor *log_sums,
                                         const mz_qkv *in, const mz_rows *rows,
                                         const mz_attention_rule *rule);
mz_status mz_ref_route(mz_stream *s, const mz_router *router, const mz_routing *routing);
mz_status mz_ref_dispatch(mz_stream *s, const mz_routing *routing);
mz_status mz_ref_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const mz_linear_bank *bank, const mz_routing *routing, bool gather);
mz_status mz_ref_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                         const mz_routing *routing, const mz_tensor *shared_out,
                         const mz_tensor *shared_logit);

/* Backwards: contracts in core/ops_backward.h. */

mz_status mz_ref_linear_backward(mz_stream *s, const mz_linear_gradient *d_w, const mz_tensor *d_x,
                                 const mz_tensor *d_y, const mz_tensor *x, const mz_linear *w);
mz_status mz_ref_grouped_linear_backward(mz_stream *s, const mz_bank_gradient *d_w,
                                         const mz_tensor *d_x, const mz_tensor *d_y,
                                         const mz_tensor *x, const mz_linear_bank *bank,
                                         const mz_routing *routing, bool gather);

/* The mean of a group of n values that a norm takes away (0 for RMS), and the factor after it. */
void mz_ref_norm_statistics(const float *x, int64_t n, const mz_norm *norm, double *mean,
                            double *scale);

/* act(x), and its derivative. */
double mz_ref_activate(double x, mz_activation activation, double *slope);

/* *sum += value, rounded once. */
void mz_ref_add_to(float *sum, double value);

mz_status mz_ref_norm_backward(mz_stream *s, const mz_norm_gradient *d, const mz_tensor *d_y,
                               const mz_tensor *x, const mz_norm *norm);
mz_status mz_ref_rope_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                               const mz_rope_table *table, const mz_rows *rows);
mz_status mz_ref_softmax_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                  const mz_tensor *y);
mz_status mz_ref_gated_activation_backward(mz_stream *s, const mz_gated_gradient *d,
                                           const mz_tensor *d_y, const mz_tensor *gate,
                                           const mz_tensor *up, mz_activation activation);
mz_status mz_ref_accumulate(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y, float scale);
mz_status mz_ref_gather_rows_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                      const int32_t *rows, float scale);
mz_status mz_ref_route_backward(mz_stream *s, const mz_tensor *d_logits,
                                const mz_tensor *d_gate_weights, const mz_router *router,
                                const mz_routing *routing);
mz_status mz_ref_combine_backward(mz_stream *s, const mz_combine_gradient *d, const mz_tensor *d_y,
                                  const mz_tensor *expert_out, const mz_routing *routing,
                                  const mz_tensor *shared_out, const mz_tensor *shared_logit);

/* Of some kinds of routers and experts; see core/ops/routing_rules.h and core/ops/plain_experts.h.
 */
mz_status mz_ref_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                             const mz_router *router, const mz_rows *rows);
mz_status mz_ref_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                               const mz_plain_experts *plain, const mz_routing *routing);

mz_status mz_ref_mask_logits_backward(mz_stream *s, const mz_tensor *d_in,
                                      const mz_tensor *d_logits, const mz_router *router,
                                      const mz_rows *rows);
mz_status mz_ref_plain_experts_backward(mz_stream *s, const mz_plain_gradient *d,
                                        const mz_tensor *d_expert_out, const mz_tensor *x,
                                        const mz_plain_experts *plain, const mz_routing *routing);

#endif
