/* The context: allocator, threads, instruction set and error of one thread of control.
 *
 * Everything in moezoo that allocates does so through the context's allocator, so that a test can
 * fail each allocation in turn. A context belongs to one thread; models loaded with it may be read
 * by others. */
#ifndef MZ_CORE_CONTEXT_H
#define MZ_CORE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_pool mz_pool; /* core/threads.h */

/* A source of host memory. `alloc` returns NULL on failure; memory is uninitialised. `reserve`
 * returns address space that reads as zero and is committed page by page when touched; it is given
 * back with `unreserve`. */
typedef struct mz_allocator {
    void *(*alloc)(void *self, size_t bytes, size_t alignment);
    void (*free)(void *self, void *ptr);
    void *(*reserve)(void *self, size_t bytes);
    void (*unreserve)(void *self, void *ptr, size_t bytes);
    void *self;
} mz_allocator;

/* malloc and mmap. */
mz_allocator mz_allocator_system(void);

/* Created by the caller with mz_context_init, closed with mz_context_close, used by one thread. */
typedef struct mz_context {
    mz_allocator allocator;
    mz_error error;
    mz_isa isa;            /* highest instruction set that CPU kernels may use */
    mz_pool *pool;         /* worker threads; NULL: everything runs on the calling thread */
    bool (*stopped)(void); /* NULL, or asked between the pieces of a long write: true ends it with
                              INTERRUPTED */
} mz_context;

typedef struct mz_context_options {
    const mz_allocator *allocator; /* NULL: the system's */
    int n_threads;                 /* 0: one per online processor; 1: no worker threads */
    mz_isa isa;                    /* MZ_ISA_AUTO: the best the machine has */
} mz_context_options;

/* Fills `ctx`. `options` NULL means all defaults.
 * Errors (text in ctx->error): NOMEM; ARG for a thread count outside 0..1024; UNSUPPORTED for an
 * instruction set that this machine lacks. */
mz_status mz_context_init(mz_context *ctx, const mz_context_options *options);

/* Stops the threads. The error text stays readable. */
void mz_context_close(mz_context *ctx);

/* Allocates `bytes` (0 gives a valid pointer) aligned to 64 bytes. `what` names it in the message.
 * Errors: NOMEM. Release with mz_free. */
mz_status mz_alloc(mz_context *ctx, size_t bytes, const char *what, void **out);

/* mz_alloc of n * size bytes, zeroed, with the product checked. Errors: NOMEM, LIMIT on overflow.
 */
mz_status mz_calloc(mz_context *ctx, size_t n, size_t size, const char *what, void **out);

/* Grows the array `*items` of `item_size` bytes an element to hold at least `needed` elements (at
 * least doubling);
 * `*capacity` is updated. The old contents are kept. Errors: NOMEM, LIMIT on overflow; then nothing
 * has changed. */
mz_status mz_grow(mz_context *ctx, void **items, size_t *capacity, size_t needed, size_t item_size,
                  const char *what);

/* A copy of the NUL-terminated `text`. Errors: NOMEM. */
mz_status mz_strdup(mz_context *ctx, const char *text, char **out);

/* Releases what mz_alloc gave; accepts NULL. */
void mz_free(mz_context *ctx, void *ptr);

#ifdef __cplusplus
}
#endif
#endif
