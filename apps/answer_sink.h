/* Where an answer goes. Until there is something to answer it waits in memory, so that an input of
 * which nothing can be used leaves no trace; then it is written to its file or standard output. */
#ifndef MZ_APPS_ANSWER_SINK_H
#define MZ_APPS_ANSWER_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/file.h"

/* All zero before mz_answer_begin; one thread. Ends with mz_answer_commit or mz_answer_abort. */
typedef struct mz_answer_sink {
    mz_context *ctx;
    FILE *stream;        /* write here; changes with mz_answer_open */
    bool is_open;        /* what is written goes out */
    bool is_pipe_closed; /* because nobody reads any more: no reason to complain */
    mz_output output;
    char *waiting; /* owned by the stream while not open */
    size_t waiting_bytes;
} mz_answer_sink;

/* Errors: NOMEM. */
mz_status mz_answer_begin(mz_context *ctx, mz_answer_sink *sink);

/* Opens `path` (NULL or "-": standard output) and writes there what has waited. Does nothing where
 * it is open already. Errors: those of mz_output_open; NOMEM. */
mz_status mz_answer_open(mz_answer_sink *sink, const char *path);

/* Sends what is written so far on its way, so that a reader of the pipe sees it and a full disk
 * stops the work; called right after writing. Errors: IO. */
mz_status mz_answer_flush(mz_answer_sink *sink);

/* Flushes, and replaces the file. Errors: IO. */
mz_status mz_answer_commit(mz_answer_sink *sink);

/* The file is as it was. Accepts a sink that was never begun or has been committed. */
void mz_answer_abort(mz_answer_sink *sink);

#endif
