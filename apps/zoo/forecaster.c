#include "apps/zoo/forecaster.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "adapters/lora.h"
#include "apps/zoo/forecaster_internal.h"
#include "apps/zoo/native_quantiles.h"

enum {
    PASS_ROWS =
        1024, /* rows of one pass: bounds the activations, and long contexts enter in such chunks */
    BATCH_POSITIONS = 8192, /* positions of one batch, a row each: bounds the KV cache; a single
                               longer series is a batch of its own */
    MAX_POINTS = 1 << 18,   /* context + horizon */
    MIN_DEFAULT_CONTEXT = 64,
    SHORT_SERIES = 16,
};

/* One series on its way through the model. */
typedef struct track {
    mz_forecast_item *item;
    mz_series_scale scale;
    const float *points; /* still to enter, as the model reads them */
    int64_t n_points;
    int64_t position;  /* of the first row that they fill */
    float *predicted;  /* [horizon] points or medians, as the model reads them */
    float *quantiles;  /* [horizon, n_quantiles] the same of all levels; NULL: not wanted */
    int64_t n_context; /* rows of the context */
} track;

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
    mz_forecaster_session_close(f);
    mz_lora_attach(adapter);
    f->adapters[f->n_adapters++] = adapter;
    return MZ_OK;
}

void mz_forecaster_unload_adapters(mz_forecaster *f) {
    mz_forecaster_session_close(f);
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

int32_t mz_forecaster_levels(const mz_forecaster *f, const double **levels) {
    *levels = f->parts.quantiles;
    return f->parts.n_quantiles;
}

void mz_forecaster_set_profile(mz_forecaster *f, mz_profile *profile) {
    f->profile = profile;
    f->stream.profile = profile;
}

void mz_forecaster_set_watch(mz_forecaster *f, mz_forecast_watch watch) {
    f->watch = watch;
}

/* ---- lengths ---- */

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t longest_head(const mz_forecaster *f) {
    return f->parts.heads.length[f->parts.heads.n_heads - 1];
}

static int64_t rows_of(const mz_forecaster *f, int64_t n_points) {
    return mz_forecaster_parts_n_rows(&f->parts, n_points);
}

int64_t mz_forecaster_context_len(const mz_forecaster *f, const mz_forecast_options *options,
                                  int64_t n_values) {
    int64_t limit = options->context_len;
    if (limit == 0) {
        const int64_t trained =
            f->parts.max_positions > 0 ? f->parts.max_positions : MAX_POINTS / 2;
        limit = max64(trained - options->horizon, MIN_DEFAULT_CONTEXT);
    }
    return min64(limit, n_values);
}

int64_t mz_forecaster_reach(const mz_forecaster *f, const mz_forecast_options *options) {
    return min64(options->horizon, longest_head(f));
}

/* Positions that the KV cache holds for an item, whole pages. */
static int64_t positions_of(const mz_forecaster *f, const mz_forecast_options *o,
                            const mz_forecast_item *item) {
    const int64_t n =
        rows_of(f, mz_forecaster_context_len(f, o, item->n_values)) + rows_of(f, o->horizon);
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
    if (o->context_len < 0 || o->context_len > MAX_POINTS || o->horizon < 1 ||
        o->horizon > MZ_MAX_HORIZON) {
        return mz_fail(err, MZ_ERR_ARG, "context %lld or horizon %lld is out of range",
                       (long long)o->context_len, (long long)o->horizon);
    }
    if (positions_of(f, o, item) > MAX_POINTS / f->parts.patch_len) {
        return mz_fail(err, MZ_ERR_LIMIT, "context and horizon together exceed %d points",
                       (int)MAX_POINTS);
    }
    if (item->n_past > 0 && f->parts.n_quantiles > 0) {
        return mz_fail(err, MZ_ERR_ARG,
                       "series %lld: earlier positions are asked of a model that answers quantiles",
                       (long long)(index + 1));
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
        const int64_t n_quantiles = item->quantiles != NULL ? f->parts.n_quantiles : 0;
        for (int64_t i = 0; i < n_quantiles * o->horizon; i++) {
            item->quantiles[i] = context[0];
        }
        return false;
    }
    item->warnings |= n < SHORT_SERIES ? MZ_FORECAST_SHORT : 0;
    item->warnings |= f->parts.max_positions > 0 && n + o->horizon > f->parts.max_positions
                          ? MZ_FORECAST_BEYOND_TRAINING
                          : 0;
    return true;
}

/* ---- forecasting ---- */

/* Row of the item's `past` that a position answers; negative from the last of the context on. */
static int64_t past_row(const track *t, int64_t position) {
    return t->n_context - 2 - position;
}

/* The first n steps of what a head said, into the track from step `done` on. */
static void take_steps(const mz_forecaster *f, track *t, float *out, int64_t done, int64_t n) {
    const int32_t n_levels = f->parts.n_quantiles;
    if (n_levels == 0) {
        memcpy(t->predicted + done, out, (size_t)n * sizeof(float));
        return;
    }
    mz_native_quantiles_sort(out, n, n_levels);
    for (int64_t h = 0; h < n; h++) {
        t->predicted[done + h] = out[h * n_levels + f->parts.median];
    }
    if (t->quantiles != NULL) {
        memcpy(t->quantiles + done * n_levels, out, (size_t)(n * n_levels) * sizeof(float));
    }
}

static mz_status flush(mz_forecaster *f, int32_t head, track *tracks, int64_t done,
                       const mz_forecast_options *o) {
    mz_pass *p = &f->pass;
    const int32_t past_head = mz_forecast_heads_cover(&f->parts.heads, o->horizon);
    const int64_t width = mz_forecaster_parts_output_width(&f->parts, head);
    const int64_t past_length = f->parts.heads.length[past_head];
    const int64_t reach = mz_forecaster_reach(f, o);
    MZ_TRY(mz_forecaster_pass_run(f, head, past_head));
    for (int64_t i = 0; i < p->n_out; i++) {
        track *t = &tracks[p->out_sequence[i]];
        const int64_t row = past_row(t, p->out_position[i]);
        if (row < 0) {
            take_steps(f, t, p->out + i * width, done,
                       min64(f->parts.heads.length[head], o->horizon - done));
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

/* All points that the tracks have to feed, in passes of at most the session's rows; the last row of
 * each emits `head`, earlier positions that the item wants what their errors are taken from. */
static mz_status feed_all(mz_forecaster *f, int32_t head, track *tracks, int64_t n_tracks,
                          int64_t done, const mz_forecast_options *o) {
    mz_pass *p = &f->pass;
    const int64_t width = mz_forecaster_parts_input_width(&f->parts);
    for (int64_t k = 0; k < n_tracks; k++) {
        track *t = &tracks[k];
        const int64_t n_rows = rows_of(f, t->n_points);
        MZ_TRY(mz_kv_cache_extend(&f->stream, &f->cache, k, t->position + n_rows));
        for (int64_t i = 0; i < n_rows; i++) {
            if (p->n_rows == f->capacity.n_rows) {
                MZ_TRY(flush(f, head, tracks, done, o));
            }
            mz_forecaster_parts_input_row(&f->parts, t->points, t->n_points, i,
                                          p->inputs + p->n_rows * width);
            p->sequence[p->n_rows] = (int32_t)k;
            p->position[p->n_rows] = (int32_t)(t->position + i);
            const int64_t row = past_row(t, t->position + i);
            const bool is_past = row >= 0 && row < t->item->n_past;
            p->n_past += is_past;
            if (is_past || i == n_rows - 1) {
                p->out_index[p->n_out] = (int32_t)p->n_rows;
                p->out_sequence[p->n_out] = (int32_t)k;
                p->out_position[p->n_out++] = (int32_t)(t->position + i);
            }
            p->n_rows++;
        }
        t->position += n_rows;
    }
    return p->n_rows > 0 ? flush(f, head, tracks, done, o) : MZ_OK;
}

/* The published schedule (llm/forecast_head.h), or the shorter one: the points or medians of a head
 * are fed back as one chunk. */
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
            tracks[k].points = tracks[k].predicted + done;
            tracks[k].n_points = emitted;
        }
        done += emitted;
    }
    return MZ_OK;
}

/* Where the points of a run lie; each array holds the tracks one after the other. */
typedef struct run_memory {
    float *scaled;    /* contexts, as the model reads them */
    float *predicted; /* [n_tracks, horizon] */
    float *quantiles; /* [tracks that want them, horizon, n_quantiles] */
} run_memory;

/* Scales every context, and says where its forecasts go. */
static void prepare(mz_forecaster *f, const mz_forecast_options *o, track *tracks, int64_t n_tracks,
                    run_memory at, mz_session_capacity *need) {
    for (int64_t k = 0; k < n_tracks; k++) {
        track *t = &tracks[k];
        const int64_t n = mz_forecaster_context_len(f, o, t->item->n_values);
        const double *context = t->item->values + (t->item->n_values - n);
        t->scale = mz_series_scale_of(context, n, o->normalize);
        mz_series_scale_apply(&t->scale, context, n, at.scaled);
        mz_forecaster_parts_transform(&f->parts, at.scaled, n);
        t->points = at.scaled;
        t->n_points = n;
        t->n_context = rows_of(f, n);
        t->position = 0;
        t->predicted = at.predicted + k * o->horizon;
        at.scaled += n;
        if (t->item->quantiles != NULL && f->parts.n_quantiles > 0) {
            t->quantiles = at.quantiles;
            at.quantiles += o->horizon * f->parts.n_quantiles;
        }
        need->n_rows += t->n_context;
        need->n_out += 1 + t->item->n_past;
        need->n_positions = max64(need->n_positions, t->n_context + rows_of(f, o->horizon));
        need->n_pages += positions_of(f, o, t->item) / MZ_KV_PAGE;
    }
    const int64_t chunk = rows_of(f, min64(longest_head(f), o->horizon)) * n_tracks;
    f->n_rows_done = 0;
    f->n_rows_total = need->n_rows + n_tracks * rows_of(f, o->horizon);
    need->n_rows = min64(max64(need->n_rows, chunk), PASS_ROWS);
    need->n_out = min64(need->n_out, need->n_rows);
    need->n_sequences = n_tracks;
}

/* What is beyond the range of f64 goes to its end. */
static double within_range(double value, mz_forecast_item *item) {
    if (isfinite(value)) {
        return value;
    }
    item->warnings |= MZ_FORECAST_CLAMPED;
    return value > 0 ? DBL_MAX : -DBL_MAX;
}

/* Quantiles back to the units of the series. */
static void finish_quantiles(mz_forecaster *f, const mz_forecast_options *o, const track *t) {
    const int32_t n_levels = f->parts.n_quantiles;
    double *out = t->item->quantiles;
    mz_forecaster_parts_restore(&f->parts, t->quantiles, o->horizon * n_levels);
    for (int64_t i = 0; i < o->horizon * n_levels; i++) {
        out[i % n_levels * o->horizon + i / n_levels] = (double)t->quantiles[i];
    }
    mz_native_quantiles_widen(out, n_levels, f->parts.median, o->horizon, longest_head(f));
    for (int64_t i = 0; i < o->horizon * n_levels; i++) {
        out[i] = within_range(fma(out[i], t->scale.scale, t->scale.mean), t->item);
    }
}

static bool is_finite_step(const mz_forecaster *f, const track *t, int64_t h) {
    bool is_finite = isfinite(t->predicted[h]);
    for (int32_t q = 0; t->quantiles != NULL && q < f->parts.n_quantiles; q++) {
        is_finite = is_finite && isfinite(t->quantiles[h * f->parts.n_quantiles + q]);
    }
    return is_finite;
}

/* Back to the units of the series. */
static mz_status finish(mz_forecaster *f, const mz_forecast_options *o, const track *t) {
    for (int64_t h = 0; h < o->horizon; h++) {
        if (!is_finite_step(f, t, h)) {
            return mz_fail(&f->ctx->error, MZ_ERR_FORMAT,
                           "the model's output at step %lld is not a number: its weights are "
                           "damaged or the input is out of its range",
                           (long long)(h + 1));
        }
    }
    mz_forecaster_parts_restore(&f->parts, t->predicted, o->horizon);
    mz_series_scale_invert(&t->scale, t->predicted, o->horizon, t->item->forecast);
    for (int64_t h = 0; h < o->horizon; h++) {
        t->item->forecast[h] = within_range(t->item->forecast[h], t->item);
    }
    if (t->quantiles != NULL) {
        finish_quantiles(f, o, t);
    }
    return MZ_OK;
}

/* Memory of a run; *memory is released by the caller. Errors: LIMIT, NOMEM. */
static mz_status take_memory(mz_forecaster *f, const mz_forecast_options *o, const track *tracks,
                             int64_t n_tracks, int64_t n_values, void **memory, run_memory *out) {
    size_t n_lines = (size_t)n_tracks; /* of the horizon's length */
    size_t n = 0;
    for (int64_t k = 0; k < n_tracks; k++) {
        n_lines += tracks[k].item->quantiles != NULL ? (size_t)f->parts.n_quantiles : 0;
    }
    if (!mz_size_mul(n_lines, (size_t)o->horizon, &n) ||
        n > SIZE_MAX / sizeof(float) - (size_t)n_values) {
        return mz_fail(&f->ctx->error, MZ_ERR_LIMIT, "%lld series of %lld points do not fit memory",
                       (long long)n_tracks, (long long)o->horizon);
    }
    MZ_TRY(mz_alloc(f->ctx, (n + (size_t)n_values) * sizeof(float), "scaled series", memory));
    out->scaled = *memory;
    out->predicted = out->scaled + n_values;
    out->quantiles = out->predicted + n_tracks * o->horizon;
    return MZ_OK;
}

static mz_status run_tracks(mz_forecaster *f, const mz_forecast_options *o, track *tracks,
                            int64_t n_tracks, int64_t n_values) {
    mz_session_capacity need = {0};
    run_memory at = {0};
    void *memory = NULL;
    if (n_tracks == 0) {
        return MZ_OK;
    }
    MZ_TRY(take_memory(f, o, tracks, n_tracks, n_values, &memory, &at));
    prepare(f, o, tracks, n_tracks, at, &need);
    mz_status status = mz_forecaster_session_ensure(f, &need, false);
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
    if (n_values < 1 || n_values > MAX_POINTS) {
        return mz_fail(&f->ctx->error, MZ_ERR_ARG, "%lld values, expected 1 to %d",
                       (long long)n_values, (int)MAX_POINTS);
    }
    const int64_t n_rows = rows_of(f, n_values);
    const int64_t width = mz_forecaster_parts_input_width(&f->parts);
    const mz_session_capacity need = {.n_rows = n_rows,
                                      .n_out = n_rows,
                                      .n_sequences = 1,
                                      .n_positions = n_rows,
                                      .n_pages = (n_rows + MZ_KV_PAGE - 1) / MZ_KV_PAGE};
    void *memory = NULL;
    MZ_TRY(mz_forecaster_session_ensure(f, &need, true));
    MZ_TRY(mz_kv_cache_extend(&f->stream, &f->cache, 0, n_rows));
    MZ_TRY(mz_alloc(f->ctx, (size_t)n_values * sizeof(float), "points", &memory));
    float *points = memory;
    mz_pass *p = &f->pass;
    memcpy(points, values, (size_t)n_values * sizeof(float));
    mz_forecaster_parts_transform(&f->parts, points, n_values);
    for (int64_t i = 0; i < n_rows; i++) {
        p->sequence[i] = 0;
        p->position[i] = (int32_t)i;
        mz_forecaster_parts_input_row(&f->parts, points, n_values, i, p->inputs + i * width);
    }
    const mz_status status = mz_forecaster_pass_trace(f, n_rows, trace);
    mz_free(f->ctx, memory);
    return status;
}
