#include "apps/forecast/tune_train.h"

#include <math.h>
#include <string.h>

#include "apps/cli.h"
#include "apps/train/train_update.h"
#include "core/profile.h"
#include "core/schedule.h"

enum {
    N_LOOKS = 16,  /* scores of a training */
    PATIENCE = 6,  /* looks without a better one, after which it ends */
    PLAN_AFTER = 3 /* steps by which the time of all is judged */
};

static const double WARMUP_SHARE = 0.05;
static const double LAST_LR = 0.1;
static const double OVERTIME = 1.1; /* of the time, when it really is up */

typedef struct tuner {
    mz_context *ctx;
    const mz_trainable *t;
    const mz_tune_training *config;
    mz_tune_trained *out;
    mz_optimizer *optimizer;
    float *best; /* values of all parameters, one after the other */
    mz_schedule schedule;
    mz_progress progress;
    char note[64];
    double start_s, look_s; /* begin, and what a look takes */
    int64_t n_useless;      /* looks since the best */
} tuner;

/* ---- states ---- */

static void copy_state(const tuner *r, bool restore) {
    float *at = r->best;
    for (int64_t i = 0; i < r->t->parameters->n; i++) {
        const mz_tensor *value = &r->t->parameters->items[i].value;
        for (int64_t row = 0; row < mz_tensor_n_rows(value); row++) {
            const size_t n = (size_t)mz_tensor_n_cols(value);
            memcpy(restore ? mz_tensor_f32(value, row) : at,
                   restore ? at : mz_tensor_f32(value, row), n * sizeof *at);
            at += n;
        }
    }
}

static mz_status look(tuner *r) {
    double score = NAN;
    const double start = mz_now_s();
    MZ_TRY(r->config->score(r->config->self, &score));
    r->look_s = mz_now_s() - start;
    if (r->out->n_steps == 0) {
        r->out->first = score;
        r->out->best = score;
    } else if (score < r->out->best) {
        r->out->best = score;
        r->out->best_step = r->out->n_steps;
        r->n_useless = 0;
        copy_state(r, false);
    } else {
        r->n_useless++;
    }
    (void)snprintf(r->note, sizeof r->note, "score %.4g, best %.4g", score, r->out->best);
    return MZ_OK;
}

/* ---- steps ---- */

static int64_t look_interval(const tuner *r) {
    const int64_t interval = r->out->n_planned / N_LOOKS;
    return interval > 1 ? interval : 1;
}

static void plan(tuner *r, int64_t n_steps) {
    mz_schedule *s = &r->schedule;
    r->out->n_planned = n_steps;
    s->total_steps = n_steps;
    s->warmup_steps = (int64_t)((double)n_steps * WARMUP_SHARE);
    r->progress.n_total = n_steps;
}

/* Fewer steps where those planned would take too long. */
static void fit_time(tuner *r) {
    const double per_step =
        (mz_now_s() - r->start_s) / PLAN_AFTER + r->look_s / (double)look_interval(r);
    const double n_fit = r->config->seconds / per_step;
    if (!r->config->fixed_steps && n_fit < (double)r->out->n_planned) {
        plan(r, n_fit > PLAN_AFTER + 1 ? (int64_t)n_fit : PLAN_AFTER + 1);
    }
}

/* Whether training goes on. */
static bool goes_on(tuner *r) {
    mz_tune_trained *out = r->out;
    const double seconds = mz_now_s() - r->start_s;
    if (r->config->stop != NULL && r->config->stop(r->config->self)) {
        out->end = MZ_TUNE_INTERRUPTED;
    } else if (out->n_steps >= out->n_planned) {
        out->end = MZ_TUNE_DONE;
    } else if (r->n_useless >= PATIENCE) {
        out->end = MZ_TUNE_NO_GAIN;
    } else if (!r->config->fixed_steps && seconds > r->config->seconds * OVERTIME) {
        out->end = MZ_TUNE_TIME;
    } else {
        return true;
    }
    return false;
}

static mz_status step(tuner *r) {
    mz_train_report report = {0};
    const int64_t s = r->out->n_steps;
    MZ_TRY(mz_train_update(r->ctx, r->t, r->optimizer, s, r->config->n_micro,
                           mz_schedule_at(&r->schedule, s), &report, NULL));
    r->out->loss = report.loss;
    r->out->n_steps++;
    mz_progress_update(&r->progress, r->out->n_steps);
    return MZ_OK;
}

static mz_status train(tuner *r) {
    mz_tune_trained *out = r->out;
    int64_t looked = 0;
    do {
        const mz_status status = step(r);
        if (status == MZ_ERR_FORMAT) {
            out->end = MZ_TUNE_DIVERGED;
            return MZ_OK;
        }
        MZ_TRY(status);
        if (out->n_steps == PLAN_AFTER) {
            fit_time(r);
        }
        if (out->n_steps % look_interval(r) == 0 || out->n_steps == out->n_planned) {
            MZ_TRY(look(r));
            looked = out->n_steps;
        }
    } while (goes_on(r));
    return looked < out->n_steps ? look(r) : MZ_OK;
}

static mz_status run(tuner *r) {
    const mz_optimizer_config optimizer = {.beta1 = 0.9,
                                           .beta2 = 0.95,
                                           .eps = 1e-8,
                                           .weight_decay = r->config->weight_decay,
                                           .clip_norm = 1};
    void *memory = NULL;
    r->schedule = (mz_schedule){
        .kind = MZ_SCHEDULE_COSINE, .lr = r->config->lr, .min_lr = r->config->lr * LAST_LR};
    plan(r, r->config->n_steps);
    MZ_TRY(mz_schedule_check(&r->ctx->error, &r->schedule));
    MZ_TRY(mz_optimizer_create(r->ctx, &optimizer, r->t->parameters, &r->optimizer));
    MZ_TRY(mz_calloc(r->ctx, (size_t)mz_parameters_n_values(r->t->parameters), sizeof(float),
                     "best state", &memory));
    r->best = memory;
    copy_state(r, false);
    MZ_TRY(look(r));
    mz_progress_init(&r->progress, "tuning", r->out->n_planned, r->config->quiet);
    r->progress.note = r->note;
    r->start_s = mz_now_s();
    const mz_status status = train(r);
    mz_progress_finish(&r->progress);
    MZ_TRY(status);
    r->out->seconds = mz_now_s() - r->start_s;
    copy_state(r, true);
    return MZ_OK;
}

mz_status mz_tune_train(mz_context *ctx, const mz_trainable *t, const mz_tune_training *config,
                        mz_tune_trained *out) {
    *out = (mz_tune_trained){.loss = NAN};
    tuner r = {.ctx = ctx, .t = t, .config = config, .out = out};
    const mz_status status = run(&r);
    mz_optimizer_destroy(ctx, r.optimizer);
    mz_free(ctx, r.best);
    return status;
}
