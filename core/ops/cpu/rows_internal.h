/* The kernels behind cpu_rows.h: one table per instruction set. */
#ifndef MZ_CORE_OPS_CPU_ROWS_INTERNAL_H
#define MZ_CORE_OPS_CPU_ROWS_INTERNAL_H

#include <stdint.h>

#include "core/cpu.h"
#include "core/ops.h"

/* Kernels must be inlined with constant sizes: only then are their accumulators registers. */
#if defined(__GNUC__)
#define MZ_KERNEL_INLINE static inline __attribute__((always_inline))
#else
#define MZ_KERNEL_INLINE static inline
#endif

enum {
    MZ_ATTENTION_TILE = 24,  /* queries (row, head) that share one pass over the pages */
    MZ_ATTENTION_BLOCK = 6,  /* queries in registers at a time; divides the tile */
    MZ_ATTENTION_SPAN = 256, /* positions whose softmax is computed at once: whole pages */
    MZ_ATTENTION_PAD = 16,   /* values to which scratch rows are padded: the longest vector */
};

/* One attention call, shared by the threads that work on it. */
typedef struct mz_attention_job {
    const mz_tensor *y, *q;
    const mz_kv_layer *cache;
    mz_kv_layout layout;
    const mz_rows *rows;
    int64_t group; /* query heads per kv head */
    float scale;
    int64_t window; /* 0: none */
} mz_attention_job;

/* Up to MZ_ATTENTION_TILE queries of one sequence and one kv head: rows [row, row + n_rows) in
 * order and, within a row, the query heads [first_head, first_head + n_heads) of those that share
 * the kv head. Positions do not decrease along the tile. */
typedef struct mz_attention_tile {
    int64_t row, n_rows, kv_head, first_head, n_heads;
} mz_attention_tile;

/* What a tile has of a span of positions, or of all so far: maximum and sum of its queries'
 * weights, and the weighted sums of values, [MZ_ATTENTION_TILE, value_stride]. In scratch. */
typedef struct mz_attention_part {
    float *max, *sum, *values;
} mz_attention_part;

enum {
    MZ_SELF_TILE = 64, /* queries, and keys, of a tile of self attention */
    MZ_SELF_PAD = 16,  /* values to which rows in scratch are padded: the longest vector */
};

/* Rows [row, row + n) of the sequence that is rows [begin, end). */
typedef struct mz_sequence_rows {
    int64_t begin, end, row, n;
} mz_sequence_rows;

/* One call of self attention or of its backward, shared by the threads that work on it. */
typedef struct mz_self_attention_job {
    const mz_tensor *y, *log_sums;
    const mz_qkv *in;
    const mz_qkv *d;      /* backward: gradients to add to */
    const mz_tensor *d_y; /* backward */
    int64_t group;        /* query heads per kv head */
    mz_attention_rule rule;
} mz_self_attention_job;

typedef void (*mz_self_attention_kernel)(const mz_self_attention_job *job,
                                         const mz_sequence_rows *rows, int64_t head,
                                         float *scratch);

/* Where one token's mixture comes from; see mz_op_combine. */
typedef struct mz_combine_job {
    const mz_tensor *y, *expert_out, *shared_out, *shared_logit;
    const mz_routing *routing;
} mz_combine_job;

/* The norm of one group of one row. */
typedef struct mz_norm_row {
    const mz_norm *norm;
    const float *weight, *bias; /* [n]; NULL: 1, 0 */
} mz_norm_row;

/* One group's part in the backward of a norm; see core/ops_backward.h. */
typedef struct mz_norm_row_gradient {
    float *x, *weight, *bias; /* [n] to add to; NULL: not wanted */
    const float *y;           /* [n] */
} mz_norm_row_gradient;

/* One row's part in the backward of an activation. */
typedef struct mz_activation_gradient {
    float *gate, *up; /* [n] to add to; NULL: not wanted, as up is where there is none */
    const float *y;   /* [n] */
} mz_activation_gradient;

/* A constant table. n is the number of values in a row. Outputs do not overlap inputs, rope's
 * excepted. */
typedef struct mz_row_kernels {
    void (*norm)(float *y, const float *x, const mz_norm_row *norm, int64_t n);
    /* cos and sin are those of the row's position. */
    void (*rope)(float *y, const float *x, const float *cos, const float *sin,
                 const mz_rope_table *table, int64_t n_heads);
    void (*softmax)(float *y, const float *x, int64_t n);
    void (*activate)(float *y, const float *gate, const float *up, int64_t n,
                     mz_activation activation); /* up NULL: 1 */
    void (*add)(float *y, const float *a, const float *b, float scale, int64_t n);
    /* y = exp(x): relative error under 2 ulp for results within [2^-126, 2^127.5]; below it is 0,
     * above infinity; NaN stays NaN. */
    void (*exp)(float *y, const float *x, int64_t n);
    /* Sum of exp(x - max) over the values that are not NaN, and that maximum; 0 and -inf when there
     * is none above -inf. */
    double (*exp_sum)(const float *x, int64_t n, float *max);
    void (*combine)(const mz_combine_job *job, int64_t token);
    /* y = x in 16 bits. */
    void (*to_f16)(uint16_t *y, const float *x, int64_t n);
    /* y = x in 8 bits, n <= MZ_KV_BLOCK; returns the scale. See mz_kv_layer. */
    float (*to_int8)(int8_t *y, const float *x, int64_t n);
    /* What the tile's queries have of positions [MZ_ATTENTION_SPAN span, + MZ_ATTENTION_SPAN).
     * scratch: MZ_ATTENTION_SCRATCH values, 64-byte aligned. */
    void (*attention_span)(const mz_attention_job *job, const mz_attention_tile *tile, int64_t span,
                           const mz_attention_part *part, float *scratch);
    /* Adds a span's part to the total of the spans before it. */
    void (*attention_merge)(const mz_attention_job *job, const mz_attention_tile *tile,
                            int64_t span, const mz_attention_part *total,
                            const mz_attention_part *part);
    /* Writes the tile's rows of y. */
    void (*attention_finish)(const mz_attention_job *job, const mz_attention_tile *tile,
                             const mz_attention_part *total);
    /* Sum of a b: f32 lanes, summed in f64. */
    double (*dot)(const float *a, const float *b, int64_t n);
    /* y += scale x. */
    void (*add_scaled)(float *y, float scale, const float *x, int64_t n);
    /* y += scale exp(x - max), where NaN counts as -inf; max is above -inf. */
    void (*add_exp)(float *y, float scale, const float *x, float max, int64_t n);
    /* Backwards of a row; they add to their outputs. */
    void (*norm_backward)(const mz_norm_row_gradient *d, const float *x, const mz_norm_row *norm,
                          int64_t n);
    void (*rope_backward)(float *d_x, const float *d_y, const float *cos, const float *sin,
                          const mz_rope_table *table, int64_t n_heads);
    void (*softmax_backward)(float *d_x, const float *d_y, const float *y, int64_t n);
    void (*activate_backward)(const mz_activation_gradient *d, const float *gate, const float *up,
                              int64_t n, mz_activation activation);
    /* At most MZ_SELF_TILE rows of a query head; scratch: cpu_self_attention.c. */
    mz_self_attention_kernel self_attention;
    /* All rows of a sequence and the query heads of a kv head. */
    mz_self_attention_kernel self_attention_backward;
} mz_row_kernels;

extern const mz_row_kernels mz_row_kernels_scalar;
extern const mz_row_kernels mz_row_kernels_avx2;
extern const mz_row_kernels mz_row_kernels_avx512;

/* The kernels for an instruction set. */
const mz_row_kernels *mz_row_kernels_for(mz_isa isa);

/* Where a norm's weight or bias for the group that begins at `begin` is; NULL: absent. */
const float *mz_cpu_norm_vector(const mz_tensor *vector, int64_t begin);

/* Values of scratch that attention_span needs: scores of a tile, scaled weights of a block. */
enum {
    MZ_ATTENTION_SCRATCH = MZ_ATTENTION_TILE * MZ_ATTENTION_SPAN + MZ_ATTENTION_BLOCK * MZ_KV_PAGE,
};

/* Runs `task` over n rows of `width` values on the context's threads, in chunks that are worth a
 * thread's while. */
typedef void (*mz_row_task)(void *arg, int64_t begin, int64_t end, int thread);
void mz_cpu_run_rows(mz_stream *s, int64_t n_rows, int64_t width, mz_row_task task, void *arg);

#endif
