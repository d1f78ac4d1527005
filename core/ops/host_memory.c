#include "core/ops/host_memory.h"

#include <string.h>

mz_status mz_host_open(mz_stream *s) {
    s->native = NULL;
    return MZ_OK;
}

void mz_host_close(mz_stream *s) {
    (void)s;
}

mz_status mz_host_buffer_alloc(mz_stream *s, size_t bytes, void **out) {
    const mz_allocator *a = &s->ctx->allocator;
    void *p = a->reserve(a->self, bytes > 0 ? bytes : 1);
    if (p == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_NOMEM, "cannot reserve %zu bytes", bytes);
    }
    *out = p;
    return MZ_OK;
}

void mz_host_buffer_free(mz_stream *s, void *buffer, size_t bytes) {
    const mz_allocator *a = &s->ctx->allocator;
    if (buffer != NULL) {
        a->unreserve(a->self, buffer, bytes > 0 ? bytes : 1);
    }
}

mz_status mz_host_copy(mz_stream *s, void *dst, const void *src, size_t bytes) {
    (void)s;
    if (bytes > 0) {
        memcpy(dst, src, bytes);
    }
    return MZ_OK;
}

mz_status mz_host_synchronize(mz_stream *s) {
    (void)s;
    return MZ_OK;
}
