/* A folder of series in the binary form of Time-MoE's training (BinaryDataset of the authors'
 * time_moe/datasets/binary_dataset.py).
 *
 * meta.json holds "num_sequences", "dtype", "files" (name of a file to its number of values) and
 * "scales" (for each series "offset" and "length" in values, and perhaps "mean" and "std"). The
 * files, in the order of their names as strings, form one array of little-endian values; a series
 * may begin in one and end in another. "mean" and "std", by which the authors scale values back,
 * are not read: who reads here scales anyway. */
#ifndef MZ_ENCODERS_SERIES_SERIES_BINARY_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_BINARY_INTERNAL_H

#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; immutable, shared by threads. */
typedef struct mz_binary mz_binary;

typedef struct mz_binary_series {
    int64_t offset; /* in values */
    int64_t n_values;
} mz_binary_series;

/* Reads meta.json (at most 256 MiB) and maps the files. dtype is float16, bfloat16, float32 or
 * float64. Errors: IO; MISSING for an absent field; FORMAT for one of another type, a number of
 * series other than num_sequences, a file shorter than its length, a name with '/', a series that
 * does not lie within the files; LIMIT for above 65536 files or 2^48 values; UNSUPPORTED for
 * another dtype; NOMEM. */
mz_status mz_binary_open(mz_context *ctx, const char *dir, mz_binary **out);

/* The same with meta.json in memory; `name` stands for it in messages. */
mz_status mz_binary_open_text(mz_context *ctx, const char *dir, const char *text, size_t n_bytes,
                              const char *name, mz_binary **out);

void mz_binary_close(mz_context *ctx, mz_binary *binary);

/* The series as meta.json lists them; borrowed. Returns their number. */
int64_t mz_binary_series_list(const mz_binary *binary, const mz_binary_series **out);

/* Values [offset, offset + n) of the whole, which has them, as f32. A value that is not finite, or
 * not as f32, is replaced by the one before it in the stretch; at its beginning by the first finite
 * one; 0 where there is none. */
void mz_binary_read(const mz_binary *binary, int64_t offset, int64_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
