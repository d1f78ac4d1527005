#include "apps/zoo/forecaster.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapters/lora.h"
#include "apps/zoo/forecaster_parts.h"
#include "core/threads.h"
#include "llm/rope.h"

enum {
    PASS_ROWS =
        1024, /* rows of one pass: bounds the activations, and long contexts enter in such chunks */
    BATCH_POSITIONS = 8192,  /* positions of one batch: bounds the KV cache; a single longer series
                                is a batch of its own */
    MAX_POSITIONS = 1 << 18, /* context + horizon */
    MIN_DEFAULT_CONTEXT = 64,
    SHORT_SERIES = 16,
};

/* One series on its way through the model. */
typedef struct track {
    mz_forecast_item *item;
    mz_series_scale scale;
    const float *feed; /* rows still to enter */
    int64_t n_feed;
    int64_t position; /* of feed[0] */
    float *predicted; /* [horizon] scaled */
    int64_t n_values; /* of the context */
} track;

/* What a session can hold. */
typedef struct capacity {
    int64_t n_rows, n_out;            /* of a pass */
    int64_t n_sequences, n_positions; /* positions per sequence */
    int64_t n_pages;
} capacity;

/* Rows gathered for one pass; arrays of capacity.n_rows. */
typedef struct pass {
    int64_t n_rows, n_out;
    int64_t n_past; /* of n_out, earlier positions that an item wants */
    float *values;
    int32_t *sequence, *position;
    int32_t *out_index, *out_sequence, *out_position;
    float *out;      /* [n_out, longest head] what the head emitted */
    float *past_out; /* the same of the head for earlier positions */
} pass;

struct mz_forecaster {
    mz_context *ctx;
    mz_forecaster_parts parts;
    mz_lora **adapters; /* [n_adapters] attached */
    size_t n_adapters, adapters_capacity;
    mz_profile *profile;
    mz_forecast_watch watch;
    int64_t n_rows_done, n_rows_total; /* of the run */
    bool keep;                         /* the session keeps its activations */
    capacity capacity;                 /* of the session; all 0 without one */
    mz_stream stream;
    mz_kv_cache cache;
    mz_rope_table rope;
    pass pass;
    void *pass_memory;
};

/* ---- life ---- */

mz_status mz_forecaster_create(mz_context *ctx, mz_forecaster **out, mz_forecaster_parts **parts) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_forecaster), "forecaster", &memory));
    mz_forecaster *f = memory;
    f->ctx = ctx;
    *parts = &f->parts;
    *out = f;
    return MZ_OK;
}

static void close_session(mz_forecaster *f) {
    mz_kv_cache_destroy(&f->stream, &f->cache);
    mz_stream_close(&f->stream);
    mz_free(f->ctx, f->pass_memory);
    f->pass_memory = NULL;
    f->capacity = (capacity){0};
}

void mz_forecaster_close(mz_forecaster *f) {
    if (f == NULL) {
        return;
    }
    mz_forecaster_unload_adapters(f);
    mz_free(f->ctx, f->adapters);
    mz_free(f->ctx, f->parts.decoder.blocks);
    mz_loader_close(&f->parts.loader);
    mz_free(f->ctx, f);
}

/* A session's memory was measured for the deltas that there were. */
mz_status mz_forecaster_load_adapter(mz_forecaster *f, const char *dir) {
    mz_lora *adapter = NULL;
    void *adapters = f->adapters;
    MZ_TRY(mz_grow(f->ctx, &adapters, &f->adapters_capacity, f->n_adapters + 1, sizeof adapter,
                   "adapters"));
    f->adapters = adapters;
    MZ_TRY(mz_lora_load(f->ctx, &f->parts.loader, dir, NULL, &adapter));
    close_session(f);
    mz_lora_attach(adapter);
    f->adapters[f->n_adapters++] = adapter;
    return MZ_OK;
}

void mz_forecaster_unload_adapters(mz_forecaster *f) {
    close_session(f);
    while (f->n_adapters > 0) {
        mz_lora_destroy(f->adapters[--f->n_adapters]);
    }
}

const mz_forecaster_parts *mz_forecaster_parts_of(const mz_forecaster *f) {
    return &f->parts;
}

int64_t mz_forecaster_max_positions(const mz_forecaster *f) {
    return f->parts.max_positions;
}

void mz_forecaster_set_profile(mz_forecaster *f, mz_profile *profile) {
    f->profile = profile;
    f->stream.profile = profile;
}

void mz_forecaster_set_watch(mz_forecaster *f, mz_forecast_watch watch) {
    f->watch = watch;
}

/* ---- one pass ---- */

static int64_t longest_head(const mz_forecaster *f) {
    return f->parts.heads.length[f->parts.heads.n_heads - 1];
}

/* Embeds the values, runs the decoder, gives the hidden states of the wanted rows. `values` NULL in
 * measure mode. */
static mz_status run_decoder(mz_forecaster *f, mz_stream *s, const mz_tensor *hidden,
                             const float *values, const mz_batch *batch, const mz_trace *trace) {
    const size_t mark = mz_stream_mark(s);
    mz_tensor points;
    mz_tensor x;
    MZ_TRY(mz_stream_take(s, batch->n_tokens, 1, "points", &points));
    MZ_TRY(mz_stream_take(s, batch->n_tokens, f->parts.decoder.d_model, "embedded points", &x));
    if (!s->arena.measure) {
        MZ_TRY(
            s->backend->upload(s, points.data, values, (size_t)batch->n_tokens * sizeof *values));
    }
    MZ_TRY(mz_forecaster_parts_embed(s, &f->parts, &x, &points));
    MZ_TRY(mz_trace_record(trace, s, -1, "embed", &x));
    MZ_TRY(mz_decoder_forward(s, hidden, &x, &f->parts.decoder, batch, &f->cache, &f->rope, trace));
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* Head `head` of the hidden states, downloaded to `out` [n_out, length]. */
static mz_status run_head(mz_forecaster *f, mz_stream *s, const mz_tensor *hidden, int32_t head,
                          float *out) {
    const size_t mark = mz_stream_mark(s);
    const int64_t length = f->parts.heads.length[head];
    mz_tensor y;
    MZ_TRY(mz_stream_take(s, hidden->shape[0], length, "head output", &y));
    MZ_TRY(mz_forecaster_parts_head(s, &f->parts, &y, hidden, head));
    if (!s->arena.measure && hidden->shape[0] > 0) {
        MZ_TRY(s->backend->download(s, out, y.data,
                                    (size_t)(hidden->shape[0] * length) * sizeof *out));
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
        (void)snprintf(name, sizeof name, "head%d", i);
        MZ_TRY(mz_stream_take(s, hidden->shape[0], f->parts.heads.length[i], "head output", &y));
        MZ_TRY(mz_forecaster_parts_head(s, &f->parts, &y, hidden, i));
        MZ_TRY(mz_trace_record(trace, s, -1, name, &y));
    }
    return MZ_OK;
}

/* The gathered rows through decoder and head, and `past_head` where earlier positions are wanted;
 * the answers lie in p->out and p->past_out. */
static mz_status run_pass(mz_forecaster *f, mz_stream *s, int32_t head, int32_t past_head,
                          const pass *p, const mz_trace *trace) {
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
    MZ_TRY(run_decoder(f, s, &hidden, p->values, &batch, trace));
    MZ_TRY(run_head(f, s, &hidden, head, p->out));
    if (p->n_past > 0) {
        MZ_TRY(run_head(f, s, &hidden, past_head, p->past_out));
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* ---- session ---- */

/* What the session's stream holds besides the cache; the same code measures and fills. */
static mz_status take_session(mz_forecaster *f, mz_stream *s, const capacity *c,
                              mz_rope_table *rope) {
    return mz_rope_table_take(s, c->n_positions, f->parts.decoder.blocks[0].head_dim,
                              f->parts.decoder.rope_theta, rope);
}

static mz_status measure_session(mz_forecaster *f, const capacity *c, bool keep, size_t *bytes) {
    mz_stream measure;
    mz_rope_table rope;
    const mz_block *block = &f->parts.decoder.blocks[0];
    const int32_t dummy = 0; /* stands for the index arrays, which nothing reads */
    const pass p = {.n_rows = c->n_rows, .n_out = c->n_out, .out_index = (int32_t *)&dummy};
    const mz_trace inside = {.inside_moe =
                                 true}; /* what a trace that keeps everything may ask for */
    mz_stream_open_measure(f->ctx, f->parts.loader.stream.backend, &measure);
    measure.keep = keep;
    f->cache.config = (mz_kv_cache_config){.n_layers = f->parts.decoder.n_layers,
                                           .n_kv_heads = block->n_kv_heads,
                                           .head_dim = block->head_dim};
    MZ_TRY(take_session(f, &measure, c, &rope));
    f->rope = rope;
    MZ_TRY(run_pass(f, &measure, f->parts.heads.n_heads - 1, 0, &p, keep ? &inside : NULL));
    if (keep) {
        const mz_tensor hidden =
            mz_tensor_2d(MZ_DTYPE_F32, c->n_out, f->parts.decoder.d_model, NULL);
        MZ_TRY(trace_heads(f, &measure, &hidden, NULL));
    }
    *bytes = measure.arena.peak;
    return MZ_OK;
}

static mz_status allocate_pass(mz_forecaster *f, const capacity *c) {
    const size_t n = (size_t)c->n_rows;
    const size_t n_out = (size_t)c->n_out * (size_t)longest_head(f);
    MZ_TRY(mz_alloc(f->ctx, (6 * n + 2 * n_out) * sizeof(float), "pass", &f->pass_memory));
    float *floats = f->pass_memory;
    int32_t *ints = (int32_t *)(floats + n + 2 * n_out);
    f->pass = (pass){.values = floats,
                     .out = floats + n,
                     .past_out = floats + n + n_out,
                     .sequence = ints,
                     .position = ints + n,
                     .out_index = ints + 2 * n,
                     .out_sequence = ints + 3 * n,
                     .out_position = ints + 4 * n};
    return MZ_OK;
}

static mz_status open_session(mz_forecaster *f, const capacity *c, bool keep) {
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
    MZ_TRY(take_session(f, &f->stream, c, &f->rope));
    MZ_TRY(mz_kv_cache_create(&f->stream, &cache, &f->cache));
    MZ_TRY(allocate_pass(f, c));
    f->capacity = *c;
    f->keep = keep;
    return MZ_OK;
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A session that holds at least `need`; an existing one that is large enough stays. */
static mz_status ensure_session(mz_forecaster *f, const capacity *need, bool keep) {
    const capacity *have = &f->capacity;
    if (have->n_rows >= need->n_rows && have->n_out >= need->n_out &&
        have->n_sequences >= need->n_sequences && have->n_positions >= need->n_positions &&
        have->n_pages >= need->n_pages && f->keep == keep) {
        mz_kv_cache_reset(&f->cache);
        return MZ_OK;
    }
    const capacity grown = {
        .n_rows = max64(have->n_rows, need->n_rows),
        .n_out = max64(have->n_out, need->n_out),
        .n_sequences = max64(have->n_sequences, need->n_sequences),
        .n_positions = max64(have->n_positions, need->n_positions),
        .n_pages = max64(have->n_pages, need->n_pages),
    };
    close_session(f);
    const mz_status status = open_session(f, &grown, keep);
    if (status != MZ_OK) {
        close_session(f);
    }
    return status;
}

/* ---- forecasting ---- */

int64_t mz_forecaster_context_len(const mz_forecaster *f, const mz_forecast_options *options,
                                  int64_t n_values) {
    int64_t limit = options->context_len;
    if (limit == 0) {
        const int64_t trained =
            f->parts.max_positions > 0 ? f->parts.max_positions : MAX_POSITIONS / 2;
        limit = max64(trained - options->horizon, MIN_DEFAULT_CONTEXT);
    }
    return min64(limit, n_values);
}

int64_t mz_forecaster_reach(const mz_forecaster *f, const mz_forecast_options *options) {
    return min64(options->horizon, longest_head(f));
}

static int64_t positions_of(const mz_forecaster *f, const mz_forecast_options *o,
                            const mz_forecast_item *item) {
    const int64_t n = mz_forecaster_context_len(f, o, item->n_values) + o->horizon;
    return (n + MZ_KV_PAGE - 1) / MZ_KV_PAGE * MZ_KV_PAGE;
}

int64_t mz_forecaster_batch_size(const mz_forecaster *f, const mz_forecast_options *options,
                                 const mz_forecast_item *items, int64_t n_items) {
    int64_t total = 0;
    for (int64_t i = 0; i < n_items; i++) {
        total += positions_of(f, options, &items[i]);
        if (i > 0 && total > BATCH_POSITIONS) {
            return i;
        }
    }
    return n_items > 0 ? n_items : 1;
}

static bool is_constant(const double *values, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        if (values[i] != values[0]) {
            return false;
        }
    }
    return true;
}

static mz_status check_item(mz_forecaster *f, const mz_forecast_options *o,
                            const mz_forecast_item *item, int64_t index) {
    mz_error *err = &f->ctx->error;
    if (item->n_values < 1) {
        return mz_fail(err, MZ_ERR_ARG, "series %lld has no values", (long long)(index + 1));
    }
    if (o->context_len < 0 || o->context_len > MAX_POSITIONS || o->horizon < 1 ||
        o->horizon > MZ_MAX_HORIZON) {
        return mz_fail(err, MZ_ERR_ARG, "context %lld or horizon %lld is out of range",
                       (long long)o->context_len, (long long)o->horizon);
    }
    if (positions_of(f, o, item) > MAX_POSITIONS) {
        return mz_fail(err, MZ_ERR_LIMIT, "context and horizon together exceed %d points",
                       (int)MAX_POSITIONS);
    }
    if (item->n_past < 0 ||
        (item->n_past > 0 && item->n_past >= mz_forecaster_context_len(f, o, item->n_values))) {
        return mz_fail(err, MZ_ERR_ARG, "series %lld: %lld earlier positions of %lld values",
                       (long long)(index + 1), (long long)item->n_past,
                       (long long)mz_forecaster_context_len(f, o, item->n_values));
    }
    for (int64_t i = 0; o->normalize == MZ_NORMALIZE_NONE && i < item->n_values; i++) {
        if (!(fabs(item->values[i]) <= (double)FLT_MAX)) {
            return mz_fail(err, MZ_ERR_ARG,
                           "series %lld: the value %g is too large without normalisation",
                           (long long)(index + 1), item->values[i]);
        }
    }
    return MZ_OK;
}

/* Answers an item that needs no model, or notes what is unusual about it. Returns whether the model
 * must run. */
static bool needs_model(const mz_forecaster *f, const mz_forecast_options *o,
                        mz_forecast_item *item) {
    const int64_t n = mz_forecaster_context_len(f, o, item->n_values);
    const double *context = item->values + (item->n_values - n);
    item->warnings = 0;
    if (o->normalize == MZ_NORMALIZE_WINDOW && is_constant(context, n)) {
        item->warnings = n < 2 ? MZ_FORECAST_NAIVE : MZ_FORECAST_CONSTANT;
        for (int64_t h = 0; h < o->horizon; h++) {
            item->forecast[h] = context[0];
        }
        for (int64_t i = 0; i < item->n_past * mz_forecaster_reach(f, o); i++) {
            item->past[i] = context[0];
        }
        return false;
    }
    item->warnings |= n < SHORT_SERIES ? MZ_FORECAST_SHORT : 0;
    item->warnings |= f->parts.max_positions > 0 && n + o->horizon > f->parts.max_positions
                          ? MZ_FORECAST_BEYOND_TRAINING
                          : 0;
    return true;
}

/* Row of the item's `past` that a position answers; negative from the last of the context on. */
static int64_t past_row(const track *t, int64_t position) {
    return t->n_values - 2 - position;
}

static mz_status flush(mz_forecaster *f, int32_t head, track *tracks, int64_t done,
                       const mz_forecast_options *o) {
    pass *p = &f->pass;
    const int32_t past_head = mz_forecast_heads_cover(&f->parts.heads, o->horizon);
    const int64_t length = f->parts.heads.length[head];
    const int64_t past_length = f->parts.heads.length[past_head];
    const int64_t reach = mz_forecaster_reach(f, o);
    mz_pool_begin(f->ctx->pool);
    const mz_status status = run_pass(f, &f->stream, head, past_head, p, NULL);
    mz_pool_end(f->ctx->pool);
    MZ_TRY(status);
    for (int64_t i = 0; i < p->n_out; i++) {
        track *t = &tracks[p->out_sequence[i]];
        const int64_t row = past_row(t, p->out_position[i]);
        if (row < 0) {
            memcpy(t->predicted + done, p->out + i * length,
                   (size_t)min64(length, o->horizon - done) * sizeof(float));
        } else {
            mz_series_scale_invert(&t->scale, p->past_out + i * past_length, reach,
                                   t->item->past + row * reach);
        }
    }
    f->n_rows_done += p->n_rows;
    p->n_rows = 0;
    p->n_out = 0;
    p->n_past = 0;
    if (f->watch.passed != NULL &&
        !f->watch.passed(f->watch.self, f->n_rows_done, f->n_rows_total)) {
        return mz_fail(&f->ctx->error, MZ_ERR_INTERRUPTED, "interrupted");
    }
    return MZ_OK;
}

/* All rows that the tracks have to feed, in passes of at most the session's rows; the last row of
 * each emits `head`, earlier positions that the item wants what their errors are taken from. */
static mz_status feed_all(mz_forecaster *f, int32_t head, track *tracks, int64_t n_tracks,
                          int64_t done, const mz_forecast_options *o) {
    pass *p = &f->pass;
    for (int64_t k = 0; k < n_tracks; k++) {
        track *t = &tracks[k];
        MZ_TRY(mz_kv_cache_extend(&f->stream, &f->cache, k, t->position + t->n_feed));
        for (int64_t i = 0; i < t->n_feed; i++) {
            if (p->n_rows == f->capacity.n_rows) {
                MZ_TRY(flush(f, head, tracks, done, o));
            }
            p->values[p->n_rows] = t->feed[i];
            p->sequence[p->n_rows] = (int32_t)k;
            p->position[p->n_rows] = (int32_t)(t->position + i);
            const int64_t row = past_row(t, t->position + i);
            const bool is_past = row >= 0 && row < t->item->n_past;
            p->n_past += is_past;
            if (is_past || i == t->n_feed - 1) {
                p->out_index[p->n_out] = (int32_t)p->n_rows;
                p->out_sequence[p->n_out] = (int32_t)k;
                p->out_position[p->n_out++] = (int32_t)(t->position + i);
            }
            p->n_rows++;
        }
        t->position += t->n_feed;
    }
    return p->n_rows > 0 ? flush(f, head, tracks, done, o) : MZ_OK;
}

/* The published schedule (llm/forecast_head.h), or the shorter one: the points of a head are fed
 * back as one chunk. */
static mz_status generate(mz_forecaster *f, const mz_forecast_options *o, track *tracks,
                          int64_t n_tracks) {
    const int64_t horizon = o->horizon;
    f->pass.n_rows = 0;
    f->pass.n_out = 0;
    f->pass.n_past = 0;
    for (int64_t done = 0; done < horizon;) {
        const int32_t head = (o->overshoot ? mz_forecast_heads_cover : mz_forecast_heads_pick)(
            &f->parts.heads, horizon - done);
        MZ_TRY(feed_all(f, head, tracks, n_tracks, done, o));
        const int64_t emitted = min64(f->parts.heads.length[head], horizon - done);
        for (int64_t k = 0; k < n_tracks; k++) {
            tracks[k].feed = tracks[k].predicted + done;
            tracks[k].n_feed = emitted;
        }
        done += emitted;
    }
    return MZ_OK;
}

/* Scales every context into `scaled`, one after the other. */
static void prepare(mz_forecaster *f, const mz_forecast_options *o, track *tracks, int64_t n_tracks,
                    float *scaled, float *predicted, capacity *need) {
    for (int64_t k = 0; k < n_tracks; k++) {
        track *t = &tracks[k];
        const int64_t n = mz_forecaster_context_len(f, o, t->item->n_values);
        const double *context = t->item->values + (t->item->n_values - n);
        t->scale = mz_series_scale_of(context, n, o->normalize);
        mz_series_scale_apply(&t->scale, context, n, scaled);
        t->feed = scaled;
        t->n_feed = n;
        t->n_values = n;
        t->position = 0;
        t->predicted = predicted + k * o->horizon;
        scaled += n;
        need->n_rows += n;
        need->n_out += 1 + t->item->n_past;
        need->n_positions = max64(need->n_positions, n + o->horizon);
        need->n_pages += positions_of(f, o, t->item) / MZ_KV_PAGE;
    }
    const int64_t chunk = min64(longest_head(f), o->horizon) * n_tracks;
    need->n_rows = min64(max64(need->n_rows, chunk), PASS_ROWS);
    need->n_out = min64(need->n_out, need->n_rows);
    need->n_sequences = n_tracks;
}

/* Back to the units of the series. */
static mz_status finish(mz_forecaster *f, const mz_forecast_options *o, const track *t) {
    mz_series_scale_invert(&t->scale, t->predicted, o->horizon, t->item->forecast);
    for (int64_t h = 0; h < o->horizon; h++) {
        if (!isfinite(t->predicted[h])) {
            return mz_fail(&f->ctx->error, MZ_ERR_FORMAT,
                           "the model's output at step %lld is not a number: its weights are "
                           "damaged or the input is out of its range",
                           (long long)(h + 1));
        }
        if (!isfinite(t->item->forecast[h])) {
            t->item->forecast[h] = t->predicted[h] > 0 ? DBL_MAX : -DBL_MAX;
            t->item->warnings |= MZ_FORECAST_CLAMPED;
        }
    }
    return MZ_OK;
}

static mz_status run_tracks(mz_forecaster *f, const mz_forecast_options *o, track *tracks,
                            int64_t n_tracks, int64_t n_values) {
    capacity need = {0};
    void *memory = NULL;
    size_t n = 0;
    if (n_tracks == 0) {
        return MZ_OK;
    }
    if (!mz_size_mul((size_t)n_tracks, (size_t)o->horizon, &n) ||
        n > SIZE_MAX / sizeof(float) - (size_t)n_values) {
        return mz_fail(&f->ctx->error, MZ_ERR_LIMIT, "%lld series of %lld points do not fit memory",
                       (long long)n_tracks, (long long)o->horizon);
    }
    MZ_TRY(mz_alloc(f->ctx, (n + (size_t)n_values) * sizeof(float), "scaled series", &memory));
    float *scaled = memory;
    prepare(f, o, tracks, n_tracks, scaled, scaled + n_values, &need);
    f->n_rows_done = 0;
    f->n_rows_total = n_values + n_tracks * o->horizon;
    mz_status status = ensure_session(f, &need, false);
    if (status == MZ_OK) {
        status = generate(f, o, tracks, n_tracks);
    }
    for (int64_t k = 0; k < n_tracks && status == MZ_OK; k++) {
        status = finish(f, o, &tracks[k]);
    }
    mz_free(f->ctx, memory);
    return status;
}

mz_status mz_forecaster_run(mz_forecaster *f, const mz_forecast_options *options,
                            mz_forecast_item *items, int64_t n_items) {
    void *memory = NULL;
    int64_t n_tracks = 0;
    int64_t n_values = 0;
    if (f->parts.rows != MZ_ROWS_POINT) {
        return mz_fail(&f->ctx->error, MZ_ERR_UNSUPPORTED, "models of patches cannot forecast yet");
    }
    for (int64_t i = 0; i < n_items; i++) {
        MZ_TRY(check_item(f, options, &items[i], i));
    }
    MZ_TRY(mz_calloc(f->ctx, (size_t)n_items, sizeof(track), "series", &memory));
    track *tracks = memory;
    for (int64_t i = 0; i < n_items; i++) {
        if (needs_model(f, options, &items[i])) {
            tracks[n_tracks++].item = &items[i];
            n_values += mz_forecaster_context_len(f, options, items[i].n_values);
        }
    }
    const mz_status status = run_tracks(f, options, tracks, n_tracks, n_values);
    mz_free(f->ctx, memory);
    return status;
}

/* ---- goldens ---- */

mz_status mz_forecaster_trace(mz_forecaster *f, const float *values, int64_t n_values,
                              const mz_trace *trace) {
    if (f->parts.rows != MZ_ROWS_POINT) {
        return mz_fail(&f->ctx->error, MZ_ERR_UNSUPPORTED, "models of patches cannot forecast yet");
    }
    if (n_values < 1 || n_values > MAX_POSITIONS) {
        return mz_fail(&f->ctx->error, MZ_ERR_ARG, "%lld values, expected 1 to %d",
                       (long long)n_values, (int)MAX_POSITIONS);
    }
    const capacity need = {.n_rows = n_values,
                           .n_out = n_values,
                           .n_sequences = 1,
                           .n_positions = n_values,
                           .n_pages = (n_values + MZ_KV_PAGE - 1) / MZ_KV_PAGE};
    mz_tensor hidden;
    MZ_TRY(ensure_session(f, &need, true));
    MZ_TRY(mz_kv_cache_extend(&f->stream, &f->cache, 0, n_values));
    pass *p = &f->pass;
    for (int64_t i = 0; i < n_values; i++) {
        p->sequence[i] = 0;
        p->position[i] = (int32_t)i;
    }
    const mz_batch batch = {
        .n_tokens = n_values, .sequence = p->sequence, .position = p->position, .n_out = n_values};
    const size_t mark = mz_arena_mark(&f->stream.arena);
    MZ_TRY(mz_stream_take(&f->stream, n_values, f->parts.decoder.d_model, "final states", &hidden));
    mz_status status = run_decoder(f, &f->stream, &hidden, values, &batch, trace);
    if (status == MZ_OK) {
        status = trace_heads(f, &f->stream, &hidden, trace);
    }
    mz_arena_release(&f->stream.arena, mark);
    return status;
}
