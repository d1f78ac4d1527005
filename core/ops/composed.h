/* Compositions from primitives: of the fused ops, for backends that have no version of their own,
 * and of products with deltas. */
#ifndef MZ_CORE_OPS_COMPOSED_H
#define MZ_CORE_OPS_COMPOSED_H

#include "core/ops.h"

/* Of a matrix with deltas, one at least. The steps are ops, so that a tape records each of them. */
mz_status mz_composed_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const mz_linear *w);
mz_status mz_composed_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                     const mz_linear_bank *bank, const mz_routing *routing,
                                     bool gather);

mz_status mz_composed_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn);
mz_status mz_composed_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                          const mz_routing *routing, mz_moe_probe *probe);

#endif
