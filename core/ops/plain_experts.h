/* Experts without a matrix product and their backward, for backends in host memory: products in
 * f64. Contracts stand in core/ops.h and core/ops_backward.h. */
#ifndef MZ_CORE_OPS_PLAIN_EXPERTS_H
#define MZ_CORE_OPS_PLAIN_EXPERTS_H

#include "core/ops.h"
#include "core/ops_backward.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The rows of a token's slots. */
void mz_plain_experts_token(const mz_tensor *expert_out, const mz_tensor *x,
                            const mz_plain_experts *plain, const mz_routing *routing,
                            int64_t token);

/* Adds to row `token` of d_x. */
void mz_plain_experts_token_backward(const mz_tensor *d_x, const mz_tensor *d_expert_out,
                                     const mz_tensor *x, const mz_plain_experts *plain,
                                     const mz_routing *routing, int64_t token);

/* Adds to the gradients of constant expert i, from its rows in their order. */
void mz_constant_expert_backward(const mz_plain_gradient *d, const mz_tensor *d_expert_out,
                                 const mz_tensor *x, const mz_plain_experts *plain,
                                 const mz_routing *routing, int32_t i);

#ifdef __cplusplus
}
#endif
#endif
