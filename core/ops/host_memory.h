/* Buffers of backends that work in host memory. */
#ifndef MZ_CORE_OPS_HOST_MEMORY_H
#define MZ_CORE_OPS_HOST_MEMORY_H

#include "core/ops.h"

mz_status mz_host_open(mz_stream *s);
void mz_host_close(mz_stream *s);
mz_status mz_host_buffer_alloc(mz_stream *s, size_t bytes, void **out);
void mz_host_buffer_free(mz_stream *s, void *buffer, size_t bytes);
mz_status mz_host_copy(mz_stream *s, void *dst, const void *src, size_t bytes);
mz_status mz_host_synchronize(mz_stream *s);

#endif
