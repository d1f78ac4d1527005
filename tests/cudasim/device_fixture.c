#include "tests/cudasim/device_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ops/cuda/cuda_backend.h"

enum { ARENA_BYTES = 1 << 20 };

void mz_fixture_open(mz_fixture *f) {
    *f = (mz_fixture){0};
    const mz_context_options options = {.n_threads = 1, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &options));
    mz_assert_ok(&f->ctx,
                 mz_stream_open(&f->ctx, mz_backend_reference(), ARENA_BYTES, &f->reference));
    const mz_status status = mz_stream_open(&f->ctx, mz_backend_cuda(), ARENA_BYTES, &f->device);
    if (status == MZ_ERR_DEVICE) {
        printf("skipped: %s\n", f->ctx.error.message);
        exit(77);
    }
    mz_assert_ok(&f->ctx, status);
}

void mz_fixture_close(mz_fixture *f) {
    mz_assert_ok(&f->ctx, f->device.backend->synchronize(&f->device));
    for (int i = 0; i < f->n_buffers; i++) {
        free(f->host_buffers[i]);
        f->device.backend->buffer_free(&f->device, f->device_buffers[i], f->n_bytes[i]);
    }
    mz_stream_close(&f->device);
    mz_stream_close(&f->reference);
    mz_context_close(&f->ctx);
}

mz_mirror mz_mirror_put(mz_fixture *f, const void *data, size_t n_bytes) {
    assert_true(f->n_buffers < MZ_FIXTURE_BUFFERS);
    mz_mirror m = {.host = malloc(n_bytes + 1), .n_bytes = n_bytes};
    assert_non_null(m.host);
    memset(m.host, 0xff, n_bytes);
    if (data != NULL && n_bytes > 0) {
        memcpy(m.host, data, n_bytes);
    }
    mz_assert_ok(&f->ctx, f->device.backend->buffer_alloc(&f->device, n_bytes, &m.device));
    mz_assert_ok(&f->ctx, f->device.backend->upload(&f->device, m.device, m.host, n_bytes));
    f->host_buffers[f->n_buffers] = m.host;
    f->device_buffers[f->n_buffers] = m.device;
    f->n_bytes[f->n_buffers++] = n_bytes;
    return m;
}

static mz_mirror_matrix matrix_of(mz_mirror memory, mz_dtype dtype, int64_t n_rows, int64_t n_cols,
                                  int64_t ld) {
    mz_mirror_matrix m = {.memory = memory};
    m.host = mz_tensor_2d(dtype, n_rows, n_cols, memory.host);
    m.host.ld = ld;
    m.device = m.host;
    m.device.data = memory.device;
    return m;
}

mz_mirror_matrix mz_mirror_random(mz_fixture *f, mz_dtype dtype, int64_t n_rows, int64_t n_cols,
                                  int64_t ld, uint64_t seed, float scale) {
    const int64_t n = n_rows * ld;
    const size_t n_bytes = (size_t)n * (size_t)mz_dtype_get(dtype)->block_bytes;
    float *values = malloc((size_t)n * sizeof *values + 1);
    void *stored = malloc(n_bytes + 1);
    assert_non_null(values);
    assert_non_null(stored);
    mz_fill_uniform(values, n, seed, scale);
    mz_dtype_get(dtype)->from_f32(stored, values, n);
    const mz_mirror memory = mz_mirror_put(f, stored, n_bytes);
    free(stored);
    free(values);
    return matrix_of(memory, dtype, n_rows, n_cols, ld);
}

mz_mirror_matrix mz_mirror_blank(mz_fixture *f, int64_t n_rows, int64_t n_cols, int64_t ld) {
    return matrix_of(mz_mirror_put(f, NULL, (size_t)(n_rows * ld) * sizeof(float)), MZ_DTYPE_F32,
                     n_rows, n_cols, ld);
}

static void *downloaded(mz_fixture *f, const mz_mirror *m) {
    void *bytes = malloc(m->n_bytes + 1);
    assert_non_null(bytes);
    mz_assert_ok(&f->ctx, f->device.backend->download(&f->device, bytes, m->device, m->n_bytes));
    return bytes;
}

static void compare_gap(const char *what, const float *row, const mz_tensor *t) {
    for (int64_t i = t->shape[1]; i < t->ld; i++) {
        uint32_t bits = 0;
        memcpy(&bits, row + i, sizeof bits);
        if (bits != UINT32_MAX) {
            fail_msg("%s: wrote between rows, at column %lld of %lld", what, (long long)i,
                     (long long)t->shape[1]);
        }
    }
}

void mz_mirror_compare(mz_fixture *f, const char *what, const mz_mirror_matrix *m, double bound) {
    const int64_t n_rows = m->host.shape[0];
    const int64_t n_cols = m->host.shape[1];
    const size_t row_bytes = (size_t)n_cols * sizeof(float);
    float *all = downloaded(f, &m->memory);
    float *actual = malloc((size_t)n_rows * row_bytes + 1);
    float *expected = malloc((size_t)n_rows * row_bytes + 1);
    assert_non_null(actual);
    assert_non_null(expected);
    for (int64_t r = 0; r < n_rows; r++) {
        memcpy(actual + r * n_cols, all + r * m->host.ld, row_bytes);
        memcpy(expected + r * n_cols, mz_tensor_f32(&m->host, r), row_bytes);
        compare_gap(what, all + r * m->host.ld, &m->host);
    }
    if (bound > 0) {
        mz_assert_close(what, actual, expected, n_rows * n_cols, bound);
    } else if (memcmp(actual, expected, (size_t)n_rows * row_bytes) != 0) {
        fail_msg("%s: [%lld, %lld] is not the same bits", what, (long long)n_rows,
                 (long long)n_cols);
    }
    free(expected);
    free(actual);
    free(all);
}

void mz_mirror_compare_bytes(mz_fixture *f, const char *what, const mz_mirror *m) {
    unsigned char *actual = downloaded(f, m);
    const unsigned char *expected = m->host;
    for (size_t i = 0; i < m->n_bytes; i++) {
        if (actual[i] != expected[i]) {
            fail_msg("%s: byte %zu of %zu is %d, expected %d", what, i, m->n_bytes, actual[i],
                     expected[i]);
        }
    }
    free(actual);
}
