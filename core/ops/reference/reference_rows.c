#include <math.h>

#include "core/ops/reference/reference_ops.h"

mz_status mz_ref_rms_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                          const mz_tensor *weight, float eps) {
    (void)s;
    const int64_t width = x->shape[1];
    const float *w = weight->data;
    for (int64_t t = 0; t < x->shape[0]; t++) {
        const float *in = mz_tensor_f32(x, t);
        float *out = mz_tensor_f32(y, t);
        double sum = 0;
        for (int64_t i = 0; i < width; i++) {
            sum += (double)in[i] * (double)in[i];
        }
        const double scale = 1.0 / sqrt(sum / (double)width + (double)eps);
        for (int64_t i = 0; i < width; i++) {
            out[i] = (float)((double)w[i] * ((double)in[i] * scale));
        }
    }
    return MZ_OK;
}

mz_status mz_ref_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                      const mz_rope_table *table, const mz_rows *rows) {
    (void)s;
    const int64_t half = table->half_dim;
    const int64_t n_heads = x->shape[1] / (2 * half);
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const float *c = table->cos + rows->position[t] * half;
        const float *sn = table->sin + rows->position[t] * half;
        for (int64_t h = 0; h < n_heads; h++) {
            const float *in = mz_tensor_f32(x, t) + h * 2 * half;
            float *out = mz_tensor_f32(y, t) + h * 2 * half;
            for (int64_t i = 0; i < half; i++) {
                const double a = in[i];
                const double b = in[i + half];
                out[i] = (float)(a * (double)c[i] - b * (double)sn[i]);
                out[i + half] = (float)(b * (double)c[i] + a * (double)sn[i]);
            }
        }
    }
    return MZ_OK;
}

mz_status mz_ref_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x) {
    (void)s;
    for (int64_t t = 0; t < x->shape[0]; t++) {
        const float *in = mz_tensor_f32(x, t);
        float *out = mz_tensor_f32(y, t);
        double max = -INFINITY;
        double sum = 0;
        for (int64_t i = 0; i < x->shape[1]; i++) {
            max = (double)in[i] > max ? (double)in[i] : max;
        }
        for (int64_t i = 0; i < x->shape[1] && max > -INFINITY; i++) {
            sum += exp((double)in[i] - max);
        }
        for (int64_t i = 0; i < x->shape[1]; i++) {
            out[i] = max > -INFINITY ? (float)(exp((double)in[i] - max) / sum) : 0.0f;
        }
    }
    return MZ_OK;
}

mz_status mz_ref_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation) {
    (void)s;
    (void)activation; /* SiLU is the only one */
    for (int64_t t = 0; t < gate->shape[0]; t++) {
        const float *g = mz_tensor_f32(gate, t);
        const float *u = mz_tensor_f32(up, t);
        float *out = mz_tensor_f32(y, t);
        for (int64_t i = 0; i < gate->shape[1]; i++) {
            const double x = g[i];
            out[i] = (float)(x / (1.0 + exp(-x)) * (double)u[i]);
        }
    }
    return MZ_OK;
}

mz_status mz_ref_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                     float scale) {
    (void)s;
    for (int64_t t = 0; t < a->shape[0]; t++) {
        for (int64_t i = 0; i < a->shape[1]; i++) {
            const double scaled = (double)scale * (double)mz_tensor_f32(b, t)[i];
            mz_tensor_f32(y, t)[i] = (float)((double)mz_tensor_f32(a, t)[i] + scaled);
        }
    }
    return MZ_OK;
}

mz_status mz_ref_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const int32_t *rows) {
    (void)s;
    for (int64_t t = 0; t < y->shape[0]; t++) {
        for (int64_t i = 0; i < x->shape[1]; i++) {
            mz_tensor_f32(y, t)[i] = mz_tensor_f32(x, rows[t])[i];
        }
    }
    return MZ_OK;
}
