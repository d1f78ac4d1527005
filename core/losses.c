/* The losses with their gradients found on the stream's tape. */
#include "core/losses_internal.h"

#include "core/tape.h"

/* Absent without a tape, and for what has no gradient. */
static mz_tensor gradient(mz_stream *s, const mz_tensor *t) {
    return s->tape != NULL ? mz_tape_gradient(s, t) : (mz_tensor){0};
}

mz_status mz_loss_huber(mz_stream *s, const mz_tensor *pred, const mz_tensor *target,
                        const mz_tensor *weight, double delta, double scale, double *loss) {
    const mz_tensor d_pred = gradient(s, pred);
    return mz_loss_huber_into(s, &d_pred, pred, target, weight, delta, scale, loss);
}

mz_status mz_loss_pinball(mz_stream *s, const mz_tensor *pred, const mz_tensor *target,
                          const mz_tensor *weight, const double *levels, int64_t n_quantiles,
                          double scale, double *loss) {
    const mz_tensor d_pred = gradient(s, pred);
    const mz_pinball_inputs in = {pred, target, weight, levels, n_quantiles};
    return mz_loss_pinball_into(s, &d_pred, &in, scale, loss);
}

/* The gradients of the logits of all routings, from the arena; NULL without a tape. */
static mz_status logits_gradients(mz_stream *s, const mz_router_loss_inputs *in, mz_tensor **out) {
    void *data = NULL;
    if (s->tape == NULL || in->n_routings < 1) {
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take_bytes(s, (size_t)in->n_routings * sizeof **out, "gradients", &data));
    *out = data;
    for (int i = 0; i < in->n_routings && data != NULL; i++) {
        (*out)[i] = mz_tape_gradient(s, &in->routings[i].logits);
    }
    return MZ_OK;
}

mz_status mz_loss_balance(mz_stream *s, mz_balance_kind kind, const mz_routing *routings,
                          int n_routings, const mz_rows *rows, double scale, double *loss) {
    const mz_router_loss_inputs in = {routings, n_routings, rows};
    mz_tensor *d_logits = NULL;
    const size_t mark = mz_arena_mark(&s->arena);
    mz_status status = logits_gradients(s, &in, &d_logits);
    if (status == MZ_OK) {
        status = mz_loss_balance_into(s, d_logits, kind, &in, scale, loss);
    }
    mz_arena_release(&s->arena, mark);
    return status;
}

mz_status mz_loss_router_z(mz_stream *s, const mz_routing *routings, int n_routings, double scale,
                           double *loss) {
    const mz_router_loss_inputs in = {routings, n_routings, NULL};
    mz_tensor *d_logits = NULL;
    const size_t mark = mz_arena_mark(&s->arena);
    mz_status status = logits_gradients(s, &in, &d_logits);
    if (status == MZ_OK) {
        status = mz_loss_router_z_into(s, d_logits, &in, scale, loss);
    }
    mz_arena_release(&s->arena, mark);
    return status;
}
