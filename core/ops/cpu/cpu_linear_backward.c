#include "core/ops/cpu/cpu_linear.h"
#include "core/ops/reference/reference_ops.h"

mz_status mz_cpu_linear_backward(mz_stream *s, const mz_linear_gradient *d_w, const mz_tensor *d_x,
                                 const mz_tensor *d_y, const mz_tensor *x, const mz_linear *w) {
    return mz_ref_linear_backward(s, d_w, d_x, d_y, x, w);
}

mz_status mz_cpu_grouped_linear_backward(mz_stream *s, float *const *d_w, const mz_tensor *d_x,
                                         const mz_tensor *d_y, const mz_tensor *x,
                                         const mz_linear_bank *bank, const mz_routing *routing,
                                         bool gather) {
    return mz_ref_grouped_linear_backward(s, d_w, d_x, d_y, x, bank, routing, gather);
}
