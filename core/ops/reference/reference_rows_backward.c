#include <math.h>

#include "core/ops/reference/reference_ops.h"

void mz_ref_add_to(float *sum, double value) {
    *sum = (float)((double)*sum + value);
}

/* 1 / sqrt(mean(x^2) + eps). */
static double rms_scale(const float *x, int64_t n, float eps) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return 1.0 / sqrt(sum / (double)n + (double)eps);
}

static void rms_norm_x(const mz_tensor *d_x, const mz_tensor *d_y, const mz_tensor *x,
                       const float *w, float eps) {
    const int64_t n = x->shape[1];
    for (int64_t t = 0; t < x->shape[0]; t++) {
        const float *in = mz_tensor_f32(x, t);
        const float *d = mz_tensor_f32(d_y, t);
        const double r = rms_scale(in, n, eps);
        double mean = 0; /* of g times the normalised row */
        for (int64_t i = 0; i < n; i++) {
            mean += (double)d[i] * (double)w[i] * ((double)in[i] * r) / (double)n;
        }
        for (int64_t i = 0; i < n; i++) {
            mz_ref_add_to(&mz_tensor_f32(d_x, t)[i],
                          r * ((double)d[i] * (double)w[i] - (double)in[i] * r * mean));
        }
    }
}

static void rms_norm_weight(float *d_w, const mz_tensor *d_y, const mz_tensor *x, float eps) {
    for (int64_t i = 0; i < x->shape[1]; i++) {
        double sum = 0;
        for (int64_t t = 0; t < x->shape[0]; t++) {
            const float *in = mz_tensor_f32(x, t);
            sum += (double)mz_tensor_f32(d_y, t)[i] *
                   ((double)in[i] * rms_scale(in, x->shape[1], eps));
        }
        mz_ref_add_to(&d_w[i], sum);
    }
}

mz_status mz_ref_rms_norm_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_weight,
                                   const mz_tensor *d_y, const mz_tensor *x,
                                   const mz_tensor *weight, float eps) {
    (void)s;
    if (mz_gradient_wanted(d_x)) {
        rms_norm_x(d_x, d_y, x, weight->data, eps);
    }
    if (mz_gradient_wanted(d_weight)) {
        rms_norm_weight(d_weight->data, d_y, x, eps);
    }
    return MZ_OK;
}

mz_status mz_ref_rope_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                               const mz_rope_table *table, const mz_rows *rows) {
    (void)s;
    const int64_t half = table->half_dim;
    const int64_t n_heads = d_y->shape[1] / (2 * half);
    for (int64_t t = 0; t < rows->n_rows && mz_gradient_wanted(d_x); t++) {
        const float *c = table->cos + rows->position[t] * half;
        const float *sn = table->sin + rows->position[t] * half;
        for (int64_t h = 0; h < n_heads; h++) {
            const float *d = mz_tensor_f32(d_y, t) + h * 2 * half;
            float *out = mz_tensor_f32(d_x, t) + h * 2 * half;
            for (int64_t i = 0; i < half; i++) {
                const double a = d[i];
                const double b = d[i + half];
                mz_ref_add_to(&out[i], a * (double)c[i] + b * (double)sn[i]);
                mz_ref_add_to(&out[i + half], b * (double)c[i] - a * (double)sn[i]);
            }
        }
    }
    return MZ_OK;
}

mz_status mz_ref_softmax_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                  const mz_tensor *y) {
    (void)s;
    for (int64_t t = 0; t < y->shape[0] && mz_gradient_wanted(d_x); t++) {
        const float *d = mz_tensor_f32(d_y, t);
        const float *p = mz_tensor_f32(y, t);
        double sum = 0;
        for (int64_t i = 0; i < y->shape[1]; i++) {
            sum += (double)d[i] * (double)p[i];
        }
        for (int64_t i = 0; i < y->shape[1]; i++) {
            mz_ref_add_to(&mz_tensor_f32(d_x, t)[i], (double)p[i] * ((double)d[i] - sum));
        }
    }
    return MZ_OK;
}

mz_status mz_ref_gated_activation_backward(mz_stream *s, const mz_gated_gradient *d,
                                           const mz_tensor *d_y, const mz_tensor *gate,
                                           const mz_tensor *up, mz_activation activation) {
    (void)s;
    (void)activation; /* SiLU is the only one */
    for (int64_t t = 0; t < gate->shape[0]; t++) {
        for (int64_t i = 0; i < gate->shape[1]; i++) {
            const double x = mz_tensor_f32(gate, t)[i];
            const double g = mz_tensor_f32(d_y, t)[i];
            const double sigmoid = 1.0 / (1.0 + exp(-x));
            if (mz_gradient_wanted(&d->gate)) {
                mz_ref_add_to(&mz_tensor_f32(&d->gate, t)[i], g * (double)mz_tensor_f32(up, t)[i] *
                                                                  sigmoid *
                                                                  (1.0 + x * (1.0 - sigmoid)));
            }
            if (mz_gradient_wanted(&d->up)) {
                mz_ref_add_to(&mz_tensor_f32(&d->up, t)[i], g * x * sigmoid);
            }
        }
    }
    return MZ_OK;
}

mz_status mz_ref_accumulate(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y, float scale) {
    (void)s;
    for (int64_t t = 0; t < d_y->shape[0] && mz_gradient_wanted(d_x); t++) {
        for (int64_t i = 0; i < d_y->shape[1]; i++) {
            mz_ref_add_to(&mz_tensor_f32(d_x, t)[i],
                          (double)scale * (double)mz_tensor_f32(d_y, t)[i]);
        }
    }
    return MZ_OK;
}

mz_status mz_ref_gather_rows_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                      const int32_t *rows) {
    (void)s;
    for (int64_t t = 0; t < d_y->shape[0] && mz_gradient_wanted(d_x); t++) {
        for (int64_t i = 0; i < d_y->shape[1]; i++) {
            mz_tensor_f32(d_x, rows[t])[i] += mz_tensor_f32(d_y, t)[i];
        }
    }
    return MZ_OK;
}
