#include "llm/decoder.h"

/* The batch's index arrays in backend memory. */
typedef struct device_batch {
    mz_rows rows;
    bool all; /* every row is wanted; the rest is unused then */
    mz_rows out_rows;
    const int32_t *out_index;
} device_batch;

static mz_status upload_i32(mz_stream *s, const int32_t *host, int64_t n, const int32_t **out) {
    void *device = NULL;
    MZ_TRY(mz_stream_take_bytes(s, (size_t)n * sizeof *host, "batch indices", &device));
    if (!s->arena.measure) {
        MZ_TRY(s->backend->upload(s, device, host, (size_t)n * sizeof *host));
    }
    *out = device;
    return MZ_OK;
}

static mz_status upload_batch(mz_stream *s, const mz_batch *batch, device_batch *out) {
    out->rows.n_rows = batch->n_tokens;
    MZ_TRY(upload_i32(s, batch->sequence, batch->n_tokens, &out->rows.sequence));
    MZ_TRY(upload_i32(s, batch->position, batch->n_tokens, &out->rows.position));
    out->all = batch->out_index == NULL;
    if (out->all) {
        return MZ_OK;
    }
    out->out_rows.n_rows = batch->n_out;
    MZ_TRY(upload_i32(s, batch->out_index, batch->n_out, &out->out_index));
    MZ_TRY(upload_i32(s, batch->out_sequence, batch->n_out, &out->out_rows.sequence));
    return upload_i32(s, batch->out_position, batch->n_out, &out->out_rows.position);
}

mz_status mz_decoder_forward(mz_stream *s, const mz_tensor *hidden, const mz_tensor *x,
                             const mz_decoder *decoder, const mz_batch *batch, mz_kv_cache *cache,
                             const mz_rope_table *rope, const mz_trace *trace) {
    const size_t mark = mz_stream_mark(s);
    device_batch device = {0};
    mz_tensor states[2]; /* blocks read one and write the other */
    mz_tensor last;
    mz_tensor input = *x;
    MZ_TRY(upload_batch(s, batch, &device));
    MZ_TRY(mz_kv_cache_sync(s, cache));
    MZ_TRY(mz_stream_take(s, batch->n_tokens, decoder->d_model, "hidden states", &states[0]));
    MZ_TRY(mz_stream_take(s, batch->n_tokens, decoder->d_model, "hidden states", &states[1]));
    MZ_TRY(mz_stream_take(s, batch->n_out, decoder->d_model, "last hidden states", &last));
    for (int64_t l = 0; l < decoder->n_layers; l++) {
        const bool is_last = l == decoder->n_layers - 1;
        const mz_kv_layer layer = mz_kv_cache_layer(cache, l);
        const mz_block_call call = {
            .layer = (int)l,
            .rows = &device.rows,
            .cache = &layer,
            .rope = rope,
            .out_rows = is_last && !device.all ? &device.out_rows : NULL,
            .out_index = device.out_index,
            .trace = trace,
        };
        mz_tensor output = is_last ? last : states[l % 2];
        if (s->keep && !is_last) {
            MZ_TRY(mz_stream_take(s, batch->n_tokens, decoder->d_model, "hidden states", &output));
        }
        MZ_TRY(mz_block_forward(s, &output, &input, &decoder->blocks[l], &call));
        input = output;
    }
    MZ_TRY(mz_op_rms_norm(s, hidden, &input, &decoder->final_norm, decoder->norm_eps));
    mz_stream_release(s, mark);
    return mz_trace_record(trace, s, -1, "final_norm", hidden);
}
