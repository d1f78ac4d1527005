#include "apps/expert_usage.h"

#include <math.h>
#include <string.h>

mz_status mz_expert_usage_open(mz_context *ctx, int64_t n_layers, int64_t n_experts,
                               int64_t n_blocks, mz_expert_usage *out) {
    void *memory = NULL;
    *out = (mz_expert_usage){
        .ctx = ctx, .n_layers = n_layers, .n_experts = n_experts, .n_blocks = n_blocks};
    MZ_TRY(mz_calloc(ctx, (size_t)n_layers * (size_t)n_blocks, (size_t)n_experts * sizeof(int64_t),
                     "counts of experts", &memory));
    out->counts = memory;
    return MZ_OK;
}

void mz_expert_usage_close(mz_expert_usage *u) {
    if (u->ctx != NULL) {
        mz_free(u->ctx, u->counts);
    }
    *u = (mz_expert_usage){0};
}

static int64_t *count_at(const mz_expert_usage *u, int64_t layer, int64_t block, int64_t expert) {
    return &u->counts[(layer * u->n_blocks + block) * u->n_experts + expert];
}

mz_status mz_expert_usage_count(mz_expert_usage *u, int64_t layer, const int32_t *ids,
                                int64_t n_points, int64_t top_k) {
    if (layer < 0 || layer >= u->n_layers) {
        return mz_fail(&u->ctx->error, MZ_ERR_FORMAT, "choices of layer %lld, expected 0 to %lld",
                       (long long)layer, (long long)u->n_layers - 1);
    }
    for (int64_t i = 0; i < n_points * top_k; i++) {
        if (ids[i] == -1) {
            continue; /* a slot that is not used */
        }
        if (ids[i] < 0 || ids[i] >= u->n_experts) {
            return mz_fail(&u->ctx->error, MZ_ERR_FORMAT,
                           "layer %lld: expert %lld was chosen, expected 0 to %lld",
                           (long long)layer, (long long)ids[i], (long long)u->n_experts - 1);
        }
        /* From the end, so that series of other lengths end together. */
        const int64_t before_end = n_points - 1 - i / top_k;
        const int64_t block = u->n_blocks - 1 - before_end * u->n_blocks / n_points;
        (*count_at(u, layer, block, ids[i]))++;
    }
    return MZ_OK;
}

static mz_status record(void *self, mz_stream *s, int layer, const char *name,
                        const mz_tensor *tensor) {
    mz_expert_usage *u = self;
    void *memory = NULL;
    if (strcmp(name, "experts") != 0) {
        return MZ_OK;
    }
    const size_t n_row_bytes = (size_t)tensor->shape[1] * sizeof(int32_t);
    MZ_TRY(mz_alloc(u->ctx, (size_t)tensor->shape[0] * n_row_bytes, "chosen experts", &memory));
    char *ids = memory;
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < tensor->shape[0] && status == MZ_OK; i++) {
        const char *row = (const char *)tensor->data + (size_t)(i * tensor->ld) * sizeof(int32_t);
        status = s->backend->download(s, ids + (size_t)i * n_row_bytes, row, n_row_bytes);
    }
    if (status == MZ_OK) {
        status = mz_expert_usage_count(u, layer, memory, tensor->shape[0], tensor->shape[1]);
    }
    mz_free(u->ctx, memory);
    return status;
}

mz_status mz_expert_usage_add(mz_expert_usage *u, mz_forecaster *forecaster, const float *values,
                              int64_t n_values) {
    const mz_trace trace = {.record = record, .self = u, .inside_moe = true};
    MZ_TRY(mz_forecaster_trace(forecaster, values, n_values, &trace));
    u->n_series++;
    u->n_points += n_values;
    return MZ_OK;
}

int64_t mz_expert_usage_total(const mz_expert_usage *u, int64_t layer, int64_t expert) {
    int64_t total = 0;
    for (int64_t b = 0; b < u->n_blocks; b++) {
        total += *count_at(u, layer, b, expert);
    }
    return total;
}

static int64_t layer_total(const mz_expert_usage *u, int64_t layer) {
    int64_t total = 0;
    for (int64_t e = 0; e < u->n_experts; e++) {
        total += mz_expert_usage_total(u, layer, e);
    }
    return total;
}

mz_expert_balance mz_expert_usage_balance(const mz_expert_usage *u, int64_t layer) {
    mz_expert_balance out = {0};
    const int64_t total = layer_total(u, layer);
    double entropy = 0;
    for (int64_t e = 0; e < u->n_experts && total > 0; e++) {
        const double share = (double)mz_expert_usage_total(u, layer, e) / (double)total;
        if (share > out.largest_share) {
            out.largest_share = share;
            out.largest = e;
        }
        entropy -= share > 0 ? share * log(share) : 0;
        out.n_dead += share == 0;
    }
    out.effective = total > 0 ? exp(entropy) : 0;
    return out;
}

void mz_expert_usage_by_layer(const mz_expert_usage *u, double *shares) {
    for (int64_t l = 0; l < u->n_layers; l++) {
        const double total = (double)layer_total(u, l);
        for (int64_t e = 0; e < u->n_experts; e++) {
            const double share = (double)mz_expert_usage_total(u, l, e) / total;
            shares[l * u->n_experts + e] = total > 0 ? share : NAN;
        }
    }
}

void mz_expert_usage_by_block(const mz_expert_usage *u, int64_t layer, double *shares) {
    for (int64_t b = 0; b < u->n_blocks; b++) {
        double total = 0;
        for (int64_t e = 0; e < u->n_experts; e++) {
            total += (double)*count_at(u, layer, b, e);
        }
        for (int64_t e = 0; e < u->n_experts; e++) {
            const double share = (double)*count_at(u, layer, b, e) / total;
            shares[e * u->n_blocks + b] = total > 0 ? share : NAN;
        }
    }
}
