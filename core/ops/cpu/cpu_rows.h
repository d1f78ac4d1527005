/* The CPU backend's ops other than matrix products: element-wise and row-wise ops, attention,
 * routing.
 *
 * Contracts of the ops stand in core/ops.h; these are their implementations for host memory, run on
 * the context's threads with the kernels of its instruction set. Every row's result is a pure
 * function of that row (and, for attention, of what the cache holds for it): its bits depend
 * neither on the other rows of a call nor on the number of threads. They do depend on the
 * instruction set. */
#ifndef MZ_CORE_OPS_CPU_CPU_ROWS_H
#define MZ_CORE_OPS_CPU_CPU_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Squares are summed in f32 lanes, lanes in f64; a group whose squares leave the safe range of f32
 * is done again in f64. */
mz_status mz_cpu_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm);

mz_status mz_cpu_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                      const mz_rope_table *table, const mz_rows *rows);

mz_status mz_cpu_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x);

/* With an exponential of ours (under 2 ulp); SiLU of gates below -88.3 gives zero, where the exact
 * result is under 1e-35 times `up`. GELU by a rational form of erfc (relative error under 2e-7). */
mz_status mz_cpu_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation);

mz_status mz_cpu_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                     float scale);

mz_status mz_cpu_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const int32_t *rows, float scale);

mz_status mz_cpu_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                          const mz_tensor *v, const mz_rows *rows);

mz_status mz_cpu_kv_rotate(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                           int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                           int64_t n);

/* Spans of 256 positions are worked on alone and merged from the first to the last (Milakov and
 * Gimelshein 2018; tiles as in Dao et al. 2022); threads share out tiles of queries and, where
 * those are few, spans. A call may hold any ascending subset of a sequence's positions. Values at
 * positions that a row does not see never enter its arithmetic, whatever they are. Takes
 * mz_cpu_attention_scratch bytes from the stream's arena and gives them back. Errors: LIMIT when
 * they do not fit. */
mz_status mz_cpu_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule);

/* Bytes that mz_cpu_attention takes from the arena: 16 a row, and what does not depend on rows and
 * positions. head_dim is that of values. */
size_t mz_cpu_attention_scratch(int n_threads, int64_t n_rows, int64_t head_dim);

/* Experts are chosen by their f32 logits, ties to the lower id, NaN after every number. The softmax
 * is monotone, so this differs from choosing by rounded f32 probabilities only where two different
 * logits round to one probability: there the larger logit wins, not the lower id. Weights of NaN
 * logits are 0. */
mz_status mz_cpu_route(mz_stream *s, const mz_router *router, const mz_routing *routing);

mz_status mz_cpu_dispatch(mz_stream *s, const mz_routing *routing);

mz_status mz_cpu_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                         const mz_routing *routing, const mz_tensor *shared_out,
                         const mz_tensor *shared_logit);

/* Of some kinds of routers and experts; see core/ops/routing_rules.h and core/ops/plain_experts.h.
 */
mz_status mz_cpu_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                             const mz_router *router, const mz_rows *rows);
mz_status mz_cpu_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                               const mz_plain_experts *plain, const mz_routing *routing);

#ifdef __cplusplus
}
#endif
#endif
