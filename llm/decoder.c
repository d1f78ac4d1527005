#include "llm/decoder.h"

#include <string.h>

#include "core/tape.h"

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

static mz_status upload_tags(mz_stream *s, const uint8_t *host, int64_t n, const uint8_t **out) {
    void *device = NULL;
    *out = NULL;
    if (host == NULL) {
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take_bytes(s, (size_t)n, "modality tags", &device));
    if (!s->arena.measure) {
        MZ_TRY(s->backend->upload(s, device, host, (size_t)n));
    }
    *out = device;
    return MZ_OK;
}

static mz_status upload_batch(mz_stream *s, const mz_batch *batch, device_batch *out) {
    out->rows.n_rows = batch->n_tokens;
    MZ_TRY(upload_i32(s, batch->sequence, batch->n_tokens, &out->rows.sequence));
    MZ_TRY(upload_i32(s, batch->position, batch->n_tokens, &out->rows.position));
    MZ_TRY(upload_tags(s, batch->modality, batch->n_tokens, &out->rows.modality));
    out->all = batch->out_index == NULL;
    if (out->all) {
        return MZ_OK;
    }
    out->out_rows.n_rows = batch->n_out;
    MZ_TRY(upload_i32(s, batch->out_index, batch->n_out, &out->out_index));
    MZ_TRY(upload_i32(s, batch->out_sequence, batch->n_out, &out->out_rows.sequence));
    MZ_TRY(upload_tags(s, batch->modality != NULL ? batch->out_modality : NULL, batch->n_out,
                       &out->out_rows.modality));
    return upload_i32(s, batch->out_position, batch->n_out, &out->out_rows.position);
}

/* One block of a pass, as a segment of the tape. */
typedef struct block_segment {
    mz_tensor y, x;
    const mz_block *block;
    mz_block_call call;
} block_segment;

static mz_status forward_block(mz_stream *s, const void *args) {
    const block_segment *segment = args;
    return mz_block_forward(s, &segment->y, &segment->x, segment->block, &segment->call);
}

/* The batch's indices where they live as long as what refers to them: on a tape until its reset. */
static mz_status keep_batch(mz_stream *s, const device_batch *batch, const device_batch **out) {
    void *copy = NULL;
    *out = batch;
    if (s->tape == NULL) {
        return MZ_OK;
    }
    MZ_TRY(mz_tape_keep(s, sizeof *batch, "batch indices", &copy));
    memcpy(copy, batch, sizeof *batch);
    *out = copy;
    return MZ_OK;
}

/* Routers that read the logits of the mixture layer before them (MoE++). */
typedef struct carried_logits {
    bool wanted;
    mz_routing own[2];      /* blocks take turns, where the caller took no routings */
    const mz_routing *last; /* of the mixture layer before; NULL: none */
} carried_logits;

static bool reads_previous(const mz_block *block) {
    return block->has_experts && block->moe.router_residual.weight.n_dims > 0;
}

static mz_status begin_carry(mz_stream *s, const mz_decoder *decoder, const mz_batch *batch,
                             carried_logits *out) {
    const mz_router *router = NULL;
    *out = (carried_logits){0};
    for (int64_t l = 0; l < decoder->n_layers && router == NULL; l++) {
        router = reads_previous(&decoder->blocks[l]) ? &decoder->blocks[l].moe.router : NULL;
    }
    out->wanted = router != NULL;
    if (router == NULL || batch->routings != NULL) {
        return MZ_OK;
    }
    if (s->tape != NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "decoder: on a tape, routers that read the layer before want the caller's "
                       "routings");
    }
    MZ_TRY(mz_routing_take(s, batch->n_tokens, router, &out->own[0]));
    return mz_routing_take(s, batch->n_tokens, router, &out->own[1]);
}

/* Sets the call's routing and the logits of the layer before. */
static void carry(carried_logits *c, const mz_block *block, mz_block_call *call) {
    if (!c->wanted || !block->has_experts) {
        return;
    }
    if (c->last != NULL && reads_previous(block)) {
        call->previous_logits = c->last->logits;
    }
    if (call->routing == NULL && (call->out_rows == NULL || call->previous_logits.n_dims > 0)) {
        call->routing = c->last == &c->own[0] ? &c->own[1] : &c->own[0];
    }
    c->last = call->routing;
}

static mz_status forward_blocks(mz_stream *s, mz_tensor *last, const mz_tensor *x,
                                const mz_decoder *decoder, const mz_batch *batch,
                                mz_kv_cache *cache, const mz_block_call *common) {
    mz_tensor states[2]; /* blocks read one and write the other */
    mz_tensor input = *x;
    carried_logits carried;
    MZ_TRY(begin_carry(s, decoder, batch, &carried));
    MZ_TRY(mz_stream_take(s, batch->n_tokens, decoder->d_model, "hidden states", &states[0]));
    MZ_TRY(mz_stream_take(s, batch->n_tokens, decoder->d_model, "hidden states", &states[1]));
    MZ_TRY(mz_stream_take(s, batch->n_out, decoder->d_model, "last hidden states", last));
    for (int64_t l = 0; l < decoder->n_layers; l++) {
        const bool is_last = l == decoder->n_layers - 1;
        const mz_kv_layer layer = cache != NULL ? mz_kv_cache_layer(cache, l) : (mz_kv_layer){0};
        block_segment segment = {
            .y = is_last ? *last : states[l % 2],
            .x = input,
            .block = &decoder->blocks[l],
            .call = *common,
        };
        segment.call.layer = (int)l;
        segment.call.cache = cache != NULL ? &layer : NULL;
        segment.call.routing = batch->routings != NULL ? &batch->routings[l] : NULL;
        if (!is_last) {
            segment.call.out_rows = NULL;
            if (s->keep) {
                MZ_TRY(mz_stream_take(s, batch->n_tokens, decoder->d_model, "hidden states",
                                      &segment.y));
            }
        }
        carry(&carried, segment.block, &segment.call);
        const mz_routing *routing = segment.call.routing; /* a loss may look at its logits */
        const bool routed = routing != NULL && decoder->blocks[l].has_experts;
        const mz_tensor *outputs[] = {&segment.y, routed ? &routing->logits : NULL};
        MZ_TRY(mz_tape_run_segment(s, forward_block, &segment, sizeof segment, outputs,
                                   routed ? 2 : 1));
        input = segment.y;
    }
    return MZ_OK;
}

mz_status mz_decoder_forward(mz_stream *s, const mz_tensor *hidden, const mz_tensor *x,
                             const mz_decoder *decoder, const mz_batch *batch, mz_kv_cache *cache,
                             const mz_rope_table *ropes, const mz_trace *trace) {
    const size_t mark = mz_stream_mark(s);
    device_batch uploaded = {0};
    const device_batch *device = NULL;
    mz_tensor last;
    if (s->tape != NULL && cache != NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "decoder: a tape wants whole sequences, not a cache");
    }
    MZ_TRY(upload_batch(s, batch, &uploaded));
    MZ_TRY(keep_batch(s, &uploaded, &device));
    if (cache != NULL) {
        MZ_TRY(mz_kv_cache_sync(s, cache));
    }
    const mz_block_call common = {
        .rows = &device->rows,
        .ropes = ropes,
        .out_rows = device->all ? NULL : &device->out_rows,
        .out_index = device->out_index,
        .trace = trace,
    };
    MZ_TRY(forward_blocks(s, &last, x, decoder, batch, cache, &common));
    MZ_TRY(mz_op_norm(s, hidden, &last, &decoder->final_norm));
    mz_stream_release(s, mark);
    return mz_trace_record(trace, s, -1, "final_norm", hidden);
}

mz_status mz_decoder_take_ropes(mz_stream *s, const mz_decoder *decoder, int64_t n_positions,
                                mz_rope_table *out) {
    for (int i = 0; i < decoder->n_ropes; i++) {
        MZ_TRY(mz_rope_table_take(s, n_positions, &decoder->ropes[i], &out[i]));
    }
    return MZ_OK;
}
