/* Files: read-only maps, whole small files, and writing that never leaves half a file. */
#ifndef MZ_CORE_FILE_H
#define MZ_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A file mapped read-only. Created by mz_map_open, released by mz_map_close. */
typedef struct mz_map {
    const uint8_t *data; /* page-aligned; NULL for an empty file */
    size_t bytes;
} mz_map;

/* Maps a regular file. Errors: IO (naming path and reason; directories and devices are refused),
 * NOMEM. */
mz_status mz_map_open(mz_context *ctx, const char *path, mz_map *out);
void mz_map_close(mz_map *map);

/* Reads a whole regular file of at most `max_bytes` and adds a NUL. *out is released with mz_free.
 * Errors: IO, NOMEM; LIMIT with the actual size. */
mz_status mz_file_read(mz_context *ctx, const char *path, size_t max_bytes, char **out,
                       size_t *n_bytes);

bool mz_file_exists(const char *path);
bool mz_dir_exists(const char *path);

/* Whether there is a file DIR/NAME. Errors: NOMEM. */
mz_status mz_dir_has_file(mz_context *ctx, const char *dir, const char *name, bool *out);

/* The name of the folder's only file whose name ends with `ending`; *out is released with mz_free
 * and NULL where there is none. Errors: FORMAT where there are several, NOMEM. */
mz_status mz_dir_find(mz_context *ctx, const char *dir, const char *ending, char **out);

/* Makes the folder and those above it, where they are missing. Errors: IO, NOMEM. */
mz_status mz_dir_make(mz_context *ctx, const char *path);

/* Whether writing to one would change the other: two names of one regular file, or of one place
 * where there is none yet. Devices and pipes are never the same. */
bool mz_file_same(const char *a, const char *b);

/* "DIR/NAME". Errors: NOMEM. */
mz_status mz_path_join(mz_context *ctx, const char *dir, const char *name, char **out);

/* An output that replaces its target only when complete. Created by mz_output_open; exactly one of
 * commit and abort. */
typedef struct mz_output {
    FILE *stream;    /* write here; check nothing until commit */
    char *path;      /* final name, symlinks followed; NULL for stdout and devices */
    char *temp_path; /* temporary file beside it; NULL where there is none */
    char *shown;     /* name for messages */
} mz_output;

/* `path` NULL or "-": standard output. A regular or new file: a temporary beside it, renamed over
 * it by commit, keeping the mode of an existing file. A device or pipe: opened and written
 * directly. Errors: IO, NOMEM. */
mz_status mz_output_open(mz_context *ctx, const char *path, mz_output *out);

/* Flushes, checks every write so far, syncs, renames. On failure the target is as it was. Errors:
 * IO. */
mz_status mz_output_commit(mz_context *ctx, mz_output *out);

/* Removes the temporary; the target is as it was. Accepts one that was never opened (all zero). */
void mz_output_abort(mz_context *ctx, mz_output *out);

/* Removes from the folder the temporaries of processes that were killed. What cannot be removed is
 * left. For folders that processes of one machine write to. */
void mz_output_sweep(const char *dir);

#ifdef __cplusplus
}
#endif
#endif
