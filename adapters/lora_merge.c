/* W + scale * B A into a checkpoint. */
#include <string.h>

#include "adapters/lora_internal.h"
#include "core/safetensors_write.h"

/* Whether the tensor is the pair's W: its name, or that with ".weight". */
static bool is_weight_of(const char *tensor, const mz_lora_pair *pair) {
    const size_t n = strlen(pair->matrix->name);
    return pair->is_target && strncmp(tensor, pair->matrix->name, n) == 0 &&
           (tensor[n] == '\0' || strcmp(tensor + n, ".weight") == 0);
}

/* Host copies of A and B, and rows to add in. */
typedef struct work {
    float *a, *b;
    float *row, *sum; /* [d_in] */
} work;

static mz_status merge_rows(mz_lora *lora, const mz_lora_pair *pair, const mz_tensor *w, work *k,
                            uint8_t *out) {
    const mz_dtype_info *info = mz_dtype_get(w->dtype);
    const int64_t rank = lora->config.rank;
    const int64_t n = pair->d_in;
    const size_t row_bytes = (size_t)n * (size_t)info->block_bytes;
    const float scale = mz_lora_config_scale(&lora->config);
    MZ_TRY(mz_lora_get(lora, &pair->a, k->a));
    MZ_TRY(mz_lora_get(lora, &pair->b, k->b));
    for (int64_t i = 0; i < pair->d_out; i++) {
        info->to_f32(k->row, (const uint8_t *)w->data + (size_t)i * row_bytes, n);
        memset(k->sum, 0, (size_t)n * sizeof *k->sum);
        for (int64_t r = 0; r < rank; r++) {
            const float factor = k->b[i * rank + r];
            for (int64_t j = 0; j < n; j++) {
                k->sum[j] += factor * k->a[r * n + j];
            }
        }
        for (int64_t j = 0; j < n; j++) {
            k->row[j] += scale * k->sum[j];
        }
        info->from_f32(out + (size_t)i * row_bytes, k->row, n);
    }
    return MZ_OK;
}

/* The changed matrix, as `w` is stored. *out is released with mz_free. */
static mz_status merge_one(mz_lora *lora, const mz_lora_pair *pair, const mz_tensor *w,
                           void **out) {
    const size_t n_a = (size_t)mz_tensor_n_elements(&pair->a);
    const size_t n_b = (size_t)mz_tensor_n_elements(&pair->b);
    const size_t n_row = (size_t)pair->d_in;
    void *memory = NULL;
    void *merged = NULL;
    MZ_TRY(mz_calloc(lora->ctx, n_a + n_b + 2 * n_row, sizeof(float), "merging", &memory));
    mz_status status =
        mz_calloc(lora->ctx, (size_t)mz_tensor_n_elements(w),
                  (size_t)mz_dtype_get(w->dtype)->block_bytes, pair->matrix->name, &merged);
    if (status == MZ_OK) {
        float *f = memory;
        work k = {.a = f, .b = f + n_a, .row = f + n_a + n_b, .sum = f + n_a + n_b + n_row};
        status = merge_rows(lora, pair, w, &k, merged);
    }
    mz_free(lora->ctx, memory);
    if (status != MZ_OK) {
        mz_free(lora->ctx, merged);
        return status;
    }
    *out = merged;
    return MZ_OK;
}

/* All tensors of the checkpoint; `merged` [n] receives what has to be released. */
static mz_status make_items(mz_lora *lora, int64_t n, mz_safetensors_item *items, void **merged) {
    mz_weights *weights = lora->base->weights;
    for (int64_t i = 0; i < n; i++) {
        mz_safetensors_item *item = &items[i];
        MZ_TRY(mz_weights_at(weights, i, &item->name, &item->tensor));
        if (!mz_weights_find(weights, item->name, &item->tensor)) {
            return mz_fail(&lora->ctx->error, MZ_ERR_NOMEM, "%s: out of memory", item->name);
        }
        const mz_dtype_info *info = mz_dtype_get(item->tensor.dtype);
        if (info->block_len > 1) {
            return mz_fail(&lora->ctx->error, MZ_ERR_UNSUPPORTED,
                           "%s is %s, which safetensors files do not have", item->name, info->name);
        }
        item->dtype = item->tensor.dtype;
        for (int64_t k = 0; k < lora->n_pairs && merged[i] == NULL; k++) {
            if (is_weight_of(item->name, &lora->pairs[k])) {
                MZ_TRY(merge_one(lora, &lora->pairs[k], &item->tensor, &merged[i]));
                item->tensor.data = merged[i];
            }
        }
    }
    return MZ_OK;
}

mz_status mz_lora_merge(mz_lora *lora, const char *path) {
    void *items = NULL;
    void *memory = NULL;
    if (lora->base->weights == NULL || lora->base->parameters != NULL) {
        return mz_fail(&lora->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: the base is no checkpoint as it was loaded", path);
    }
    const int64_t n = mz_weights_count(lora->base->weights);
    MZ_TRY(mz_calloc(lora->ctx, (size_t)n, sizeof(mz_safetensors_item), "tensors", &items));
    mz_status status = mz_calloc(lora->ctx, (size_t)n, sizeof(void *), "tensors", &memory);
    void **merged = memory;
    if (status == MZ_OK) {
        status = make_items(lora, n, items, merged);
    }
    if (status == MZ_OK) {
        status = mz_safetensors_write(lora->ctx, path, items, n, NULL, 0);
    }
    for (int64_t i = 0; i < n && merged != NULL; i++) {
        mz_free(lora->ctx, merged[i]);
    }
    mz_free(lora->ctx, merged);
    mz_free(lora->ctx, items);
    return status;
}
