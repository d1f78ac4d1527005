/* Records ops on the stream's tape: called by the wrappers of core/ops.c after a forward, with the
 * op's own arguments. Each records nothing when no input leads to a parameter. Errors: NOMEM; ARG
 * for an op in place, whose input's gradient would be the output's. */
#ifndef MZ_CORE_OPS_RECORD_H
#define MZ_CORE_OPS_RECORD_H

#include "core/ops.h"

mz_status mz_record_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_linear *w);
mz_status mz_record_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm);
mz_status mz_record_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                         const mz_rope_table *table, const mz_rows *rows);
mz_status mz_record_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x);
mz_status mz_record_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                     const mz_tensor *up, mz_activation activation);
mz_status mz_record_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                        float scale);
mz_status mz_record_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const int32_t *rows, float scale);
mz_status mz_record_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                   const mz_qkv *in, const mz_rows *rows,
                                   const mz_attention_rule *rule);
/* Multiplications and additions of the forward's two products, for profiles: each row meets the
 * rows that the rule lets it see. Reads the rows, so they must be in host memory. */
double mz_self_attention_flops(const mz_rows *rows, const mz_attention_rule *rule,
                               const mz_qkv *in);
mz_status mz_record_route(mz_stream *s, const mz_router *router, const mz_routing *routing);
mz_status mz_record_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                                const mz_router *router, const mz_rows *rows);
mz_status mz_record_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                                  const mz_plain_experts *plain, const mz_routing *routing);
mz_status mz_record_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                   const mz_linear_bank *bank, const mz_routing *routing,
                                   bool gather);
mz_status mz_record_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                            const mz_routing *routing, const mz_tensor *shared_out,
                            const mz_tensor *shared_logit);

#endif
