/* The rules of mz_op_route and its backward, a token or a sequence at a time, for backends in host
 * memory. Scores and weights are computed in f64; what is compared is f32. Contracts stand in
 * core/ops.h and core/ops_backward.h. */
#ifndef MZ_CORE_OPS_ROUTING_RULES_H
#define MZ_CORE_OPS_ROUTING_RULES_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which modality's range row i chooses from: its own, or text by router->text_before_text. */
mz_modality mz_route_modality(const mz_router *router, const mz_rows *rows, int64_t i);

/* Whether it is the plain softmax top-k, renormalised and scaled or not, for which backends have
 * their own code: every slot is used then. */
bool mz_route_is_simple(const mz_router *router);

/* Whether the kind limits places; then mz_route_places has to follow when all tokens have chosen.
 */
bool mz_route_has_capacity(const mz_router *router);

/* Fills a token's expert_ids and gate_weights; with capacity the weights are p of the choices. */
void mz_route_token(const mz_router *router, const mz_routing *routing, int64_t token);

/* Drops what does not fit and makes weights of what stays. */
void mz_route_places(const mz_router *router, const mz_routing *routing);

/* Adds to d_logits [n_experts] of a token, given d_weights [top_k]. */
void mz_route_token_backward(float *d_logits, const float *d_weights, const mz_router *router,
                             const mz_routing *routing, int64_t token);

/* Rows [begin, end) of `logits` from those of the routers that `in` holds (mz_op_mask_logits).
 * Returns the first row whose modality has none, or -1. */
int64_t mz_mask_logits_rows(const mz_tensor *logits, const mz_tensor *in, const mz_router *router,
                            const mz_rows *rows, int64_t begin, int64_t end);
void mz_mask_logits_rows_backward(const mz_tensor *d_in, const mz_tensor *d_logits,
                                  const mz_router *router, const mz_rows *rows, int64_t begin,
                                  int64_t end);

#ifdef __cplusplus
}
#endif
#endif
