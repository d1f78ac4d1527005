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

static mz_status measure(mz_stream *s, mz_kv_cache *c) {
    const mz_kv_layer layer = layer_of(&c->config);
    mz_kv_layout layout = {0};
    size_t n = 0;
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, &layer, &layout));
    c->page_bytes = layout.page_bytes;
    if (!mz_size_mul(layout.page_bytes, (size_t)c->config.n_pages, &n) ||
        !mz_size_mul(n, (size_t)c->config.n_layers, &c->bytes)) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                       "KV cache: %lld pages are more than memory can address",
                       (long long)c->config.n_pages);
    }
    return MZ_OK;
}

static size_t table_bytes(const mz_kv_cache_config *c) {
    return (size_t)c->max_sequences * (size_t)c->max_pages_per_sequence * sizeof(int32_t);
}

static mz_status allocate(mz_stream *s, mz_kv_cache *c) {
    void *data = NULL;
    void *table = NULL;
    void *device_table = NULL;
    void *n_positions = NULL;
    MZ_TRY(s->backend->buffer_alloc(s, c->bytes, &data));
    c->data = data;
    MZ_TRY(mz_calloc(s->ctx, 1, table_bytes(&c->config), "page table", &table));
    c->table = table;
    MZ_TRY(mz_calloc(s->ctx, (size_t)c->config.max_sequences, sizeof(int64_t), "sequence lengths",
                     &n_positions));
    c->n_positions = n_positions;
    if (s->backend->host_memory) {
        c->device_table = c->table;
        return MZ_OK;
    }
    MZ_TRY(s->backend->buffer_alloc(s, table_bytes(&c->config), &device_table));
    c->device_table = device_table;
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
    }
    *cache = (mz_kv_cache){0};
}

void mz_kv_cache_reset(mz_kv_cache *cache) {
    memset(cache->n_positions, 0, (size_t)cache->config.max_sequences * sizeof(int64_t));
    cache->n_used = 0;
}

mz_status mz_kv_cache_extend(mz_stream *s, mz_kv_cache *cache, int64_t sequence,
                             int64_t n_positions) {
    const mz_kv_cache_config *c = &cache->config;
    int64_t have = (cache->n_positions[sequence] + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    const int64_t need = (n_positions + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    if (need > c->max_pages_per_sequence || need - have > c->n_pages - cache->n_used) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                       "KV cache: %lld positions do not fit (%lld of %lld pages are used)",
                       (long long)n_positions, (long long)cache->n_used, (long long)c->n_pages);
    }
    for (; have < need; have++) {
        cache->table[sequence * c->max_pages_per_sequence + have] = (int32_t)cache->n_used++;
        cache->table_changed = true;
    }
    if (n_positions > cache->n_positions[sequence]) {
        cache->n_positions[sequence] = n_positions;
    }
    return MZ_OK;
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
            (char *)cache->data + (size_t)layer * (size_t)cache->config.n_pages * cache->page_bytes;
    }
    out.page_table = cache->device_table;
    return out;
}
