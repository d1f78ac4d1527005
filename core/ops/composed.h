/* Compositions of the fused ops from primitives, for backends that have no version of their own. */
#ifndef MZ_CORE_OPS_COMPOSED_H
#define MZ_CORE_OPS_COMPOSED_H

#include "core/ops.h"

mz_status mz_composed_gated_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const mz_gated_ffn *ffn);
mz_status mz_composed_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                          const mz_routing *routing, mz_moe_probe *probe);

#endif
