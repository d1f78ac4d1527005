#include "core/ops/plain_experts.h"

#include <math.h>
#include <string.h>

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void add_to(float *sum, double value) {
    *sum = (float)((double)*sum + value);
}

/* Shares of x and of the value: softmax(w_mix x). */
static void shares_of(double *a, const mz_constant_expert *expert, const float *x, int64_t n) {
    const double zero = dot(mz_tensor_f32(&expert->w_mix, 0), x, n);
    const double one = dot(mz_tensor_f32(&expert->w_mix, 1), x, n);
    a[0] = 1.0 / (1.0 + exp(one - zero));
    a[1] = 1.0 / (1.0 + exp(zero - one));
}

/* Gradients of the two logits behind the shares, given that of the output. */
static void logit_gradients(double *z, const double *a, const float *d_y, const float *x,
                            const mz_constant_expert *expert, int64_t n) {
    const double q0 = dot(d_y, x, n);
    const double q1 = dot(d_y, expert->value.data, n);
    z[0] = a[0] * a[1] * (q0 - q1);
    z[1] = -z[0];
}

/* Index among the plain experts; negative: one with matrices, or none. */
static int32_t index_of(const mz_plain_experts *plain, const mz_routing *routing, int32_t id) {
    return id - (routing->n_experts - plain->n_constant - plain->n_copy - plain->n_zero);
}

void mz_plain_experts_token(const mz_tensor *expert_out, const mz_tensor *x,
                            const mz_plain_experts *plain, const mz_routing *routing,
                            int64_t token) {
    const int64_t n = x->shape[1];
    for (int64_t j = token * routing->top_k; j < (token + 1) * routing->top_k; j++) {
        const int32_t index = index_of(plain, routing, routing->expert_ids[j]);
        if (index < 0) {
            continue;
        }
        const float *in = mz_tensor_f32(x, token);
        float *out = mz_tensor_f32(expert_out, routing->slot_row[j]);
        if (index < plain->n_constant) {
            const mz_constant_expert *expert = &plain->constants[index];
            const float *value = expert->value.data;
            double a[2];
            shares_of(a, expert, in, n);
            for (int64_t i = 0; i < n; i++) {
                out[i] = (float)(a[0] * (double)in[i] + a[1] * (double)value[i]);
            }
        } else if (index < plain->n_constant + plain->n_copy) {
            memcpy(out, in, (size_t)n * sizeof *out);
        } else {
            memset(out, 0, (size_t)expert_out->shape[1] * sizeof *out);
        }
    }
}

static void constant_input_backward(float *d_x, const float *d_y, const float *x,
                                    const mz_constant_expert *expert, int64_t n) {
    const float *w_mix[2] = {mz_tensor_f32(&expert->w_mix, 0), mz_tensor_f32(&expert->w_mix, 1)};
    double a[2];
    double z[2];
    shares_of(a, expert, x, n);
    logit_gradients(z, a, d_y, x, expert, n);
    for (int64_t i = 0; i < n; i++) {
        add_to(&d_x[i],
               a[0] * (double)d_y[i] + z[0] * (double)w_mix[0][i] + z[1] * (double)w_mix[1][i]);
    }
}

void mz_plain_experts_token_backward(const mz_tensor *d_x, const mz_tensor *d_expert_out,
                                     const mz_tensor *x, const mz_plain_experts *plain,
                                     const mz_routing *routing, int64_t token) {
    const int64_t n = x->shape[1];
    float *d = mz_tensor_f32(d_x, token);
    for (int64_t j = token * routing->top_k; j < (token + 1) * routing->top_k; j++) {
        const int32_t index = index_of(plain, routing, routing->expert_ids[j]);
        if (index < 0 || index >= plain->n_constant + plain->n_copy) {
            continue;
        }
        const float *d_y = mz_tensor_f32(d_expert_out, routing->slot_row[j]);
        if (index < plain->n_constant) {
            constant_input_backward(d, d_y, mz_tensor_f32(x, token), &plain->constants[index], n);
            continue;
        }
        for (int64_t i = 0; i < n; i++) {
            d[i] += d_y[i];
        }
    }
}

void mz_constant_expert_backward(const mz_plain_gradient *d, const mz_tensor *d_expert_out,
                                 const mz_tensor *x, const mz_plain_experts *plain,
                                 const mz_routing *routing, int32_t i) {
    const int32_t id = i + routing->n_experts - plain->n_constant - plain->n_copy - plain->n_zero;
    const mz_constant_expert *expert = &plain->constants[i];
    const int64_t n = x->shape[1];
    for (int32_t row = routing->expert_offsets[id]; row < routing->expert_offsets[id + 1]; row++) {
        const float *in = mz_tensor_f32(x, routing->row_index[row] / routing->top_k);
        const float *d_y = mz_tensor_f32(d_expert_out, row);
        double a[2];
        double z[2];
        shares_of(a, expert, in, n);
        logit_gradients(z, a, d_y, in, expert, n);
        for (int64_t c = 0; c < n && mz_gradient_wanted(&d->value[i]); c++) {
            add_to((float *)d->value[i].data + c, a[1] * (double)d_y[c]);
        }
        for (int64_t c = 0; c < n && mz_gradient_wanted(&d->w_mix[i]); c++) {
            add_to(mz_tensor_f32(&d->w_mix[i], 0) + c, z[0] * (double)in[c]);
            add_to(mz_tensor_f32(&d->w_mix[i], 1) + c, z[1] * (double)in[c]);
        }
    }
}
