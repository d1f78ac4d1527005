#include <math.h>

#include "core/half.h"
#include "core/ops/reference/reference_ops.h"

float mz_ref_rounded(float x, mz_precision precision) {
    return precision == MZ_PRECISION_BF16 ? mz_bf16_to_f32(mz_bf16_from_f32(x)) : x;
}

float mz_ref_weight_at(mz_dtype dtype, const void *data, int64_t i) {
    const int bytes = mz_dtype_get(dtype)->block_bytes;
    float w = 0;
    mz_dtype_get(dtype)->to_f32(&w, (const unsigned char *)data + i * bytes, 1);
    return w;
}

/* y[o] = sum over i of W[o, i] x[i]. */
static void matrix_vector(float *y, const float *x, mz_dtype dtype, const void *w, int64_t ld,
                          int64_t d_out, int64_t d_in, mz_precision precision) {
    for (int64_t o = 0; o < d_out; o++) {
        double sum = 0;
        for (int64_t i = 0; i < d_in; i++) {
            const float a = mz_ref_rounded(mz_ref_weight_at(dtype, w, o * ld + i), precision);
            sum += (double)a * (double)mz_ref_rounded(x[i], precision);
        }
        y[o] = (float)sum;
    }
}

mz_status mz_ref_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w) {
    (void)s;
    const int64_t d_out = w->weight.shape[0];
    for (int64_t t = 0; t < x->shape[0]; t++) {
        float *out = mz_tensor_f32(y, t);
        matrix_vector(out, mz_tensor_f32(x, t), w->weight.dtype, w->weight.data, w->weight.ld,
                      d_out, w->weight.shape[1], w->precision);
        for (int64_t o = 0; o < d_out && w->bias.n_dims > 0; o++) {
            out[o] += ((const float *)w->bias.data)[o];
        }
    }
    return MZ_OK;
}

mz_status mz_ref_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const mz_linear_bank *bank, const mz_routing *routing,
                                bool gather) {
    (void)s;
    for (int32_t e = 0; e < bank->n_experts; e++) {
        for (int32_t i = routing->expert_offsets[e]; i < routing->expert_offsets[e + 1]; i++) {
            const int64_t row = gather ? routing->row_index[i] / routing->top_k : i;
            matrix_vector(mz_tensor_f32(y, i), mz_tensor_f32(x, row), bank->dtype, bank->data[e],
                          bank->ld, bank->d_out, bank->d_in, bank->precision);
            for (int64_t o = 0; o < bank->d_out && bank->bias != NULL; o++) {
                mz_tensor_f32(y, i)[o] += bank->bias[e][o];
            }
        }
    }
    return MZ_OK;
}
