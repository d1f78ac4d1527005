#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checkpoint_internal.h"
#include "core/file.h"

/* A folder of a step. */
typedef struct entry {
    int64_t step;
    checkpoint_kind kind;
} entry;

typedef struct entry_list {
    entry *items; /* [n] */
    size_t n, capacity;
} entry_list;

const char *mz_checkpoints_name(char out[CHECKPOINT_NAME_BYTES], int64_t step,
                                checkpoint_kind kind) {
    static const char *const parts[][2] = {{"", ""}, {".", ".new"}, {".", ".old"}, {".", ".gone"}};
    (void)snprintf(out, CHECKPOINT_NAME_BYTES, "%sstep-%08" PRId64 "%s", parts[kind][0], step,
                   parts[kind][1]);
    return out;
}

/* A name is taken only in the one way in which it is written: others are somebody else's. */
static bool parse_name(const char *name, entry *out) {
    const char *digits = strstr(name, "step-");
    if (digits == NULL) {
        return false;
    }
    digits += strlen("step-");
    errno = 0;
    const long long step = strtoll(digits, NULL, 10);
    if (errno != 0 || step < 0) {
        return false;
    }
    for (int kind = CHECKPOINT_WHOLE; kind <= CHECKPOINT_GONE; kind++) {
        char expected[CHECKPOINT_NAME_BYTES];
        if (strcmp(name, mz_checkpoints_name(expected, step, (checkpoint_kind)kind)) == 0) {
            *out = (entry){.step = step, .kind = (checkpoint_kind)kind};
            return true;
        }
    }
    return false;
}

static mz_status fail_errno(const mz_checkpoints *s, const char *what, const char *name,
                            int error) {
    return mz_fail(&s->ctx->error, MZ_ERR_IO, "%s/%s: cannot %s: %s", s->path, name, what,
                   strerror(error));
}

/* --- opening --- */

/* Makes a change of the folder durable; some file systems have no such thing. 0 or an errno. */
static int sync_folder(int fd) {
    return fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

static mz_status create_folder(mz_checkpoints *s, const char *dir) {
    if (mkdir(s->path, 0777) != 0) {
        return errno == EEXIST ? MZ_OK
                               : mz_fail(&s->ctx->error, MZ_ERR_IO, "%s: cannot create: %s",
                                         s->path, strerror(errno));
    }
    const int parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = parent < 0 ? errno : sync_folder(parent);
    if (parent >= 0) {
        (void)close(parent);
    }
    return error == 0
               ? MZ_OK
               : mz_fail(&s->ctx->error, MZ_ERR_IO, "%s: cannot sync: %s", dir, strerror(error));
}

mz_status mz_checkpoints_open(mz_context *ctx, const char *dir, bool create, mz_checkpoints *out) {
    mz_checkpoints s = {.ctx = ctx, .fd = -1};
    MZ_TRY(mz_path_join(ctx, dir, "checkpoints", &s.path));
    mz_status status = create ? create_folder(&s, dir) : MZ_OK;
    if (status == MZ_OK) {
        s.fd = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s.fd < 0 && (create || errno != ENOENT)) {
            status =
                mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot open: %s", s.path, strerror(errno));
        }
    }
    if (status != MZ_OK) {
        mz_free(ctx, s.path);
        return status;
    }
    *out = s;
    return MZ_OK;
}

void mz_checkpoints_close(mz_checkpoints *s) {
    mz_free(s->ctx, s->path);
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    *s = (mz_checkpoints){.fd = -1};
}

/* --- listing --- */

static mz_status add_entry(mz_context *ctx, entry_list *list, const entry *e) {
    void *items = list->items;
    MZ_TRY(mz_grow(ctx, &items, &list->capacity, list->n + 1, sizeof *e, "list of checkpoints"));
    list->items = items;
    list->items[list->n++] = *e;
    return MZ_OK;
}

static DIR *open_dir(int at, const char *name) {
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        const int error = errno;
        (void)close(fd);
        errno = error;
    }
    return dir;
}

/* All names first: what is renamed while a folder is read may be shown again. The caller frees
 * list->items, also on failure. */
static mz_status read_names(const mz_checkpoints *s, entry_list *list) {
    DIR *dir = open_dir(s->fd, ".");
    if (dir == NULL) {
        return fail_errno(s, "read", ".", errno);
    }
    mz_status status = MZ_OK;
    errno = 0;
    for (const struct dirent *d = readdir(dir); d != NULL && status == MZ_OK; d = readdir(dir)) {
        entry e;
        if (parse_name(d->d_name, &e)) {
            status = add_entry(s->ctx, list, &e);
        }
        errno = 0;
    }
    if (status == MZ_OK && errno != 0) {
        status = fail_errno(s, "read", ".", errno);
    }
    (void)closedir(dir);
    return status;
}

static int newest_first(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

mz_status mz_checkpoints_list(const mz_checkpoints *s, int64_t **steps, int64_t *n) {
    entry_list list = {0};
    void *memory = NULL;
    mz_status status = read_names(s, &list);
    if (status == MZ_OK) {
        status = mz_alloc(s->ctx, list.n * sizeof **steps, "list of checkpoints", &memory);
    }
    if (status == MZ_OK) {
        *steps = memory;
        *n = 0;
        for (size_t i = 0; i < list.n; i++) {
            if (list.items[i].kind == CHECKPOINT_WHOLE) {
                (*steps)[(*n)++] = list.items[i].step;
            }
        }
        qsort(*steps, (size_t)*n, sizeof **steps, newest_first);
    }
    mz_free(s->ctx, list.items);
    return status;
}

/* --- removing and renaming --- */

/* 0, or the errno of the first file that stays. Links are removed, not followed. */
static int remove_files(int at, const char *name) {
    DIR *dir = open_dir(at, name);
    if (dir == NULL) {
        return errno;
    }
    int error = 0;
    for (const struct dirent *d = readdir(dir); d != NULL; d = readdir(dir)) {
        const bool self = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;
        if (!self && unlinkat(dirfd(dir), d->d_name, 0) != 0 && error == 0) {
            error = errno;
        }
    }
    (void)closedir(dir);
    return error;
}

static int remove_folder(int at, const char *name) {
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? 0 : errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return unlinkat(at, name, 0) == 0 ? 0 : errno;
    }
    const int error = remove_files(at, name);
    if (unlinkat(at, name, AT_REMOVEDIR) == 0) {
        return 0;
    }
    return error != 0 ? error : errno;
}

mz_status mz_checkpoints_remove(const mz_checkpoints *s, int64_t step, checkpoint_kind kind) {
    char name[CHECKPOINT_NAME_BYTES];
    const int error = remove_folder(s->fd, mz_checkpoints_name(name, step, kind));
    return error == 0 ? MZ_OK : fail_errno(s, "remove", name, error);
}

/* 0 or an errno. */
static int rename_kind(const mz_checkpoints *s, int64_t step, checkpoint_kind from,
                       checkpoint_kind to) {
    char before[CHECKPOINT_NAME_BYTES];
    char after[CHECKPOINT_NAME_BYTES];
    return renameat(s->fd, mz_checkpoints_name(before, step, from), s->fd,
                    mz_checkpoints_name(after, step, to)) == 0
               ? 0
               : errno;
}

mz_status mz_checkpoints_clean(const mz_checkpoints *s) {
    entry_list list = {0};
    const mz_status status = read_names(s, &list);
    for (size_t i = 0; i < list.n && status == MZ_OK; i++) {
        const entry *e = &list.items[i];
        char whole[CHECKPOINT_NAME_BYTES];
        struct stat st;
        (void)mz_checkpoints_name(whole, e->step, CHECKPOINT_WHOLE);
        if (e->kind == CHECKPOINT_WHOLE) {
            continue;
        }
        if (e->kind == CHECKPOINT_OLD && fstatat(s->fd, whole, &st, AT_SYMLINK_NOFOLLOW) != 0 &&
            errno == ENOENT) {
            (void)rename_kind(s, e->step, CHECKPOINT_OLD, CHECKPOINT_WHOLE);
            continue;
        }
        (void)mz_checkpoints_remove(s, e->step, e->kind);
    }
    mz_free(s->ctx, list.items);
    return status;
}

mz_status mz_checkpoints_publish(const mz_checkpoints *s, int64_t step) {
    char name[CHECKPOINT_NAME_BYTES];
    (void)mz_checkpoints_name(name, step, CHECKPOINT_WHOLE);
    int error = rename_kind(s, step, CHECKPOINT_WHOLE, CHECKPOINT_OLD);
    const bool replaces = error == 0;
    if (error != 0 && error != ENOENT) {
        return fail_errno(s, "replace", name, error);
    }
    error = rename_kind(s, step, CHECKPOINT_NEW, CHECKPOINT_WHOLE);
    if (error != 0) {
        if (replaces) {
            (void)rename_kind(s, step, CHECKPOINT_OLD, CHECKPOINT_WHOLE);
        }
        return fail_errno(s, "create", name, error);
    }
    error = sync_folder(s->fd);
    if (error != 0) {
        return fail_errno(s, "sync", name, error);
    }
    return replaces ? mz_checkpoints_remove(s, step, CHECKPOINT_OLD) : MZ_OK;
}

mz_status mz_checkpoints_retire(const mz_checkpoints *s, int64_t step) {
    const int error = rename_kind(s, step, CHECKPOINT_WHOLE, CHECKPOINT_GONE);
    if (error != 0) {
        char name[CHECKPOINT_NAME_BYTES];
        return fail_errno(s, "remove", mz_checkpoints_name(name, step, CHECKPOINT_WHOLE), error);
    }
    return mz_checkpoints_remove(s, step, CHECKPOINT_GONE);
}
