#include "core/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static mz_status check_steps(mz_error *err, const char *name, int64_t steps, int64_t max) {
    if (steps >= 0 && steps <= max) {
        return MZ_OK;
    }
    return mz_fail(err, MZ_ERR_ARG, "schedule: %s is %lld, expected 0 to %lld", name,
                   (long long)steps, (long long)max);
}

mz_status mz_schedule_check(mz_error *err, const mz_schedule *s) {
    if (!(s->lr > 0 && s->lr < INFINITY)) {
        return mz_fail(err, MZ_ERR_ARG,
                       "schedule: the learning rate is %g, expected a finite number above 0",
                       s->lr);
    }
    if (s->kind == MZ_SCHEDULE_CONSTANT) {
        return check_steps(err, "warmup_steps", s->warmup_steps, INT64_MAX);
    }
    if (!(s->min_lr >= 0 && s->min_lr <= s->lr)) {
        return mz_fail(err, MZ_ERR_ARG,
                       "schedule: the lowest learning rate is %g, expected 0 to %g", s->min_lr,
                       s->lr);
    }
    MZ_TRY(check_steps(err, "total_steps", s->total_steps, INT64_MAX));
    MZ_TRY(check_steps(err, "warmup_steps", s->warmup_steps, s->total_steps));
    if (s->kind == MZ_SCHEDULE_WSD) {
        MZ_TRY(check_steps(err, "decay_steps", s->decay_steps, s->total_steps - s->warmup_steps));
    }
    return MZ_OK;
}

/* How far `step` is from `begin` to `end`, in [0, 1]; 1 at `end` even where nothing lies between.
 */
static double progress(int64_t step, int64_t begin, int64_t end) {
    if (step >= end) {
        return 1;
    }
    return step <= begin ? 0 : (double)(step - begin) / (double)(end - begin);
}

double mz_schedule_at(const mz_schedule *s, int64_t step) {
    if (step < s->warmup_steps) {
        return s->lr * (double)(step + 1) / (double)s->warmup_steps;
    }
    const double span = s->lr - s->min_lr;
    if (s->kind == MZ_SCHEDULE_COSINE) {
        const double p = progress(step, s->warmup_steps, s->total_steps);
        return s->min_lr + span * 0.5 * (1 + cos(pi * p));
    }
    if (s->kind == MZ_SCHEDULE_WSD) {
        const double p = progress(step, s->total_steps - s->decay_steps, s->total_steps);
        return s->min_lr + span * (1 - sqrt(p));
    }
    return s->lr;
}
