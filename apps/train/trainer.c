#include "apps/train/trainer.h"

#include <inttypes.h>
#include <math.h>

#include "apps/cli.h"
#include "apps/train/train_metrics.h"
#include "apps/train/train_plot.h"
#include "apps/train/train_report.h"
#include "apps/train/train_state.h"
#include "apps/train/train_update.h"
#include "core/file.h"
#include "core/profile.h"

enum { NOTE_BYTES = 256, N_EXPERT_LINES = 200 };

typedef struct trainer {
    mz_context *ctx;
    mz_trainable *t;
    const mz_trainer_config *config;
    const mz_train_recipe *recipe;
    mz_optimizer *optimizer;
    mz_train_state state; /* lock and checkpoints of the folder */
    mz_train_metrics metrics;
    mz_trainer_summary summary;
    mz_progress progress;
    char note[NOTE_BYTES]; /* of the progress bar */
    int64_t step;          /* steps done */
    int64_t saved_step;    /* of the newest checkpoint; -1: none */
    double saved_s;        /* when it was written */
} trainer;

/* ---- messages ---- */

static void tell(trainer *r, const char *text) {
    mz_progress_finish(&r->progress);
    if (!r->config->quiet) {
        (void)fprintf(stderr, "moezoo train: step %" PRId64 ": %s\n", r->step, text);
    }
}

static void show_progress(trainer *r, const mz_train_step *step) {
    char loss[128];
    char rate[32];
    const mz_train_report *report = step->report;
    const bool tokens = report->n_points == 0;
    const double seconds = step->seconds > 0 ? step->seconds : 1e-9;
    const double per_s = (double)(tokens ? report->n_tokens : report->n_points) / seconds;
    (void)snprintf(r->note, sizeof r->note, "loss %s, lr %.3g, %s %s/s",
                   mz_train_report_text(report, loss, sizeof loss), step->lr,
                   mz_cli_format_count((int64_t)per_s, rate), tokens ? "tokens" : "points");
    mz_progress_update(&r->progress, r->step);
}

/* ---- one step ---- */

static mz_status run_step(trainer *r) {
    const int64_t total = r->recipe->schedule.total_steps;
    const int64_t expert_interval = total > N_EXPERT_LINES ? total / N_EXPERT_LINES : 1;
    const double start = mz_now_s();
    mz_train_report report = {0};
    mz_train_step step = {.step = r->step + 1,
                          .report = &report,
                          .lr = mz_schedule_at(&r->recipe->schedule, r->step),
                          .with_experts = (r->step + 1) % expert_interval == 0};
    MZ_TRY(mz_train_update(r->ctx, r->t, r->optimizer, r->step, (int)r->recipe->accumulate, step.lr,
                           &report, &step.grad_norm));
    step.seconds = mz_now_s() - start;
    r->step++;
    r->summary.loss = report.loss;
    r->summary.n_tokens += report.n_tokens;
    r->summary.n_points += report.n_points;
    MZ_TRY(mz_train_metrics_write_step(&r->metrics, &step));
    show_progress(r, &step);
    return MZ_OK;
}

/* ---- between the steps ---- */

/* Evaluates and saves the weights that count: their averages where there are any. */
static mz_status swap_averages(trainer *r) {
    return r->recipe->optimizer.ema_decay > 0 ? mz_optimizer_swap_ema(r->optimizer) : MZ_OK;
}

static mz_status evaluate(trainer *r) {
    char loss[128];
    char text[160];
    mz_train_report report = {0};
    MZ_TRY(swap_averages(r));
    MZ_TRY(r->t->evaluate(r->t->self, &report));
    MZ_TRY(swap_averages(r));
    MZ_TRY(mz_train_metrics_write_evaluation(&r->metrics, r->step, &report));
    r->summary.evaluation = report.loss;
    (void)snprintf(text, sizeof text, "evaluation %s",
                   mz_train_report_text(&report, loss, sizeof loss));
    tell(r, text);
    return MZ_OK;
}

static mz_status checkpoint(trainer *r) {
    if (r->saved_step == r->step) {
        return MZ_OK;
    }
    MZ_TRY(mz_train_metrics_sync(&r->metrics));
    MZ_TRY(mz_train_state_save(&r->state));
    r->saved_step = r->step;
    r->saved_s = mz_now_s();
    return MZ_OK;
}

static bool is_due(int64_t step, int64_t interval) {
    return interval > 0 && step % interval == 0;
}

static mz_status after_step(trainer *r) {
    const mz_train_recipe *recipe = r->recipe;
    const bool is_last = r->step == recipe->schedule.total_steps;
    if (r->t->evaluate != NULL && (is_last || is_due(r->step, recipe->evaluation_every))) {
        MZ_TRY(evaluate(r));
    }
    const bool time_is_up =
        recipe->checkpoint_every_s > 0 && mz_now_s() - r->saved_s >= recipe->checkpoint_every_s;
    return time_is_up || is_due(r->step, recipe->checkpoint_every) ? checkpoint(r) : MZ_OK;
}

static mz_status train(trainer *r) {
    const int64_t total = r->recipe->schedule.total_steps;
    while (r->step < total) {
        MZ_TRY(run_step(r));
        MZ_TRY(after_step(r));
        if (r->config->stop != NULL && r->config->stop(r->config->stop_arg)) {
            break;
        }
    }
    return checkpoint(r);
}

static mz_status save(trainer *r) {
    static const mz_dtype dtypes[] = {
        [MZ_TRAIN_F32] = MZ_DTYPE_F32, [MZ_TRAIN_BF16] = MZ_DTYPE_BF16};
    const char *dir = r->config->output;
    MZ_TRY(swap_averages(r));
    MZ_TRY(r->t->save(r->t->self, dir, NULL, dtypes[r->recipe->save_dtype]));
    MZ_TRY(swap_averages(r));
    return mz_train_plot_write(r->ctx, dir);
}

/* ---- begin and end ---- */

mz_status mz_trainer_check_folder(mz_context *ctx, const char *output, bool resume) {
    bool has_metrics = false;
    bool has_checkpoints = false;
    bool has_model = false;
    bool has_adapter = false;
    MZ_TRY(mz_dir_has_file(ctx, output, "metrics.jsonl", &has_metrics));
    MZ_TRY(mz_train_state_exists(ctx, output, &has_checkpoints));
    MZ_TRY(mz_dir_has_file(ctx, output, "config.json", &has_model));
    MZ_TRY(mz_dir_has_file(ctx, output, "adapter_config.json", &has_adapter));
    const bool has_training = has_metrics || has_checkpoints;
    if (has_training && !resume) {
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "%s: holds a training already; --resume goes on with it, --output names "
                       "another folder",
                       output);
    }
    /* Perhaps the very one that is to be tuned. */
    if ((has_model || has_adapter) && !has_training) {
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "%s: holds a model (%s) that no training there has written; "
                       "--output names another folder",
                       output, has_model ? "config.json" : "adapter_config.json");
    }
    return MZ_OK;
}

static mz_status open_metrics(trainer *r) {
    char *path = NULL;
    MZ_TRY(mz_path_join(r->ctx, r->config->output, "metrics.jsonl", &path));
    const mz_status status = mz_train_metrics_open(r->ctx, path, r->step, &r->metrics);
    mz_free(r->ctx, path);
    return status;
}

static mz_status open_trainer(trainer *r) {
    const char *output = r->config->output;
    char *note = NULL;
    MZ_TRY(mz_schedule_check(&r->ctx->error, &r->recipe->schedule));
    MZ_TRY(mz_dir_make(r->ctx, output));
    MZ_TRY(mz_train_state_open(r->ctx, output, &r->state));
    MZ_TRY(mz_trainer_check_folder(r->ctx, output, r->config->resume));
    mz_output_sweep(output);
    MZ_TRY(mz_optimizer_create(r->ctx, &r->recipe->optimizer, r->t->parameters, &r->optimizer));
    MZ_TRY(mz_train_state_attach(&r->state, r->recipe, r->t->parameters, r->optimizer));
    MZ_TRY(mz_train_state_load(&r->state, &note));
    r->step = mz_optimizer_n_steps(r->optimizer);
    if (note != NULL) {
        tell(r, note);
        mz_free(r->ctx, note);
    }
    r->saved_step = r->step > 0 ? r->step : -1;
    r->saved_s = mz_now_s();
    r->summary.first_step = r->step;
    return open_metrics(r);
}

static mz_status run(trainer *r) {
    const double start = mz_now_s();
    const int64_t total = r->recipe->schedule.total_steps;
    r->summary.was_finished = r->step >= total;
    if (!r->summary.was_finished) {
        mz_progress_init(&r->progress, "training", total, r->config->quiet);
        r->progress.n_before = r->step;
        r->progress.note = r->note;
        const mz_status status = train(r);
        mz_progress_finish(&r->progress);
        r->summary.seconds = mz_now_s() - start;
        MZ_TRY(status);
    }
    r->summary.n_steps = r->step;
    r->summary.is_finished = r->step >= total;
    /* Again where all was done before: the kill may have come in between. */
    return save(r);
}

mz_status mz_trainer_run(mz_context *ctx, mz_trainable *trainable, const mz_trainer_config *config,
                         mz_trainer_summary *out) {
    trainer r = {.ctx = ctx,
                 .t = trainable,
                 .config = config,
                 .recipe = config->recipe,
                 .summary = {.loss = NAN, .evaluation = NAN}};
    mz_status status = open_trainer(&r);
    if (status == MZ_OK) {
        status = run(&r);
    }
    mz_train_metrics_close(&r.metrics);
    mz_train_state_close(&r.state);
    mz_optimizer_destroy(ctx, r.optimizer);
    if (status == MZ_OK) {
        *out = r.summary;
    }
    return status;
}
