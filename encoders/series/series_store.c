#include "encoders/series/series_store.h"

/* Room for one more item. */
static mz_status make_room(mz_context *ctx, mz_store *s) {
    void *memory = s->blocks;
    if ((size_t)s->n >> MZ_STORE_SHIFT < s->n_blocks) {
        return MZ_OK;
    }
    MZ_TRY(mz_grow(ctx, &memory, &s->capacity, s->n_blocks + 1, sizeof *s->blocks, "values"));
    s->blocks = memory;
    MZ_TRY(mz_alloc(ctx, MZ_STORE_BLOCK * sizeof(double), "values", &memory));
    s->blocks[s->n_blocks++] = memory;
    return MZ_OK;
}

mz_status mz_store_push_double(mz_context *ctx, mz_store *s, double value) {
    MZ_TRY(make_room(ctx, s));
    ((double *)s->blocks[s->n >> MZ_STORE_SHIFT])[s->n & (MZ_STORE_BLOCK - 1)] = value;
    s->n++;
    return MZ_OK;
}

mz_status mz_store_push_int(mz_context *ctx, mz_store *s, int64_t value) {
    MZ_TRY(make_room(ctx, s));
    ((int64_t *)s->blocks[s->n >> MZ_STORE_SHIFT])[s->n & (MZ_STORE_BLOCK - 1)] = value;
    s->n++;
    return MZ_OK;
}

double mz_store_double(const mz_store *s, int64_t i) {
    return ((const double *)s->blocks[i >> MZ_STORE_SHIFT])[i & (MZ_STORE_BLOCK - 1)];
}

int64_t mz_store_int(const mz_store *s, int64_t i) {
    return ((const int64_t *)s->blocks[i >> MZ_STORE_SHIFT])[i & (MZ_STORE_BLOCK - 1)];
}

void mz_store_forget(mz_context *ctx, mz_store *s, int64_t i) {
    for (; s->n_forgotten < (size_t)i >> MZ_STORE_SHIFT; s->n_forgotten++) {
        mz_free(ctx, s->blocks[s->n_forgotten]);
        s->blocks[s->n_forgotten] = NULL;
    }
}

void mz_store_clear(mz_context *ctx, mz_store *s) {
    for (size_t i = 0; i < s->n_blocks; i++) {
        mz_free(ctx, s->blocks[i]);
    }
    mz_free(ctx, s->blocks);
    *s = (mz_store){0};
}
