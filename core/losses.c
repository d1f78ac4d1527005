/* The losses with their gradients found on the stream's tape, and what all of them check. */
#include "core/losses_internal.h"

#include <math.h>

#include "core/backend.h"
#include "core/tape.h"

mz_status mz_loss_check_call(mz_stream *s, const char *name, double scale) {
    if (!s->backend->host_memory) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: backend %s does not hold its tensors in host memory", name,
                       s->backend->name);
    }
    if (!isfinite(scale)) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "%s: scale is %g, expected a finite number",
                       name, scale);
    }
    return MZ_OK;
}

mz_status mz_loss_check_matrix(mz_stream *s, const char *name, const char *what, const mz_tensor *t,
                               int64_t n_rows, int64_t n_cols) {
    if (t->n_dims != 2 || t->shape[0] != n_rows || t->shape[1] != n_cols || t->ld < n_cols) {
        char actual[96];
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "%s: %s is %s, expected [%lld, %lld]", name,
                       what, mz_shape_text(actual, sizeof actual, t->shape, t->n_dims),
                       (long long)n_rows, (long long)n_cols);
    }
    if (t->dtype != MZ_DTYPE_F32) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE, "%s: %s is %s, expected f32", name, what,
                       mz_dtype_get(t->dtype)->name);
    }
    return MZ_OK;
}

mz_status mz_loss_huber(mz_stream *s, const mz_tensor *pred, const mz_tensor *target,
                        const mz_tensor *weight, double delta, double scale, double *loss) {
    const mz_tensor d_pred = mz_tape_gradient(s, pred);
    return mz_loss_huber_into(s, &d_pred, pred, target, weight, delta, scale, loss);
}

mz_status mz_loss_pinball(mz_stream *s, const mz_tensor *pred, const mz_tensor *target,
                          const mz_tensor *weight, const double *levels, int64_t n_quantiles,
                          double scale, double *loss) {
    const mz_tensor d_pred = mz_tape_gradient(s, pred);
    const mz_pinball_inputs in = {pred, target, weight, levels, n_quantiles};
    return mz_loss_pinball_into(s, &d_pred, &in, scale, loss);
}

mz_status mz_loss_cross_entropy(mz_stream *s, const mz_tensor *hidden, const mz_linear *head,
                                const int32_t *targets, const float *weight, double scale,
                                double *loss) {
    const mz_cross_entropy_gradient d = {
        .hidden = mz_tape_gradient(s, hidden),
        .head = {.weight = mz_tape_gradient(s, &head->weight),
                 .bias = mz_tape_gradient(s, &head->bias)},
    };
    const mz_cross_entropy_inputs in = {
        .hidden = hidden, .head = head, .targets = targets, .weight = weight};
    return mz_loss_cross_entropy_into(s, &d, &in, scale, loss);
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
                          int n_routings, const mz_balance_options *options, double scale,
                          double *loss) {
    const mz_router_loss_inputs in = {routings, n_routings, options};
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

mz_status mz_loss_router_entropy(mz_stream *s, const mz_routing *routings, int n_routings,
                                 double scale, double *loss) {
    const mz_router_loss_inputs in = {routings, n_routings, NULL};
    mz_tensor *d_logits = NULL;
    const size_t mark = mz_arena_mark(&s->arena);
    mz_status status = logits_gradients(s, &in, &d_logits);
    if (status == MZ_OK) {
        status = mz_loss_router_entropy_into(s, d_logits, &in, scale, loss);
    }
    mz_arena_release(&s->arena, mark);
    return status;
}
