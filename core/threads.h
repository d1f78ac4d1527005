/* A pool of worker threads for loops whose iterations are independent.
 *
 * Inside a pass (between mz_pool_begin and mz_pool_end) an idle worker spins for about 50 us and
 * then sleeps on a futex; outside it sleeps. Chunks are taken dynamically, so that a thread that
 * lost its core delays only the chunk it holds, and when that is seen to happen the pool runs with
 * fewer threads for a while. Results must not depend on which thread runs a chunk: then they are
 * equal for any number of threads. */
#ifndef MZ_CORE_THREADS_H
#define MZ_CORE_THREADS_H

#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Iterations [begin, end); `thread` is 0..n_threads-1 and unique among concurrent calls, for
 * scratch space. */
typedef void (*mz_task)(void *arg, int64_t begin, int64_t end, int thread);

/* A pool of `n_threads` threads in all (the caller counts as one, so n_threads - 1 are started).
 * Errors: NOMEM; IO when the system refuses a thread. */
mz_status mz_pool_create(mz_context *ctx, int n_threads, mz_pool **out);
void mz_pool_destroy(mz_context *ctx, mz_pool *pool);

/* Number of threads, at least 1; 1 for NULL. */
int mz_pool_n_threads(const mz_pool *pool);

/* Marks the beginning and end of a pass; they nest. Accept NULL. */
void mz_pool_begin(mz_pool *pool);
void mz_pool_end(mz_pool *pool);

/* Runs task over [0, n) in chunks of `grain` iterations (at least 1; the last may be shorter) and
 * returns when all are done. Writes of the tasks are visible to the caller afterwards. NULL pool:
 * one call on this thread per chunk. A task must not call mz_pool_run. */
void mz_pool_run(mz_pool *pool, int64_t n, int64_t grain, mz_task task, void *arg);

#ifdef __cplusplus
}
#endif
#endif
