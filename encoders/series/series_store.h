/* Numbers that come one after the other and are many: kept in blocks that never move, so that twice
 * the memory is never needed. */
#ifndef MZ_ENCODERS_SERIES_SERIES_STORE_H
#define MZ_ENCODERS_SERIES_SERIES_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_STORE_SHIFT = 16, MZ_STORE_BLOCK = 1 << MZ_STORE_SHIFT };

/* All zero before use; released with mz_store_clear. `n` is the number of 8-byte items. */
typedef struct mz_store {
    void **blocks; /* [n_blocks] of MZ_STORE_BLOCK items */
    size_t n_blocks, capacity;
    size_t n_forgotten; /* blocks that are no more */
    int64_t n;
} mz_store;

/* A double or a stamp. Errors: NOMEM. */
mz_status mz_store_push_double(mz_context *ctx, mz_store *store, double value);
mz_status mz_store_push_int(mz_context *ctx, mz_store *store, int64_t value);

/* Item i, which must have been pushed as such. */
double mz_store_double(const mz_store *store, int64_t i);
int64_t mz_store_int(const mz_store *store, int64_t i);

/* Forgets items before `i` (which keep their numbers), by whole blocks. */
void mz_store_forget(mz_context *ctx, mz_store *store, int64_t i);

void mz_store_clear(mz_context *ctx, mz_store *store);

#ifdef __cplusplus
}
#endif
#endif
