#include "core/context.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/tensor.h"
#include "core/threads.h"

enum { ALIGNMENT = 64, MAX_THREADS = 1024, MIN_CAPACITY = 8 };

static void *system_alloc(void *self, size_t bytes, size_t alignment) {
    (void)self;
    if (bytes > (size_t)PTRDIFF_MAX - alignment) {
        return NULL;
    }
    /* C17 leaves sizes that are no multiple of the alignment undefined in some libraries. */
    const size_t n_units = bytes / alignment + (bytes % alignment != 0 || bytes == 0);
    return aligned_alloc(alignment, n_units * alignment);
}

static void system_free(void *self, void *ptr) {
    (void)self;
    free(ptr);
}

static void *system_reserve(void *self, size_t bytes) {
    (void)self;
    if (bytes > (size_t)PTRDIFF_MAX) {
        return NULL;
    }
    /* mmap refuses a length of 0, which the contract does not. */
    void *ptr = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return ptr == MAP_FAILED ? NULL : ptr;
}

static void system_unreserve(void *self, void *ptr, size_t bytes) {
    (void)self;
    if (ptr != NULL) {
        (void)munmap(ptr, bytes > 0 ? bytes : 1);
    }
}

mz_allocator mz_allocator_system(void) {
    return (mz_allocator){
        .alloc = system_alloc,
        .free = system_free,
        .reserve = system_reserve,
        .unreserve = system_unreserve,
    };
}

static mz_status choose_isa(mz_context *ctx, mz_isa wanted) {
    if (wanted < MZ_ISA_AUTO || wanted >= MZ_ISA_COUNT) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "instruction set: %d is not one of auto, 0..%d",
                       (int)wanted, MZ_ISA_COUNT - 1);
    }
    const mz_isa best = mz_isa_detect();
    if (wanted > best) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "instruction set: %s asked for, this machine has %s", mz_isa_name(wanted),
                       mz_isa_name(best));
    }
    ctx->isa = wanted == MZ_ISA_AUTO ? best : wanted;
    return MZ_OK;
}

mz_status mz_context_init(mz_context *ctx, const mz_context_options *options) {
    static const mz_context_options defaults = {.isa = MZ_ISA_AUTO};
    const mz_context_options *o = options != NULL ? options : &defaults;
    *ctx = (mz_context){.allocator = o->allocator != NULL ? *o->allocator : mz_allocator_system()};
    if (o->n_threads < 0 || o->n_threads > MAX_THREADS) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "threads: %d is outside 0..%d", o->n_threads,
                       MAX_THREADS);
    }
    /* Before any thread starts: the permission to use AMX tiles is inherited by threads made after
     * it. */
    MZ_TRY(choose_isa(ctx, o->isa));
    int n_threads = o->n_threads;
    if (n_threads == 0) {
        n_threads = mz_cpu_count();
        n_threads = n_threads > MAX_THREADS ? MAX_THREADS : n_threads;
    }
    return n_threads > 1 ? mz_pool_create(ctx, n_threads, &ctx->pool) : MZ_OK;
}

void mz_context_close(mz_context *ctx) {
    if (ctx == NULL) {
        return;
    }
    mz_pool_destroy(ctx, ctx->pool);
    ctx->pool = NULL;
}

mz_status mz_alloc(mz_context *ctx, size_t bytes, const char *what, void **out) {
    const mz_allocator *a = &ctx->allocator;
    void *ptr = a->alloc(a->self, bytes > 0 ? bytes : 1, ALIGNMENT);
    if (ptr == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_NOMEM, "%s: out of memory for %zu bytes", what, bytes);
    }
    *out = ptr;
    return MZ_OK;
}

mz_status mz_calloc(mz_context *ctx, size_t n, size_t size, const char *what, void **out) {
    size_t bytes = 0;
    if (!mz_size_mul(n, size, &bytes)) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT,
                       "%s: %zu elements of %zu bytes are more than memory can address", what, n,
                       size);
    }
    void *ptr = NULL;
    MZ_TRY(mz_alloc(ctx, bytes, what, &ptr));
    memset(ptr, 0, bytes);
    *out = ptr;
    return MZ_OK;
}

mz_status mz_grow(mz_context *ctx, void **items, size_t *capacity, size_t needed, size_t item_size,
                  const char *what) {
    if (needed <= *capacity) {
        return MZ_OK;
    }
    size_t grown = *capacity <= SIZE_MAX / 2 ? *capacity * 2 : SIZE_MAX;
    grown = grown < MIN_CAPACITY ? MIN_CAPACITY : grown;
    grown = grown < needed ? needed : grown;
    size_t bytes = 0;
    if (!mz_size_mul(grown, item_size, &bytes)) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT,
                       "%s: %zu elements of %zu bytes are more than memory can address", what,
                       grown, item_size);
    }
    void *ptr = NULL;
    MZ_TRY(mz_alloc(ctx, bytes, what, &ptr));
    if (*capacity > 0) {
        memcpy(ptr, *items, *capacity * item_size);
    }
    mz_free(ctx, *items);
    *items = ptr;
    *capacity = grown;
    return MZ_OK;
}

mz_status mz_strdup(mz_context *ctx, const char *text, char **out) {
    const size_t bytes = strlen(text) + 1;
    void *ptr = NULL;
    MZ_TRY(mz_alloc(ctx, bytes, "string", &ptr));
    memcpy(ptr, text, bytes);
    *out = ptr;
    return MZ_OK;
}

void mz_free(mz_context *ctx, void *ptr) {
    if (ptr != NULL) {
        ctx->allocator.free(ctx->allocator.self, ptr);
    }
}
