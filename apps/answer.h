/* An answer that is written as it comes, once it is sure that there is one. */
#ifndef MZ_APPS_ANSWER_H
#define MZ_APPS_ANSWER_H

#include "core/file.h"

/* All zero but ctx and path before mz_answer_begin; one thread; ended by commit or abort. */
typedef struct mz_answer {
    mz_context *ctx;
    const char *path; /* of mz_output_open */
    FILE *stream;     /* write here */
    bool is_open;     /* what was written is on its way */
    mz_output output;
    char *waiting; /* what was written before */
    size_t waiting_bytes;
    int write_error; /* errno of the first write that failed; 0: none */
} mz_answer;

/* What is written waits in memory: an input without any answer leaves no trace. Errors: NOMEM. */
mz_status mz_answer_begin(mz_answer *answer);

/* The first part is there: opens the output and sends what waits. Does nothing the second time.
 * Errors: those of mz_output_open; NOMEM. */
mz_status mz_answer_open(mz_answer *answer);

/* Remembers why a write failed; to be called after each part, before anything else fails. */
void mz_answer_check(mz_answer *answer);

/* Sends what is written so far on its way, so that a reader of the pipe sees it and a full disk
 * stops the work. Errors: IO. */
mz_status mz_answer_flush(mz_answer *answer);

/* Completes an open answer. Errors: IO. */
mz_status mz_answer_commit(mz_answer *answer);

/* Drops it, if it was not completed. Accepts one that never began. */
void mz_answer_abort(mz_answer *answer);

#endif
