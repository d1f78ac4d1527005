#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 40, MAX_TEMP_NAMES = 1000, MAX_PATH_BYTES = 4096 };

/* Opens a regular file for reading. O_NONBLOCK so that a pipe with no writer is refused and not
 * waited for. */
static mz_status open_regular(mz_context *ctx, const char *path, int *fd, size_t *n_bytes) {
    const int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (opened < 0) {
        return mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    struct stat st;
    const char *problem = NULL;
    if (fstat(opened, &st) != 0) {
        problem = strerror(errno);
    } else if (S_ISDIR(st.st_mode)) {
        problem = "is a directory, expected a file";
    } else if (!S_ISREG(st.st_mode)) {
        problem = "is a device or pipe, expected a regular file";
    }
    if (problem != NULL) {
        (void)close(opened);
        return mz_fail(&ctx->error, MZ_ERR_IO, "%s: %s", path, problem);
    }
    *fd = opened;
    *n_bytes = (size_t)st.st_size;
    return MZ_OK;
}

mz_status mz_map_open(mz_context *ctx, const char *path, mz_map *out) {
    int fd = -1;
    size_t n_bytes = 0;
    MZ_TRY(open_regular(ctx, path, &fd, &n_bytes));
    void *data = NULL;
    int error = 0;
    if (n_bytes > 0) {
        data = mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        error = data == MAP_FAILED ? errno : 0;
    }
    (void)close(fd);
    if (error != 0) {
        return mz_fail(&ctx->error, error == ENOMEM ? MZ_ERR_NOMEM : MZ_ERR_IO,
                       "%s: cannot map %zu bytes: %s", path, n_bytes, strerror(error));
    }
    *out = (mz_map){.data = data, .bytes = n_bytes};
    return MZ_OK;
}

void mz_map_close(mz_map *map) {
    if (map != NULL && map->data != NULL) {
        (void)munmap((void *)(uintptr_t)map->data, map->bytes);
        *map = (mz_map){0};
    }
}

static mz_status read_all(mz_context *ctx, const char *path, int fd, char *text, size_t n_bytes) {
    size_t done = 0;
    while (done < n_bytes) {
        const ssize_t n = read(fd, text + done, n_bytes - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (n == 0) {
            return mz_fail(&ctx->error, MZ_ERR_IO, "%s: ended after %zu bytes, its size was %zu",
                           path, done, n_bytes);
        }
        done += (size_t)n;
    }
    return MZ_OK;
}

mz_status mz_file_read(mz_context *ctx, const char *path, size_t max_bytes, char **out,
                       size_t *n_bytes) {
    int fd = -1;
    size_t bytes = 0;
    MZ_TRY(open_regular(ctx, path, &fd, &bytes));
    mz_status status = MZ_OK;
    void *text = NULL;
    if (bytes > max_bytes || bytes == SIZE_MAX) {
        status = mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: %zu bytes, the limit is %zu", path, bytes,
                         max_bytes);
    } else {
        status = mz_alloc(ctx, bytes + 1, path, &text);
    }
    if (status == MZ_OK) {
        status = read_all(ctx, path, fd, text, bytes);
    }
    (void)close(fd);
    if (status != MZ_OK) {
        mz_free(ctx, text);
        return status;
    }
    ((char *)text)[bytes] = '\0';
    *out = text;
    *n_bytes = bytes;
    return MZ_OK;
}

/* The folder that holds `path`, and its name there. */
static bool stat_place(const char *path, struct stat *folder, const char **name) {
    char parent[MAX_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    const size_t n_bytes = slash != NULL ? (size_t)(slash - path) + 1 : 1;
    if (n_bytes >= sizeof parent) {
        return false;
    }
    memcpy(parent, slash != NULL ? path : ".", n_bytes);
    parent[n_bytes] = '\0';
    *name = slash != NULL ? slash + 1 : path;
    return stat(parent, folder) == 0;
}

bool mz_file_same(const char *a, const char *b) {
    struct stat one;
    struct stat other;
    const char *names[2];
    const bool has_one = stat(a, &one) == 0;
    const bool has_other = stat(b, &other) == 0;
    if (has_one != has_other || (has_one && !S_ISREG(one.st_mode))) {
        return false;
    }
    if (!has_one && (!stat_place(a, &one, &names[0]) || !stat_place(b, &other, &names[1]) ||
                     strcmp(names[0], names[1]) != 0)) {
        return false;
    }
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

bool mz_file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool mz_dir_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

mz_status mz_dir_has_file(mz_context *ctx, const char *dir, const char *name, bool *out) {
    char *path = NULL;
    MZ_TRY(mz_path_join(ctx, dir, name, &path));
    *out = mz_file_exists(path);
    mz_free(ctx, path);
    return MZ_OK;
}

mz_status mz_dir_make(mz_context *ctx, const char *path) {
    char *part = NULL;
    MZ_TRY(mz_strdup(ctx, path, &part));
    mz_status status = MZ_OK;
    for (char *at = part + 1; at[-1] != '\0' && status == MZ_OK; at++) {
        const char end = *at;
        if (end != '/' && end != '\0') {
            continue;
        }
        *at = '\0';
        if (mkdir(part, 0777) != 0 && (errno != EEXIST || !mz_dir_exists(part))) {
            status = mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot make the folder: %s", part,
                             strerror(errno));
        }
        *at = end;
    }
    mz_free(ctx, part);
    return status;
}

/* The first n_dir bytes of `dir`, a slash where one is missing, and `name`. */
static mz_status join(mz_context *ctx, const char *dir, size_t n_dir, const char *name,
                      char **out) {
    const bool slash = n_dir > 0 && dir[n_dir - 1] != '/';
    const size_t bytes = n_dir + slash + strlen(name) + 1;
    void *path = NULL;
    MZ_TRY(mz_alloc(ctx, bytes, "path", &path));
    (void)snprintf(path, bytes, "%.*s%s%s", (int)n_dir, dir, slash ? "/" : "", name);
    *out = path;
    return MZ_OK;
}

mz_status mz_path_join(mz_context *ctx, const char *dir, const char *name, char **out) {
    return join(ctx, dir, strlen(dir), name, out);
}

/* Bytes of the folder part of `path` with its slash; 0 when there is none. */
static size_t dir_bytes(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

/* The path that writing to `path` would reach, also where the link's target does not exist yet. */
static mz_status follow_links(mz_context *ctx, const char *path, char **out) {
    char *current = NULL;
    MZ_TRY(mz_strdup(ctx, path, &current));
    for (int i = 0; i <= MAX_LINKS; i++) {
        char target[MAX_PATH_BYTES];
        const ssize_t n = readlink(current, target, sizeof target);
        if (n < 0) { /* no link, or not there: opening says what is wrong */
            *out = current;
            return MZ_OK;
        }
        if ((size_t)n >= sizeof target) {
            break;
        }
        target[n] = '\0';
        char *next = NULL;
        const mz_status status =
            join(ctx, current, target[0] == '/' ? 0 : dir_bytes(current), target, &next);
        mz_free(ctx, current);
        if (status != MZ_OK) {
            return status;
        }
        current = next;
    }
    mz_free(ctx, current);
    return mz_fail(&ctx->error, MZ_ERR_IO, "%s: symbolic links do not end", path);
}

static void release(mz_context *ctx, mz_output *out) {
    mz_free(ctx, out->path);
    mz_free(ctx, out->temp_path);
    mz_free(ctx, out->shown);
    *out = (mz_output){0};
}

static mz_status fail_errno(mz_context *ctx, const char *shown, int error) {
    return mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot write: %s", shown,
                   error != 0 ? strerror(error) : "an earlier write failed");
}

/* Creates a file beside out->path under a name that does not exist yet. Plain open and not mkstemp,
 * so that a new file gets the mode that the umask gives. */
static mz_status open_temp(mz_context *ctx, mz_output *out, int *fd) {
    for (unsigned i = 0; i < MAX_TEMP_NAMES; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, ".moezoo-%ld-%u.tmp", (long)getpid(), i);
        char *temp = NULL;
        MZ_TRY(join(ctx, out->path, dir_bytes(out->path), name, &temp));
        *fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) {
            out->temp_path = temp;
            return MZ_OK;
        }
        const int error = errno;
        mz_free(ctx, temp);
        if (error != EEXIST) {
            return fail_errno(ctx, out->shown, error);
        }
    }
    return fail_errno(ctx, out->shown, EEXIST);
}

/* Whether a name is one of those of open_temp, by a process that is no more. */
static bool is_left_behind(const char *name) {
    long pid = 0;
    unsigned i = 0;
    char expected[64];
    if (sscanf(name, ".moezoo-%18ld-%9u.tmp", &pid, &i) != 2 || pid < 1 || pid > INT32_MAX) {
        return false;
    }
    (void)snprintf(expected, sizeof expected, ".moezoo-%ld-%u.tmp", pid, i);
    return strcmp(name, expected) == 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

mz_status mz_dir_find(mz_context *ctx, const char *dir, const char *ending, char **out) {
    DIR *folder = opendir(dir);
    char *found = NULL;
    mz_status status = MZ_OK;
    for (const struct dirent *d = folder != NULL ? readdir(folder) : NULL;
         d != NULL && status == MZ_OK; d = readdir(folder)) {
        const size_t n = strlen(d->d_name);
        const size_t n_ending = strlen(ending);
        if (n < n_ending || strcmp(d->d_name + n - n_ending, ending) != 0) {
            continue;
        }
        status = found == NULL
                     ? mz_strdup(ctx, d->d_name, &found)
                     : mz_fail(&ctx->error, MZ_ERR_FORMAT,
                               "%s: more than one file *%s; name the one to use", dir, ending);
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    if (status != MZ_OK) {
        mz_free(ctx, found);
        return status;
    }
    *out = found;
    return MZ_OK;
}

void mz_output_sweep(const char *dir) {
    DIR *folder = opendir(dir);
    if (folder == NULL) {
        return;
    }
    for (const struct dirent *d = readdir(folder); d != NULL; d = readdir(folder)) {
        if (is_left_behind(d->d_name)) {
            (void)unlinkat(dirfd(folder), d->d_name, 0);
        }
    }
    (void)closedir(folder);
}

static mz_status open_target(mz_context *ctx, mz_output *out, int *fd) {
    struct stat st;
    const bool exists = stat(out->path, &st) == 0;
    if (!exists && errno != ENOENT) {
        return fail_errno(ctx, out->shown, errno);
    }
    if (exists && S_ISDIR(st.st_mode)) {
        return fail_errno(ctx, out->shown, EISDIR);
    }
    if (exists && !S_ISREG(st.st_mode)) {
        *fd = open(out->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (*fd < 0) {
            return fail_errno(ctx, out->shown, errno);
        }
        mz_free(ctx, out->path);
        out->path = NULL;
        return MZ_OK;
    }
    /* A rename would replace a file that its owner has protected against writing. */
    if (exists && access(out->path, W_OK) != 0) {
        return fail_errno(ctx, out->shown, errno);
    }
    MZ_TRY(open_temp(ctx, out, fd));
    if (exists && fchmod(*fd, st.st_mode & 0777) != 0) {
        return fail_errno(ctx, out->shown, errno);
    }
    return MZ_OK;
}

mz_status mz_output_open(mz_context *ctx, const char *path, mz_output *out) {
    mz_output o = {0};
    const bool standard = path == NULL || strcmp(path, "-") == 0;
    MZ_TRY(mz_strdup(ctx, standard ? "standard output" : path, &o.shown));
    if (standard) {
        o.stream = stdout;
        *out = o;
        return MZ_OK;
    }
    int fd = -1;
    mz_status status = follow_links(ctx, path, &o.path);
    if (status == MZ_OK) {
        status = open_target(ctx, &o, &fd);
    }
    if (status == MZ_OK) {
        o.stream = fdopen(fd, "wb");
        if (o.stream == NULL) {
            status = fail_errno(ctx, o.shown, errno);
        }
    }
    if (status != MZ_OK) {
        if (fd >= 0) {
            (void)close(fd);
        }
        if (o.temp_path != NULL) {
            (void)unlink(o.temp_path);
        }
        release(ctx, &o);
        return status;
    }
    *out = o;
    return MZ_OK;
}

/* 0, or the errno of the first thing that went wrong (-1: a write before this call). */
static int flush_stream(FILE *stream, bool sync) {
    errno = 0;
    const bool flushed = fflush(stream) == 0;
    if (!flushed || ferror(stream)) {
        return errno != 0 ? errno : -1;
    }
    return sync && fsync(fileno(stream)) != 0 ? errno : 0;
}

/* Makes the rename itself durable; some file systems cannot, and the data is safe without it. */
static void sync_folder(mz_context *ctx, const char *path) {
    char *folder = NULL;
    if (join(ctx, path, dir_bytes(path), ".", &folder) != MZ_OK) {
        return;
    }
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mz_free(ctx, folder);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

mz_status mz_output_commit(mz_context *ctx, mz_output *out) {
    int error = flush_stream(out->stream, out->temp_path != NULL);
    if (out->stream != stdout) {
        if (fclose(out->stream) != 0 && error == 0) {
            error = errno;
        }
    }
    if (error == 0 && out->temp_path != NULL && rename(out->temp_path, out->path) != 0) {
        error = errno;
    }
    mz_status status = MZ_OK;
    if (error != 0) {
        status = fail_errno(ctx, out->shown, error > 0 ? error : 0);
        if (out->temp_path != NULL) {
            (void)unlink(out->temp_path);
        }
    } else if (out->temp_path != NULL) {
        sync_folder(ctx, out->path);
    }
    release(ctx, out);
    return status;
}

void mz_output_abort(mz_context *ctx, mz_output *out) {
    if (out->stream != NULL && out->stream != stdout) {
        (void)fclose(out->stream);
    }
    if (out->temp_path != NULL) {
        (void)unlink(out->temp_path);
    }
    release(ctx, out);
}
