/* What the readers of checkpoint formats share. Each reader works on a file in memory, so that it
 * can be fuzzed. */
#ifndef MZ_CORE_WEIGHTS_INTERNAL_H
#define MZ_CORE_WEIGHTS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MZ_WEIGHTS_MAX_TENSORS = 1000000,
    MZ_WEIGHTS_MAX_FILES = 10000,
    MZ_WEIGHTS_MAX_HEADER = 100 << 20, /* bytes of a safetensors header or a pickle */
};

/* A file in memory. */
typedef struct mz_weight_file {
    const char *path;    /* for messages */
    const uint8_t *data; /* NULL when empty */
    size_t n_bytes;
    int32_t index; /* among the checkpoint's files */
} mz_weight_file;

/* A tensor in a file; its data lies in the file's memory. */
typedef struct mz_weight_entry {
    char *name;          /* owned by the list */
    const uint8_t *data; /* may be unaligned for the type */
    size_t n_bytes;
    mz_dtype dtype;
    int n_dims; /* 1 to 4; a scalar has shape [1] */
    int64_t shape[MZ_MAX_DIMS];
    int32_t file; /* index of its file */
    bool asked;   /* a loader has asked for it */
    void *copy;   /* aligned copy of the data, owned by the list; NULL while there is none */
} mz_weight_entry;

/* The tensors of a checkpoint. Created all-zero but for `ctx`, released with mz_weight_list_free.
 */
typedef struct mz_weight_list {
    mz_context *ctx;
    mz_weight_entry *entries;
    size_t n;
    size_t capacity;
} mz_weight_list;

/* Appends *entry with a copy of `name`. Errors: LIMIT above MZ_WEIGHTS_MAX_TENSORS, NOMEM. */
mz_status mz_weight_list_add(mz_weight_list *list, const char *name, const mz_weight_entry *entry);
void mz_weight_list_free(mz_weight_list *list);

/* Bytes of a contiguous tensor; false when they, or the number of elements, overflow. */
bool mz_weight_n_bytes(mz_dtype dtype, const int64_t *shape, int n_dims, size_t *out);

/* Appends the tensors of a safetensors file. Errors: FORMAT, LIMIT, UNSUPPORTED (element type),
 * NOMEM. */
mz_status mz_safetensors_read(mz_weight_list *list, const mz_weight_file *file);

/* Appends the tensors of a PyTorch zip file. Errors: FORMAT, LIMIT, UNSUPPORTED (compressed or
 * encrypted members, big-endian data, element types, strides, the format before PyTorch 1.6),
 * NOMEM. */
mz_status mz_torch_zip_read(mz_weight_list *list, const mz_weight_file *file);

/* A tensor as a pickle describes it; the shape is contiguous and fits into the storage. */
typedef struct mz_pickle_tensor {
    const char *name;        /* keys of nested dictionaries joined by '.' */
    const char *storage_key; /* not NUL-terminated */
    size_t storage_key_bytes;
    size_t storage_bytes; /* size that the pickle gives for the storage */
    size_t offset_bytes;  /* of the tensor in its storage */
    size_t n_bytes;
    mz_dtype dtype;
    int n_dims;
    int64_t shape[MZ_MAX_DIMS];
} mz_pickle_tensor;

typedef mz_status (*mz_pickle_visit)(void *self, const mz_pickle_tensor *tensor);

/* Reads a pickle (protocols 2 to 5) of dictionaries that lead to tensors and calls `visit` for each
 * tensor, in file order. Nothing is executed: a global is looked up in a fixed table, and one that
 * is not there is a FORMAT error. `path` names the file in messages. Errors: FORMAT, LIMIT,
 * UNSUPPORTED, NOMEM, and those of `visit`. */
mz_status mz_pickle_read(mz_context *ctx, const char *path, const uint8_t *data, size_t n_bytes,
                         mz_pickle_visit visit, void *self);

#ifdef __cplusplus
}
#endif
#endif
