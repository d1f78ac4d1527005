#include "apps/train/train_update.h"

#include <inttypes.h>
#include <math.h>


/* The first parameter whose values, or gradients, are not finite; NULL: none. */
static const char *find_bad(const mz_parameters *parameters, bool gradients) {
    for (int64_t i = 0; i < parameters->n; i++) {
        const mz_parameter *p = &parameters->items[i];
        const mz_tensor *tensor = gradients ? &p->gradient : &p->value;
        for (int64_t row = 0; row < mz_tensor_n_rows(tensor); row++) {
            const float *values = mz_tensor_f32(tensor, row);
            for (int64_t k = 0; k < mz_tensor_n_cols(tensor); k++) {
                if (!isfinite(values[k])) {
                    return p->name;
                }
            }
        }
    }
    return NULL;
}

static mz_status check_loss(mz_context *ctx, const mz_trainable *t, int64_t step,
                            const mz_train_report *report) {
    if (isfinite(report->loss)) {
        return MZ_OK;
    }
    const char *part = "";
    for (int i = 0; i < report->n_parts && part[0] == '\0'; i++) {
        part = isfinite(report->part[i]) ? "" : report->part_name[i];
    }
    const char *weight = find_bad(t->parameters, false);
    const char *gradient = weight == NULL ? find_bad(t->parameters, true) : NULL;
    const char *tensor = weight != NULL ? weight : gradient;
    const char *what = weight != NULL     ? "; the first weight that is not finite is "
                       : gradient != NULL ? "; the first gradient that is not finite is of "
                                          : "";
    return mz_fail(&ctx->error, MZ_ERR_FORMAT, "step %" PRId64 ": the loss is %s%s%s%s%s", step + 1,
                   isnan(report->loss) ? "NaN" : "infinite", part[0] != '\0' ? ", its part " : "",
                   part, what, tensor != NULL ? tensor : "");
}

mz_status mz_train_update(mz_context *ctx, const mz_trainable *t, mz_optimizer *optimizer,
                          int64_t step, int n_micro, double lr, mz_train_report *report,
                          double *grad_norm) {
    *report = (mz_train_report){0};
    mz_parameters_zero_gradients(ctx, t->parameters);
    for (int micro = 0; micro < n_micro; micro++) {
        mz_train_report one = {0};
        MZ_TRY(t->gradients(t->self, step, micro, n_micro, &one));
        MZ_TRY(check_loss(ctx, t, step, &one));
        mz_train_report_add(report, &one, 1.0 / n_micro);
    }
    const mz_status status = mz_optimizer_step(optimizer, lr, grad_norm);
    if (status == MZ_ERR_ARG) { /* the rate is a schedule's: it is a gradient, told with its step */
        ctx->error.status = MZ_ERR_FORMAT;
    }
    return status == MZ_ERR_ARG ? MZ_ERR_FORMAT : status;
}
