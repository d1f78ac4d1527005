#include <math.h>

#include "core/ops/reference/reference_ops.h"

void mz_ref_add_to(float *sum, double value) {
    *sum = (float)((double)*sum + value);
}

/* d_x of one group of one row. */
static void norm_group(float *d_x, const float *d_y, const float *x, const mz_norm *norm,
                       int64_t begin, int64_t n) {
    const float *weight = norm->weight.data;
    double mean = 0;
    double scale = 0;
    double mean_g = 0;  /* of g */
    double mean_gz = 0; /* of g times the normalised values */
    mz_ref_norm_statistics(x, n, norm, &mean, &scale);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < n; i++) {
            const double z = ((double)x[i] - mean) * scale;
            const double w =
                norm->weight.n_dims == 0
                    ? 1.0
                    : (double)weight[(begin + i) % norm->weight.shape[0]] + (double)norm->offset;
            const double g = (double)d_y[i] * w;
            if (pass == 0) {
                mean_gz += g * z / (double)n;
                mean_g += norm->kind == MZ_NORM_LAYER ? g / (double)n : 0;
            } else {
                mz_ref_add_to(&d_x[i], scale * (g - mean_g - z * mean_gz));
            }
        }
    }
}

/* d_weight or d_bias: each element's sum over rows and groups is made in f64. */
static void norm_vector(const mz_tensor *d_vector, const mz_tensor *d_y, const mz_tensor *x,
                        const mz_norm *norm, bool is_weight) {
    const int64_t width = x->shape[1];
    const int64_t n = norm->group > 0 ? norm->group : width;
    float *sums = d_vector->data;
    for (int64_t j = 0; j < d_vector->shape[0]; j++) {
        double sum = 0;
        for (int64_t t = 0; t < x->shape[0]; t++) {
            for (int64_t i = j; i < width; i += d_vector->shape[0]) {
                const int64_t begin = i / n * n;
                double mean = 0;
                double scale = 0;
                mz_ref_norm_statistics(mz_tensor_f32(x, t) + begin, n, norm, &mean, &scale);
                const double z = ((double)mz_tensor_f32(x, t)[i] - mean) * scale;
                sum += (double)mz_tensor_f32(d_y, t)[i] * (is_weight ? z : 1.0);
            }
        }
        mz_ref_add_to(&sums[j], sum);
    }
}

mz_status mz_ref_norm_backward(mz_stream *s, const mz_norm_gradient *d, const mz_tensor *d_y,
                               const mz_tensor *x, const mz_norm *norm) {
    (void)s;
    const int64_t width = x->shape[1];
    const int64_t n = norm->group > 0 ? norm->group : width;
    for (int64_t t = 0; t < x->shape[0] && mz_gradient_wanted(&d->x); t++) {
        for (int64_t begin = 0; begin < width; begin += n) {
            norm_group(mz_tensor_f32(&d->x, t) + begin, mz_tensor_f32(d_y, t) + begin,
                       mz_tensor_f32(x, t) + begin, norm, begin, n);
        }
    }
    if (mz_gradient_wanted(&d->weight)) {
        norm_vector(&d->weight, d_y, x, norm, true);
    }
    if (mz_gradient_wanted(&d->bias)) {
        norm_vector(&d->bias, d_y, x, norm, false);
    }
    return MZ_OK;
}

mz_status mz_ref_rope_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                               const mz_rope_table *table, const mz_rows *rows) {
    (void)s;
    const int64_t half = table->half_dim;
    const int64_t head_dim = mz_rope_head_dim(table);
    const int64_t step = table->interleaved ? 2 : 1;
    const int64_t other = table->interleaved ? 1 : half;
    for (int64_t t = 0; t < rows->n_rows && mz_gradient_wanted(d_x); t++) {
        const float *c = table->cos + rows->position[t] * half;
        const float *sn = table->sin + rows->position[t] * half;
        for (int64_t head = 0; head < d_y->shape[1]; head += head_dim) {
            const float *d = mz_tensor_f32(d_y, t) + head;
            float *out = mz_tensor_f32(d_x, t) + head;
            for (int64_t i = 0; i < half; i++) {
                const int64_t j = table->first + i * step;
                const double a = d[j];
                const double b = d[j + other];
                mz_ref_add_to(&out[j], a * (double)c[i] + b * (double)sn[i]);
                mz_ref_add_to(&out[j + other], b * (double)c[i] - a * (double)sn[i]);
            }
            for (int64_t i = 0; i < head_dim; i++) {
                if (i < table->first || i >= table->first + 2 * half) {
                    mz_ref_add_to(&out[i], (double)d[i]);
                }
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
    for (int64_t t = 0; t < gate->shape[0]; t++) {
        for (int64_t i = 0; i < gate->shape[1]; i++) {
            const double g = mz_tensor_f32(d_y, t)[i];
            const double factor = up != NULL ? (double)mz_tensor_f32(up, t)[i] : 1.0;
            double slope = 0;
            const double value =
                mz_ref_activate((double)mz_tensor_f32(gate, t)[i], activation, &slope);
            if (mz_gradient_wanted(&d->gate)) {
                mz_ref_add_to(&mz_tensor_f32(&d->gate, t)[i], g * factor * slope);
            }
            if (up != NULL && mz_gradient_wanted(&d->up)) {
                mz_ref_add_to(&mz_tensor_f32(&d->up, t)[i], g * value);
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
                                      const int32_t *rows, float scale) {
    (void)s;
    for (int64_t t = 0; t < d_y->shape[0] && mz_gradient_wanted(d_x); t++) {
        for (int64_t i = 0; i < d_y->shape[1]; i++) {
            mz_ref_add_to(&mz_tensor_f32(d_x, rows != NULL ? rows[t] : t)[i],
                          (double)scale * (double)mz_tensor_f32(d_y, t)[i]);
        }
    }
    return MZ_OK;
}
