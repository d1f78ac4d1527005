#include "llm/kv_cache.h"

#include <string.h>

/* A layer without its memory. */
static mz_kv_layer layer_of(const mz_kv_cache_config *c) {
    return (mz_kv_layer){.dtype = c->dtype,
                         .n_kv_heads = c->n_kv_heads,
                         .head_dim = c->head_dim,
                         .head_dim_v = c->head_dim_v,
                         .table_stride = c->max_pages_per_sequence};
}

/* Sizes that pass measure do not overflow here. */
static size_t table_bytes(const mz_kv_cache_config *c) {
    return (size_t)c->max_sequences * (size_t)c->max_pages_per_sequence * sizeof(int32_t);
}

/* Checks the sizes and works out those in bytes. */
static mz_status measure(mz_stream *s, mz_kv_cache *cache) {
    const mz_kv_cache_config *c = &cache->config;
    const mz_kv_layer layer = layer_of(c);
    mz_kv_layout layout = {0};
    size_t n = 0;
    if (c->n_layers < 1 || c->n_pages < 1 || c->n_pages > INT32_MAX || c->max_sequences < 1 ||
        c->max_pages_per_sequence < 1) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                       "KV cache: %lld layers, %lld pages, %lld sequences of up to %lld pages, "
                       "expected 1 or more of each and pages up to %d",
                       (long long)c->n_layers, (long long)c->n_pages, (long long)c->max_sequences,
                       (long long)c->max_pages_per_sequence, INT32_MAX);
    }
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, &layer, &layout));
    cache->page_bytes = layout.page_bytes;
    if (!mz_size_mul((size_t)c->max_sequences, (size_t)c->max_pages_per_sequence, &n) ||
        !mz_size_mul(n, sizeof(int32_t), &n) || n > PTRDIFF_MAX ||
        !mz_size_mul(layout.page_bytes, (size_t)c->n_pages, &n) ||
        !mz_size_mul(n, (size_t)c->n_layers, &n) || n > PTRDIFF_MAX) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_LIMIT,
            "KV cache: %lld layers of %lld pages, %lld sequences of up to %lld pages are "
            "more than memory can address",
            (long long)c->n_layers, (long long)c->n_pages, (long long)c->max_sequences,
            (long long)c->max_pages_per_sequence);
    }
    cache->bytes = n;
    return MZ_OK;
}

static mz_status allocate(mz_stream *s, mz_kv_cache *c) {
    void *memory = NULL;
    MZ_TRY(s->backend->buffer_alloc(s, c->bytes, &c->data));
    MZ_TRY(mz_calloc(s->ctx, 1, table_bytes(&c->config), "page table", &memory));
    c->table = memory;
    MZ_TRY(mz_calloc(s->ctx, (size_t)c->config.max_sequences, sizeof *c->n_positions,
                     "sequence lengths", &memory));
    c->n_positions = memory;
    MZ_TRY(mz_calloc(s->ctx, (size_t)c->config.n_pages, sizeof *c->n_users, "users of pages",
                     &memory));
    c->n_users = memory;
    MZ_TRY(
        mz_calloc(s->ctx, (size_t)c->config.n_pages, sizeof *c->free_pages, "free pages", &memory));
    c->free_pages = memory;
    if (s->backend->host_memory) {
        c->device_table = c->table;
        return MZ_OK;
    }
    MZ_TRY(s->backend->buffer_alloc(s, table_bytes(&c->config), &memory));
    c->device_table = memory;
    return MZ_OK;
}

mz_status mz_kv_cache_create(mz_stream *s, const mz_kv_cache_config *config, mz_kv_cache *out) {
    mz_kv_cache c = {.config = *config};
    MZ_TRY(measure(s, &c));
    const mz_status status = allocate(s, &c);
    if (status != MZ_OK) {
        mz_kv_cache_destroy(s, &c);
        return status;
    }
    mz_kv_cache_reset(&c);
    *out = c;
    return MZ_OK;
}

void mz_kv_cache_destroy(mz_stream *s, mz_kv_cache *cache) {
    if (cache->data != NULL) {
        s->backend->buffer_free(s, cache->data, cache->bytes);
    }
    if (cache->device_table != NULL && cache->device_table != cache->table) {
        s->backend->buffer_free(s, cache->device_table, table_bytes(&cache->config));
    }
    if (s->ctx != NULL) {
        mz_free(s->ctx, cache->table);
        mz_free(s->ctx, cache->n_positions);
        mz_free(s->ctx, cache->n_users);
        mz_free(s->ctx, cache->free_pages);
    }
    *cache = (mz_kv_cache){0};
}

void mz_kv_cache_reset(mz_kv_cache *cache) {
    const mz_kv_cache_config *c = &cache->config;
    memset(cache->n_positions, 0, (size_t)c->max_sequences * sizeof *cache->n_positions);
    memset(cache->n_users, 0, (size_t)c->n_pages * sizeof *cache->n_users);
    for (int64_t i = 0; i < c->n_pages; i++) {
        cache->free_pages[i] = (int32_t)(c->n_pages - 1 - i);
    }
    cache->n_used = 0;
}

/* ---- Pages ---- */

/* Pages of n positions. */
static int64_t pages_of(int64_t n_positions) {
    return n_positions / MZ_KV_PAGE + (n_positions % MZ_KV_PAGE != 0);
}

static int64_t n_free(const mz_kv_cache *cache) {
    return cache->config.n_pages - cache->n_used;
}

static int32_t *pages_of_sequence(const mz_kv_cache *cache, int64_t sequence) {
    return cache->table + sequence * cache->config.max_pages_per_sequence;
}

/* A page for one user; that there is one has been checked. */
static int32_t take_page(mz_kv_cache *cache) {
    const int32_t page = cache->free_pages[n_free(cache) - 1];
    cache->n_used++;
    cache->n_users[page] = 1;
    return page;
}

static void leave_page(mz_kv_cache *cache, int32_t page) {
    cache->n_users[page]--;
    if (cache->n_users[page] == 0) {
        cache->n_used--;
        cache->free_pages[n_free(cache) - 1] = page;
    }
}

/* Replaces a shared page by a copy of its own. */
static mz_status own_page(mz_stream *s, mz_kv_cache *cache, int32_t *page) {
    if (cache->n_users[*page] == 1) {
        return MZ_OK;
    }
    const int32_t copy = take_page(cache);
    for (int64_t l = 0; l < cache->config.n_layers; l++) {
        char *layer = (char *)cache->data + (size_t)(l * cache->config.n_pages) * cache->page_bytes;
        const mz_status status =
            s->backend->copy(s, layer + (size_t)copy * cache->page_bytes,
                             layer + (size_t)*page * cache->page_bytes, cache->page_bytes);
        if (status != MZ_OK) {
            leave_page(cache, copy);
            return status;
        }
    }
    leave_page(cache, *page);
    *page = copy;
    cache->table_changed = true;
    return MZ_OK;
}

static mz_status too_few_pages(mz_stream *s, const mz_kv_cache *cache, int64_t n_positions) {
    return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                   "KV cache: %lld positions do not fit (%lld of %lld pages are used, a sequence "
                   "has at most %lld)",
                   (long long)n_positions, (long long)cache->n_used,
                   (long long)cache->config.n_pages,
                   (long long)cache->config.max_pages_per_sequence);
}

/* ---- Sequences ---- */

mz_status mz_kv_cache_extend(mz_stream *s, mz_kv_cache *cache, int64_t sequence,
                             int64_t n_positions) {
    const int64_t n_before = cache->n_positions[sequence];
    if (n_positions <= n_before) {
        return MZ_OK;
    }
    int32_t *pages = pages_of_sequence(cache, sequence);
    int64_t have = pages_of(n_before);
    const int64_t need = pages_of(n_positions);
    const bool writes_last = n_before % MZ_KV_PAGE != 0;
    const bool copies = writes_last && cache->n_users[pages[have - 1]] > 1;
    if (need > cache->config.max_pages_per_sequence || need - have + copies > n_free(cache)) {
        return too_few_pages(s, cache, n_positions);
    }
    if (copies) {
        MZ_TRY(own_page(s, cache, &pages[have - 1]));
    }
    for (; have < need; have++) {
        pages[have] = take_page(cache);
        cache->table_changed = true;
    }
    cache->n_positions[sequence] = n_positions;
    return MZ_OK;
}

void mz_kv_cache_truncate(mz_kv_cache *cache, int64_t sequence, int64_t n_positions) {
    const int64_t n = n_positions > 0 ? n_positions : 0;
    if (n >= cache->n_positions[sequence]) {
        return;
    }
    const int32_t *pages = pages_of_sequence(cache, sequence);
    for (int64_t i = pages_of(cache->n_positions[sequence]) - 1; i >= pages_of(n); i--) {
        leave_page(cache, pages[i]);
    }
    cache->n_positions[sequence] = n;
}

void mz_kv_cache_fork(mz_kv_cache *cache, int64_t from, int64_t to) {
    if (from == to) {
        return;
    }
    const int32_t *pages = pages_of_sequence(cache, from);
    const int64_t n = pages_of(cache->n_positions[from]);
    mz_kv_cache_truncate(cache, to, 0);
    for (int64_t i = 0; i < n; i++) {
        cache->n_users[pages[i]]++;
    }
    memcpy(pages_of_sequence(cache, to), pages, (size_t)n * sizeof *pages);
    cache->n_positions[to] = cache->n_positions[from];
    cache->table_changed = true;
}

static bool rotates(const mz_kv_cache *cache, const mz_rope_table *const *ropes) {
    for (int64_t l = 0; l < cache->config.n_layers && ropes != NULL; l++) {
        if (ropes[l] != NULL) {
            return true;
        }
    }
    return false;
}

/* Rotates keys of pages [begin, end) of the sequence back by n positions; no pages: only checks. */
static mz_status rotate(mz_stream *s, const mz_kv_cache *cache, int64_t sequence, int64_t begin,
                        int64_t end, int64_t n, const mz_rope_table *const *ropes) {
    for (int64_t l = 0; l < cache->config.n_layers && ropes != NULL; l++) {
        if (ropes[l] != NULL) {
            const mz_kv_layer layer = mz_kv_cache_layer(cache, l);
            MZ_TRY(mz_op_kv_rotate(s, &layer, sequence, begin, end - begin, ropes[l], n));
        }
    }
    return MZ_OK;
}

/* Whether there are pages for copies of the shared ones of [end, n_pages), once [begin, end) are
 * left. */
static bool can_own(const mz_kv_cache *cache, const int32_t *pages, int64_t begin, int64_t end,
                    int64_t n_pages) {
    int64_t n = n_free(cache);
    for (int64_t i = begin; i < n_pages; i++) {
        const bool shared = cache->n_users[pages[i]] > 1;
        n += i < end && !shared;
        n -= i >= end && shared;
    }
    return n >= 0;
}

mz_status mz_kv_cache_shift(mz_stream *s, mz_kv_cache *cache, int64_t sequence, int64_t first,
                            int64_t n, const mz_rope_table *const *ropes) {
    const int64_t n_before = cache->n_positions[sequence];
    if (first < 0 || n < 0 || first % MZ_KV_PAGE != 0 || n % MZ_KV_PAGE != 0 || first > n_before ||
        n > n_before - first) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "KV cache: cannot forget %lld positions from %lld on: expected multiples of "
                       "%d within %lld positions",
                       (long long)n, (long long)first, (int)MZ_KV_PAGE, (long long)n_before);
    }
    int32_t *pages = pages_of_sequence(cache, sequence);
    const int64_t begin = first / MZ_KV_PAGE;
    const int64_t end = begin + n / MZ_KV_PAGE;
    const int64_t n_pages = pages_of(n_before);
    MZ_TRY(rotate(s, cache, sequence, 0, 0, n, ropes));
    if (n == 0) {
        return MZ_OK;
    }
    const bool owns = rotates(cache, ropes);
    if (owns && !can_own(cache, pages, begin, end, n_pages)) {
        return too_few_pages(s, cache, n_before - n);
    }
    for (int64_t i = begin; i < end; i++) {
        leave_page(cache, pages[i]);
    }
    memmove(pages + begin, pages + end, (size_t)(n_pages - end) * sizeof *pages);
    cache->n_positions[sequence] = n_before - n;
    cache->table_changed = true;
    for (int64_t i = begin; i < n_pages - (end - begin) && owns; i++) {
        MZ_TRY(own_page(s, cache, &pages[i]));
    }
    MZ_TRY(mz_kv_cache_sync(s, cache));
    return rotate(s, cache, sequence, begin, n_pages - (end - begin), n, ropes);
}

mz_status mz_kv_cache_sync(mz_stream *s, mz_kv_cache *cache) {
    if (!cache->table_changed) {
        return MZ_OK;
    }
    cache->table_changed = false;
    if (cache->device_table == cache->table) {
        return MZ_OK;
    }
    return s->backend->upload(s, cache->device_table, cache->table, table_bytes(&cache->config));
}

mz_kv_layer mz_kv_cache_layer(const mz_kv_cache *cache, int64_t layer) {
    mz_kv_layer out = layer_of(&cache->config);
    if (cache->data != NULL) {
        out.data =
            (char *)cache->data + (size_t)(layer * cache->config.n_pages) * cache->page_bytes;
    }
    out.page_table = cache->device_table;
    return out;
}
