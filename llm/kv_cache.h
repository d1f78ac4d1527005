/* The KV cache: pages of 64 positions with a table per sequence. Sequences may share pages; a
 * shared page is copied before one of them writes to it.
 *
 * Sequences are numbers below max_sequences, which the caller keeps to, and all empty at first. */
#ifndef MZ_LLM_KV_CACHE_H
#define MZ_LLM_KV_CACHE_H

#include "core/backend.h"

/* Sizes of a cache. */
typedef struct mz_kv_cache_config {
    int64_t n_layers, n_kv_heads, head_dim;
    int64_t head_dim_v; /* width of a value; 0: head_dim */
    mz_dtype dtype;     /* F32, F16 or Q8_0: what that means is said at mz_kv_layer */
    int64_t max_sequences;
    int64_t max_pages_per_sequence;
    int64_t n_pages; /* in all, shared by the sequences */
} mz_kv_cache_config;

/* Created by mz_kv_cache_create for one session, used by its thread. */
typedef struct mz_kv_cache {
    mz_kv_cache_config config;
    void *data; /* backend memory: [n_layers][n_pages] pages of page_bytes */
    size_t page_bytes, bytes;
    int32_t *table;        /* host: [max_sequences, max_pages_per_sequence] */
    int32_t *device_table; /* the same in backend memory, which may be `table` itself */
    int64_t *n_positions;  /* host: [max_sequences] positions that have a page or part of one */
    int32_t *n_users;      /* host: [n_pages] sequences that a page belongs to */
    int32_t *free_pages;   /* host: [n_pages] those without any, the next to be given out last */
    int64_t n_used;        /* pages given out */
    bool table_changed;    /* since the last upload */
} mz_kv_cache;

/* Errors: NOMEM, LIMIT (sizes below 1, or that overflow), DEVICE; those of mz_kv_layout_of. Pages
 * are committed when they are first written. */
mz_status mz_kv_cache_create(mz_stream *s, const mz_kv_cache_config *config, mz_kv_cache *out);
void mz_kv_cache_destroy(mz_stream *s, mz_kv_cache *cache);

/* Forgets all sequences. */
void mz_kv_cache_reset(mz_kv_cache *cache);

/* Gives `sequence` pages for positions up to n_positions - 1. Those from its number of positions
 * before the call on may be written then; earlier ones only after mz_kv_cache_truncate, because
 * their pages may be shared. Errors: LIMIT (then nothing has changed), DEVICE. */
mz_status mz_kv_cache_extend(mz_stream *s, mz_kv_cache *cache, int64_t sequence,
                             int64_t n_positions);

/* Forgets the positions of `sequence` from n_positions on; does nothing where it has fewer. */
void mz_kv_cache_truncate(mz_kv_cache *cache, int64_t sequence, int64_t n_positions);

/* Makes `to` hold what `from` holds, in the same pages; what it held before is forgotten. To share
 * a prefix alone, truncate `to`. */
void mz_kv_cache_fork(mz_kv_cache *cache, int64_t from, int64_t to);

/* Forgets positions [first, first + n) of `sequence` and moves the later ones down by n: their
 * pages change places, their keys are rotated back by n positions (mz_op_kv_rotate; pages that are
 * shared are copied first).
 *   first, n  multiples of MZ_KV_PAGE, first + n at most the sequence's number of positions
 *   ropes     [n_layers] what rotated a layer's keys; NULL, as a whole or of a layer: nothing did
 * Errors: ARG; LIMIT where pages for copies are missing; those of mz_op_kv_rotate. Then nothing has
 * changed. DEVICE: the sequence is good for nothing but to be truncated to 0. */
mz_status mz_kv_cache_shift(mz_stream *s, mz_kv_cache *cache, int64_t sequence, int64_t first,
                            int64_t n, const mz_rope_table *const *ropes);

/* Brings the page table to the backend if it changed; call once before a pass. Errors: DEVICE. */
mz_status mz_kv_cache_sync(mz_stream *s, mz_kv_cache *cache);

/* One layer as the ops see it. */
mz_kv_layer mz_kv_cache_layer(const mz_kv_cache *cache, int64_t layer);

#endif
