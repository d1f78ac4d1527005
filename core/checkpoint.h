/* Checkpoints of a training: complete or not there, whenever the process or the machine stops.
 *
 * DIR/checkpoints/step-00001234/ holds state.safetensors (tensors) and state.json (everything else,
 * and the checksums of both). Names that begin with a dot are work in progress. Whoever writes or
 * looks for checkpoints holds the folder's lock (core/dir_lock.h). */
#ifndef MZ_CORE_CHECKPOINT_H
#define MZ_CORE_CHECKPOINT_H

#include <jansson.h>
#include <stdint.h>

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor of a checkpoint by name; host memory, rows may be strided. */
typedef struct mz_checkpoint_tensor {
    const char *name; /* UTF-8 */
    mz_tensor tensor;
} mz_checkpoint_tensor;

/* Writes the checkpoint of `step` (at least 0): into a folder with a temporary name, every file
 * synced, then renamed; one of the same step is replaced. Creates DIR/checkpoints, not DIR. Then
 * removes, of the checkpoints up to this step, all but the newest `keep` (0: none is removed);
 * later ones, left behind by a training that went on from an earlier one, are not touched. `state`
 * is an object, stored as it is and not changed. Removes what a killed process left. Errors: IO
 * (disk full), NOMEM, ARG (step, keep, `state`), LIMIT (`state` of more than 64 MiB), those of
 * mz_safetensors_write: then the older
 * checkpoints are as they were and no temporary is left. IO also where an old one cannot be
 * removed: then the new one is there. */
mz_status mz_checkpoint_write(mz_context *ctx, const char *dir, int64_t step,
                              const mz_checkpoint_tensor *tensors, int64_t n, json_t *state,
                              int64_t keep);

/* Where a training can go on. Filled by mz_checkpoint_latest, released by mz_checkpoint_free. */
typedef struct mz_checkpoint {
    char *path; /* of its folder; NULL: there is none */
    int64_t step;
    char *note; /* for a warning: which newer one is damaged, and how; NULL: none is */
} mz_checkpoint;

/* The newest checkpoint in DIR/checkpoints that is complete and agrees with its checksums (which
 * reads all of it). Removes what a killed process left. None at all is no error. Errors: FORMAT
 * when there are some and none can be read, with what is wrong with the newest; IO; NOMEM. */
mz_status mz_checkpoint_latest(mz_context *ctx, const char *dir, mz_checkpoint *out);
void mz_checkpoint_free(mz_context *ctx, mz_checkpoint *checkpoint);

/* Reads the checkpoint at `path` into `tensors`, which must be exactly those that it holds, of the
 * same types and shapes. `step` and `state` (released with json_decref) may be NULL. Errors: FORMAT
 * naming the tensor that is missing, other than expected or not expected, or what is damaged;
 * UNSUPPORTED for another version; IO; NOMEM. Then nothing was written to the tensors. */
mz_status mz_checkpoint_read(mz_context *ctx, const char *path, const mz_checkpoint_tensor *tensors,
                             int64_t n, int64_t *step, json_t **state);

#ifdef __cplusplus
}
#endif
#endif
