/* Writing GGUF files (version 3). */
#ifndef MZ_CORE_GGUF_WRITE_H
#define MZ_CORE_GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/gguf.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Metadata in the making. Created all-zero but for `ctx`, released with mz_gguf_meta_free; one
 * thread. All its functions: LIMIT for a key of other than 1 to 65535 bytes, NOMEM. A key must not
 * be given twice, nor general.alignment: it is 32. */
typedef struct mz_gguf_meta {
    mz_context *ctx;
    uint8_t *bytes;
    size_t n_bytes, capacity;
    int64_t n_keys;
} mz_gguf_meta;

/* `type` is one of the whole numbers', which holds the value. */
mz_status mz_gguf_meta_int(mz_gguf_meta *meta, const char *key, mz_gguf_type type, int64_t value);
mz_status mz_gguf_meta_f32(mz_gguf_meta *meta, const char *key, float value);
mz_status mz_gguf_meta_bool(mz_gguf_meta *meta, const char *key, bool value);
mz_status mz_gguf_meta_text(mz_gguf_meta *meta, const char *key, const char *text, size_t n_bytes);

/* An array; exactly n elements follow, added by the function of that type. */
mz_status mz_gguf_meta_array(mz_gguf_meta *meta, const char *key, mz_gguf_type element, int64_t n);
mz_status mz_gguf_meta_add_i32(mz_gguf_meta *meta, int32_t value);
mz_status mz_gguf_meta_add_f32(mz_gguf_meta *meta, float value);
mz_status mz_gguf_meta_add_text(mz_gguf_meta *meta, const char *text, size_t n_bytes);

/* The key and its value as an open file has them. Errors also: MISSING. */
mz_status mz_gguf_meta_copy(mz_gguf_meta *meta, const mz_gguf *gguf, const char *key);

void mz_gguf_meta_free(mz_gguf_meta *meta);

/* One tensor of the file. Its values are those of the parts one behind the other, row by row. */
typedef struct mz_gguf_item {
    const char *name;
    mz_dtype dtype; /* as stored: a floating-point type or blocks that can be made */
    int n_dims;
    int64_t shape[MZ_MAX_DIMS]; /* outermost first */
    const mz_tensor *parts;     /* [n_parts] host memory, floating-point or blocks, equal shapes;
                                   their rows end where rows of blocks may */
    int64_t n_parts;            /* several: slices of a stack */
    const int64_t *row_order;   /* [rows of a part] row i is its row row_order[i]; NULL: in order */
    float offset;               /* added to all values */
    double sum_squares;         /* filled, where something was converted: sums over the values */
    double sum_squared_errors;  /* and over the differences that storing made */
} mz_gguf_item;

/* Called while tensor `item` is written, with the part of it that is done; false ends the work. */
typedef struct mz_gguf_watch {
    bool (*passed)(void *self, int64_t item, double part);
    void *self;
} mz_gguf_watch;

/* Writes `path` through mz_output (core/file.h): on failure a file that was there is as it was.
 * Tensors are streamed in the order given, each at a multiple of 32 bytes; converting uses the
 * context's threads and a few MiB, and gives the same bytes for any number of threads. `watch` may
 * be NULL.
 * Errors: DTYPE for a type that the format or the quantisers do not have; SHAPE where parts and
 * shape do not agree or a row is no whole number of blocks; FORMAT for a value that is not finite
 * where something is converted, or no longer finite as stored; INTERRUPTED by the watch; IO;
 * NOMEM. */
mz_status mz_gguf_write(mz_context *ctx, const char *path, const mz_gguf_meta *meta,
                        mz_gguf_item *items, int64_t n_items, const mz_gguf_watch *watch);

#ifdef __cplusplus
}
#endif
#endif
