#include "adapters/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapters/lora_internal.h"
#include "core/rng.h"

void mz_lora_tensor_name(char out[MZ_LORA_NAME_BYTES], const mz_loaded_matrix *matrix, char which) {
    (void)snprintf(out, MZ_LORA_NAME_BYTES, "base_model.model.%s.lora_%c.weight", matrix->name,
                   which);
}

mz_status mz_lora_put(mz_lora *lora, const mz_tensor *t, const float *values) {
    return lora->stream.backend->upload(&lora->stream, t->data, values,
                                        (size_t)mz_tensor_n_elements(t) * sizeof(float));
}

mz_status mz_lora_get(mz_lora *lora, const mz_tensor *t, float *out) {
    return lora->stream.backend->download(&lora->stream, out, t->data,
                                          (size_t)mz_tensor_n_elements(t) * sizeof(float));
}

void mz_lora_shape(const mz_loaded_matrix *matrix, int64_t *d_out, int64_t *d_in) {
    const bool is_expert = matrix->bank != NULL;
    *d_out = is_expert ? matrix->bank->d_out : matrix->linear->weight.shape[0];
    *d_in = is_expert ? matrix->bank->d_in : matrix->linear->weight.shape[1];
}

/* ---- which linears ---- */

static bool has(const mz_lora *lora, const mz_loaded_matrix *matrix) {
    return mz_lora_config_has(&lora->config, matrix->name);
}

static void add_pair(mz_lora *lora, const mz_loaded_matrix *m) {
    mz_lora_pair *pair = &lora->pairs[lora->n_pairs++];
    *pair = (mz_lora_pair){.matrix = m, .is_target = has(lora, m)};
    mz_lora_shape(m, &pair->d_out, &pair->d_in);
}

/* The experts from matrix `first` on. */
static void add_bank(mz_lora *lora, const mz_loaded_matrix *first) {
    mz_linear_bank *bank = first->bank;
    bool any = false;
    for (int64_t e = 0; e < bank->n_experts; e++) {
        any = any || has(lora, first + e);
    }
    if (!any) {
        return;
    }
    for (int64_t e = 0; e < bank->n_experts; e++) {
        add_pair(lora, first + e);
    }
    lora->banks[lora->n_banks++].bank = bank;
}

static mz_status choose_linears(mz_lora *lora) {
    const mz_loader *base = lora->base;
    const size_t n = (size_t)base->n_matrices;
    void *pairs = NULL;
    void *linears = NULL;
    void *banks = NULL;
    MZ_TRY(mz_calloc(lora->ctx, n, sizeof(mz_lora_pair), "adapter", &pairs));
    lora->pairs = pairs;
    MZ_TRY(mz_calloc(lora->ctx, n, sizeof(mz_lora_linear), "adapter", &linears));
    lora->linears = linears;
    MZ_TRY(mz_calloc(lora->ctx, n, sizeof(mz_lora_bank), "adapter", &banks));
    lora->banks = banks;
    for (int64_t i = 0; i < base->n_matrices; i++) {
        const mz_loaded_matrix *m = &base->matrices[i];
        if (m->bank != NULL && m->expert == 0) {
            add_bank(lora, m);
        } else if (m->linear != NULL && has(lora, m)) {
            add_pair(lora, m);
            lora->linears[lora->n_linears++].linear = m->linear;
        }
    }
    return MZ_OK;
}

/* ---- memory ---- */

/* A table of the experts' matrices, of the pairs from `first` on. */
static mz_status take_table(mz_stream *s, const mz_lora_pair *first, char which,
                            mz_linear_bank *out) {
    const mz_tensor *shape = which == 'A' ? &first->a : &first->b;
    const int64_t n = first->matrix->bank->n_experts;
    void *table = NULL;
    MZ_TRY(mz_stream_take_bytes(s, (size_t)n * sizeof(void *), "adapter's experts", &table));
    for (int64_t e = 0; e < n && !s->arena.measure; e++) {
        const void *data = which == 'A' ? first[e].a.data : first[e].b.data;
        MZ_TRY(s->backend->upload(s, (unsigned char *)table + (size_t)e * sizeof data, &data,
                                  sizeof data));
    }
    *out = (mz_linear_bank){.dtype = MZ_DTYPE_F32,
                            .n_experts = n,
                            .d_out = shape->shape[0],
                            .d_in = shape->shape[1],
                            .ld = shape->ld,
                            .data = table};
    return MZ_OK;
}

/* Everything that lies in the arena; run once to measure and once to take. */
static mz_status take_all(mz_lora *lora, mz_stream *s) {
    const int64_t rank = lora->config.rank;
    const float scale = mz_lora_config_scale(&lora->config);
    int64_t n_linears = 0;
    int64_t n_banks = 0;
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        mz_lora_pair *p = &lora->pairs[i];
        MZ_TRY(mz_stream_take(s, rank, p->d_in, "adapter's A", &p->a));
        MZ_TRY(mz_stream_take(s, p->d_out, rank, "adapter's B", &p->b));
    }
    for (int64_t i = 0; i < lora->n_pairs;) {
        const mz_lora_pair *p = &lora->pairs[i];
        if (p->matrix->linear != NULL) {
            lora->linears[n_linears++].delta =
                (mz_low_rank){.a.weight = p->a, .b.weight = p->b, .scale = scale};
            i++;
            continue;
        }
        mz_low_rank_bank delta = {.scale = scale};
        MZ_TRY(take_table(s, p, 'A', &delta.a));
        MZ_TRY(take_table(s, p, 'B', &delta.b));
        lora->banks[n_banks++].delta = delta;
        i += p->matrix->bank->n_experts;
    }
    return MZ_OK;
}

static mz_status put_zeros(mz_lora *lora) {
    int64_t most = 0;
    void *zeros = NULL;
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        const int64_t n_a = mz_tensor_n_elements(&lora->pairs[i].a);
        const int64_t n_b = mz_tensor_n_elements(&lora->pairs[i].b);
        most = n_a > most ? n_a : most;
        most = n_b > most ? n_b : most;
    }
    MZ_TRY(mz_calloc(lora->ctx, (size_t)most, sizeof(float), "adapter's zeros", &zeros));
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < lora->n_pairs && status == MZ_OK; i++) {
        status = mz_lora_put(lora, &lora->pairs[i].a, zeros);
        if (status == MZ_OK) {
            status = mz_lora_put(lora, &lora->pairs[i].b, zeros);
        }
    }
    mz_free(lora->ctx, zeros);
    return status;
}

static mz_status take_memory(mz_lora *lora, bool trained) {
    const mz_backend *backend = lora->base->stream.backend;
    mz_stream measure;
    mz_stream_open_measure(lora->ctx, backend, &measure);
    MZ_TRY(take_all(lora, &measure));
    const size_t bytes = measure.arena.peak;
    MZ_TRY(mz_stream_open(lora->ctx, backend, bytes, &lora->stream));
    MZ_TRY(take_all(lora, &lora->stream));
    MZ_TRY(put_zeros(lora));
    if (!trained) {
        return MZ_OK;
    }
    MZ_TRY(backend->buffer_alloc(&lora->stream, bytes, &lora->gradients));
    memset(lora->gradients, 0, bytes);
    return MZ_OK;
}

static mz_status prepare(mz_lora *lora, bool trained) {
    mz_error *err = &lora->ctx->error;
    const mz_backend *backend = lora->base->stream.backend;
    MZ_TRY(mz_lora_config_check(err, &lora->config));
    if (trained && !backend->host_memory) {
        return mz_fail(err, MZ_ERR_UNSUPPORTED, "backend %s: training needs host memory",
                       backend->name);
    }
    MZ_TRY(choose_linears(lora));
    if (lora->n_pairs == 0) {
        return mz_fail(err, MZ_ERR_MISSING, "adapter: target \"%s\"%s is no linear of the base",
                       lora->config.targets[0], lora->config.n_targets > 1 ? " or another" : "");
    }
    return take_memory(lora, trained);
}

mz_status mz_lora_prepare(mz_context *ctx, const mz_loader *base, mz_lora_config *config,
                          bool trained, mz_lora **out) {
    void *memory = NULL;
    const mz_status allocated = mz_calloc(ctx, 1, sizeof(mz_lora), "adapter", &memory);
    if (allocated != MZ_OK) {
        mz_lora_config_free(ctx, config);
        return allocated;
    }
    mz_lora *lora = memory;
    lora->ctx = ctx;
    lora->base = base;
    lora->config = *config;
    *config = (mz_lora_config){0};
    const mz_status status = prepare(lora, trained);
    if (status != MZ_OK) {
        mz_lora_destroy(lora);
        return status;
    }
    *out = lora;
    return MZ_OK;
}

/* ---- fresh values ---- */

/* Each target must mean something: a name that is mistyped would train nothing. */
static mz_status check_targets(mz_context *ctx, const mz_loader *base,
                               const mz_lora_config *config) {
    for (int64_t i = 0; i < config->n_targets; i++) {
        bool found = false;
        for (int64_t k = 0; k < base->n_matrices && !found; k++) {
            found = mz_lora_config_target_is(config, i, base->matrices[k].name);
        }
        if (!found) {
            return mz_fail(&ctx->error, MZ_ERR_MISSING,
                           "adapter: target \"%s\" is no linear of the base", config->targets[i]);
        }
    }
    return MZ_OK;
}

static mz_status fresh_a(mz_lora *lora, const mz_lora_pair *pair, uint64_t seed) {
    char name[MZ_LORA_NAME_BYTES];
    void *memory = NULL;
    const int64_t n = mz_tensor_n_elements(&pair->a);
    const float bound = (float)(1.0 / sqrt((double)pair->d_in));
    mz_lora_tensor_name(name, pair->matrix, 'A');
    const uint64_t stream = mz_rng_stream_of(name);
    MZ_TRY(mz_alloc(lora->ctx, (size_t)n * sizeof(float), "adapter's A", &memory));
    float *values = memory;
    for (int64_t i = 0; i < n; i++) {
        values[i] = bound * (2.0f * mz_rng_uniform(seed, stream, (uint64_t)i) - 1.0f);
    }
    const mz_status status = mz_lora_put(lora, &pair->a, values);
    mz_free(lora->ctx, memory);
    return status;
}

static mz_status fill_fresh(mz_lora *lora, uint64_t seed, mz_parameters *parameters) {
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        if (lora->pairs[i].is_target) {
            MZ_TRY(fresh_a(lora, &lora->pairs[i], seed));
        }
    }
    return parameters != NULL ? mz_lora_list_parameters(lora, parameters) : MZ_OK;
}

mz_status mz_lora_create(mz_context *ctx, const mz_loader *base, const mz_lora_config *config,
                         uint64_t seed, mz_parameters *parameters, mz_lora **out) {
    mz_lora_config copy;
    mz_lora *lora = NULL;
    MZ_TRY(mz_lora_config_check(&ctx->error, config));
    MZ_TRY(check_targets(ctx, base, config));
    MZ_TRY(mz_lora_config_copy(ctx, config, &copy));
    MZ_TRY(mz_lora_prepare(ctx, base, &copy, parameters != NULL, &lora));
    const mz_status status = fill_fresh(lora, seed, parameters);
    if (status != MZ_OK) {
        mz_lora_destroy(lora);
        return status;
    }
    *out = lora;
    return MZ_OK;
}

/* ---- life ---- */

void mz_lora_destroy(mz_lora *lora) {
    if (lora == NULL) {
        return;
    }
    mz_lora_detach(lora);
    if (lora->gradients != NULL) {
        lora->stream.backend->buffer_free(&lora->stream, lora->gradients, lora->stream.arena.bound);
    }
    mz_stream_close(&lora->stream);
    mz_free(lora->ctx, lora->pairs);
    mz_free(lora->ctx, lora->linears);
    mz_free(lora->ctx, lora->banks);
    mz_lora_config_free(lora->ctx, &lora->config);
    mz_free(lora->ctx, lora);
}

void mz_lora_attach(mz_lora *lora) {
    for (int64_t i = 0; i < lora->n_linears && !lora->is_attached; i++) {
        mz_low_rank **end = &lora->linears[i].linear->deltas;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = &lora->linears[i].delta;
    }
    for (int64_t i = 0; i < lora->n_banks && !lora->is_attached; i++) {
        mz_low_rank_bank **end = &lora->banks[i].bank->deltas;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = &lora->banks[i].delta;
    }
    lora->is_attached = true;
}

void mz_lora_detach(mz_lora *lora) {
    for (int64_t i = 0; i < lora->n_linears && lora->is_attached; i++) {
        mz_low_rank **link = &lora->linears[i].linear->deltas;
        while (*link != &lora->linears[i].delta) {
            link = &(*link)->next;
        }
        *link = lora->linears[i].delta.next;
        lora->linears[i].delta.next = NULL;
    }
    for (int64_t i = 0; i < lora->n_banks && lora->is_attached; i++) {
        mz_low_rank_bank **link = &lora->banks[i].bank->deltas;
        while (*link != &lora->banks[i].delta) {
            link = &(*link)->next;
        }
        *link = lora->banks[i].delta.next;
        lora->banks[i].delta.next = NULL;
    }
    lora->is_attached = false;
}

/* ---- what it holds ---- */

const mz_lora_config *mz_lora_config_of(const mz_lora *lora) {
    return &lora->config;
}

int64_t mz_lora_n_linears(const mz_lora *lora) {
    int64_t n = 0;
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        n += lora->pairs[i].is_target;
    }
    return n;
}

int64_t mz_lora_n_values(const mz_lora *lora) {
    int64_t n = 0;
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        const mz_lora_pair *p = &lora->pairs[i];
        n += p->is_target ? mz_tensor_n_elements(&p->a) + mz_tensor_n_elements(&p->b) : 0;
    }
    return n;
}

void mz_lora_spaces(const mz_lora *lora, const void **values, void **gradients, size_t *n_bytes) {
    *values = lora->stream.arena.base;
    *gradients = lora->gradients;
    *n_bytes = lora->stream.arena.bound;
}

mz_status mz_lora_list_parameters(const mz_lora *lora, mz_parameters *parameters) {
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        for (int k = 0; k < 2 && lora->pairs[i].is_target; k++) {
            char name[MZ_LORA_NAME_BYTES];
            const mz_tensor *value = k == 0 ? &lora->pairs[i].a : &lora->pairs[i].b;
            mz_tensor gradient = *value;
            const size_t offset = (size_t)((uint8_t *)value->data - lora->stream.arena.base);
            gradient.data = (uint8_t *)lora->gradients + offset;
            mz_lora_tensor_name(name, lora->pairs[i].matrix, k == 0 ? 'A' : 'B');
            MZ_TRY(mz_parameters_add(lora->ctx, parameters, name, value, &gradient));
        }
    }
    return MZ_OK;
}
