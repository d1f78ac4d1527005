#include "core/tensor.h"

#include <stdio.h>
#include <string.h>

#include "core/blocks.h"
#include "core/half.h"

static void copy_f32(float *dst, const void *src, int64_t n) {
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void store_f32(void *dst, const float *src, int64_t n) {
    memcpy(dst, src, (size_t)n * sizeof *src);
}

static void f16_to_f32(float *dst, const void *src, int64_t n) {
    const unsigned char *bytes = src;
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = 0;
        memcpy(&h, bytes + 2 * i, sizeof h);
        dst[i] = mz_f16_to_f32(h);
    }
}

static void f16_from_f32(void *dst, const float *src, int64_t n) {
    unsigned char *bytes = dst;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = mz_f16_from_f32(src[i]);
        memcpy(bytes + 2 * i, &h, sizeof h);
    }
}

static void bf16_to_f32(float *dst, const void *src, int64_t n) {
    const unsigned char *bytes = src;
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = 0;
        memcpy(&h, bytes + 2 * i, sizeof h);
        dst[i] = mz_bf16_to_f32(h);
    }
}

static void bf16_from_f32(void *dst, const float *src, int64_t n) {
    unsigned char *bytes = dst;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = mz_bf16_from_f32(src[i]);
        memcpy(bytes + 2 * i, &h, sizeof h);
    }
}

static const mz_dtype_info dtypes[MZ_DTYPE_COUNT] = {
    [MZ_DTYPE_F32] = {"f32", 1, 4, true, copy_f32, store_f32},
    [MZ_DTYPE_F16] = {"f16", 1, 2, true, f16_to_f32, f16_from_f32},
    [MZ_DTYPE_BF16] = {"bf16", 1, 2, true, bf16_to_f32, bf16_from_f32},
    [MZ_DTYPE_I32] = {"i32", 1, 4, false, NULL, NULL},
    [MZ_DTYPE_I64] = {"i64", 1, 8, false, NULL, NULL},
    [MZ_DTYPE_U8] = {"u8", 1, 1, false, NULL, NULL},
    [MZ_DTYPE_Q8_0] = {"q8_0", 32, 34, true, mz_q8_0_to_f32, mz_q8_0_from_f32},
    [MZ_DTYPE_Q4_0] = {"q4_0", 32, 18, true, mz_q4_0_to_f32, mz_q4_0_from_f32},
    [MZ_DTYPE_Q4_1] = {"q4_1", 32, 20, true, mz_q4_1_to_f32, mz_q4_1_from_f32},
    [MZ_DTYPE_Q5_0] = {"q5_0", 32, 22, true, mz_q5_0_to_f32, mz_q5_0_from_f32},
    [MZ_DTYPE_Q5_1] = {"q5_1", 32, 24, true, mz_q5_1_to_f32, mz_q5_1_from_f32},
    [MZ_DTYPE_Q2_K] = {"q2_k", 256, 84, true, mz_q2_k_to_f32, NULL},
    [MZ_DTYPE_Q3_K] = {"q3_k", 256, 110, true, mz_q3_k_to_f32, NULL},
    [MZ_DTYPE_Q4_K] = {"q4_k", 256, 144, true, mz_q4_k_to_f32, mz_q4_k_from_f32},
    [MZ_DTYPE_Q5_K] = {"q5_k", 256, 176, true, mz_q5_k_to_f32, mz_q5_k_from_f32},
    [MZ_DTYPE_Q6_K] = {"q6_k", 256, 210, true, mz_q6_k_to_f32, mz_q6_k_from_f32},
};

const mz_dtype_info *mz_dtype_get(mz_dtype dtype) {
    return &dtypes[dtype];
}

mz_tensor mz_tensor_1d(mz_dtype dtype, int64_t n, void *data) {
    return (mz_tensor){.dtype = dtype, .n_dims = 1, .shape = {n}, .ld = n, .data = data};
}

mz_tensor mz_tensor_2d(mz_dtype dtype, int64_t n_rows, int64_t n_cols, void *data) {
    return (mz_tensor){
        .dtype = dtype, .n_dims = 2, .shape = {n_rows, n_cols}, .ld = n_cols, .data = data};
}

static void *offset(const mz_tensor *t, int64_t n_elements) {
    const mz_dtype_info *type = &dtypes[t->dtype];
    const size_t bytes = (size_t)(n_elements / type->block_len) * (size_t)type->block_bytes;
    return t->data == NULL ? NULL : (unsigned char *)t->data + bytes;
}

mz_tensor mz_tensor_rows(const mz_tensor *t, int64_t begin, int64_t n) {
    mz_tensor view = *t;
    view.shape[0] = n;
    view.data = offset(t, begin * t->ld);
    return view;
}

mz_tensor mz_tensor_cols(const mz_tensor *t, int64_t begin, int64_t n) {
    mz_tensor view = *t;
    view.shape[1] = n;
    view.data = offset(t, begin);
    return view;
}

size_t mz_tensor_row_bytes(const mz_tensor *t) {
    const mz_dtype_info *type = &dtypes[t->dtype];
    return (size_t)(t->ld / type->block_len) * (size_t)type->block_bytes;
}

void *mz_tensor_row(const mz_tensor *t, int64_t row) {
    return offset(t, row * t->ld);
}

int64_t mz_tensor_n_rows(const mz_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++) {
        n *= t->shape[i];
    }
    return n;
}

int64_t mz_tensor_n_cols(const mz_tensor *t) {
    return t->n_dims == 0 ? 0 : t->shape[t->n_dims - 1];
}

int64_t mz_tensor_n_elements(const mz_tensor *t) {
    return mz_tensor_n_rows(t) * mz_tensor_n_cols(t);
}

float *mz_tensor_f32(const mz_tensor *t, int64_t row) {
    return (float *)t->data + row * t->ld;
}

int32_t *mz_tensor_i32(const mz_tensor *t, int64_t row) {
    return (int32_t *)t->data + row * t->ld;
}

const char *mz_shape_text(char *out, size_t size, const int64_t *shape, int n_dims) {
    size_t used = 0;
    int n = snprintf(out, size, "[");
    for (int i = 0; i < n_dims && n >= 0 && (size_t)n < size - used; i++) {
        used += (size_t)n;
        n = snprintf(out + used, size - used, "%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
    }
    if (n >= 0 && (size_t)n < size - used) {
        used += (size_t)n;
        (void)snprintf(out + used, size - used, "]");
    }
    return out;
}

bool mz_size_mul(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}
