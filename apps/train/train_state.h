/* The state of a training in its output folder: who may write there, and checkpoints to go on from.
 */
#ifndef MZ_APPS_TRAIN_TRAIN_STATE_H
#define MZ_APPS_TRAIN_TRAIN_STATE_H

#include <stdbool.h>

#include "apps/train/recipe.h"
#include "core/checkpoint.h"
#include "core/dir_lock.h"
#include "core/optimizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opened by mz_train_state_open, closed by mz_train_state_close; one thread. All zero: closed. */
typedef struct mz_train_state {
    mz_context *ctx;
    const char *dir; /* borrowed */
    mz_lock lock;
    const mz_train_recipe *recipe;
    mz_optimizer *optimizer;
    mz_checkpoint_tensor *tensors; /* [n_tensors] trained weights, then the optimizer's state */
    char **names;                  /* [n_tensors] of the weights, owned */
    int64_t n_tensors;
} mz_train_state;

/* Takes the existing folder for itself. Errors: IO for a folder that another training uses; NOMEM.
 */
mz_status mz_train_state_open(mz_context *ctx, const char *dir, mz_train_state *out);

/* What checkpoints hold: the weights that `optimizer` trains, its state, and the recipe. All are
 * borrowed. Errors: NOMEM. */
mz_status mz_train_state_attach(mz_train_state *state, const mz_train_recipe *recipe,
                                const mz_parameters *parameters, mz_optimizer *optimizer);

/* Reads the newest checkpoint into weights and optimizer; *note (released with mz_free) is what
 * a user should know about it, or NULL: that a newer one is damaged, or that the recipe has
 * changed. Without any nothing happens. Errors: those of mz_checkpoint_latest and
 * mz_checkpoint_read. */
mz_status mz_train_state_load(mz_train_state *state, char **note);

/* Writes a checkpoint. Errors: those of mz_checkpoint_write. */
mz_status mz_train_state_save(mz_train_state *state);

/* Accepts a closed one. */
void mz_train_state_close(mz_train_state *state);

/* Whether there is any checkpoint in DIR. Errors: NOMEM. */
mz_status mz_train_state_exists(mz_context *ctx, const char *dir, bool *out);

#ifdef __cplusplus
}
#endif
#endif
