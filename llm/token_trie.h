/* Finding tokens written out in a text: at each place the longest one. */
#ifndef MZ_LLM_TOKEN_TRIE_H
#define MZ_LLM_TOKEN_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* More than the longest known added token (31 spaces, names in angle brackets) by far; a bound is
 * needed because each place of a text is compared with it. */
enum { MZ_TOKEN_TRIE_MAX_BYTES = 512 };

typedef struct mz_trie_edge {
    uint64_t key; /* node << 8 | byte, + 1; 0: empty */
    uint32_t node;
} mz_trie_edge;

/* All-zero is an empty one. */
typedef struct mz_token_trie {
    mz_trie_edge *edges; /* hash table [n_slots] */
    size_t n_slots;
    uint32_t n_nodes; /* without the root, which is 0 */
    int32_t *ids;     /* [n_nodes + 1] the token that ends there, -1: none */
    size_t ids_capacity;
    bool begins[256]; /* bytes that a token begins with */
} mz_token_trie;

/* Errors: LIMIT for an empty text or one of more than MZ_TOKEN_TRIE_MAX_BYTES; NOMEM. A text that
 * is there already keeps its id. */
mz_status mz_token_trie_add(mz_context *ctx, mz_token_trie *trie, const char *text, size_t n_bytes,
                            int32_t id);

/* Which tokens a search may find. */
typedef bool (*mz_token_filter)(const void *arg, int32_t id);

/* The first place at or after `at` where an allowed token begins, and the longest one there: id, or
 * -1 for none. `filter` NULL: all are allowed. */
int32_t mz_token_trie_find(const mz_token_trie *trie, const char *text, size_t n_bytes, size_t at,
                           mz_token_filter filter, const void *arg, size_t *start, size_t *end);

/* From *node (0: the root) along one byte; false where nothing goes on. trie->ids[*node] is the
 * token that ends there. */
bool mz_token_trie_step(const mz_token_trie *trie, uint32_t *node, char byte);

void mz_token_trie_free(mz_context *ctx, mz_token_trie *trie);

#ifdef __cplusplus
}
#endif
#endif
