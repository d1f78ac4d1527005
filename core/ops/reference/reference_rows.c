#include <math.h>

#include "core/ops/reference/reference_ops.h"

void mz_ref_norm_statistics(const float *x, int64_t n, const mz_norm *norm, double *mean,
                            double *scale) {
    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < n && norm->kind == MZ_NORM_LAYER; i++) {
        sum += (double)x[i];
    }
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    }
    *scale = 1.0 / sqrt(squares / (double)n + (double)norm->eps);
}

mz_status mz_ref_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm) {
    (void)s;
    const int64_t width = x->shape[1];
    const int64_t n = norm->group > 0 ? norm->group : width;
    const float *weight = norm->weight.data;
    const float *bias = norm->bias.data;
    for (int64_t t = 0; t < x->shape[0]; t++) {
        for (int64_t begin = 0; begin < width; begin += n) {
            const float *in = mz_tensor_f32(x, t) + begin;
            float *out = mz_tensor_f32(y, t) + begin;
            double mean = 0;
            double scale = 0;
            mz_ref_norm_statistics(in, n, norm, &mean, &scale);
            for (int64_t i = 0; i < n; i++) {
                double v = ((double)in[i] - mean) * scale;
                if (norm->weight.n_dims > 0) {
                    v *= (double)weight[(begin + i) % norm->weight.shape[0]] + (double)norm->offset;
                }
                if (norm->bias.n_dims > 0) {
                    v += (double)bias[(begin + i) % norm->bias.shape[0]];
                }
                out[i] = (float)v;
            }
        }
    }
    return MZ_OK;
}

mz_status mz_ref_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                      const mz_rope_table *table, const mz_rows *rows) {
    (void)s;
    const int64_t half = table->half_dim;
    const int64_t head_dim = mz_rope_head_dim(table);
    const int64_t step = table->interleaved ? 2 : 1;
    const int64_t other = table->interleaved ? 1 : half;
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const float *c = table->cos + rows->position[t] * half;
        const float *sn = table->sin + rows->position[t] * half;
        for (int64_t head = 0; head < x->shape[1]; head += head_dim) {
            const float *in = mz_tensor_f32(x, t) + head;
            float *out = mz_tensor_f32(y, t) + head;
            for (int64_t i = 0; i < head_dim; i++) {
                out[i] = in[i];
            }
            for (int64_t i = 0; i < half; i++) {
                const int64_t j = table->first + i * step;
                const double a = in[j];
                const double b = in[j + other];
                out[j] = (float)(a * (double)c[i] - b * (double)sn[i]);
                out[j + other] = (float)(b * (double)c[i] + a * (double)sn[i]);
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

double mz_ref_activate(double x, mz_activation activation, double *slope) {
    const double pi = 3.14159265358979323846;
    switch (activation) {
    case MZ_ACTIVATION_GELU: {
        const double phi = 0.5 * erfc(-x / sqrt(2.0));
        *slope = phi + x * exp(-0.5 * x * x) / sqrt(2.0 * pi);
        return x * phi;
    }
    case MZ_ACTIVATION_GELU_TANH: {
        const double c = sqrt(2.0 / pi);
        const double u = c * (x + 0.044715 * x * x * x);
        const double p = 1.0 / (1.0 + exp(-2.0 * u)); /* (1 + tanh u) / 2 */
        const double q = 1.0 / (1.0 + exp(2.0 * u));
        *slope = p + 2.0 * c * x * (1.0 + 3.0 * 0.044715 * x * x) * (p * q);
        return x * p;
    }
    case MZ_ACTIVATION_TANH:
        *slope = 1.0 - tanh(x) * tanh(x);
        return tanh(x);
    case MZ_ACTIVATION_RELU:
        *slope = x > 0 ? 1.0 : 0.0;
        return x > 0 ? x : 0.0;
    default: {
        const double k = activation == MZ_ACTIVATION_GELU_QUICK ? 1.702 : 1.0;
        const double p = 1.0 / (1.0 + exp(-k * x));
        *slope = p * (1.0 + k * x * (1.0 - p));
        return x * p;
    }
    }
}

mz_status mz_ref_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation) {
    (void)s;
    for (int64_t t = 0; t < gate->shape[0]; t++) {
        const float *g = mz_tensor_f32(gate, t);
        float *out = mz_tensor_f32(y, t);
        for (int64_t i = 0; i < gate->shape[1]; i++) {
            double slope = 0;
            const double factor = up != NULL ? (double)mz_tensor_f32(up, t)[i] : 1.0;
            out[i] = (float)(mz_ref_activate((double)g[i], activation, &slope) * factor);
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
                             const int32_t *rows, float scale) {
    (void)s;
    for (int64_t t = 0; t < y->shape[0]; t++) {
        float *out = mz_tensor_f32(y, t);
        mz_dtype_get(x->dtype)->to_f32(out, mz_tensor_row(x, rows != NULL ? rows[t] : t),
                                       x->shape[1]);
        for (int64_t i = 0; i < x->shape[1]; i++) {
            out[i] = (float)((double)scale * (double)out[i]);
        }
    }
    return MZ_OK;
}
