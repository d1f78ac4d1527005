#include "encoders/series/series_ids.h"

#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 1024 };

char *mz_series_ids_text(const mz_series_ids *ids, int64_t i) {
    return ids->text + ids->offsets[i];
}

static bool is_id(const mz_series_ids *ids, int64_t i, const char *id, size_t n_bytes) {
    const char *text = mz_series_ids_text(ids, i);
    return strncmp(text, id, n_bytes) == 0 && text[n_bytes] == '\0';
}

/* The slot that holds the id, or the empty one where it belongs. */
static size_t find_slot(const mz_series_ids *ids, const char *id, size_t n_bytes) {
    const size_t mask = ids->n_slots - 1;
    /* The seed is where the slots lie, which nobody who writes a file knows: ids cannot be made to
     * share a slot. */
    const uint64_t seed = (uint64_t)(uintptr_t)ids->slots;
    size_t slot = (size_t)XXH3_64bits_withSeed(id, n_bytes, seed) & mask;
    while (ids->slots[slot] >= 0 && !is_id(ids, ids->slots[slot], id, n_bytes)) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

static mz_status grow_slots(mz_context *ctx, mz_series_ids *ids) {
    const size_t n = ids->n_slots > 0 ? 2 * ids->n_slots : FIRST_SLOTS;
    void *slots = NULL;
    MZ_TRY(mz_calloc(ctx, n, sizeof *ids->slots, "ids", &slots));
    mz_free(ctx, ids->slots);
    ids->slots = slots;
    ids->n_slots = n;
    for (size_t i = 0; i < n; i++) {
        ids->slots[i] = -1;
    }
    for (int64_t i = 0; i < ids->n; i++) {
        const char *text = mz_series_ids_text(ids, i);
        ids->slots[find_slot(ids, text, strlen(text))] = i;
    }
    return MZ_OK;
}

static mz_status add(mz_context *ctx, mz_series_ids *ids, const char *id, size_t n_bytes) {
    void *memory = ids->offsets;
    MZ_TRY(mz_grow(ctx, &memory, &ids->offsets_capacity, (size_t)ids->n + 1, sizeof *ids->offsets,
                   "ids"));
    ids->offsets = memory;
    memory = ids->text;
    MZ_TRY(mz_grow(ctx, &memory, &ids->text_capacity, ids->n_text_bytes + n_bytes + 1, 1, "ids"));
    ids->text = memory;
    char *text = ids->text + ids->n_text_bytes;
    memcpy(text, id, n_bytes);
    text[n_bytes] = '\0';
    ids->offsets[ids->n++] = ids->n_text_bytes;
    ids->n_text_bytes += n_bytes + 1;
    return MZ_OK;
}

mz_status mz_series_ids_find(mz_context *ctx, mz_series_ids *ids, const char *id, size_t n_bytes,
                             int64_t *number) {
    if (ids->n > 0 && is_id(ids, ids->newest, id, n_bytes)) {
        *number = ids->newest; /* rows of one series mostly stand together */
        return MZ_OK;
    }
    if (2 * (size_t)ids->n >= ids->n_slots) {
        MZ_TRY(grow_slots(ctx, ids));
    }
    const size_t slot = find_slot(ids, id, n_bytes);
    if (ids->slots[slot] < 0) {
        MZ_TRY(add(ctx, ids, id, n_bytes));
        ids->slots[slot] = ids->n - 1;
    }
    ids->newest = ids->slots[slot];
    *number = ids->newest;
    return MZ_OK;
}

void mz_series_ids_clear(mz_context *ctx, mz_series_ids *ids) {
    mz_free(ctx, ids->text);
    mz_free(ctx, ids->offsets);
    mz_free(ctx, ids->slots);
    *ids = (mz_series_ids){0};
}
