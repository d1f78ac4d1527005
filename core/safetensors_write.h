/* Writing safetensors files. */
#ifndef MZ_CORE_SAFETENSORS_WRITE_H
#define MZ_CORE_SAFETENSORS_WRITE_H

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One tensor of the file. */
typedef struct mz_safetensors_item {
    const char *name; /* UTF-8 */
    mz_tensor tensor; /* host memory; rows may be strided */
    mz_dtype dtype;   /* as stored: the tensor's own type, or f32, f16 or bf16 for another
                         floating-point type or blocks, which the format does not have */
} mz_safetensors_item;

/* A text of the header's "__metadata__". */
typedef struct mz_safetensors_text {
    const char *key;   /* UTF-8, not "format" */
    const char *value; /* UTF-8 */
} mz_safetensors_text;

/* Writes `path` through mz_output (core/file.h): on failure a file that was there is as it was.
 * Values are rounded to nearest, ties to even, where the stored type is narrower; the data is
 * streamed, in pieces of 64 KiB where it is converted. The layout is that of Hugging Face's
 * library, so that equal contents give equal bytes: header entries and data in the order i64, f32,
 * i32, bf16, f16, u8 (so that every tensor is aligned for its type), within a type by name;
 * "__metadata__" first with "format" "pt" and then `texts` in their order; the header padded with
 * blanks to 8 bytes.
 * Errors: ARG for a name or text that is no UTF-8 or there twice; DTYPE for a conversion that does
 * not exist; SHAPE for a tensor without dimensions; LIMIT for a header that the reader would refuse
 * (100 MiB); IO; INTERRUPTED when the context's `stopped` says so; NOMEM. */
mz_status mz_safetensors_write(mz_context *ctx, const char *path, const mz_safetensors_item *items,
                               int64_t n_items, const mz_safetensors_text *texts, int64_t n_texts);

#ifdef __cplusplus
}
#endif
#endif
