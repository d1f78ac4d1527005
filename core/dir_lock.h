/* One process at a time in a folder. */
#ifndef MZ_CORE_DIR_LOCK_H
#define MZ_CORE_DIR_LOCK_H

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Created by mz_dir_lock, ended by mz_dir_unlock or with the process, however that ends. */
typedef struct mz_lock {
    int fd; /* of DIR/.lock */
} mz_lock;

/* Takes the lock of the folder `dir` (flock on DIR/.lock, which is created and stays) without
 * waiting. Children of fork share it until they exec; a second call of the same process fails like
 * another's. Errors: IO "DIR is in use by another training"; IO where the file cannot be made. */
mz_status mz_dir_lock(mz_context *ctx, const char *dir, mz_lock *out);
void mz_dir_unlock(mz_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
