/* Bringing a checkpoint's tensors into a backend's memory.
 *
 * A family's loading code runs twice over one mz_loader. The first run (measure) asks the
 * checkpoint for each tensor by name and shape and adds up the memory; mz_loader_begin_fill then
 * fails if anything was missing, mis-shaped or extra, and allocates; the second run hands out the
 * tensors. A matrix that the backend can read where it is mapped stays there. */
#ifndef MZ_CORE_LOADER_H
#define MZ_CORE_LOADER_H

#include "core/backend.h"
#include "core/parameters.h"
#include "core/weights.h"

/* Fresh values: vectors whose name holds "norm" are 1, other vectors 0, matrices normal with mean
 * 0. A value is a pure function of seed, the tensor's name and its index. */
typedef struct mz_init {
    uint64_t seed;
    double deviation; /* of matrices; 0: 1 / sqrt(d_in) (LeCun et al. 1998) */
} mz_init;

enum { MZ_TENSOR_NAME_BYTES = 256 };

/* Where in a checkpoint a tensor is. */
typedef struct mz_tensor_place {
    char name[MZ_TENSOR_NAME_BYTES];
    int64_t slice;    /* -1: the whole tensor; else this one of */
    int64_t n_slices; /* equal parts of its rows; 0: the elements of its first dimension */
} mz_tensor_place;

/* Where a checkpoint that is not its publisher's has the tensor that the publisher calls
 * `published`. False: nowhere. */
typedef struct mz_loader_names {
    bool (*place)(const void *self, const char *published, mz_tensor_place *out);
    const void *self; /* lives until the loader is filled */
} mz_loader_names;

/* All zero: the checkpoint as it is. */
typedef struct mz_loader_options {
    const mz_init *init;       /* fresh values; no checkpoint is read. NULL: from the checkpoint */
    mz_parameters *parameters; /* lists all tensors, which are then f32 copies, dense and writable,
                                  with gradients beside them; host memory only. NULL: read-only */
    mz_loader_names names;     /* place NULL: tensors are called as they are asked for */
    mz_dtype init_dtype;       /* of fresh matrices that are no parameters */
} mz_loader_options;

/* A matrix that was handed out, under the name of its tensor, for adapters. */
typedef struct mz_loaded_matrix {
    char *name;        /* without ".weight"; owned by the loader */
    mz_linear *linear; /* where the loading code has put it, or NULL: */
    mz_linear_bank *bank;
    int32_t expert; /* of the bank */
} mz_loaded_matrix;

/* Created by mz_loader_open; closing it ends the life of every tensor it handed out. One thread
 * while loading. */
typedef struct mz_loader {
    mz_context *ctx;
    mz_weights *weights; /* owned; NULL for fresh values */
    mz_stream stream;    /* arena: what does not stay in the map */
    bool filling;
    mz_init init;
    mz_dtype init_dtype;
    mz_loader_names names;
    mz_parameters *parameters;
    void *gradients; /* of the arena, where there are parameters */
    /* What the second run has handed out, in its order, the experts of a bank next to each other:
     * what it was handed out to must stay where it is. */
    mz_loaded_matrix *matrices; /* [n_matrices] */
    int64_t n_matrices;
    size_t matrices_capacity;
} mz_loader;

/* Opens the checkpoint at `path` (see mz_weights_open; not read for fresh values) in measure mode.
 * `options` NULL: all zero. Fresh values without parameters are for measuring speed: matrices of
 * init_dtype that repeat 64 random rows. */
mz_status mz_loader_open(mz_context *ctx, const mz_backend *backend, const char *path,
                         const mz_loader_options *options, mz_loader *out);
/* Errors: those of mz_weights_finish; NOMEM; LIMIT where parameters and their gradients, or fresh
 * weights, need more than the machine has. */
mz_status mz_loader_begin_fill(mz_loader *loader);
void mz_loader_close(mz_loader *loader);

/* A tensor of this name may be there and is not needed. */
void mz_loader_ignore(mz_loader *loader, const char *name, ...) MZ_PRINTF(2, 3);

/* The arena's values and their gradients, for mz_tape_add_parameters; of a filled loader with
 * parameters. */
void mz_loader_spaces(const mz_loader *loader, const void **values, void **gradients,
                      size_t *n_bytes);

/* A matrix [d_out, d_in] as stored; `name` is a printf format for the tensor's name. *out keeps its
 * bias, and must stay where it is as long as the loader. */
mz_status mz_loader_matrix(mz_loader *loader, mz_linear *out, int64_t d_out, int64_t d_in,
                           mz_precision precision, const char *name, ...) MZ_PRINTF(6, 7);

/* A vector [n], widened to f32. */
mz_status mz_loader_vector(mz_loader *loader, mz_tensor *out, int64_t n, const char *name, ...)
    MZ_PRINTF(4, 5);

/* The vectors PREFIX.i.SUFFIX, 0 <= i < n_parts, each [n], one behind the other as [n_parts * n],
 * widened to f32. */
mz_status mz_loader_vectors(mz_loader *loader, mz_tensor *out, int64_t n_parts, int64_t n,
                            const char *prefix, const char *suffix);

/* The matrices PREFIX.e.SUFFIX of experts e = 0..n_experts-1 as a bank, which stays likewise.
 * Errors also: UNSUPPORTED when they differ in type. */
mz_status mz_loader_bank(mz_loader *loader, mz_linear_bank *out, int32_t n_experts, int64_t d_out,
                         int64_t d_in, mz_precision precision, const char *prefix,
                         const char *suffix);

#endif
