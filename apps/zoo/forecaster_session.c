/* A forecaster's session: memory, sized by running the same code in measure mode, and one pass. */
#include <stdio.h>

#include "apps/zoo/forecaster_internal.h"
#include "core/threads.h"

/* ---- one pass ---- */

static int64_t widest_output(const mz_forecaster *f) {
    return mz_forecaster_parts_output_width(&f->parts, f->parts.heads.n_heads - 1);
}

/* Embeds the input rows, runs the decoder, gives the hidden states of the wanted rows. `inputs`
 * NULL in measure mode. */
static mz_status run_decoder(mz_forecaster *f, mz_stream *s, const mz_tensor *hidden,
                             const float *inputs, const mz_batch *batch, const mz_trace *trace) {
    const size_t mark = mz_stream_mark(s);
    const int64_t width = mz_forecaster_parts_input_width(&f->parts);
    mz_tensor rows;
    mz_tensor x;
    MZ_TRY(mz_stream_take(s, batch->n_tokens, width, "input rows", &rows));
    MZ_TRY(mz_stream_take(s, batch->n_tokens, f->parts.decoder.d_model, "embedded rows", &x));
    if (!s->arena.measure) {
        MZ_TRY(s->backend->upload(s, rows.data, inputs,
                                  (size_t)(batch->n_tokens * width) * sizeof *inputs));
    }
    MZ_TRY(mz_forecaster_parts_embed(s, &f->parts, &x, &rows));
    MZ_TRY(mz_trace_record(trace, s, -1, "embed", &x));
    MZ_TRY(mz_decoder_forward(s, hidden, &x, &f->parts.decoder, batch, &f->cache, f->ropes, trace));
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* Head `head` of the hidden states, downloaded to `out` [n_out, its output width]. */
static mz_status run_head(mz_forecaster *f, mz_stream *s, const mz_tensor *hidden, int32_t head,
                          float *out) {
    const size_t mark = mz_stream_mark(s);
    const int64_t width = mz_forecaster_parts_output_width(&f->parts, head);
    mz_tensor y;
    MZ_TRY(mz_stream_take(s, hidden->shape[0], width, "head output", &y));
    MZ_TRY(mz_forecaster_parts_head(s, &f->parts, &y, hidden, head));
    if (!s->arena.measure && hidden->shape[0] > 0) {
        MZ_TRY(
            s->backend->download(s, out, y.data, (size_t)(hidden->shape[0] * width) * sizeof *out));
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* Every head of every row, for goldens. */
static mz_status trace_heads(mz_forecaster *f, mz_stream *s, const mz_tensor *hidden,
                             const mz_trace *trace) {
    for (int32_t i = 0; i < f->parts.heads.n_heads; i++) {
        char name[16];
        mz_tensor y;
        const int64_t width = mz_forecaster_parts_output_width(&f->parts, i);
        (void)snprintf(name, sizeof name, "head%d", i);
        MZ_TRY(mz_stream_take(s, hidden->shape[0], width, "head output", &y));
        MZ_TRY(mz_forecaster_parts_head(s, &f->parts, &y, hidden, i));
        MZ_TRY(mz_trace_record(trace, s, -1, name, &y));
    }
    return MZ_OK;
}

static mz_status run_pass(mz_forecaster *f, mz_stream *s, int32_t head, int32_t past_head,
                          const mz_pass *p, const mz_trace *trace) {
    const mz_batch batch = {.n_tokens = p->n_rows,
                            .sequence = p->sequence,
                            .position = p->position,
                            .n_out = p->n_out,
                            .out_index = p->out_index,
                            .out_sequence = p->out_sequence,
                            .out_position = p->out_position};
    const size_t mark = mz_stream_mark(s);
    mz_tensor hidden;
    MZ_TRY(mz_stream_take(s, p->n_out, f->parts.decoder.d_model, "final states", &hidden));
    MZ_TRY(run_decoder(f, s, &hidden, p->inputs, &batch, trace));
    MZ_TRY(run_head(f, s, &hidden, head, p->out));
    if (p->n_past > 0) {
        MZ_TRY(run_head(f, s, &hidden, past_head, p->past_out));
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* ---- session ---- */

/* What the session's stream holds besides the cache; the same code measures and fills. */
static mz_status take_session(mz_forecaster *f, mz_stream *s, const mz_session_capacity *c,
                              mz_rope_table *ropes) {
    return mz_decoder_take_ropes(s, &f->parts.decoder, c->n_positions, ropes);
}

static mz_status measure_session(mz_forecaster *f, const mz_session_capacity *c, bool keep,
                                 size_t *bytes) {
    mz_stream measure;
    const mz_block *block = &f->parts.decoder.blocks[0];
    const int32_t dummy = 0; /* stands for the index arrays, which nothing reads */
    const mz_pass p = {.n_rows = c->n_rows, .n_out = c->n_out, .out_index = (int32_t *)&dummy};
    const mz_trace inside = {.inside_moe =
                                 true}; /* what a trace that keeps everything may ask for */
    mz_stream_open_measure(f->ctx, f->parts.loader.stream.backend, &measure);
    measure.keep = keep;
    f->cache.config = (mz_kv_cache_config){.n_layers = f->parts.decoder.n_layers,
                                           .n_kv_heads = block->n_kv_heads,
                                           .head_dim = block->head_dim};
    MZ_TRY(take_session(f, &measure, c, f->ropes));
    MZ_TRY(run_pass(f, &measure, f->parts.heads.n_heads - 1, 0, &p, keep ? &inside : NULL));
    if (keep) {
        const mz_tensor hidden =
            mz_tensor_2d(MZ_DTYPE_F32, c->n_out, f->parts.decoder.d_model, NULL);
        MZ_TRY(trace_heads(f, &measure, &hidden, NULL));
    }
    *bytes = measure.arena.peak;
    return MZ_OK;
}

static mz_status allocate_pass(mz_forecaster *f, const mz_session_capacity *c) {
    const size_t n = (size_t)c->n_rows;
    const size_t n_in = n * (size_t)mz_forecaster_parts_input_width(&f->parts);
    const size_t n_out = (size_t)(c->n_out * widest_output(f));
    const size_t n_past = f->parts.n_quantiles > 0 ? 0 : n_out;
    MZ_TRY(
        mz_alloc(f->ctx, (5 * n + n_in + n_out + n_past) * sizeof(float), "pass", &f->pass_memory));
    float *floats = f->pass_memory;
    int32_t *ints = (int32_t *)(floats + n_in + n_out + n_past);
    f->pass = (mz_pass){.inputs = floats,
                        .out = floats + n_in,
                        .past_out = floats + n_in + n_out,
                        .sequence = ints,
                        .position = ints + n,
                        .out_index = ints + 2 * n,
                        .out_sequence = ints + 3 * n,
                        .out_position = ints + 4 * n};
    return MZ_OK;
}

static mz_status open_session(mz_forecaster *f, const mz_session_capacity *c, bool keep) {
    size_t bytes = 0;
    const mz_block *block = &f->parts.decoder.blocks[0];
    const mz_kv_cache_config cache = {
        .n_layers = f->parts.decoder.n_layers,
        .n_kv_heads = block->n_kv_heads,
        .head_dim = block->head_dim,
        .max_sequences = c->n_sequences,
        .max_pages_per_sequence = (c->n_positions + MZ_KV_PAGE - 1) / MZ_KV_PAGE,
        .n_pages = c->n_pages,
    };
    MZ_TRY(measure_session(f, c, keep, &bytes));
    f->cache = (mz_kv_cache){0};
    MZ_TRY(mz_stream_open(f->ctx, f->parts.loader.stream.backend, bytes, &f->stream));
    f->stream.profile = f->profile;
    f->stream.keep = keep;
    MZ_TRY(take_session(f, &f->stream, c, f->ropes));
    MZ_TRY(mz_kv_cache_create(&f->stream, &cache, &f->cache));
    MZ_TRY(allocate_pass(f, c));
    f->capacity = *c;
    f->keep = keep;
    return MZ_OK;
}

void mz_forecaster_session_close(mz_forecaster *f) {
    mz_kv_cache_destroy(&f->stream, &f->cache);
    mz_stream_close(&f->stream);
    mz_free(f->ctx, f->pass_memory);
    f->pass_memory = NULL;
    f->capacity = (mz_session_capacity){0};
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

mz_status mz_forecaster_session_ensure(mz_forecaster *f, const mz_session_capacity *need,
                                       bool keep) {
    const mz_session_capacity *have = &f->capacity;
    if (have->n_rows >= need->n_rows && have->n_out >= need->n_out &&
        have->n_sequences >= need->n_sequences && have->n_positions >= need->n_positions &&
        have->n_pages >= need->n_pages && f->keep == keep) {
        mz_kv_cache_reset(&f->cache);
        return MZ_OK;
    }
    const mz_session_capacity grown = {
        .n_rows = max64(have->n_rows, need->n_rows),
        .n_out = max64(have->n_out, need->n_out),
        .n_sequences = max64(have->n_sequences, need->n_sequences),
        .n_positions = max64(have->n_positions, need->n_positions),
        .n_pages = max64(have->n_pages, need->n_pages),
    };
    mz_forecaster_session_close(f);
    const mz_status status = open_session(f, &grown, keep);
    if (status != MZ_OK) {
        mz_forecaster_session_close(f);
    }
    return status;
}

/* ---- passes ---- */

mz_status mz_forecaster_pass_run(mz_forecaster *f, int32_t head, int32_t past_head) {
    mz_pool_begin(f->ctx->pool);
    const mz_status status = run_pass(f, &f->stream, head, past_head, &f->pass, NULL);
    mz_pool_end(f->ctx->pool);
    return status;
}

mz_status mz_forecaster_pass_trace(mz_forecaster *f, int64_t n_rows, const mz_trace *trace) {
    mz_stream *s = &f->stream;
    const mz_pass *p = &f->pass;
    const mz_batch batch = {
        .n_tokens = n_rows, .sequence = p->sequence, .position = p->position, .n_out = n_rows};
    const size_t mark = mz_arena_mark(&s->arena);
    mz_tensor hidden;
    MZ_TRY(mz_stream_take(s, n_rows, f->parts.decoder.d_model, "final states", &hidden));
    mz_status status = run_decoder(f, s, &hidden, p->inputs, &batch, trace);
    if (status == MZ_OK) {
        status = trace_heads(f, s, &hidden, trace);
    }
    mz_arena_release(&s->arena, mark);
    return status;
}
