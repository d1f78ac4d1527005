/* A language model's session: memory, sized by running the same code in measure mode, and passes.
 */
#include <string.h>

#include "apps/zoo/language_model_internal.h"
#include "core/threads.h"

enum {
    DEFAULT_POSITIONS = 4096,
    DEFAULT_BATCH = 512,
    MAX_SEQUENCES = 1 << 16,
    MAX_BATCH = 1 << 20,
    HEAD_ROWS = 32, /* whose logits are computed at a time: bounds their memory */
};

/* Rows of one pass; arrays of n_batch. */
typedef struct pass {
    int64_t n_rows, n_out;
    const int32_t *ids;
    int32_t *sequence, *position;
    int32_t *out_index, *out_sequence, *out_position;
    uint8_t *modality, *out_modality;
    bool has_modality;
} pass;

struct mz_lm_session {
    mz_context *ctx;
    const mz_language_model *model;
    int64_t n_sequences, n_positions, n_batch;
    mz_dtype kv_dtype;
    mz_stream stream;
    mz_kv_cache cache;
    mz_rope_table ropes[MZ_MAX_ROPES];
    pass pass;
    void *pass_memory;
    int64_t *lengths; /* [n_sequences] before the call that runs */
};

/* ---- one pass ---- */

/* Logits of final states, downloaded to `out` [n_out, vocab_size] where there is one. */
static mz_status run_head(mz_lm_session *session, mz_stream *s, const mz_tensor *hidden,
                          float *out) {
    const mz_embedding *v = &session->model->text.embedding;
    for (int64_t begin = 0; begin < hidden->shape[0]; begin += HEAD_ROWS) {
        const size_t mark = mz_stream_mark(s);
        const int64_t left = hidden->shape[0] - begin;
        const int64_t n = left < HEAD_ROWS ? left : HEAD_ROWS;
        const mz_tensor rows = mz_tensor_rows(hidden, begin, n);
        mz_tensor logits;
        MZ_TRY(mz_stream_take(s, n, v->size, "logits", &logits));
        MZ_TRY(mz_embedding_logits(s, &logits, v, &rows));
        if (!s->arena.measure) {
            MZ_TRY(s->backend->download(s, out + begin * v->size, logits.data,
                                        (size_t)(n * v->size) * sizeof *out));
        }
        mz_stream_release(s, mark);
    }
    return MZ_OK;
}

static mz_status run_pass(mz_lm_session *session, mz_stream *s, const pass *p,
                          const mz_trace *trace, float *out) {
    const mz_text_decoder *text = &session->model->text;
    const bool all = p->n_out == p->n_rows && !s->arena.measure;
    const mz_batch batch = {.n_tokens = p->n_rows,
                            .sequence = p->sequence,
                            .position = p->position,
                            .modality = p->has_modality ? p->modality : NULL,
                            .n_out = p->n_out,
                            .out_index = all ? NULL : p->out_index,
                            .out_sequence = p->out_sequence,
                            .out_position = p->out_position,
                            .out_modality = p->has_modality ? p->out_modality : NULL};
    const size_t mark = mz_stream_mark(s);
    mz_tensor x;
    mz_tensor hidden;
    MZ_TRY(mz_stream_take(s, p->n_rows, text->decoder.d_model, "embedded rows", &x));
    MZ_TRY(mz_stream_take(s, p->n_out, text->decoder.d_model, "final states", &hidden));
    MZ_TRY(mz_embedding_rows(s, &x, &text->embedding, p->ids));
    MZ_TRY(mz_trace_record(trace, s, -1, "embed", &x));
    MZ_TRY(mz_decoder_forward(s, &hidden, &x, &text->decoder, &batch, &session->cache,
                              session->ropes, trace));
    MZ_TRY(run_head(session, s, &hidden, out));
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* ---- life ---- */

static mz_kv_cache_config cache_config(const mz_lm_session *session) {
    const mz_language_model_info *info = &session->model->info;
    const int64_t n_pages = (session->n_positions + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    return (mz_kv_cache_config){.n_layers = info->n_layers,
                                .n_kv_heads = info->n_kv_heads,
                                .head_dim = info->head_dim,
                                .head_dim_v = info->head_dim_v,
                                .dtype = session->kv_dtype,
                                .max_sequences = session->n_sequences,
                                .max_pages_per_sequence = n_pages,
                                .n_pages = n_pages * session->n_sequences};
}

/* Bytes of the arena, for passes of up to n_batch rows; a trace may ask for what a fused mixture
 * keeps to itself, which takes more memory or less. */
static mz_status measure_session(mz_lm_session *session, size_t *bytes) {
    const mz_backend *backend = session->model->text.loader.stream.backend;
    const mz_trace inside = {.inside_moe = true};
    const mz_trace *traces[] = {NULL, &inside};
    *bytes = 0;
    for (int i = 0; i < 2; i++) {
        mz_stream measure;
        const int32_t dummy = 0; /* stands for the index arrays, which nothing reads */
        const pass p = {.n_rows = session->n_batch,
                        .n_out = session->n_batch,
                        .ids = &dummy,
                        .out_index = (int32_t *)&dummy,
                        .modality = (uint8_t *)&dummy,
                        .out_modality = (uint8_t *)&dummy,
                        .has_modality = true};
        mz_stream_open_measure(session->ctx, backend, &measure);
        session->cache.config = cache_config(session);
        MZ_TRY(mz_decoder_take_ropes(&measure, &session->model->text.decoder, session->n_positions,
                                     session->ropes));
        MZ_TRY(run_pass(session, &measure, &p, traces[i], NULL));
        *bytes = measure.arena.peak > *bytes ? measure.arena.peak : *bytes;
        session->cache = (mz_kv_cache){0};
    }
    return MZ_OK;
}

static mz_status allocate_pass(mz_lm_session *session) {
    const size_t n = (size_t)session->n_batch;
    void *memory = NULL;
    void *lengths = NULL;
    MZ_TRY(mz_alloc(session->ctx, n * (5 * sizeof(int32_t) + 2), "pass", &memory));
    session->pass_memory = memory;
    int32_t *ints = memory;
    uint8_t *tags = (uint8_t *)(ints + 5 * n);
    session->pass = (pass){.sequence = ints,
                           .position = ints + n,
                           .out_index = ints + 2 * n,
                           .out_sequence = ints + 3 * n,
                           .out_position = ints + 4 * n,
                           .modality = tags,
                           .out_modality = tags + n};
    MZ_TRY(mz_calloc(session->ctx, (size_t)session->n_sequences, sizeof(int64_t),
                     "sequence lengths", &lengths));
    session->lengths = lengths;
    return MZ_OK;
}

static mz_status open_session(mz_lm_session *session, const mz_lm_session_options *options) {
    const mz_kv_cache_config config = cache_config(session);
    size_t bytes = 0;
    MZ_TRY(measure_session(session, &bytes));
    MZ_TRY(mz_stream_open(session->ctx, session->model->text.loader.stream.backend, bytes,
                          &session->stream));
    session->stream.profile = options->profile;
    MZ_TRY(mz_decoder_take_ropes(&session->stream, &session->model->text.decoder,
                                 session->n_positions, session->ropes));
    MZ_TRY(mz_kv_cache_create(&session->stream, &config, &session->cache));
    return allocate_pass(session);
}

static mz_status check_option(mz_context *ctx, const char *what, int64_t value, int64_t max) {
    return value >= 1 && value <= max
               ? MZ_OK
               : mz_fail(&ctx->error, MZ_ERR_LIMIT, "session: %lld %s, expected 1 to %lld",
                         (long long)value, what, (long long)max);
}

mz_status mz_lm_session_create(mz_context *ctx, const mz_language_model *model,
                               const mz_lm_session_options *options, mz_lm_session **out) {
    const int64_t trained = model->info.max_positions;
    const int64_t usual = trained < DEFAULT_POSITIONS ? trained : DEFAULT_POSITIONS;
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_lm_session), "session", &memory));
    mz_lm_session *session = memory;
    session->ctx = ctx;
    session->model = model;
    session->n_sequences = options->n_sequences != 0 ? options->n_sequences : 1;
    session->n_positions = options->n_positions != 0 ? options->n_positions : usual;
    session->kv_dtype = options->kv_dtype;
    session->n_batch = options->n_batch != 0 ? options->n_batch : DEFAULT_BATCH;
    mz_status status = check_option(ctx, "sequences", session->n_sequences, MAX_SEQUENCES);
    if (status == MZ_OK) {
        status = check_option(ctx, "positions", session->n_positions, MZ_MAX_TEXT_POSITIONS);
    }
    if (status == MZ_OK) {
        status = check_option(ctx, "rows of a pass", session->n_batch, MAX_BATCH);
    }
    if (status == MZ_OK) {
        status = open_session(session, options);
    }
    if (status != MZ_OK) {
        mz_lm_session_destroy(session);
        return status;
    }
    *out = session;
    return MZ_OK;
}

void mz_lm_session_destroy(mz_lm_session *session) {
    if (session == NULL) {
        return;
    }
    mz_context *ctx = session->ctx;
    mz_kv_cache_destroy(&session->stream, &session->cache);
    mz_stream_close(&session->stream);
    mz_free(ctx, session->pass_memory);
    mz_free(ctx, session->lengths);
    mz_free(ctx, session);
}

/* ---- runs ---- */

static int32_t sequence_of(const mz_lm_input *input, int64_t row) {
    return input->sequence != NULL ? input->sequence[row] : 0;
}

/* Where the rows of the sequence that begins at `begin` end. */
static int64_t end_of_sequence(const mz_lm_input *input, int64_t begin) {
    int64_t end = begin + 1;
    while (end < input->n_tokens && sequence_of(input, end) == sequence_of(input, begin)) {
        end++;
    }
    return end;
}

static mz_status check_rows(mz_lm_session *session, const mz_lm_input *input) {
    mz_error *err = &session->ctx->error;
    for (int64_t i = 0; i < input->n_tokens; i++) {
        const int32_t id = input->ids[i];
        if (id < 0 || id >= session->model->info.vocab_size) {
            return mz_fail(err, MZ_ERR_LIMIT, "token %lld is %d, the vocabulary has ids 0 to %lld",
                           (long long)i, id, (long long)session->model->info.vocab_size - 1);
        }
        const int32_t sequence = sequence_of(input, i);
        if (sequence < 0 || sequence >= session->n_sequences) {
            return mz_fail(err, MZ_ERR_ARG, "token %lld is of sequence %d, the session has %lld",
                           (long long)i, sequence, (long long)session->n_sequences);
        }
    }
    return MZ_OK;
}

/* That each sequence is there once, and that its context suffices. Notes the lengths before. */
static mz_status check_sequences(mz_lm_session *session, const mz_lm_input *input) {
    mz_error *err = &session->ctx->error;
    for (int64_t i = 0; i < session->n_sequences; i++) {
        session->lengths[i] = -1; /* not seen */
    }
    for (int64_t begin = 0, end = 0; begin < input->n_tokens; begin = end) {
        const int32_t sequence = sequence_of(input, begin);
        const int64_t held = session->cache.n_positions[sequence];
        end = end_of_sequence(input, begin);
        if (session->lengths[sequence] >= 0) {
            return mz_fail(err, MZ_ERR_ARG, "rows of sequence %d are not neighbours", sequence);
        }
        if (end - begin > session->n_positions - held) {
            return mz_fail(err, MZ_ERR_LIMIT,
                           "sequence %d: %lld tokens do not fit its context, which holds %lld of "
                           "%lld positions",
                           sequence, (long long)(end - begin), (long long)held,
                           (long long)session->n_positions);
        }
        session->lengths[sequence] = held;
    }
    return MZ_OK;
}

static bool is_wanted(const mz_lm_input *input, int64_t row) {
    if (input->wanted != NULL) {
        return input->wanted[row] != 0;
    }
    return row + 1 == input->n_tokens || sequence_of(input, row + 1) != sequence_of(input, row);
}

/* Rows [begin, end) of the input, which follow what their sequences hold. */
static mz_status gather_pass(mz_lm_session *session, const mz_lm_input *input, int64_t begin,
                             int64_t end) {
    pass *p = &session->pass;
    p->ids = input->ids + begin;
    p->n_rows = end - begin;
    p->n_out = 0;
    p->has_modality = input->modality != NULL;
    for (int64_t i = 0; i < p->n_rows; i++) {
        const int32_t sequence = sequence_of(input, begin + i);
        const int64_t position = session->cache.n_positions[sequence];
        MZ_TRY(mz_kv_cache_extend(&session->stream, &session->cache, sequence, position + 1));
        p->sequence[i] = sequence;
        p->position[i] = (int32_t)position;
        if (p->has_modality) {
            p->modality[i] = input->modality[begin + i];
        }
        if (is_wanted(input, begin + i)) {
            const int64_t o = p->n_out++;
            p->out_index[o] = (int32_t)i;
            p->out_sequence[o] = sequence;
            p->out_position[o] = p->position[i];
            p->out_modality[o] = p->has_modality ? p->modality[i] : 0;
        }
    }
    return MZ_OK;
}

static mz_status run_passes(mz_lm_session *session, const mz_lm_input *input, const mz_trace *trace,
                            float *logits) {
    for (int64_t begin = 0; begin < input->n_tokens; begin += session->n_batch) {
        const int64_t left = input->n_tokens - begin;
        const int64_t n = left < session->n_batch ? left : session->n_batch;
        MZ_TRY(gather_pass(session, input, begin, begin + n));
        MZ_TRY(run_pass(session, &session->stream, &session->pass, trace, logits));
        logits += session->pass.n_out * session->model->info.vocab_size;
    }
    return MZ_OK;
}

mz_status mz_lm_session_run(mz_lm_session *session, const mz_lm_input *input, const mz_trace *trace,
                            float *logits) {
    const size_t mark = mz_arena_mark(&session->stream.arena);
    MZ_TRY(check_rows(session, input));
    MZ_TRY(check_sequences(session, input));
    mz_pool_begin(session->ctx->pool);
    const mz_status status = run_passes(session, input, trace, logits);
    mz_pool_end(session->ctx->pool);
    if (status != MZ_OK) {
        mz_arena_release(&session->stream.arena, mark);
        for (int64_t i = 0; i < session->n_sequences; i++) {
            if (session->lengths[i] >= 0) {
                mz_lm_session_truncate(session, i, session->lengths[i]);
            }
        }
    }
    return status;
}

/* ---- what sequences hold ---- */

int64_t mz_lm_session_n_positions(const mz_lm_session *session, int64_t sequence) {
    return session->cache.n_positions[sequence];
}

int64_t mz_lm_session_max_positions(const mz_lm_session *session) {
    return session->n_positions;
}

void mz_lm_session_truncate(mz_lm_session *session, int64_t sequence, int64_t n) {
    mz_kv_cache_truncate(&session->cache, sequence, n);
}

static mz_status check_sequence(mz_lm_session *session, int64_t sequence) {
    return sequence >= 0 && sequence < session->n_sequences
               ? MZ_OK
               : mz_fail(&session->ctx->error, MZ_ERR_ARG, "sequence %lld, the session has %lld",
                         (long long)sequence, (long long)session->n_sequences);
}

mz_status mz_lm_session_fork(mz_lm_session *session, int64_t from, int64_t to) {
    MZ_TRY(check_sequence(session, from));
    MZ_TRY(check_sequence(session, to));
    mz_kv_cache_fork(&session->cache, from, to);
    return MZ_OK;
}

mz_status mz_lm_session_shift(mz_lm_session *session, int64_t sequence, int64_t first, int64_t n) {
    const mz_decoder *decoder = &session->model->text.decoder;
    void *memory = NULL;
    MZ_TRY(check_sequence(session, sequence));
    for (int i = 0; i < decoder->n_ropes; i++) {
        const mz_rope *rope = &decoder->ropes[i];
        if (rope->scaling == MZ_ROPE_YARN && rope->attention_factor != 1) {
            return mz_fail(&session->ctx->error, MZ_ERR_UNSUPPORTED,
                           "session: keys that YaRN has scaled by %g cannot be moved",
                           rope->attention_factor);
        }
    }
    MZ_TRY(mz_alloc(session->ctx, (size_t)decoder->n_layers * sizeof(mz_rope_table *),
                    "rotations of layers", &memory));
    const mz_rope_table **ropes = memory;
    for (int64_t l = 0; l < decoder->n_layers; l++) {
        ropes[l] = &session->ropes[decoder->blocks[l].rope];
    }
    const mz_status status =
        mz_kv_cache_shift(&session->stream, &session->cache, sequence, first, n, ropes);
    mz_free(session->ctx, memory);
    return status;
}

size_t mz_lm_session_kv_bytes(const mz_lm_session *session) {
    return session->cache.bytes;
}
