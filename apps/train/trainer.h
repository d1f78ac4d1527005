/* Training: steps, metrics, evaluation, checkpoints, the final model, and going on after a kill. */
#ifndef MZ_APPS_TRAIN_TRAINER_H
#define MZ_APPS_TRAIN_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/train/recipe.h"
#include "apps/zoo/trainable.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_trainer_config {
    const mz_train_recipe *recipe; /* its model, data, loss and batch are the trainable's matter */
    const char *output;            /* folder; made where it is missing */
    bool resume; /* go on from the folder's newest checkpoint; without one, start */
    bool quiet;  /* no progress bar, no lines on stderr */
    /* Asked after each step whether to end there as if it were killed politely; NULL: never. */
    bool (*stop)(void *arg);
    void *stop_arg;
} mz_trainer_config;

typedef struct mz_trainer_summary {
    int64_t first_step;         /* steps that were done before */
    int64_t n_steps;            /* done now, all in all */
    double loss;                /* of the last step done by this run; NaN: it did none */
    double evaluation;          /* the last one by this run; NaN: none */
    double seconds;             /* of this run's steps, evaluations and checkpoints */
    int64_t n_tokens, n_points; /* seen by this run */
    bool is_finished;           /* all steps are done */
    bool was_finished;          /* they were before: nothing was trained */
} mz_trainer_summary;

/* Trains until the schedule's end or until stopped. In the output folder there are then
 *   metrics.jsonl           a line a step, none twice
 *   checkpoints/...         state to go on from (core/checkpoint.h)
 *   config.json, ...        the model (trainable.save), averaged where the recipe says so
 *   loss.svg, experts.svg   pictures of metrics.jsonl
 * A training that was killed and resumed gives the same losses as one that was not, bit by bit.
 * Errors: those of mz_trainer_check_folder; IO for a folder that another training uses; FORMAT for
 * a loss or gradient that is not finite, naming step and tensor (the last checkpoint stays); IO;
 * NOMEM; those of the trainable. */
mz_status mz_trainer_run(mz_context *ctx, mz_trainable *trainable, const mz_trainer_config *config,
                         mz_trainer_summary *out);

/* Looks whether a training may write there, changing nothing. Errors: ARG for a folder that holds a
 * training while `resume` is off, or a model that comes from elsewhere; NOMEM. */
mz_status mz_trainer_check_folder(mz_context *ctx, const char *output, bool resume);

#ifdef __cplusplus
}
#endif
#endif
