/* Goldens of language models; names and shapes are those of the family's README. */
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/language_model.h"
#include "tests/golden/golden_check.h"
#include "tests/testing.h"

/* Whole-model bound in f32 (relative L2). */
static const double BOUND_F32 = 1e-4;

enum { N_SEQUENCES = 3, N_TRACED = 2, CHUNK = 3, MAX_TENSORS = 4096 };

/* A model on its way through the cases. */
typedef struct run {
    mz_golden *g;
    mz_language_model *model;
    int64_t vocab_size;
    int index;                  /* of the sequence that is traced */
    bool compared[MAX_TENSORS]; /* of io.safetensors, in name order */
} run;

static void *must_alloc(int64_t n, size_t size) {
    void *p = calloc(n > 0 ? (size_t)n : 1, size);
    if (p == NULL) {
        fputs("golden_check: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

/* A tensor of sequence `index`, which must be there. */
static mz_status find(run *r, int index, const char *name, mz_dtype dtype, mz_tensor *out) {
    char full[96];
    (void)snprintf(full, sizeof full, "case%d.%s", index, name);
    for (int64_t i = 0; i < mz_weights_count(r->g->io) && i < MAX_TENSORS; i++) {
        const char *other = NULL;
        MZ_TRY(mz_weights_at(r->g->io, i, &other, out));
        if (strcmp(other, full) == 0) {
            r->compared[i] = true;
            return mz_golden_find(r->g, full, out) && out->dtype == dtype
                       ? MZ_OK
                       : mz_fail(&r->g->ctx->error, MZ_ERR_DTYPE, "%s: %s", r->g->dir, full);
        }
    }
    return mz_fail(&r->g->ctx->error, MZ_ERR_MISSING, "%s: no tensor %s", r->g->dir, full);
}

/* ---- intermediate results ---- */

/* The golden's name for what a trace calls `name`. */
static const char *golden_name(const run *r, const char *name) {
    const char *family = mz_language_model_info_of(r->model)->family;
    if (strcmp(name, "shared_expert") == 0 && strcmp(family, "deepseek-v2") == 0) {
        return "shared_experts";
    }
    return name;
}

static void copy_values(float *out, mz_stream *s, const mz_tensor *t) {
    const int64_t width = t->shape[1];
    for (int64_t i = 0; i < t->shape[0]; i++) {
        const unsigned char *row = (const unsigned char *)t->data + i * t->ld * 4;
        if (s->backend->download(s, out + i * width, row, (size_t)width * 4) != MZ_OK) {
            return;
        }
        for (int64_t j = 0; t->dtype == MZ_DTYPE_I32 && j < width; j++) {
            int32_t id = 0; /* f32 holds expert ids exactly */
            memcpy(&id, &out[i * width + j], sizeof id);
            out[i * width + j] = (float)id;
        }
    }
}

/* Compares a result of the pass with the golden of that name, where there is one. */
static mz_status compare_record(void *self, mz_stream *s, int layer, const char *name,
                                const mz_tensor *t) {
    run *r = self;
    char text[64];
    mz_tensor expected;
    const char *wanted = golden_name(r, name);
    if (layer >= 0) {
        (void)snprintf(text, sizeof text, "layers.%d.%s", layer, wanted);
    } else {
        (void)snprintf(text, sizeof text, "%s", wanted);
    }
    if (find(r, r->index, text, t->dtype, &expected) != MZ_OK) {
        return MZ_OK; /* not every result has a golden; every golden is asked for afterwards */
    }
    const int64_t n = t->shape[0] * t->shape[1];
    char full[96];
    (void)snprintf(full, sizeof full, "case%d.%s", r->index, text);
    if (mz_tensor_n_elements(&expected) != n) {
        mz_golden_fail(r->g, full, "has another size");
        return MZ_OK;
    }
    float *actual = must_alloc(n, sizeof *actual);
    float *values = must_alloc(n, sizeof *values);
    copy_values(actual, s, t);
    for (int64_t i = 0; i < n; i++) {
        values[i] = t->dtype == MZ_DTYPE_I32 ? (float)((const int32_t *)expected.data)[i]
                                             : ((const float *)expected.data)[i];
    }
    mz_golden_compare(r->g, full, actual, values, n, t->dtype == MZ_DTYPE_I32 ? 0 : BOUND_F32);
    free(actual);
    free(values);
    return MZ_OK;
}

/* Every tensor of the sequence has been compared. */
static mz_status check_all_compared(run *r, int index) {
    char prefix[16];
    (void)snprintf(prefix, sizeof prefix, "case%d.", index);
    for (int64_t i = 0; i < mz_weights_count(r->g->io) && i < MAX_TENSORS; i++) {
        const char *name = NULL;
        mz_tensor t;
        MZ_TRY(mz_weights_at(r->g->io, i, &name, &t));
        if (strncmp(name, prefix, strlen(prefix)) == 0 && !r->compared[i]) {
            mz_golden_fail(r->g, name, "was not computed");
        }
    }
    return MZ_OK;
}

/* ---- one sequence ---- */

static void compare(run *r, int index, const char *what, const float *actual,
                    const mz_tensor *expected) {
    char name[96];
    (void)snprintf(name, sizeof name, "case%d.%s", index, what);
    mz_golden_compare(r->g, name, actual, expected->data, mz_tensor_n_elements(expected),
                      BOUND_F32);
}

/* All rows at once, with the trace where the golden has one. */
static mz_status check_prefill(run *r, mz_lm_session *session, int index, const mz_tensor *ids,
                               const mz_tensor *expected) {
    const int64_t n = ids->shape[0];
    const mz_trace trace = {.record = compare_record, .self = r, .inside_moe = true};
    uint8_t *wanted = must_alloc(n, 1);
    float *logits = must_alloc(n * r->vocab_size, sizeof *logits);
    memset(wanted, 1, (size_t)n);
    const mz_lm_input input = {.n_tokens = n, .ids = ids->data, .wanted = wanted};
    r->index = index;
    mz_lm_session_truncate(session, 0, 0);
    mz_status status = mz_lm_session_run(session, &input, index < N_TRACED ? &trace : NULL, logits);
    if (status == MZ_OK) {
        compare(r, index, "logits", logits, expected);
        mz_lm_session_truncate(session, 0, 0);
        status = mz_lm_session_run(session, &input, index < N_TRACED ? NULL : &trace, logits);
    }
    if (status == MZ_OK) {
        compare(r, index, "logits again", logits, expected);
    }
    free(wanted);
    free(logits);
    return status;
}

/* `chunk` rows at a time, so that the cache is read. */
static mz_status check_cached(run *r, mz_lm_session *session, int index, const mz_tensor *ids,
                              const mz_tensor *expected, int64_t chunk) {
    const int64_t n = ids->shape[0];
    uint8_t wanted[CHUNK] = {1, 1, 1};
    float *logits = must_alloc(n * r->vocab_size, sizeof *logits);
    mz_status status = MZ_OK;
    mz_lm_session_truncate(session, 0, 0);
    for (int64_t begin = 0; begin < n && status == MZ_OK; begin += chunk) {
        const mz_lm_input input = {.n_tokens = n - begin < chunk ? n - begin : chunk,
                                   .ids = (const int32_t *)ids->data + begin,
                                   .wanted = wanted};
        status = mz_lm_session_run(session, &input, NULL, logits + begin * r->vocab_size);
    }
    if (status == MZ_OK) {
        compare(r, index, chunk == 1 ? "logits of single rows" : "logits of chunks", logits,
                expected);
    }
    free(logits);
    return status;
}

static int32_t best_of(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}

/* Greedy tokens after the prompt, each fed back. */
static mz_status check_generated(run *r, mz_lm_session *session, int index, const mz_tensor *ids) {
    mz_tensor expected;
    mz_tensor expected_logits;
    MZ_TRY(find(r, index, "generated", MZ_DTYPE_I32, &expected));
    MZ_TRY(find(r, index, "generated_logits", MZ_DTYPE_F32, &expected_logits));
    const int64_t n = expected.shape[0];
    float *logits = must_alloc(n * r->vocab_size, sizeof *logits);
    mz_lm_input input = {.n_tokens = ids->shape[0], .ids = ids->data};
    int32_t next = 0;
    mz_status status = MZ_OK;
    mz_lm_session_truncate(session, 0, 0);
    for (int64_t i = 0; i < n && status == MZ_OK; i++) {
        float *row = logits + i * r->vocab_size;
        status = mz_lm_session_run(session, &input, NULL, row);
        next = best_of(row, r->vocab_size);
        if (status == MZ_OK && next != ((const int32_t *)expected.data)[i]) {
            mz_golden_fail(r->g, "generated", "another token was likeliest");
            break;
        }
        input = (mz_lm_input){.n_tokens = 1, .ids = &next};
    }
    if (status == MZ_OK) {
        compare(r, index, "generated_logits", logits, &expected_logits);
    }
    free(logits);
    return status;
}

static mz_status check_sequence(run *r, int index) {
    const mz_lm_session_options options = {.n_positions = 256};
    mz_lm_session *session = NULL;
    mz_tensor ids;
    mz_tensor logits;
    MZ_TRY(find(r, index, "input_ids", MZ_DTYPE_I32, &ids));
    MZ_TRY(find(r, index, "logits", MZ_DTYPE_F32, &logits));
    MZ_TRY(mz_lm_session_create(r->g->ctx, r->model, &options, &session));
    mz_status status = check_prefill(r, session, index, &ids, &logits);
    if (status == MZ_OK) {
        status = check_cached(r, session, index, &ids, &logits, 1);
    }
    if (status == MZ_OK) {
        status = check_cached(r, session, index, &ids, &logits, CHUNK);
    }
    if (status == MZ_OK) {
        status = check_generated(r, session, index, &ids);
    }
    mz_lm_session_destroy(session);
    return status == MZ_OK ? check_all_compared(r, index) : status;
}

/* ---- all sequences at once ---- */

/* One ragged batch in passes of n_batch rows gives the bits of single calls. */
static mz_status check_ragged(run *r, const mz_lm_input *input, const float *alone,
                              int64_t n_batch) {
    const mz_lm_session_options options = {
        .n_sequences = N_SEQUENCES, .n_positions = 256, .n_batch = n_batch};
    const int64_t n = N_SEQUENCES * r->vocab_size;
    mz_lm_session *session = NULL;
    float *logits = must_alloc(n, sizeof *logits);
    mz_status status = mz_lm_session_create(r->g->ctx, r->model, &options, &session);
    if (status == MZ_OK) {
        status = mz_lm_session_run(session, input, NULL, logits);
    }
    if (status == MZ_OK) {
        mz_golden_compare(r->g, "ragged batch", logits, alone, n, 0);
    }
    mz_lm_session_destroy(session);
    free(logits);
    return status;
}

/* The last logits of each sequence alone. */
static mz_status run_alone(run *r, const mz_tensor ids[N_SEQUENCES], float *out) {
    const mz_lm_session_options options = {.n_positions = 256};
    mz_lm_session *session = NULL;
    mz_status status = mz_lm_session_create(r->g->ctx, r->model, &options, &session);
    for (int i = 0; i < N_SEQUENCES && status == MZ_OK; i++) {
        const mz_lm_input input = {.n_tokens = ids[i].shape[0], .ids = ids[i].data};
        mz_lm_session_truncate(session, 0, 0);
        status = mz_lm_session_run(session, &input, NULL, out + i * r->vocab_size);
    }
    mz_lm_session_destroy(session);
    return status;
}

static mz_status check_batch(run *r) {
    mz_tensor ids[N_SEQUENCES];
    int64_t n = 0;
    for (int i = 0; i < N_SEQUENCES; i++) {
        MZ_TRY(find(r, i, "input_ids", MZ_DTYPE_I32, &ids[i]));
        n += ids[i].shape[0];
    }
    int32_t *all = must_alloc(2 * n, sizeof *all);
    float *alone = must_alloc(N_SEQUENCES * r->vocab_size, sizeof *alone);
    const mz_lm_input input = {.n_tokens = n, .ids = all, .sequence = all + n};
    for (int i = 0, at = 0; i < N_SEQUENCES; i++) {
        for (int64_t j = 0; j < ids[i].shape[0]; j++, at++) {
            all[at] = ((const int32_t *)ids[i].data)[j];
            all[n + at] = N_SEQUENCES - 1 - i; /* in no order */
        }
    }
    mz_status status = run_alone(r, ids, alone);
    if (status == MZ_OK) {
        status = check_ragged(r, &input, alone, 0);
    }
    if (status == MZ_OK) {
        status = check_ragged(r, &input, alone, 5);
    }
    free(all);
    free(alone);
    return status;
}

mz_status mz_golden_llm(mz_golden *g) {
    const mz_load_options options = {.backend = g->backend};
    run *r = must_alloc(1, sizeof *r);
    r->g = g;
    mz_status status = mz_zoo_load_language_model(g->ctx, g->dir, &options, &r->model);
    for (int i = 0; i < N_SEQUENCES && status == MZ_OK; i++) {
        r->vocab_size = mz_language_model_info_of(r->model)->vocab_size;
        status = check_sequence(r, i);
    }
    if (status == MZ_OK) {
        status = check_batch(r);
    }
    mz_language_model_close(r->model);
    free(r);
    return status;
}
