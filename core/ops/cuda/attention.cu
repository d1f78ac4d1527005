#include "core/ops/cuda/cuda_device.cuh"
#include "core/ops/cuda/cuda_internal.h"

enum {
    WRITE_THREADS = 128,
    N_WARPS = 4, /* of an attention block */
};

/* The scalars of a KV cache's layer, as in mz_kv_layer and mz_kv_layout; strides and offsets in
 * elements. */
struct cache_shape {
    int64_t page_stride, table_stride;
    int64_t head_stride, values; /* of a kv head in its page, of its values in that */
    int64_t n_kv_heads, head_dim, head_dim_v, value_stride;
};

struct write_shape {
    cache_shape cache;
    int64_t ld_k, ld_v;
};

struct attention_shape {
    cache_shape cache;
    int64_t n_rows, n_heads;
    int64_t ld_y, ld_q;
    int window; /* 0: none */
    float scale;
};

static mz_status shape_of(mz_stream *s, const mz_kv_layer *cache, cache_shape *out) {
    mz_kv_layout layout = {};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &layout));
    if (cache->dtype != MZ_DTYPE_F32) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "cuda: a KV cache of %s, expected f32",
                       mz_dtype_get(cache->dtype)->name);
    }
    cache_shape shape = {};
    shape.page_stride = (int64_t)(layout.page_bytes / sizeof(float));
    shape.table_stride = cache->table_stride;
    shape.head_stride = (int64_t)(layout.head_bytes / sizeof(float));
    shape.values = (int64_t)(layout.values / sizeof(float));
    shape.n_kv_heads = cache->n_kv_heads;
    shape.head_dim = cache->head_dim;
    shape.head_dim_v = layout.head_dim_v;
    shape.value_stride = layout.value_stride;
    *out = shape;
    return MZ_OK;
}

/* Offset of the page that holds `position` of `sequence`. */
static __device__ __forceinline__ int64_t page_offset(const int32_t *page_table, int32_t sequence,
                                                      int32_t position, const cache_shape &shape) {
    return page_table[sequence * shape.table_stride + position / MZ_KV_PAGE] * shape.page_stride;
}

/* keys[h][i][p] = k[r][h][i] and values[h][p][i] = v[r][h][i], p the row's place in its page. One
 * block owns a row. Not measured on a GPU. Twin: mz_ref_kv_write. Test:
 * tests/cudasim/test_cuda_ops. */
static __global__ void __launch_bounds__(WRITE_THREADS)
    kv_write_kernel(float *pages, const float *k, const float *v, const int32_t *page_table,
                    const int32_t *sequence, const int32_t *position, write_shape shape) {
    const int64_t row = blockIdx.x;
    const int64_t place = position[row] % MZ_KV_PAGE;
    const int64_t d = shape.cache.head_dim;
    const int64_t d_v = shape.cache.head_dim_v;
    float *page = pages + page_offset(page_table, sequence[row], position[row], shape.cache);
    for (int64_t e = threadIdx.x; e < shape.cache.n_kv_heads * d; e += WRITE_THREADS) {
        page[e / d * shape.cache.head_stride + e % d * MZ_KV_PAGE + place] =
            k[row * shape.ld_k + e];
    }
    page += shape.cache.values + place * shape.cache.value_stride;
    for (int64_t e = threadIdx.x; e < shape.cache.n_kv_heads * d_v; e += WRITE_THREADS) {
        page[e / d_v * shape.cache.head_stride + e % d_v] = v[row * shape.ld_v + e];
    }
}

mz_status mz_cuda_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                           const mz_tensor *v, const mz_rows *rows) {
    if (rows->n_rows == 0) {
        return MZ_OK;
    }
    write_shape shape = {};
    MZ_TRY(shape_of(s, cache, &shape.cache));
    shape.ld_k = k->ld;
    shape.ld_v = v->ld;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "kv_write", (size_t)rows->n_rows, 1, WRITE_THREADS, &config));
    const cudaError_t code = cudaLaunchKernelEx(
        &config, kv_write_kernel, (float *)cache->data, (const float *)k->data,
        (const float *)v->data, cache->page_table, rows->sequence, rows->position, shape);
    return mz_cuda_check(s, code, "kv_write");
}

/* What the four warps of a block keep in shared memory, each for itself. */
struct attention_scratch {
    float query[N_WARPS][MZ_MAX_HEAD_DIM];
    float weights[N_WARPS][MZ_KV_PAGE]; /* exp(score - maximum) of one page */
};

/* The block's shared memory; in a plain function for the reason given at shared_tiles in linear.cu.
 */
static __device__ __forceinline__ attention_scratch *shared_scratch() {
    __shared__ attention_scratch scratch;
    return &scratch;
}

/* y = sum_j p_j v_j with p = softmax over the positions j of the window up to `position` of
 * scale * q k_j, taken one page at a time with a running maximum m, total t and sum a: on a new
 * maximum m', t and a are scaled by exp(m - m'). One warp owns a row and a head, four warps a block
 * that share nothing. For the scores a lane owns positions l and l
 * + 32 of the page (keys are stored transposed, so that the lanes' reads are neighbours); for the
 * sum it owns elements l, l + 32, ... of the head, DIMS of them at most: 32 * DIMS >= head_dim_v.
 * Shared: attention_scratch. Places of a page that the row does not see may be read but their
 * scores are dropped, and their values are not touched. The order of summation depends on the row's
 * position alone. One warp a row reads each page once for each row; grouping rows is left until it
 * is measured on a GPU. Twin: mz_ref_attention. Test: tests/cudasim/test_cuda_ops. */
template <int DIMS>
static __global__ void __launch_bounds__(N_WARPS *MZ_CUDA_WARP)
    attention_kernel(float *y, const float *q, const float *pages, const int32_t *page_table,
                     const int32_t *sequence, const int32_t *position, attention_shape shape) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const int warp = (int)threadIdx.x / MZ_CUDA_WARP;
    const int64_t item = (int64_t)blockIdx.x * N_WARPS + warp;
    const int64_t row = item / shape.n_heads;
    const int64_t head = item % shape.n_heads;
    if (row >= shape.n_rows) {
        return;
    }
    float *query = shared_scratch()->query[warp];
    float *weights = shared_scratch()->weights[warp];
    const int64_t kv_head = head / (shape.n_heads / shape.cache.n_kv_heads);
    const int head_dim = (int)shape.cache.head_dim;
    const int head_dim_v = (int)shape.cache.head_dim_v;
    const int value_stride = (int)shape.cache.value_stride;
    for (int i = lane; i < head_dim; i += MZ_CUDA_WARP) {
        query[i] = q[row * shape.ld_q + head * head_dim + i];
    }
    __syncwarp();
    const int n_keys = position[row] + 1;
    float max = -INFINITY;
    float total = 0.0f;
    float acc[DIMS] = {};
    const int begin = shape.window > 0 && shape.window < n_keys ? n_keys - shape.window : 0;
    for (int first = begin / MZ_KV_PAGE * MZ_KV_PAGE; first < n_keys; first += MZ_KV_PAGE) {
        const int n = n_keys - first < MZ_KV_PAGE ? n_keys - first : MZ_KV_PAGE;
        const int from = first < begin ? begin - first : 0;
        const float *keys = pages + page_offset(page_table, sequence[row], first, shape.cache) +
                            kv_head * shape.cache.head_stride;
        const float *values = keys + shape.cache.values;
        float low = 0.0f;
        float high = 0.0f;
        for (int i = 0; i < head_dim; i++) {
            low += query[i] * keys[i * MZ_KV_PAGE + lane];
            high += query[i] * keys[i * MZ_KV_PAGE + lane + MZ_CUDA_WARP];
        }
        low = lane >= from && lane < n ? low * shape.scale : -INFINITY;
        high =
            lane + MZ_CUDA_WARP >= from && lane + MZ_CUDA_WARP < n ? high * shape.scale : -INFINITY;
        const float new_max = fmaxf(max, mz_cuda_warp_max(fmaxf(low, high)));
        const float rescale = expf(max - new_max);
        low = expf(low - new_max);
        high = expf(high - new_max);
        total = total * rescale + mz_cuda_warp_sum(low + high);
        max = new_max;
        weights[lane] = low;
        weights[lane + MZ_CUDA_WARP] = high;
        __syncwarp();
        for (int d = 0; d < DIMS; d++) {
            const int i = lane + d * MZ_CUDA_WARP;
            if (i < head_dim_v) {
                float sum = acc[d] * rescale;
                for (int j = from; j < n; j++) {
                    sum += weights[j] * values[j * value_stride + i];
                }
                acc[d] = sum;
            }
        }
        __syncwarp(); /* the next page's weights replace these */
    }
    for (int d = 0; d < DIMS; d++) {
        const int i = lane + d * MZ_CUDA_WARP;
        if (i < head_dim_v) {
            y[row * shape.ld_y + head * head_dim_v + i] = acc[d] / total;
        }
    }
}

mz_status mz_cuda_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                            const mz_kv_layer *cache, const mz_rows *rows,
                            const mz_attention_rule *rule) {
    const int64_t n_heads = mz_tensor_n_cols(q) / cache->head_dim;
    if (rows->n_rows == 0 || n_heads == 0) {
        return MZ_OK;
    }
    size_t n_items = 0;
    if (!mz_size_mul((size_t)rows->n_rows, (size_t)n_heads, &n_items)) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT, "cuda: attention: %lld rows of %lld heads",
                       (long long)rows->n_rows, (long long)n_heads);
    }
    attention_shape shape = {};
    MZ_TRY(shape_of(s, cache, &shape.cache));
    shape.n_rows = rows->n_rows;
    shape.n_heads = n_heads;
    shape.ld_y = y->ld;
    shape.ld_q = q->ld;
    shape.scale = rule->scale;
    shape.window = rule->window < INT32_MAX ? (int)rule->window : 0; /* none is that long */
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "attention", mz_cuda_ceil_div(n_items, N_WARPS), 1,
                        N_WARPS * MZ_CUDA_WARP, &config));
    void (*kernel)(float *, const float *, const float *, const int32_t *, const int32_t *,
                   const int32_t *, attention_shape) =
        attention_kernel<MZ_MAX_HEAD_DIM / MZ_CUDA_WARP>;
    if (shape.cache.head_dim_v <= 32) {
        kernel = attention_kernel<1>;
    } else if (shape.cache.head_dim_v <= 64) {
        kernel = attention_kernel<2>;
    } else if (shape.cache.head_dim_v <= 128) {
        kernel = attention_kernel<4>;
    }
    const cudaError_t code = cudaLaunchKernelEx(
        &config, kernel, (float *)y->data, (const float *)q->data, (const float *)cache->data,
        cache->page_table, rows->sequence, rows->position, shape);
    return mz_cuda_check(s, code, "attention");
}
