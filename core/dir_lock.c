#include "core/dir_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/file.h"

mz_status mz_dir_lock(mz_context *ctx, const char *dir, mz_lock *out) {
    char *path = NULL;
    MZ_TRY(mz_path_join(ctx, dir, ".lock", &path));
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    const int open_error = errno;
    mz_status status = MZ_OK;
    if (fd < 0) {
        status = mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot open: %s", path, strerror(open_error));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        (void)close(fd);
        status =
            error == EWOULDBLOCK
                ? mz_fail(&ctx->error, MZ_ERR_IO, "%s is in use by another training", dir)
                : mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot lock: %s", path, strerror(error));
    } else {
        out->fd = fd;
    }
    mz_free(ctx, path);
    return status;
}

void mz_dir_unlock(mz_lock *lock) {
    (void)close(lock->fd);
    lock->fd = -1;
}
