#include "core/loader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/cpu.h"
#include "core/rng.h"

enum { NAME_BYTES = MZ_TENSOR_NAME_BYTES };

mz_status mz_loader_open(mz_context *ctx, const mz_backend *backend, const char *path,
                         const mz_loader_options *options, mz_loader *out) {
    mz_loader loader = {.ctx = ctx};
    if (options != NULL && options->parameters != NULL) {
        loader.parameters = options->parameters;
        if (!backend->host_memory) {
            return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                           "backend %s: training needs host memory", backend->name);
        }
    }
    if (options != NULL) {
        loader.names = options->names;
        loader.init_dtype = options->init_dtype;
    }
    if (options != NULL && options->init != NULL) {
        loader.init = *options->init;
    } else {
        MZ_TRY(mz_weights_open(ctx, path, &loader.weights));
    }
    mz_stream_open_measure(ctx, backend, &loader.stream);
    *out = loader;
    return MZ_OK;
}

/* Address space is given for the asking, and a process that then writes to more than there is is
 * killed. Parameters and their gradients are written to in full, and so are fresh weights. */
static mz_status check_memory(const mz_loader *loader, size_t bytes) {
    const size_t limit = mz_memory_bytes();
    if (loader->parameters == NULL && loader->weights == NULL && bytes > limit) {
        return mz_fail(&loader->ctx->error, MZ_ERR_LIMIT,
                       "weights of %zu bytes are more than this machine's memory, %zu bytes", bytes,
                       limit);
    }
    if (loader->parameters == NULL || bytes <= limit / 2) {
        return MZ_OK;
    }
    return mz_fail(&loader->ctx->error, MZ_ERR_LIMIT,
                   "parameters of %zu bytes and gradients of as many are more than this machine's "
                   "memory, %zu bytes",
                   bytes, limit);
}

mz_status mz_loader_begin_fill(mz_loader *loader) {
    if (loader->weights != NULL) {
        MZ_TRY(mz_weights_finish(loader->weights));
    }
    const size_t bytes = loader->stream.arena.peak;
    const mz_backend *backend = loader->stream.backend;
    MZ_TRY(check_memory(loader, bytes));
    MZ_TRY(mz_stream_open(loader->ctx, backend, bytes, &loader->stream));
    loader->filling = true;
    if (loader->parameters == NULL) {
        return MZ_OK;
    }
    return backend->buffer_alloc(&loader->stream, bytes, &loader->gradients);
}

void mz_loader_close(mz_loader *loader) {
    if (loader->gradients != NULL) {
        loader->stream.backend->buffer_free(&loader->stream, loader->gradients,
                                            loader->stream.arena.bound);
    }
    mz_stream_close(&loader->stream);
    for (int64_t i = 0; i < loader->n_matrices; i++) {
        mz_free(loader->ctx, loader->matrices[i].name);
    }
    if (loader->ctx != NULL) {
        mz_free(loader->ctx, loader->matrices);
        mz_weights_close(loader->ctx, loader->weights);
    }
    *loader = (mz_loader){0};
}

void mz_loader_ignore(mz_loader *loader, const char *name, ...) {
    char full[NAME_BYTES];
    mz_tensor unused;
    va_list args;
    va_start(args, name);
    (void)vsnprintf(full, sizeof full, name, args);
    va_end(args);
    if (loader->weights != NULL) {
        (void)mz_weights_find(loader->weights, full, &unused);
    }
}

void mz_loader_spaces(const mz_loader *loader, const void **values, void **gradients,
                      size_t *n_bytes) {
    *values = loader->stream.arena.base;
    *gradients = loader->gradients;
    *n_bytes = loader->stream.arena.bound;
}

/* ---- parameters ---- */

static void fresh_values(const mz_init *init, const char *name, const mz_tensor *t) {
    const int64_t n = mz_tensor_n_elements(t);
    float *values = t->data;
    if (t->n_dims == 1) {
        for (int64_t i = 0; i < n; i++) {
            values[i] = strstr(name, "norm") != NULL ? 1.0f : 0.0f;
        }
        return;
    }
    const uint64_t stream = mz_rng_stream_of(name);
    const double deviation =
        init->deviation > 0 ? init->deviation : 1.0 / sqrt((double)mz_tensor_n_cols(t));
    for (int64_t i = 0; i < n; i++) {
        values[i] = (float)(deviation * (double)mz_rng_normal(init->seed, stream, (uint64_t)i));
    }
}

/* ---- the checkpoint ---- */

/* Dimensions in front of the last `n` may be left out where they are 1. */
static bool has_shape(const mz_tensor *t, const int64_t *shape, int n_dims) {
    while (n_dims > 1 && n_dims > t->n_dims && shape[0] == 1) {
        shape++;
        n_dims--;
    }
    bool same = t->n_dims == n_dims;
    for (int i = 0; i < n_dims && same; i++) {
        same = t->shape[i] == shape[i];
    }
    return same;
}

static mz_tensor reshaped(const mz_tensor *t, const int64_t *shape, int n_dims, void *data) {
    mz_tensor view = {.dtype = t->dtype, .n_dims = n_dims, .ld = shape[n_dims - 1], .data = data};
    memcpy(view.shape, shape, (size_t)n_dims * sizeof shape[0]);
    return view;
}

/* Part of `t` that a place names, in the wanted shape; false where it has another. */
static bool sliced(mz_tensor *out, const mz_tensor *t, const mz_tensor_place *place,
                   const int64_t *shape, int n_dims) {
    mz_tensor part = *t;
    if (place->slice >= 0 && place->n_slices == 0) { /* of the first dimension */
        if (t->n_dims < 2 || place->slice >= t->shape[0]) {
            return false;
        }
        part.n_dims = t->n_dims - 1;
        memcpy(part.shape, t->shape + 1, (size_t)part.n_dims * sizeof part.shape[0]);
        part.data = mz_tensor_row(t, place->slice * mz_tensor_n_rows(&part));
    } else if (place->slice >= 0) {
        if (place->slice >= place->n_slices || t->shape[0] % place->n_slices != 0) {
            return false;
        }
        part.shape[0] = t->shape[0] / place->n_slices;
        part.data = t->n_dims > 1 ? mz_tensor_row(t, place->slice * mz_tensor_n_rows(&part))
                                  : mz_tensor_cols(t, place->slice * part.shape[0], 0).data;
    }
    if (!has_shape(&part, shape, n_dims)) {
        return false;
    }
    *out = reshaped(&part, shape, n_dims, part.data);
    return true;
}

/* The tensor that its publisher calls `name`, wherever it is; see mz_weights_get, which is asked
 * for what is missing or of another shape, so that it is noted. */
static mz_status get_stored(mz_loader *loader, const char *name, const int64_t *shape, int n_dims,
                            mz_tensor *out) {
    mz_tensor_place place = {.slice = -1};
    mz_tensor t = {0};
    if (loader->names.place == NULL || !loader->names.place(loader->names.self, name, &place)) {
        return mz_weights_get(loader->weights, name, shape, n_dims, out);
    }
    if (mz_weights_find(loader->weights, place.name, &t) && mz_dtype_get(t.dtype)->is_float &&
        sliced(out, &t, &place, shape, n_dims)) {
        return MZ_OK;
    }
    return mz_weights_get(loader->weights, place.name, shape, n_dims, out);
}

/* Values of `value`, which is in the arena, from the checkpoint or fresh, listed as a parameter
 * when the loader fills. */
static mz_status fill_parameter(mz_loader *loader, const mz_tensor *value, const char *name) {
    mz_tensor stored = {0};
    if (loader->weights != NULL) {
        MZ_TRY(get_stored(loader, name, value->shape, value->n_dims, &stored));
    }
    if (!loader->filling) {
        return MZ_OK;
    }
    mz_tensor gradient = *value;
    const size_t offset = (size_t)((uint8_t *)value->data - loader->stream.arena.base);
    gradient.data = (uint8_t *)loader->gradients + offset;
    memset(gradient.data, 0, (size_t)mz_tensor_n_elements(value) * sizeof(float));
    if (loader->weights != NULL) {
        mz_dtype_get(stored.dtype)->to_f32(value->data, stored.data, mz_tensor_n_elements(value));
    } else {
        fresh_values(&loader->init, name, value);
    }
    return mz_parameters_add(loader->ctx, loader->parameters, name, value, &gradient);
}

/* An f32 copy of the tensor in the arena, or fresh values there, listed as a parameter. */
static mz_status take_parameter(mz_loader *loader, mz_tensor *out, const int64_t *shape, int n_dims,
                                const char *name) {
    mz_tensor value = n_dims == 1 ? mz_tensor_1d(MZ_DTYPE_F32, shape[0], NULL)
                                  : mz_tensor_2d(MZ_DTYPE_F32, shape[0], shape[1], NULL);
    const size_t bytes = (size_t)mz_tensor_n_elements(&value) * sizeof(float);
    MZ_TRY(mz_stream_take_bytes(&loader->stream, bytes, name, &value.data));
    MZ_TRY(fill_parameter(loader, &value, name));
    *out = value;
    return MZ_OK;
}

/* ---- tensors ---- */

static size_t bytes_of(const mz_tensor *t) {
    return (size_t)mz_tensor_n_rows(t) * mz_tensor_row_bytes(t);
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

/* Notes where a matrix has gone to; `m->name` is the tensor's and is copied. */
static mz_status note_matrix(mz_loader *loader, const mz_loaded_matrix *m) {
    static const char ending[] = ".weight";
    const size_t n_ending = sizeof ending - 1;
    if (!loader->filling) {
        return MZ_OK;
    }
    void *matrices = loader->matrices;
    char *name = NULL;
    MZ_TRY(mz_grow(loader->ctx, &matrices, &loader->matrices_capacity,
                   (size_t)loader->n_matrices + 1, sizeof *m, "list of matrices"));
    loader->matrices = matrices;
    MZ_TRY(mz_strdup(loader->ctx, m->name, &name));
    const size_t n = strlen(name);
    if (n > n_ending && strcmp(name + n - n_ending, ending) == 0) {
        name[n - n_ending] = '\0';
    }
    mz_loaded_matrix *noted = &loader->matrices[loader->n_matrices++];
    *noted = *m;
    noted->name = name;
    return MZ_OK;
}

/* Rows of random values, in the type and the memory of the matrix, which repeats them. */
static mz_status repeat_rows(mz_loader *loader, const mz_tensor *t, const char *name) {
    enum { N_ROWS = 64 };
    const mz_backend *backend = loader->stream.backend;
    const size_t row_bytes = mz_tensor_row_bytes(t);
    const int64_t width = t->shape[1];
    void *memory = NULL;
    MZ_TRY(mz_alloc(loader->ctx, (size_t)N_ROWS * row_bytes + (size_t)width * sizeof(float),
                    "random rows", &memory));
    float *values = memory;
    uint8_t *rows = (uint8_t *)(values + width);
    const mz_tensor one = mz_tensor_2d(MZ_DTYPE_F32, 1, width, values);
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < N_ROWS && i < t->shape[0]; i++) {
        mz_init init = loader->init;
        init.seed += (uint64_t)i;
        fresh_values(&init, name, &one);
        mz_dtype_get(t->dtype)->from_f32(rows + (size_t)i * row_bytes, values, width);
    }
    for (int64_t i = 0; i < t->shape[0] && status == MZ_OK; i += N_ROWS) {
        const int64_t n = t->shape[0] - i < N_ROWS ? t->shape[0] - i : N_ROWS;
        status = backend->upload(&loader->stream, mz_tensor_row(t, i), rows, (size_t)n * row_bytes);
    }
    mz_free(loader->ctx, memory);
    return status;
}

/* A fresh matrix that is no parameter. */
static mz_status take_fresh(mz_loader *loader, mz_tensor *out, int64_t d_out, int64_t d_in,
                            const char *name) {
    const mz_dtype_info *type = mz_dtype_get(loader->init_dtype);
    mz_tensor t = mz_tensor_2d(loader->init_dtype, d_out, d_in, NULL);
    if (type->from_f32 == NULL || d_in % type->block_len != 0) {
        return mz_fail(&loader->ctx->error, MZ_ERR_UNSUPPORTED,
                       "tensor %s: no rows of %lld %s can be made", name, (long long)d_in,
                       type->name);
    }
    MZ_TRY(mz_stream_take_bytes(&loader->stream, (size_t)d_out * mz_tensor_row_bytes(&t), name,
                                &t.data));
    *out = t;
    return loader->filling ? repeat_rows(loader, &t, name) : MZ_OK;
}

static mz_status get_matrix(mz_loader *loader, mz_tensor *out, int64_t d_out, int64_t d_in,
                            const char *name) {
    const int64_t shape[] = {d_out, d_in};
    if (loader->parameters != NULL) {
        return take_parameter(loader, out, shape, 2, name);
    }
    if (loader->weights == NULL) {
        return take_fresh(loader, out, d_out, d_in, name);
    }
    MZ_TRY(get_stored(loader, name, shape, 2, out));
    return place(loader, out, name);
}

mz_status mz_loader_matrix(mz_loader *loader, mz_linear *out, int64_t d_out, int64_t d_in,
                           mz_precision precision, const char *name, ...) {
    char full[NAME_BYTES];
    va_list args;
    va_start(args, name);
    (void)vsnprintf(full, sizeof full, name, args);
    va_end(args);
    out->precision = precision;
    MZ_TRY(get_matrix(loader, &out->weight, d_out, d_in, full));
    return note_matrix(loader, &(mz_loaded_matrix){.name = full, .linear = out});
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

/* Values of `t`, [n] f32 in the arena, which is no parameter: of the checkpoint, or fresh. */
static mz_status place_vector(mz_loader *loader, const mz_tensor *t, const char *name) {
    mz_tensor stored = {0};
    void *memory = NULL;
    if (loader->weights != NULL) {
        MZ_TRY(get_stored(loader, name, t->shape, 1, &stored));
        return loader->filling ? upload_f32(loader, t->data, &stored) : MZ_OK;
    }
    if (!loader->filling) {
        return MZ_OK;
    }
    MZ_TRY(mz_alloc(loader->ctx, (size_t)t->shape[0] * sizeof(float), "fresh vector", &memory));
    stored = mz_tensor_1d(MZ_DTYPE_F32, t->shape[0], memory);
    fresh_values(&loader->init, name, &stored);
    const mz_status status = upload_f32(loader, t->data, &stored);
    mz_free(loader->ctx, memory);
    return status;
}

mz_status mz_loader_vector(mz_loader *loader, mz_tensor *out, int64_t n, const char *name, ...) {
    char full[NAME_BYTES];
    va_list args;
    va_start(args, name);
    (void)vsnprintf(full, sizeof full, name, args);
    va_end(args);
    void *data = NULL;
    if (loader->parameters != NULL) {
        return take_parameter(loader, out, &n, 1, full);
    }
    MZ_TRY(mz_stream_take_bytes(&loader->stream, (size_t)n * sizeof(float), full, &data));
    *out = mz_tensor_1d(MZ_DTYPE_F32, n, data);
    return place_vector(loader, out, full);
}

mz_status mz_loader_vectors(mz_loader *loader, mz_tensor *out, int64_t n_parts, int64_t n,
                            const char *prefix, const char *suffix) {
    void *data = NULL;
    const size_t part_bytes = (size_t)n * sizeof(float);
    MZ_TRY(mz_stream_take_bytes(&loader->stream, (size_t)n_parts * part_bytes, prefix, &data));
    for (int64_t i = 0; i < n_parts; i++) {
        char name[NAME_BYTES];
        void *part = loader->filling ? (uint8_t *)data + (size_t)i * part_bytes : NULL;
        const mz_tensor value = mz_tensor_1d(MZ_DTYPE_F32, n, part);
        (void)snprintf(name, sizeof name, "%s.%lld.%s", prefix, (long long)i, suffix);
        if (loader->parameters != NULL) {
            MZ_TRY(fill_parameter(loader, &value, name));
            continue;
        }
        MZ_TRY(place_vector(loader, &value, name));
    }
    *out = mz_tensor_1d(MZ_DTYPE_F32, n_parts * n, data);
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
        char name[NAME_BYTES];
        mz_tensor one = {0};
        (void)snprintf(name, sizeof name, "%s.%d.%s", prefix, e, suffix);
        MZ_TRY(get_matrix(loader, &one, d_out, d_in, name));
        MZ_TRY(note_matrix(loader, &(mz_loaded_matrix){.name = name, .bank = out, .expert = e}));
        if (!loader->filling) {
            continue;
        }
        if (e > 0 && one.dtype != bank.dtype) {
            return mz_fail(&loader->ctx->error, MZ_ERR_UNSUPPORTED,
                           "tensor %s is %s, the experts before it are %s", name,
                           mz_dtype_get(one.dtype)->name, mz_dtype_get(bank.dtype)->name);
        }
        bank.dtype = one.dtype;
        const void *data = one.data;
        MZ_TRY(backend->upload(&loader->stream, (unsigned char *)table + (size_t)e * sizeof data,
                               &data, sizeof data));
    }
    bank.data = table;
    *out = bank;
    return MZ_OK;
}
