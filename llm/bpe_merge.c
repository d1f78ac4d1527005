#include "llm/bpe_merge.h"

#include <string.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 64 };

void mz_merge_work_free(mz_context *ctx, mz_merge_work *work) {
    mz_free(ctx, work->symbols);
    mz_free(ctx, work->heap);
    *work = (mz_merge_work){0};
}

mz_status mz_merge_push(mz_context *ctx, mz_merge_work *work, size_t start, size_t n_bytes,
                        int32_t id) {
    void *memory = work->symbols;
    MZ_TRY(mz_grow(ctx, &memory, &work->symbols_capacity, work->n_symbols + 1,
                   sizeof *work->symbols, "word"));
    work->symbols = memory;
    const size_t i = work->n_symbols++;
    work->symbols[i] = (mz_merge_symbol){.previous = (int32_t)i - 1,
                                         .next = -1,
                                         .start = (uint32_t)start,
                                         .n_bytes = (uint32_t)n_bytes,
                                         .id = id};
    if (i > 0) {
        work->symbols[i - 1].next = (int32_t)i;
    }
    return MZ_OK;
}

static void sift_down(mz_merge_candidate *heap, size_t n, size_t i) {
    const mz_merge_candidate moved = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && heap[child + 1].order < heap[child].order) {
            child++;
        }
        if (heap[child].order >= moved.order) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static void sift_up(mz_merge_candidate *heap, size_t i) {
    const mz_merge_candidate moved = heap[i];
    while (i > 0 && heap[(i - 1) / 2].order > moved.order) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = moved;
}

/* Appends the pair that begins at `left` where there is one; the caller restores the heap's order.
 * *added tells whether. */
static mz_status add_candidate(mz_context *ctx, mz_merge_work *work, mz_merge_lookup lookup,
                               const void *arg, int32_t left, bool *added) {
    const mz_merge_symbol *a = &work->symbols[left];
    *added = false;
    uint32_t rank = 0;
    int32_t id = -1;
    if (a->next < 0 || !lookup(arg, a, &work->symbols[a->next], &rank, &id)) {
        return MZ_OK;
    }
    void *memory = work->heap;
    MZ_TRY(
        mz_grow(ctx, &memory, &work->heap_capacity, work->n_heap + 1, sizeof *work->heap, "word"));
    work->heap = memory;
    work->heap[work->n_heap++] =
        (mz_merge_candidate){.order = (uint64_t)rank << 32 | (uint32_t)left,
                             .right = (uint32_t)a->next,
                             .n_bytes = a->n_bytes + work->symbols[a->next].n_bytes,
                             .id = id};
    *added = true;
    return MZ_OK;
}

/* Joins the pair unless one of its symbols has changed since it was found. Both ends of what it
 * covers being the same, it covers the same text. */
static bool join(mz_merge_work *work, const mz_merge_candidate *c) {
    mz_merge_symbol *a = &work->symbols[(uint32_t)c->order];
    mz_merge_symbol *b = &work->symbols[c->right];
    if (a->n_bytes == 0 || b->n_bytes == 0 || a->next != (int32_t)c->right ||
        a->n_bytes + b->n_bytes != c->n_bytes) {
        return false;
    }
    a->n_bytes = c->n_bytes;
    a->id = c->id;
    a->next = b->next;
    b->n_bytes = 0;
    if (a->next >= 0) {
        work->symbols[a->next].previous = (int32_t)(uint32_t)c->order;
    }
    return true;
}

mz_status mz_merge_run(mz_context *ctx, mz_merge_work *work, mz_merge_lookup lookup,
                       const void *arg) {
    work->n_heap = 0;
    bool added = false;
    for (size_t i = 0; i + 1 < work->n_symbols; i++) {
        MZ_TRY(add_candidate(ctx, work, lookup, arg, (int32_t)i, &added));
    }
    for (size_t i = work->n_heap / 2; i-- > 0;) {
        sift_down(work->heap, work->n_heap, i);
    }
    while (work->n_heap > 0) {
        const mz_merge_candidate top = work->heap[0];
        work->heap[0] = work->heap[--work->n_heap];
        if (work->n_heap > 1) {
            sift_down(work->heap, work->n_heap, 0);
        }
        if (!join(work, &top)) {
            continue;
        }
        const int32_t left = (int32_t)(uint32_t)top.order;
        const int32_t places[2] = {work->symbols[left].previous, left};
        for (int i = 0; i < 2; i++) {
            added = false;
            if (places[i] >= 0) {
                MZ_TRY(add_candidate(ctx, work, lookup, arg, places[i], &added));
            }
            if (added) {
                sift_up(work->heap, work->n_heap - 1);
            }
        }
    }
    return MZ_OK;
}

static size_t find_slot(const mz_merge_table *table, uint64_t key) {
    const size_t mask = table->n_slots - 1;
    /* The seed is where the slots lie, which nobody who writes a file knows. */
    size_t slot = (size_t)XXH3_64bits_withSeed(&key, sizeof key, (uintptr_t)table->slots) & mask;
    while (table->slots[slot].id >= 0 && table->slots[slot].key != key) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

mz_status mz_merge_table_reserve(mz_context *ctx, mz_merge_table *table, size_t n) {
    size_t wanted = FIRST_SLOTS;
    while (wanted / 2 < n && wanted <= SIZE_MAX / 4) {
        wanted *= 2;
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, wanted, sizeof *table->slots, "merges", &memory));
    mz_free(ctx, table->slots);
    *table = (mz_merge_table){.slots = memory, .n_slots = wanted};
    for (size_t i = 0; i < wanted; i++) {
        table->slots[i].id = -1;
    }
    return MZ_OK;
}

static uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

void mz_merge_table_add(mz_merge_table *table, int32_t left, int32_t right, uint32_t rank,
                        int32_t id) {
    const uint64_t key = pair_key(left, right);
    const size_t slot = find_slot(table, key);
    table->n += table->slots[slot].id < 0;
    table->slots[slot] = (mz_merge_pair){.key = key, .rank = rank, .id = id};
}

bool mz_merge_table_find(const mz_merge_table *table, int32_t left, int32_t right, uint32_t *rank,
                         int32_t *id) {
    if (table->n_slots == 0) {
        return false;
    }
    const mz_merge_pair *pair = &table->slots[find_slot(table, pair_key(left, right))];
    *rank = pair->rank;
    *id = pair->id;
    return pair->id >= 0;
}

void mz_merge_table_free(mz_context *ctx, mz_merge_table *table) {
    mz_free(ctx, table->slots);
    *table = (mz_merge_table){0};
}
