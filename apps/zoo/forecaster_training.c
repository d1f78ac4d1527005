#include "apps/zoo/forecaster_training.h"

#include <string.h>

#include "apps/zoo/forecaster_parts.h"
#include "core/cpu.h"
#include "core/losses.h"
#include "core/tape.h"
#include "core/threads.h"

/* Address space for activations at most; what is not touched costs nothing. */
#define MAX_ARENA_BYTES ((size_t)1 << 36)

struct mz_forecast_training {
    mz_context *ctx;
    const mz_forecaster_parts *parts;
    mz_stream stream;
    mz_tape *tape;
    mz_rope_table ropes[MZ_MAX_ROPES];
    mz_routing *routings;        /* [n_layers] of the pass */
    mz_routing *expert_routings; /* those of layers with experts; in the same memory */
    int64_t max_positions;
};

/* ---- life ---- */

/* With its gradient each value takes twice its size: a batch that needs more than the machine has
 * is refused, and the process not killed. */
static size_t arena_bytes(void) {
    const size_t most = mz_memory_bytes() / 2;
    return most < MAX_ARENA_BYTES ? most : MAX_ARENA_BYTES;
}

static mz_status open_stream(mz_forecast_training *t, int64_t max_positions) {
    const void *values = NULL;
    void *gradients = NULL;
    size_t n_bytes = 0;
    const mz_decoder *decoder = &t->parts->decoder;
    const mz_loader *loader = &t->parts->loader;
    MZ_TRY(mz_stream_open(t->ctx, loader->stream.backend, arena_bytes(), &t->stream));
    MZ_TRY(mz_decoder_take_ropes(&t->stream, decoder, max_positions, t->ropes));
    MZ_TRY(mz_tape_create(t->ctx, &t->tape));
    mz_loader_spaces(loader, &values, &gradients, &n_bytes);
    return gradients != NULL ? mz_tape_add_parameters(t->tape, values, gradients, n_bytes) : MZ_OK;
}

mz_status mz_forecast_training_create(mz_context *ctx, mz_forecaster *f, int64_t max_positions,
                                      bool recompute, mz_forecast_training **out) {
    void *memory = NULL;
    void *routings = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_forecast_training), "training", &memory));
    mz_forecast_training *t = memory;
    t->ctx = ctx;
    t->parts = mz_forecaster_parts_of(f);
    t->max_positions = max_positions;
    mz_status status = mz_calloc(ctx, (size_t)t->parts->decoder.n_layers, 2 * sizeof(mz_routing),
                                 "routings", &routings);
    if (status == MZ_OK) {
        t->routings = routings;
        t->expert_routings = t->routings + t->parts->decoder.n_layers;
        status = open_stream(t, max_positions);
    }
    if (status != MZ_OK) {
        mz_forecast_training_destroy(t);
        return status;
    }
    mz_tape_set_recompute(t->tape, recompute);
    *out = t;
    return MZ_OK;
}

void mz_forecast_training_destroy(mz_forecast_training *t) {
    if (t == NULL) {
        return;
    }
    mz_tape_destroy(t->ctx, t->tape);
    mz_stream_close(&t->stream);
    mz_free(t->ctx, t->routings);
    mz_free(t->ctx, t);
}

mz_status mz_forecast_training_add_parameters(mz_forecast_training *t, const void *values,
                                              void *gradients, size_t n_bytes) {
    return mz_tape_add_parameters(t->tape, values, gradients, n_bytes);
}

size_t mz_forecast_training_peak_bytes(const mz_forecast_training *t) {
    return 2 * t->stream.arena.peak; /* each value and its gradient */
}

void mz_forecast_training_set_profile(mz_forecast_training *t, mz_profile *profile) {
    t->stream.profile = profile;
}

/* ---- forward ---- */

static mz_status take_copy(mz_stream *s, int64_t n_rows, int64_t n_cols, const float *values,
                           const char *what, mz_tensor *out) {
    MZ_TRY(mz_stream_take(s, n_rows, n_cols, what, out));
    return s->backend->upload(s, out->data, values,
                              (size_t)n_rows * (size_t)n_cols * sizeof *values);
}

/* Final states of all rows. */
static mz_status run_decoder(mz_forecast_training *t, mz_tensor *hidden,
                             const mz_forecast_rows *rows) {
    mz_stream *s = &t->stream;
    const mz_decoder *decoder = &t->parts->decoder;
    mz_tensor inputs;
    mz_tensor x;
    for (int64_t l = 0; l < decoder->n_layers; l++) {
        if (decoder->blocks[l].has_experts) {
            MZ_TRY(
                mz_routing_take(s, rows->n_rows, &decoder->blocks[l].moe.router, &t->routings[l]));
        }
    }
    MZ_TRY(take_copy(s, rows->n_rows, mz_forecaster_parts_input_width(t->parts), rows->inputs,
                     "inputs", &inputs));
    MZ_TRY(mz_stream_take(s, rows->n_rows, decoder->d_model, "embedded rows", &x));
    MZ_TRY(mz_stream_take(s, rows->n_rows, decoder->d_model, "final states", hidden));
    MZ_TRY(mz_forecaster_parts_embed(s, t->parts, &x, &inputs));
    const mz_batch batch = {.n_tokens = rows->n_rows,
                            .sequence = rows->sequence,
                            .position = rows->position,
                            .n_out = rows->n_rows,
                            .routings = t->routings};
    return mz_decoder_forward(s, hidden, &x, decoder, &batch, NULL, t->ropes, NULL);
}

/* ---- losses ---- */

/* Rows that a head has a weight for. */
typedef struct scored_rows {
    int64_t n;
    int32_t *index; /* [n] ascending */
    double sum;     /* of the weights */
} scored_rows;

static mz_status find_scored(mz_stream *s, const mz_forecast_rows *rows, int32_t head,
                             int64_t length, scored_rows *out) {
    void *memory = NULL;
    MZ_TRY(mz_stream_take_bytes(s, (size_t)rows->n_rows * sizeof(int32_t), "scored rows", &memory));
    *out = (scored_rows){.index = memory};
    for (int64_t r = 0; r < rows->n_rows; r++) {
        const float *w = rows->weights[head] + r * length;
        double sum = 0;
        for (int64_t i = 0; i < length; i++) {
            sum += (double)w[i];
        }
        if (sum > 0) {
            out->index[out->n++] = (int32_t)r;
            out->sum += sum;
        }
    }
    return MZ_OK;
}

/* The scored rows of a [n_rows, length] host matrix. */
static mz_status take_scored(mz_stream *s, const scored_rows *scored, int64_t length,
                             const float *values, const char *what, mz_tensor *out) {
    MZ_TRY(mz_stream_take(s, scored->n, length, what, out));
    for (int64_t i = 0; i < scored->n; i++) {
        memcpy(mz_tensor_f32(out, i), values + scored->index[i] * length,
               (size_t)length * sizeof *values);
    }
    return MZ_OK;
}

static mz_status head_loss(mz_forecast_training *t, const mz_tensor *hidden,
                           const mz_forecast_rows *rows, int32_t head, const mz_forecast_loss *loss,
                           double scale, double *out) {
    mz_stream *s = &t->stream;
    const mz_forecaster_parts *p = t->parts;
    const int64_t length = p->heads.length[head];
    scored_rows scored;
    mz_tensor states = *hidden;
    mz_tensor predicted;
    mz_tensor target;
    mz_tensor weight;
    MZ_TRY(find_scored(s, rows, head, length, &scored));
    if (scored.n == 0) {
        return MZ_OK;
    }
    if (scored.n < rows->n_rows) {
        MZ_TRY(mz_stream_take(s, scored.n, hidden->shape[1], "scored states", &states));
        MZ_TRY(mz_op_gather_rows(s, &states, hidden, scored.index, 1));
    }
    MZ_TRY(mz_stream_take(s, scored.n, mz_forecaster_parts_output_width(p, head), "head output",
                          &predicted));
    MZ_TRY(mz_forecaster_parts_head(s, p, &predicted, &states, head));
    MZ_TRY(take_scored(s, &scored, length, rows->targets[head], "targets", &target));
    MZ_TRY(take_scored(s, &scored, length, rows->weights[head], "target weights", &weight));
    const double mean = scale / (scored.sum * rows->n_heads);
    return p->n_quantiles > 0
               ? mz_loss_pinball(s, &predicted, &target, &weight, p->quantiles, p->n_quantiles,
                                 mean, out)
               : mz_loss_huber(s, &predicted, &target, &weight, loss->huber_delta, mean, out);
}

/* The routers' losses; the routings of layers with experts stand first in `routings`. */
static mz_status router_losses(mz_forecast_training *t, const mz_routing *routings, int n,
                               const mz_forecast_loss *loss, double scale, double *balance,
                               double *router_z) {
    mz_stream *s = &t->stream;
    const double factor = scale * loss->balance_factor;
    if (n == 0) {
        return MZ_OK;
    }
    for (int i = 0; factor > 0 && loss->balance_by_layer && i < n; i++) {
        MZ_TRY(
            mz_loss_balance(s, MZ_BALANCE_TOPK_POOLED, &routings[i], 1, NULL, factor / n, balance));
    }
    if (factor > 0 && !loss->balance_by_layer) {
        MZ_TRY(mz_loss_balance(s, MZ_BALANCE_TOPK_POOLED, routings, n, NULL, factor, balance));
    }
    return loss->router_z_factor > 0
               ? mz_loss_router_z(s, routings, n, scale * loss->router_z_factor, router_z)
               : MZ_OK;
}

static void report_usage(mz_train_report *report, const mz_routing *routing) {
    const double n_slots = (double)routing->n_tokens * routing->top_k;
    double busiest = 0;
    double idlest = 1;
    for (int32_t e = 0; e < routing->n_experts && n_slots > 0; e++) {
        const double share =
            (double)(routing->expert_offsets[e + 1] - routing->expert_offsets[e]) / n_slots;
        busiest = share > busiest ? share : busiest;
        idlest = share < idlest ? share : idlest;
    }
    if (report->n_layers < MZ_MAX_TRACKED_LAYERS) {
        report->busiest[report->n_layers] = busiest;
        report->idlest[report->n_layers++] = idlest;
    }
}

static void report_part(mz_train_report *report, const char *name, double value, double scale) {
    report->part_name[report->n_parts] = name;
    report->part[report->n_parts++] = value / scale;
    report->loss += value / scale;
}

static mz_status losses(mz_forecast_training *t, const mz_tensor *hidden,
                        const mz_forecast_rows *rows, const mz_forecast_loss *loss, double scale,
                        mz_train_report *report) {
    const mz_decoder *decoder = &t->parts->decoder;
    double errors = 0;
    double balance = 0;
    double router_z = 0;
    int n_routings = 0;
    for (int32_t i = 0; i < rows->n_heads; i++) {
        MZ_TRY(head_loss(t, hidden, rows, i, loss, scale, &errors));
    }
    for (int64_t l = 0; l < decoder->n_layers; l++) {
        if (decoder->blocks[l].has_experts) {
            report_usage(report, &t->routings[l]);
            t->expert_routings[n_routings++] = t->routings[l];
        }
    }
    MZ_TRY(router_losses(t, t->expert_routings, n_routings, loss, scale, &balance, &router_z));
    report_part(report, t->parts->n_quantiles > 0 ? "pinball" : "huber", errors, scale);
    if (n_routings > 0 && loss->balance_factor > 0) {
        report_part(report, "balance", balance, scale);
    }
    if (n_routings > 0 && loss->router_z_factor > 0) {
        report_part(report, "router_z", router_z, scale);
    }
    return MZ_OK;
}

/* ---- passes ---- */

static mz_status check_rows(const mz_forecast_training *t, const mz_forecast_rows *rows) {
    mz_error *err = &t->ctx->error;
    if (rows->n_heads != t->parts->heads.n_heads) {
        return mz_fail(err, MZ_ERR_ARG, "targets of %d heads, the model has %d", rows->n_heads,
                       t->parts->heads.n_heads);
    }
    for (int64_t r = 0; r < rows->n_rows; r++) {
        const bool begins = r == 0 || rows->sequence[r] != rows->sequence[r - 1];
        const int64_t expected = begins ? 0 : rows->position[r - 1] + 1;
        if (rows->position[r] != expected || expected >= t->max_positions) {
            return mz_fail(err, MZ_ERR_ARG, "row %lld has position %d, expected %lld, below %lld",
                           (long long)r, rows->position[r], (long long)expected,
                           (long long)t->max_positions);
        }
    }
    return MZ_OK;
}

static mz_status forward(mz_forecast_training *t, const mz_forecast_rows *rows,
                         const mz_forecast_loss *loss, double scale, mz_train_report *report) {
    mz_tensor hidden;
    *report = (mz_train_report){0};
    MZ_TRY(check_rows(t, rows));
    MZ_TRY(run_decoder(t, &hidden, rows));
    MZ_TRY(losses(t, &hidden, rows, loss, scale, report));
    report->n_tokens = rows->n_rows;
    return MZ_OK;
}

mz_status mz_forecast_training_gradients(mz_forecast_training *t, const mz_forecast_rows *rows,
                                         const mz_forecast_loss *loss, double scale,
                                         mz_train_report *report) {
    MZ_TRY(mz_tape_attach(t->tape, &t->stream));
    mz_pool_begin(t->ctx->pool);
    mz_status status = forward(t, rows, loss, scale, report);
    if (status == MZ_OK) {
        status = mz_backward(&t->stream);
    }
    mz_pool_end(t->ctx->pool);
    mz_tape_detach(&t->stream);
    return status;
}

mz_status mz_forecast_training_loss(mz_forecast_training *t, const mz_forecast_rows *rows,
                                    const mz_forecast_loss *loss, mz_train_report *report) {
    const size_t mark = mz_stream_mark(&t->stream);
    mz_pool_begin(t->ctx->pool);
    const mz_status status = forward(t, rows, loss, 1.0, report);
    mz_pool_end(t->ctx->pool);
    mz_stream_release(&t->stream, mark);
    return status;
}
