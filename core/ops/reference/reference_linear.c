#include <math.h>

#include "core/half.h"
#include "core/ops/reference/reference_ops.h"

/* Values of one row that are converted at a time; every type's block_len divides it. */
enum { CHUNK = 256 };

float mz_ref_rounded(float x, mz_precision precision) {
    return precision == MZ_PRECISION_BF16 ? mz_bf16_to_f32(mz_bf16_from_f32(x)) : x;
}

float mz_ref_weight_at(mz_dtype dtype, const void *data, int64_t i) {
    const mz_dtype_info *type = mz_dtype_get(dtype);
    float block[CHUNK];
    type->to_f32(block, (const unsigned char *)data + i / type->block_len * type->block_bytes,
                 type->block_len);
    return block[i % type->block_len];
}

static int64_t chunk_length(int64_t i, int64_t n) {
    return n - i < CHUNK ? n - i : CHUNK;
}

/* Values [i, i + n) of a row as f32; i is a multiple of CHUNK. */
static void read_weights(float *out, mz_dtype dtype, const unsigned char *row, int64_t i,
                         int64_t n) {
    const mz_dtype_info *type = mz_dtype_get(dtype);
    type->to_f32(out, row + i / type->block_len * type->block_bytes, n);
}

/* n inputs in 8 bits with one scale: x as a product with a block-quantised weight has it. A block
 * with a value that is not finite is NaN; one of values below 2^-100 is zero. */
static void round_block(double *out, const float *x, int64_t n) {
    float max = 0;
    for (int64_t i = 0; i < n; i++) {
        max = fabsf(x[i]) > max || isnan(x[i]) ? fabsf(x[i]) : max;
        if (!isfinite(max)) {
            break;
        }
    }
    const bool tiny = max < 0x1p-100f;
    const float scale = max / 127.0f;
    const float inverse = tiny ? 0 : 127.0f / max;
    for (int64_t i = 0; i < n; i++) {
        out[i] = isfinite(max) ? (double)scale * (double)nearbyintf(x[i] * inverse) : (double)NAN;
    }
}

static int64_t input_block(mz_dtype dtype, mz_precision precision) {
    const bool rounded =
        precision == MZ_PRECISION_INT8 && dtype != MZ_DTYPE_Q2_K && dtype != MZ_DTYPE_Q3_K;
    return rounded && mz_dtype_get(dtype)->block_len > 1 ? mz_dtype_get(dtype)->block_len : 0;
}

/* Inputs [i, i + n) as the precision has them. */
static void read_inputs(double *out, const float *x, int64_t n, int64_t block,
                        mz_precision precision) {
    for (int64_t i = 0; i<n; i += block> 0 ? block : 1) {
        if (block > 0) {
            round_block(out + i, x + i, block);
        } else {
            out[i] = (double)mz_ref_rounded(x[i], precision);
        }
    }
}

/* y[o] = sum over i of W[o, i] x[i]. */
static void matrix_vector(float *y, const float *x, const mz_tensor *w, mz_precision precision) {
    const int64_t block = input_block(w->dtype, precision);
    for (int64_t o = 0; o < w->shape[0]; o++) {
        double sum = 0;
        for (int64_t i = 0; i < w->shape[1]; i += CHUNK) {
            const int64_t n = chunk_length(i, w->shape[1]);
            float a[CHUNK];
            double b[CHUNK];
            read_weights(a, w->dtype, mz_tensor_row(w, o), i, n);
            read_inputs(b, x + i, n, block, precision);
            for (int64_t j = 0; j < n; j++) {
                sum += (double)mz_ref_rounded(a[j], precision) * b[j];
            }
        }
        y[o] = (float)sum;
    }
}

mz_status mz_ref_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w) {
    (void)s;
    const int64_t d_out = w->weight.shape[0];
    for (int64_t t = 0; t < x->shape[0]; t++) {
        float *out = mz_tensor_f32(y, t);
        matrix_vector(out, mz_tensor_f32(x, t), &w->weight, w->precision);
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
        mz_tensor w = mz_tensor_2d(bank->dtype, bank->d_out, bank->d_in, (void *)bank->data[e]);
        w.ld = bank->ld;
        for (int32_t i = routing->expert_offsets[e]; i < routing->expert_offsets[e + 1]; i++) {
            const int64_t row = gather ? routing->row_index[i] / routing->top_k : i;
            matrix_vector(mz_tensor_f32(y, i), mz_tensor_f32(x, row), &w, bank->precision);
            for (int64_t o = 0; o < bank->d_out && bank->bias != NULL; o++) {
                mz_tensor_f32(y, i)[o] += bank->bias[e][o];
            }
        }
    }
    return MZ_OK;
}
