#include "core/loader.h"

#include <stdarg.h>
#include <stdio.h>

enum { NAME_BYTES = 256 };

mz_status mz_loader_open(mz_context *ctx, const mz_backend *backend, const char *path,
                         mz_loader *out) {
    mz_loader loader = {.ctx = ctx};
    MZ_TRY(mz_weights_open(ctx, path, &loader.weights));
    mz_stream_open_measure(ctx, backend, &loader.stream);
    *out = loader;
    return MZ_OK;
}

mz_status mz_loader_begin_fill(mz_loader *loader) {
    MZ_TRY(mz_weights_finish(loader->weights));
    const size_t bytes = loader->stream.arena.peak;
    const mz_backend *backend = loader->stream.backend;
    MZ_TRY(mz_stream_open(loader->ctx, backend, bytes, &loader->stream));
    loader->filling = true;
    return MZ_OK;
}

void mz_loader_close(mz_loader *loader) {
    mz_stream_close(&loader->stream);
    if (loader->ctx != NULL) {
        mz_weights_close(loader->ctx, loader->weights);
    }
    *loader = (mz_loader){0};
}

static size_t bytes_of(const mz_tensor *t) {
    return (size_t)mz_tensor_n_elements(t) * (size_t)mz_dtype_get(t->dtype)->block_bytes;
}

/* The matrix where the backend can read it: in the map, or in the arena. */
static mz_status place(mz_loader *loader, mz_tensor *t, const char *name) {
    if (loader->stream.backend->host_memory || t->n_dims == 0) {
        return MZ_OK;
    }
    void *copy = NULL;
    MZ_TRY(mz_stream_take_bytes(&loader->stream, bytes_of(t), name, &copy));
    if (loader->filling) {
        MZ_TRY(loader->stream.backend->upload(&loader->stream, copy, t->data, bytes_of(t)));
        t->data = copy;
    }
    return MZ_OK;
}

mz_status mz_loader_matrix(mz_loader *loader, mz_linear *out, int64_t d_out, int64_t d_in,
                           mz_precision precision, const char *name, ...) {
    char full[NAME_BYTES];
    va_list args;
    va_start(args, name);
    (void)vsnprintf(full, sizeof full, name, args);
    va_end(args);
    MZ_TRY(mz_weights_get(loader->weights, full, (int64_t[]){d_out, d_in}, 2, &out->weight));
    out->precision = precision;
    return place(loader, &out->weight, full);
}

/* `t` widened to f32 at `dst`, which is in backend memory. */
static mz_status upload_f32(mz_loader *loader, void *dst, const mz_tensor *t) {
    const int64_t n = mz_tensor_n_elements(t);
    void *wide = NULL;
    MZ_TRY(mz_alloc(loader->ctx, (size_t)n * sizeof(float), "vector", &wide));
    mz_dtype_get(t->dtype)->to_f32(wide, t->data, n);
    const mz_status status =
        loader->stream.backend->upload(&loader->stream, dst, wide, (size_t)n * sizeof(float));
    mz_free(loader->ctx, wide);
    return status;
}

mz_status mz_loader_vector(mz_loader *loader, mz_tensor *out, int64_t n, const char *name, ...) {
    char full[NAME_BYTES];
    va_list args;
    va_start(args, name);
    (void)vsnprintf(full, sizeof full, name, args);
    va_end(args);
    mz_tensor stored;
    void *data = NULL;
    MZ_TRY(mz_weights_get(loader->weights, full, &n, 1, &stored));
    MZ_TRY(mz_stream_take_bytes(&loader->stream, (size_t)n * sizeof(float), full, &data));
    if (loader->filling) {
        MZ_TRY(upload_f32(loader, data, &stored));
    }
    *out = mz_tensor_1d(MZ_DTYPE_F32, n, data);
    return MZ_OK;
}

mz_status mz_loader_bank(mz_loader *loader, mz_linear_bank *out, int32_t n_experts, int64_t d_out,
                         int64_t d_in, mz_precision precision, const char *prefix,
                         const char *suffix) {
    mz_linear_bank bank = {
        .precision = precision, .n_experts = n_experts, .d_out = d_out, .d_in = d_in, .ld = d_in};
    const size_t table_bytes = (size_t)n_experts * sizeof(void *);
    const mz_backend *backend = loader->stream.backend;
    void *table = NULL;
    MZ_TRY(mz_stream_take_bytes(&loader->stream, table_bytes, suffix, &table));
    for (int32_t e = 0; e < n_experts; e++) {
        mz_linear one = {0};
        MZ_TRY(
            mz_loader_matrix(loader, &one, d_out, d_in, precision, "%s.%d.%s", prefix, e, suffix));
        if (!loader->filling) {
            continue;
        }
        if (e > 0 && one.weight.dtype != bank.dtype) {
            return mz_fail(&loader->ctx->error, MZ_ERR_UNSUPPORTED,
                           "tensor %s.%d.%s is %s, the experts before it are %s", prefix, e, suffix,
                           mz_dtype_get(one.weight.dtype)->name, mz_dtype_get(bank.dtype)->name);
        }
        bank.dtype = one.weight.dtype;
        const void *data = one.weight.data;
        MZ_TRY(backend->upload(&loader->stream, (unsigned char *)table + (size_t)e * sizeof data,
                               &data, sizeof data));
    }
    bank.data = table;
    *out = bank;
    return MZ_OK;
}
