#include <stddef.h>

#include "core/ops/reference/reference_ops.h"

/* Rows of a product: row i of d_y belongs to row x_row of x. */
static int64_t x_row(const mz_routing *routing, bool gather, int64_t i) {
    return gather ? routing->row_index[i] / routing->top_k : i;
}

static double factor(const mz_tensor *t, int64_t row, int64_t column, mz_precision precision) {
    return (double)mz_ref_rounded(mz_tensor_f32(t, row)[column], precision);
}

/* sum over o of d_y[i, o] W[o, k]. */
static double times_column(const mz_tensor *d_y, int64_t i, const mz_linear_bank *w, int32_t expert,
                           int64_t k) {
    double sum = 0;
    for (int64_t o = 0; o < w->d_out; o++) {
        const float a = mz_ref_weight_at(w->dtype, w->data[expert], o * w->ld + k);
        sum += factor(d_y, i, o, w->precision) * (double)mz_ref_rounded(a, w->precision);
    }
    return sum;
}

/* d_x of one row of x that the rows slot_row[first], ... [first + n) of d_y came from. */
static void add_to_row(float *d_x, const mz_tensor *d_y, const mz_linear_bank *w,
                       const int32_t *expert_ids, const int32_t *slot_row, int32_t n) {
    for (int64_t k = 0; k < w->d_in; k++) {
        double sum = d_x[k];
        for (int32_t j = 0; j < n; j++) {
            const bool has_matrix = expert_ids[j] >= 0 && expert_ids[j] < w->n_experts;
            sum += has_matrix ? times_column(d_y, slot_row[j], w, expert_ids[j], k) : 0;
        }
        d_x[k] = (float)sum;
    }
}

mz_status mz_ref_linear_backward(mz_stream *s, const mz_linear_gradient *d_w, const mz_tensor *d_x,
                                 const mz_tensor *d_y, const mz_tensor *x, const mz_linear *w) {
    (void)s;
    const int64_t n = d_y->shape[0];
    const mz_tensor *t = &w->weight;
    const void *const data = t->data;
    const mz_linear_bank bank = {.dtype = t->dtype,
                                 .precision = w->precision,
                                 .n_experts = 1,
                                 .d_out = t->shape[0],
                                 .d_in = t->shape[1],
                                 .ld = t->ld,
                                 .data = &data};
    for (int32_t i = 0; i < n && d_x != NULL && d_x->n_dims > 0; i++) {
        add_to_row(mz_tensor_f32(d_x, i), d_y, &bank, &(int32_t){0}, &i, 1);
    }
    for (int64_t o = 0; o < bank.d_out && d_w != NULL && d_w->weight.n_dims > 0; o++) {
        for (int64_t k = 0; k < bank.d_in; k++) {
            float *out = mz_tensor_f32(&d_w->weight, o) + k;
            double sum = *out;
            for (int64_t i = 0; i < n; i++) {
                sum += factor(d_y, i, o, w->precision) * factor(x, i, k, w->precision);
            }
            *out = (float)sum;
        }
    }
    for (int64_t o = 0; o < bank.d_out && d_w != NULL && d_w->bias.n_dims > 0; o++) {
        float *out = (float *)d_w->bias.data + o;
        double sum = *out;
        for (int64_t i = 0; i < n; i++) {
            sum += (double)mz_tensor_f32(d_y, i)[o];
        }
        *out = (float)sum;
    }
    return MZ_OK;
}

mz_status mz_ref_grouped_linear_backward(mz_stream *s, const mz_bank_gradient *d_w,
                                         const mz_tensor *d_x, const mz_tensor *d_y,
                                         const mz_tensor *x, const mz_linear_bank *bank,
                                         const mz_routing *routing, bool gather) {
    (void)s;
    const int32_t top_k = routing->top_k;
    for (int64_t t = 0; t < routing->n_tokens && d_x != NULL && d_x->n_dims > 0; t++) {
        const int32_t *ids = routing->expert_ids + t * top_k;
        const int32_t *rows = routing->slot_row + t * top_k;
        if (gather) {
            add_to_row(mz_tensor_f32(d_x, t), d_y, bank, ids, rows, top_k);
        } else {
            for (int32_t k = 0; k < top_k; k++) {
                if (rows[k] < 0) {
                    continue;
                }
                add_to_row(mz_tensor_f32(d_x, rows[k]), d_y, bank, ids + k, rows + k, 1);
            }
        }
    }
    for (int32_t e = 0; e < bank->n_experts && d_w != NULL && d_w->bias != NULL; e++) {
        for (int64_t o = 0; o < bank->d_out; o++) {
            double sum = d_w->bias[e][o];
            for (int32_t i = routing->expert_offsets[e]; i < routing->expert_offsets[e + 1]; i++) {
                sum += (double)mz_tensor_f32(d_y, i)[o];
            }
            d_w->bias[e][o] = (float)sum;
        }
    }
    for (int32_t e = 0; e < bank->n_experts && d_w != NULL && d_w->weight != NULL; e++) {
        for (int64_t j = 0; j < bank->d_out * bank->d_in; j++) {
            const int64_t o = j / bank->d_in;
            const int64_t k = j % bank->d_in;
            double sum = d_w->weight[e][j];
            for (int32_t i = routing->expert_offsets[e]; i < routing->expert_offsets[e + 1]; i++) {
                sum += factor(d_y, i, o, bank->precision) *
                       factor(x, x_row(routing, gather, i), k, bank->precision);
            }
            d_w->weight[e][j] = (float)sum;
        }
    }
    return MZ_OK;
}
