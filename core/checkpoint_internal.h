/* The folders that checkpoints lie in: names, listing, removing. */
#ifndef MZ_CORE_CHECKPOINT_INTERNAL_H
#define MZ_CORE_CHECKPOINT_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a name in DIR/checkpoints says. The folder of a step is renamed from kind to kind, so that
 * at no moment half a checkpoint has the name of a whole one. */
typedef enum checkpoint_kind {
    CHECKPOINT_WHOLE = 0, /* step-N */
    CHECKPOINT_NEW,       /* .step-N.new: being written */
    CHECKPOINT_OLD,       /* .step-N.old: whole, making room for a new one of its step */
    CHECKPOINT_GONE,      /* .step-N.gone: being removed */
} checkpoint_kind;

enum { CHECKPOINT_NAME_BYTES = 40 };

/* DIR/checkpoints. Opened with mz_checkpoints_open, closed with mz_checkpoints_close. */
typedef struct mz_checkpoints {
    mz_context *ctx;
    char *path;
    int fd; /* -1: there is no such folder */
} mz_checkpoints;

/* `create`: makes the folder where there is none. Errors: IO, NOMEM. */
mz_status mz_checkpoints_open(mz_context *ctx, const char *dir, bool create, mz_checkpoints *out);
void mz_checkpoints_close(mz_checkpoints *store);

/* Writes the name of a step's folder of a kind; returns `out`. */
const char *mz_checkpoints_name(char out[CHECKPOINT_NAME_BYTES], int64_t step,
                                checkpoint_kind kind);

/* The whole ones, newest first; *steps is released with mz_free. Errors: IO, NOMEM. */
mz_status mz_checkpoints_list(const mz_checkpoints *store, int64_t **steps, int64_t *n);

/* Removes what a killed process left; an old one whose successor did not come gets its name back.
 * What cannot be removed is left: it has no name of a whole one. Errors: IO, NOMEM. */
mz_status mz_checkpoints_clean(const mz_checkpoints *store);

/* Removes a folder of files; one that is not there is none to remove. Errors: IO. */
mz_status mz_checkpoints_remove(const mz_checkpoints *store, int64_t step, checkpoint_kind kind);

/* Gives the new one of `step` its name for good, replacing a whole one. Errors: IO; then the whole
 * one is as it was. */
mz_status mz_checkpoints_publish(const mz_checkpoints *store, int64_t step);

/* Removes a whole one. Errors: IO. */
mz_status mz_checkpoints_retire(const mz_checkpoints *store, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
