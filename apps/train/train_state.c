#include "apps/train/train_state.h"

#include <string.h>

#include "core/file.h"

static const char WEIGHT[] = "weight.";

mz_status mz_train_state_open(mz_context *ctx, const char *dir, mz_train_state *out) {
    mz_train_state state = {.ctx = ctx, .dir = dir};
    MZ_TRY(mz_dir_lock(ctx, dir, &state.lock));
    *out = state;
    return MZ_OK;
}

void mz_train_state_close(mz_train_state *state) {
    if (state->ctx == NULL) {
        return;
    }
    for (int64_t i = 0; i < state->n_tensors && state->names != NULL; i++) {
        mz_free(state->ctx, state->names[i]);
    }
    mz_free(state->ctx, state->names);
    mz_free(state->ctx, state->tensors);
    mz_dir_unlock(&state->lock);
    *state = (mz_train_state){0};
}

mz_status mz_train_state_exists(mz_context *ctx, const char *dir, bool *out) {
    char *path = NULL;
    MZ_TRY(mz_path_join(ctx, dir, "checkpoints", &path));
    *out = mz_dir_exists(path);
    mz_free(ctx, path);
    return MZ_OK;
}

static mz_status add_weight(mz_train_state *state, const mz_parameter *parameter) {
    void *name = NULL;
    const size_t bytes = sizeof WEIGHT + strlen(parameter->name);
    MZ_TRY(mz_alloc(state->ctx, bytes, "names of a checkpoint", &name));
    (void)snprintf(name, bytes, "%s%s", WEIGHT, parameter->name);
    state->names[state->n_tensors] = name;
    state->tensors[state->n_tensors++] =
        (mz_checkpoint_tensor){.name = name, .tensor = parameter->value};
    return MZ_OK;
}

mz_status mz_train_state_attach(mz_train_state *state, const mz_train_recipe *recipe,
                                const mz_parameters *parameters, mz_optimizer *optimizer) {
    const int64_t n_states = mz_optimizer_n_states(optimizer);
    const size_t n_most = (size_t)(parameters->n + n_states);
    void *memory = NULL;
    state->recipe = recipe;
    state->optimizer = optimizer;
    MZ_TRY(mz_calloc(state->ctx, n_most, sizeof(mz_checkpoint_tensor), "checkpoint", &memory));
    state->tensors = memory;
    MZ_TRY(mz_calloc(state->ctx, n_most, sizeof(char *), "checkpoint", &memory));
    state->names = memory;
    /* What is not trained comes from the recipe's model each time. */
    for (int64_t i = 0; i < parameters->n; i++) {
        if (mz_optimizer_trains(optimizer, i)) {
            MZ_TRY(add_weight(state, &parameters->items[i]));
        }
    }
    for (int64_t i = 0; i < n_states; i++) {
        mz_checkpoint_tensor *t = &state->tensors[state->n_tensors++];
        mz_optimizer_state(optimizer, i, &t->name, &t->tensor);
    }
    return MZ_OK;
}

/* The first key of the recipe whose value is another than in the recipe of the checkpoint, among
 * those that matter for what is learned; NULL: none. */
static const char *changed_key(const json_t *then, const json_t *now) {
    static const char *const keys[] = {"job",      "model", "data",      "loss",     "optimizer",
                                       "schedule", "batch", "precision", "recompute"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *a = json_object_get(then, keys[i]);
        json_t *b = json_object_get(now, keys[i]);
        if ((a != NULL || b != NULL) && !json_equal(a, b)) {
            return keys[i];
        }
    }
    return NULL;
}

static mz_status take_note(const mz_train_state *state, const mz_checkpoint *checkpoint,
                           const json_t *read, char **note) {
    const char *key = changed_key(json_object_get(read, "recipe"), state->recipe->document);
    if (checkpoint->note == NULL && key == NULL) {
        return MZ_OK;
    }
    char text[MZ_ERROR_BYTES];
    (void)snprintf(text, sizeof text, "%s%s%s%s", checkpoint->note != NULL ? checkpoint->note : "",
                   checkpoint->note != NULL && key != NULL ? "; " : "",
                   key != NULL ? "the recipe is not the one of the checkpoint: changed is " : "",
                   key != NULL ? key : "");
    return mz_strdup(state->ctx, text, note);
}

static mz_status load(mz_train_state *state, const mz_checkpoint *checkpoint, char **note) {
    json_t *read = NULL;
    int64_t step = 0;
    MZ_TRY(mz_checkpoint_read(state->ctx, checkpoint->path, state->tensors, state->n_tensors, &step,
                              &read));
    mz_status status = take_note(state, checkpoint, read, note);
    json_decref(read);
    if (status == MZ_OK) {
        status = mz_optimizer_set_n_steps(state->optimizer, step);
    }
    return status;
}

mz_status mz_train_state_load(mz_train_state *state, char **note) {
    mz_checkpoint checkpoint = {0};
    *note = NULL;
    MZ_TRY(mz_checkpoint_latest(state->ctx, state->dir, &checkpoint));
    const mz_status status = checkpoint.path != NULL ? load(state, &checkpoint, note) : MZ_OK;
    mz_checkpoint_free(state->ctx, &checkpoint);
    return status;
}

mz_status mz_train_state_save(mz_train_state *state) {
    json_t *content = json_object();
    mz_status status = MZ_ERR_NOMEM;
    if (content == NULL || json_object_set(content, "recipe", state->recipe->document) != 0) {
        (void)mz_fail(&state->ctx->error, status, "%s: out of memory for a checkpoint", state->dir);
    } else {
        status = mz_checkpoint_write(state->ctx, state->dir, mz_optimizer_n_steps(state->optimizer),
                                     state->tensors, state->n_tensors, content,
                                     state->recipe->checkpoint_keep);
    }
    json_decref(content);
    return status;
}
