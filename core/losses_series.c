/* Losses of forecasts: Huber and pinball. */
#include "core/losses_internal.h"

#include <math.h>

#include "core/backend.h"
#include "core/threads.h"

/* Rows are cut into at most this many chunks, by their number alone, and each chunk has a sum of
 * its own: so the order of summation does not depend on the threads. */
enum { MAX_CHUNKS = 64 };

/* What both losses read and write. */
typedef struct series_job {
    const mz_tensor *d_pred, *pred, *target, *weight; /* d_pred, weight NULL: absent */
    const double *levels;                             /* of pinball */
    int64_t n_quantiles;
    double delta; /* of Huber */
    double scale;
    int64_t grain;
    double sums[MAX_CHUNKS];
} series_job;

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

static const mz_tensor *present(const mz_tensor *t) {
    return t != NULL && t->n_dims != 0 ? t : NULL;
}

static mz_status check_series(mz_stream *s, const char *name, series_job *job) {
    const int64_t n_rows = job->pred->shape[0];
    const int64_t width = job->pred->shape[1];
    job->d_pred = present(job->d_pred);
    job->weight = present(job->weight);
    MZ_TRY(mz_loss_check_call(s, name, job->scale));
    MZ_TRY(mz_loss_check_matrix(s, name, "pred", job->pred, n_rows, width));
    if (width % job->n_quantiles != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "%s: pred has %lld columns, expected a multiple of %lld levels", name,
                       (long long)width, (long long)job->n_quantiles);
    }
    const int64_t n_steps = width / job->n_quantiles;
    MZ_TRY(mz_loss_check_matrix(s, name, "target", job->target, n_rows, n_steps));
    if (job->weight != NULL) {
        MZ_TRY(mz_loss_check_matrix(s, name, "weight", job->weight, n_rows, n_steps));
    }
    if (job->d_pred != NULL) {
        MZ_TRY(mz_loss_check_matrix(s, name, "gradient of pred", job->d_pred, n_rows, width));
    }
    return MZ_OK;
}

static void run_series(mz_stream *s, series_job *job, mz_task task, double *loss) {
    const int64_t n_rows = job->pred->shape[0];
    if (s->arena.measure || n_rows == 0) {
        return;
    }
    job->grain = (n_rows + MAX_CHUNKS - 1) / MAX_CHUNKS;
    mz_pool_run(s->ctx->pool, n_rows, job->grain, task, job);
    double sum = 0;
    for (int64_t i = 0; i * job->grain < n_rows; i++) {
        sum += job->sums[i];
    }
    *loss += job->scale * sum;
}

static void huber_task(void *arg, int64_t begin, int64_t end, int thread) {
    series_job *job = arg;
    (void)thread;
    const int64_t width = job->pred->shape[1];
    const double delta = job->delta;
    double sum = 0;
    for (int64_t row = begin; row < end; row++) {
        const float *pred = mz_tensor_f32(job->pred, row);
        const float *target = mz_tensor_f32(job->target, row);
        const float *weight = job->weight != NULL ? mz_tensor_f32(job->weight, row) : NULL;
        float *d_pred = job->d_pred != NULL ? mz_tensor_f32(job->d_pred, row) : NULL;
        for (int64_t i = 0; i < width; i++) {
            const double w = weight != NULL ? (double)weight[i] : 1;
            if (w == 0) {
                continue;
            }
            const double e = (double)pred[i] - (double)target[i];
            const double size = fabs(e);
            const double cut = size > delta ? delta : size; /* NaN stays NaN */
            sum += w * cut * (size - 0.5 * cut);
            if (d_pred != NULL) {
                d_pred[i] += (float)(job->scale * w * copysign(cut, e));
            }
        }
    }
    job->sums[begin / job->grain] = sum;
}

mz_status mz_loss_huber_into(mz_stream *s, const mz_tensor *d_pred, const mz_tensor *pred,
                             const mz_tensor *target, const mz_tensor *weight, double delta,
                             double scale, double *loss) {
    series_job job = {.d_pred = d_pred,
                      .pred = pred,
                      .target = target,
                      .weight = weight,
                      .n_quantiles = 1,
                      .delta = delta,
                      .scale = scale};
    MZ_TRY(check_series(s, "Huber loss", &job));
    if (!(delta > 0) || !isfinite(delta)) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "Huber loss: delta is %g, expected a positive finite number", delta);
    }
    run_series(s, &job, huber_task, loss);
    return MZ_OK;
}

/* One step: adds to the gradients, each times `factor`, and returns the sum over the levels. */
static double pinball_step(const series_job *job, const float *pred, double target, double factor,
                           float *d_pred) {
    double sum = 0;
    for (int64_t q = 0; q < job->n_quantiles; q++) {
        const double level = job->levels[q];
        const double e = target - (double)pred[q];
        sum += e < 0 ? (level - 1) * e : level * e;
        if (d_pred != NULL) {
            const double at_zero = 0 * e; /* 0, or NaN */
            const double slope = e > 0 ? -level : (e < 0 ? 1 - level : at_zero);
            d_pred[q] += (float)(factor * slope);
        }
    }
    return sum;
}

static void pinball_task(void *arg, int64_t begin, int64_t end, int thread) {
    series_job *job = arg;
    (void)thread;
    const int64_t n_steps = job->target->shape[1];
    const double mean = 2.0 / (double)job->n_quantiles;
    double sum = 0;
    for (int64_t row = begin; row < end; row++) {
        const float *pred = mz_tensor_f32(job->pred, row);
        const float *target = mz_tensor_f32(job->target, row);
        const float *weight = job->weight != NULL ? mz_tensor_f32(job->weight, row) : NULL;
        float *d_pred = job->d_pred != NULL ? mz_tensor_f32(job->d_pred, row) : NULL;
        for (int64_t i = 0; i < n_steps; i++) {
            const double w = mean * (weight != NULL ? (double)weight[i] : 1);
            const int64_t first = i * job->n_quantiles;
            if (w != 0) {
                sum += w * pinball_step(job, pred + first, (double)target[i], job->scale * w,
                                        d_pred != NULL ? d_pred + first : NULL);
            }
        }
    }
    job->sums[begin / job->grain] = sum;
}

mz_status mz_loss_pinball_into(mz_stream *s, const mz_tensor *d_pred, const mz_pinball_inputs *in,
                               double scale, double *loss) {
    series_job job = {.d_pred = d_pred,
                      .pred = in->pred,
                      .target = in->target,
                      .weight = in->weight,
                      .levels = in->levels,
                      .n_quantiles = in->n_quantiles,
                      .scale = scale};
    if (in->n_quantiles < 1) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "pinball loss: %lld levels, expected 1 or more",
                       (long long)in->n_quantiles);
    }
    for (int64_t q = 0; q < in->n_quantiles; q++) {
        if (!(in->levels[q] > 0 && in->levels[q] < 1)) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                           "pinball loss: level %lld is %g, expected a number between 0 and 1",
                           (long long)q, in->levels[q]);
        }
    }
    MZ_TRY(check_series(s, "pinball loss", &job));
    run_series(s, &job, pinball_task, loss);
    return MZ_OK;
}
