/* A checkpoint: tensors by name, mapped read-only from safetensors, PyTorch or GGUF files.
 *
 * Opening reads headers only. A loader asks for each tensor it needs by name and shape, then calls
 * mz_weights_finish, which fails with one message that lists every tensor that was missing, of
 * another shape or type, or never asked for. */
#ifndef MZ_CORE_WEIGHTS_H
#define MZ_CORE_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; immutable after mz_weights_finish, may then be read by several threads. */
typedef struct mz_weights mz_weights;

/* Opens a checkpoint folder or a single file. In a folder, the first that exists of:
 * model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json.
 * A file is taken by its name's ending
 * (.safetensors, .bin, .pt, .index.json, .gguf).
 * Scalars have shape [1]. Booleans are u8. GGUF's names are as in the file, its shapes outermost
 * first; of a sharded one (NAME-00001-of-00003.gguf) `path` is the first part; core/gguf.h says
 * what of it is an error.
 * Limits, checked before any allocation: headers 100 MiB, 1,000,000 tensors, 10,000 shards, 4
 * dimensions. Errors: IO; MISSING (no weight file; a shard that the index names); FORMAT (lying
 * lengths, overlapping or out-of-range offsets, duplicate names, a pickle that names anything but
 * tensors); LIMIT; NOMEM; UNSUPPORTED (compressed zip members, non-contiguous or legacy tensors,
 * element types other than those of mz_dtype). */
mz_status mz_weights_open(mz_context *ctx, const char *path, mz_weights **out);

/* Unmaps everything; tensors taken from it are invalid afterwards. Accepts NULL. */
void mz_weights_close(mz_context *ctx, mz_weights *weights);

/* The tensor of that name, which must have exactly this shape and a floating-point type (any type
 * for mz_weights_get_any). A deviation is noted for mz_weights_finish and *out becomes an absent
 * tensor; the call itself fails only for NOMEM. Data that the file stores at an address unsuitable
 * for its type is copied once; blocks may lie anywhere. */
mz_status mz_weights_get(mz_weights *weights, const char *name, const int64_t *shape, int n_dims,
                         mz_tensor *out);
mz_status mz_weights_get_any(mz_weights *weights, const char *name, const int64_t *shape,
                             int n_dims, mz_tensor *out);

/* Errors: MISSING with the names noted so far as missing or mis-shaped; FORMAT when there are only
 * tensors that were never asked for; NOMEM when mz_weights_find failed for it. */
mz_status mz_weights_finish(mz_weights *weights);

/* For listing: number of tensors, and the i-th in name order. Asking here does not count as asking
 * for, and the data may lie unaligned in the file. Errors: ARG. */
int64_t mz_weights_count(const mz_weights *weights);
mz_status mz_weights_at(const mz_weights *weights, int64_t i, const char **name, mz_tensor *out);
/* The tensor of that name as stored, aligned as by mz_weights_get, or false. Counts as asking for
 * it. */
bool mz_weights_find(mz_weights *weights, const char *name, mz_tensor *out);

/* Weight files behind it, 0 <= i < number of files; *n_bytes (may be NULL) is the size. The path is
 * owned by `weights`. */
int64_t mz_weights_n_files(const mz_weights *weights);
const char *mz_weights_file(const mz_weights *weights, int64_t i, size_t *n_bytes);

#ifdef __cplusplus
}
#endif
#endif
