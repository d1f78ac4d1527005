/* Joining neighbouring symbols pair by pair, as byte-pair encodings do: the pair of the lowest rank
 * first, of equal ranks the leftmost; n log n in the number of symbols (Sennrich et al. 2016). */
#ifndef MZ_LLM_BPE_MERGE_H
#define MZ_LLM_BPE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_merge_symbol {
    int32_t previous, next; /* places in the list, -1 at its ends */
    uint32_t start;         /* first byte in the word */
    uint32_t n_bytes;       /* 0: joined to the one before */
    int32_t id;             /* its token, -1 where it has none */
} mz_merge_symbol;

typedef struct mz_merge_candidate {
    uint64_t order; /* rank << 32 | place of the left symbol */
    uint32_t right;
    uint32_t n_bytes; /* of both */
    int32_t id;       /* what they become */
} mz_merge_candidate;

/* Working memory, reused from word to word; all-zero is empty. */
typedef struct mz_merge_work {
    mz_merge_symbol *symbols;
    size_t n_symbols, symbols_capacity;
    mz_merge_candidate *heap;
    size_t n_heap, heap_capacity;
} mz_merge_work;

void mz_merge_work_free(mz_context *ctx, mz_merge_work *work);

/* Appends a symbol to the word. Errors: NOMEM. */
mz_status mz_merge_push(mz_context *ctx, mz_merge_work *work, size_t start, size_t n_bytes,
                        int32_t id);

/* Whether two neighbours can be joined: the rank, lower first, and the token that they become. */
typedef bool (*mz_merge_lookup)(const void *arg, const mz_merge_symbol *left,
                                const mz_merge_symbol *right, uint32_t *rank, int32_t *id);

/* Joins until no pair is left. The result: symbol 0 and on by `next`. Errors: NOMEM. */
mz_status mz_merge_run(mz_context *ctx, mz_merge_work *work, mz_merge_lookup lookup,
                       const void *arg);

typedef struct mz_merge_pair {
    uint64_t key; /* left id << 32 | right id */
    uint32_t rank;
    int32_t id; /* -1: empty slot */
} mz_merge_pair;

/* Pairs of ids with rank and result: what a list of merges says. All-zero is empty. */
typedef struct mz_merge_table {
    mz_merge_pair *slots;
    size_t n_slots;
    size_t n;
} mz_merge_table;

/* Room for n pairs. Errors: NOMEM. */
mz_status mz_merge_table_reserve(mz_context *ctx, mz_merge_table *table, size_t n);

/* A pair that is there already takes the new rank, as a later line of a list of merges does. There
 * must be room. */
void mz_merge_table_add(mz_merge_table *table, int32_t left, int32_t right, uint32_t rank,
                        int32_t id);

bool mz_merge_table_find(const mz_merge_table *table, int32_t left, int32_t right, uint32_t *rank,
                         int32_t *id);

void mz_merge_table_free(mz_context *ctx, mz_merge_table *table);

#ifdef __cplusplus
}
#endif
#endif
