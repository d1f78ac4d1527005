/* A trace: a reader of intermediate results, for goldens and for pictures of routing. */
#ifndef MZ_EXPERTS_TRACE_H
#define MZ_EXPERTS_TRACE_H

#include "core/ops.h"

/* Called with each named result of a pass, in order. `tensor` is in the memory of the stream's
 * backend and valid during the call only. Layer -1 stands for what belongs to no layer. A failure
 * ends the pass. Owned by the caller; one thread. */
typedef struct mz_trace {
    mz_status (*record)(void *self, mz_stream *s, int layer, const char *name,
                        const mz_tensor *tensor);
    void *self;
    bool inside_moe; /* also what a fused mixture layer keeps to itself: it is then composed from
                        primitives */
} mz_trace;

/* Records unless `trace` is NULL or the stream only measures. */
mz_status mz_trace_record(const mz_trace *trace, mz_stream *s, int layer, const char *name,
                          const mz_tensor *tensor);

#endif
