/* The different ids of a long file, numbered in the order in which they come. */
#ifndef MZ_ENCODERS_SERIES_SERIES_IDS_H
#define MZ_ENCODERS_SERIES_SERIES_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero before use; released with mz_series_ids_clear. */
typedef struct mz_series_ids {
    char *text; /* ids one after the other, each with its NUL */
    size_t n_text_bytes, text_capacity;
    size_t *offsets; /* [n] into text */
    size_t offsets_capacity;
    int64_t n;
    int64_t *slots; /* [n_slots] numbers of ids by hash, -1: empty */
    size_t n_slots; /* 0 or a power of two, over half of them empty */
    int64_t newest; /* number found last */
} mz_series_ids;

/* The number of the id, which is new or known; a NUL byte does not occur in it. Errors: NOMEM. */
mz_status mz_series_ids_find(mz_context *ctx, mz_series_ids *ids, const char *id, size_t n_bytes,
                             int64_t *number);

/* The text of id number i, borrowed until the next is found. */
char *mz_series_ids_text(const mz_series_ids *ids, int64_t i);

void mz_series_ids_clear(mz_context *ctx, mz_series_ids *ids);

#ifdef __cplusplus
}
#endif
#endif
