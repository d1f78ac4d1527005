#include "llm/token_trie.h"

#include <string.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 256 };

static size_t find_slot(const mz_token_trie *trie, uint32_t node, uint8_t byte) {
    const uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    const size_t mask = trie->n_slots - 1;
    /* The seed is where the edges lie, which nobody who writes a file knows. */
    size_t slot = (size_t)XXH3_64bits_withSeed(&key, sizeof key, (uintptr_t)trie->edges) & mask;
    while (trie->edges[slot].key != 0 && trie->edges[slot].key != key) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

/* Room for `n_more` further nodes. */
static mz_status grow(mz_context *ctx, mz_token_trie *trie, size_t n_more) {
    const size_t n = trie->n_nodes + n_more;
    void *memory = trie->ids;
    MZ_TRY(mz_grow(ctx, &memory, &trie->ids_capacity, n + 1, sizeof *trie->ids, "added tokens"));
    trie->ids = memory;
    size_t wanted = trie->n_slots > 0 ? trie->n_slots : FIRST_SLOTS;
    while (wanted < 2 * n) {
        wanted *= 2;
    }
    if (wanted == trie->n_slots) {
        return MZ_OK;
    }
    MZ_TRY(mz_calloc(ctx, wanted, sizeof *trie->edges, "added tokens", &memory));
    mz_trie_edge *const old = trie->edges;
    const size_t n_old = trie->n_slots;
    trie->edges = memory;
    trie->n_slots = wanted;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].key != 0) {
            const uint64_t key = old[i].key - 1;
            trie->edges[find_slot(trie, (uint32_t)(key >> 8), (uint8_t)key)] = old[i];
        }
    }
    mz_free(ctx, old);
    return MZ_OK;
}

mz_status mz_token_trie_add(mz_context *ctx, mz_token_trie *trie, const char *text, size_t n_bytes,
                            int32_t id) {
    if (n_bytes == 0 || n_bytes > MZ_TOKEN_TRIE_MAX_BYTES) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "added token %d has %zu bytes, expected 1 to %d",
                       (int)id, n_bytes, MZ_TOKEN_TRIE_MAX_BYTES);
    }
    MZ_TRY(grow(ctx, trie, n_bytes));
    trie->begins[(uint8_t)text[0]] = true;
    if (trie->n_nodes == 0) {
        trie->ids[0] = -1;
    }
    uint32_t node = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        mz_trie_edge *edge = &trie->edges[find_slot(trie, node, (uint8_t)text[i])];
        if (edge->key == 0) {
            edge->key = ((uint64_t)node << 8 | (uint8_t)text[i]) + 1;
            edge->node = ++trie->n_nodes;
            trie->ids[edge->node] = -1;
        }
        node = edge->node;
    }
    if (trie->ids[node] < 0) {
        trie->ids[node] = id;
    }
    return MZ_OK;
}

bool mz_token_trie_step(const mz_token_trie *trie, uint32_t *node, char byte) {
    if (trie->n_nodes == 0) {
        return false;
    }
    const mz_trie_edge *edge = &trie->edges[find_slot(trie, *node, (uint8_t)byte)];
    *node = edge->node;
    return edge->key != 0;
}

int32_t mz_token_trie_find(const mz_token_trie *trie, const char *text, size_t n_bytes, size_t at,
                           mz_token_filter filter, const void *arg, size_t *start, size_t *end) {
    for (size_t i = at; i < n_bytes && trie->n_nodes > 0; i++) {
        if (!trie->begins[(uint8_t)text[i]]) {
            continue;
        }
        int32_t found = -1;
        uint32_t node = 0;
        for (size_t k = i; k < n_bytes && mz_token_trie_step(trie, &node, text[k]); k++) {
            const int32_t id = trie->ids[node];
            if (id >= 0 && (filter == NULL || filter(arg, id))) {
                found = id;
                *end = k + 1;
            }
        }
        if (found >= 0) {
            *start = i;
            return found;
        }
    }
    return -1;
}

void mz_token_trie_free(mz_context *ctx, mz_token_trie *trie) {
    mz_free(ctx, trie->edges);
    mz_free(ctx, trie->ids);
    *trie = (mz_token_trie){0};
}
