/* What the .cu files of the CUDA backend share on the host side: launching, and the ops that the
 * table names. */
#ifndef MZ_CORE_OPS_CUDA_CUDA_INTERNAL_H
#define MZ_CORE_OPS_CUDA_CUDA_INTERNAL_H

#include <cuda_runtime.h>

#include "core/backend.h"

/* MZ_OK, or DEVICE (NOMEM when device memory is short) with `what` and the CUDA error's text. */
mz_status mz_cuda_check(mz_stream *s, cudaError_t code, const char *what);

/* A launch of n_x by n_y blocks (both above 0) of `n_threads` on the stream. `what` names the op in
 * the message. Errors: LIMIT for a grid larger than CUDA's. */
mz_status mz_cuda_grid(mz_stream *s, const char *what, size_t n_x, size_t n_y, unsigned n_threads,
                       cudaLaunchConfig_t *out);

/* a / b rounded up, for counts of blocks. b > 0. */
size_t mz_cuda_ceil_div(size_t a, size_t b);

/* The ops; contracts in core/ops.h. linear.cu */
mz_status mz_cuda_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w);
mz_status mz_cuda_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                 const mz_linear_bank *bank, const mz_routing *routing,
                                 bool gather);

/* rows.cu */
mz_status mz_cuda_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm);
mz_status mz_cuda_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                       const mz_rope_table *table, const mz_rows *rows);
mz_status mz_cuda_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x);
mz_status mz_cuda_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                   const mz_tensor *up, mz_activation activation);
mz_status mz_cuda_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                      float scale);
mz_status mz_cuda_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                              const int32_t *rows, float scale);

/* attention.cu */
mz_status mz_cuda_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                           const mz_tensor *v, const mz_rows *rows);
mz_status mz_cuda_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                            const mz_kv_layer *cache, const mz_rows *rows,
                            const mz_attention_rule *rule);

/* moe.cu */
mz_status mz_cuda_route(mz_stream *s, const mz_router *router, const mz_routing *routing);
mz_status mz_cuda_dispatch(mz_stream *s, const mz_routing *routing);
mz_status mz_cuda_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                          const mz_routing *routing, const mz_tensor *shared_out,
                          const mz_tensor *shared_logit);

#endif
