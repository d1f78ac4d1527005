/* The CPU backend's self attention over whole sequences, for training, and its backward.
 *
 * Contracts of the ops stand in core/ops.h and core/ops_backward.h; these are their implementations
 * for host memory, run on the context's threads with the kernels of its instruction set. Scores
 * exist for a tile of queries and keys at a time (Dao et al. 2022); sums are f32. Bits do not
 * depend on the number of threads, nor on the other sequences of the call; they do depend on the
 * instruction set.
 *
 * A row may see a NaN or an infinity of a row of its own sequence that the rule hides from it (0
 * times infinity), unlike in mz_op_attention; never one of another sequence.
 *
 * Scratch comes from the stream's arena and goes back at the end of the op. Errors: LIMIT when it
 * does not fit. */
#ifndef MZ_CORE_OPS_CPU_CPU_SELF_ATTENTION_H
#define MZ_CORE_OPS_CPU_CPU_SELF_ATTENTION_H

#include <stddef.h>

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Threads share out tiles of queries, head by head. */
mz_status mz_cpu_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                const mz_qkv *in, const mz_rows *rows,
                                const mz_attention_rule *rule);

/* Threads share out pairs of a sequence and a kv head, so that each gradient is written by one. */
mz_status mz_cpu_self_attention_backward(mz_stream *s, const mz_qkv *d, const mz_tensor *d_y,
                                         const mz_tensor *y, const mz_tensor *log_sums,
                                         const mz_qkv *in, const mz_rows *rows,
                                         const mz_attention_rule *rule);

/* Bytes that either op (MZ_OP_SELF_ATTENTION or MZ_OP_SELF_ATTENTION_BACKWARD) takes from the arena
 * at most. Linear in n_rows (32 bytes each), the number of threads and head_dim (the wider of keys
 * and values). */
size_t mz_cpu_self_attention_scratch(const mz_stream *s, mz_op_id op, const mz_op_size *size);

#ifdef __cplusplus
}
#endif
#endif
