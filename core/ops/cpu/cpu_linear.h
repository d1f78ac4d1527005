/* The CPU backend's matrix products: linear, grouped linear, their backwards, and the fused gated
 * feed-forward and mixture of experts.
 *
 * Contracts of the ops stand in core/ops.h and core/ops_backward.h; these are their implementations
 * for host memory, run on the context's threads with the kernels of its instruction set. Weights
 * of all types are read as they are stored: no second copy exists beyond the few rows that a thread
 * works on. With MZ_PRECISION_F32 results lie within 1e-6 (relative L2) of exact sums for any type;
 * with MZ_PRECISION_BF16 inputs and weights are rounded to bf16, to nearest, and summed in f32.
 * With MZ_PRECISION_INT8 they lie within 1e-5 of exact sums over inputs in 8 bits
 * (core/ops/cpu/quantised_internal.h); Q2_K and Q3_K weights are multiplied as with F32, and so are
 * the whole of a feed-forward whose gate and up differ in their blocks, and the down matrix of one
 * whose gate and up are not block-quantised. Backwards take INT8 as F32.
 *
 * Each output is a pure function of its row of x and of the weights: its bits depend neither on the
 * other rows of a call, nor on the op it is part of, nor on the number of threads. They do depend
 * on the instruction set, products in 8 bits only on whether it is the scalar one. On AMX, and with
 * bf16 precision on AVX-512 BF16, subnormal values count as zero. A finite input never becomes NaN
 * by itself; one that is infinite may.
 *
 * Scratch comes from the stream's arena and goes back at the end of the op, kept activations or
 * not. Errors: LIMIT when it does not fit; UNSUPPORTED where the matrices of one feed-forward
 * differ in precision. */
#ifndef MZ_CORE_OPS_CPU_CPU_LINEAR_H
#define MZ_CORE_OPS_CPU_CPU_LINEAR_H

#include <stddef.h>

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

mz_status mz_cpu_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w);

/* Matrices that read x in the same form are shared out among the threads together. */
mz_status mz_cpu_linears(mz_stream *s, int n, const mz_tensor *const *y, const mz_tensor *x,
                         const mz_linear *const *w);

mz_status mz_cpu_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const mz_linear_bank *bank, const mz_routing *routing, bool gather);

/* The hidden activations of a few rows at a time never leave the second-level cache. */
mz_status mz_cpu_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn);

/* Routed and shared experts are shared out among the threads together. Routing, dispatch and
 * combination are the stream's backend's own, so that the result equals the composed one bit by
 * bit. */
mz_status mz_cpu_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                     const mz_routing *routing);

/* Weight gradients are summed in f32 over 512 rows at a time, bias gradients in f64. */
mz_status mz_cpu_linear_backward(mz_stream *s, const mz_linear_gradient *d_w, const mz_tensor *d_x,
                                 const mz_tensor *d_y, const mz_tensor *x, const mz_linear *w);
mz_status mz_cpu_grouped_linear_backward(mz_stream *s, const mz_bank_gradient *d_w,
                                         const mz_tensor *d_x, const mz_tensor *d_y,
                                         const mz_tensor *x, const mz_linear_bank *bank,
                                         const mz_routing *routing, bool gather);
/* mz_cpu_linear_scratch for the two backwards. */
size_t mz_cpu_linear_backward_scratch(const mz_stream *s, mz_op_id op, const mz_op_size *size);

/* Bytes that the op takes from the arena at most, for any routing, weight type and precision; 0 for
 * ops that are not in this file. Linear in n_rows, the number of threads and the widths. */
size_t mz_cpu_linear_scratch(const mz_stream *s, mz_op_id op, const mz_op_size *size);

#ifdef __cplusplus
}
#endif
#endif
