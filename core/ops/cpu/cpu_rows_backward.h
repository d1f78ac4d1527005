/* The CPU backend's backwards of the row-wise ops and of routing.
 *
 * Contracts stand in core/ops_backward.h; these run on the context's threads with the kernels of
 * its instruction set. Bits do not depend on the number of threads: rows are independent, and where
 * rows are summed, the order is fixed. They do depend on the instruction set. */
#ifndef MZ_CORE_OPS_CPU_CPU_ROWS_BACKWARD_H
#define MZ_CORE_OPS_CPU_CPU_ROWS_BACKWARD_H

#include <stddef.h>
#include <stdint.h>

#include "core/ops_backward.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Takes mz_cpu_norm_backward_scratch bytes from the stream's arena and gives them back. Errors:
 * LIMIT when they do not fit; then nothing was added. */
mz_status mz_cpu_norm_backward(mz_stream *s, const mz_norm_gradient *d, const mz_tensor *d_y,
                               const mz_tensor *x, const mz_norm *norm);

/* For each 32 rows an f32 partial sum of each of the n_sums values of d->weight and d->bias that
 * are wanted. */
size_t mz_cpu_norm_backward_scratch(int64_t n_rows, int64_t n_sums);

mz_status mz_cpu_rope_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                               const mz_rope_table *table, const mz_rows *rows);

mz_status mz_cpu_softmax_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                  const mz_tensor *y);

/* SiLU gates below -87.3 add nothing to d->gate, where the exact slope is under 1e-35. */
mz_status mz_cpu_gated_activation_backward(mz_stream *s, const mz_gated_gradient *d,
                                           const mz_tensor *d_y, const mz_tensor *gate,
                                           const mz_tensor *up, mz_activation activation);

mz_status mz_cpu_accumulate(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y, float scale);

/* With a scale of 1 the same bits as the reference. */
mz_status mz_cpu_gather_rows_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                      const int32_t *rows, float scale);

/* The probabilities of chosen experts are routing->gate_weights, those of the others come from the
 * logits again. */
mz_status mz_cpu_route_backward(mz_stream *s, const mz_tensor *d_logits,
                                const mz_tensor *d_gate_weights, const mz_router *router,
                                const mz_routing *routing);

mz_status mz_cpu_combine_backward(mz_stream *s, const mz_combine_gradient *d, const mz_tensor *d_y,
                                  const mz_tensor *expert_out, const mz_routing *routing,
                                  const mz_tensor *shared_out, const mz_tensor *shared_logit);

mz_status mz_cpu_mask_logits_backward(mz_stream *s, const mz_tensor *d_in,
                                      const mz_tensor *d_logits, const mz_router *router,
                                      const mz_rows *rows);
mz_status mz_cpu_plain_experts_backward(mz_stream *s, const mz_plain_gradient *d,
                                        const mz_tensor *d_expert_out, const mz_tensor *x,
                                        const mz_plain_experts *plain, const mz_routing *routing);

#ifdef __cplusplus
}
#endif
#endif
