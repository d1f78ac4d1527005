/* Time and work per op, for `moezoo bench`. */
#ifndef MZ_CORE_PROFILE_H
#define MZ_CORE_PROFILE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_op_id {
    MZ_OP_LINEAR = 0,
    MZ_OP_NORM,
    MZ_OP_ROPE,
    MZ_OP_SOFTMAX,
    MZ_OP_GATED_ACTIVATION,
    MZ_OP_ADD,
    MZ_OP_GATHER_ROWS,
    MZ_OP_KV_WRITE,
    MZ_OP_ATTENTION,
    MZ_OP_MASK_LOGITS,
    MZ_OP_KV_ROTATE,
    MZ_OP_ROUTE,
    MZ_OP_DISPATCH,
    MZ_OP_GROUPED_LINEAR,
    MZ_OP_PLAIN_EXPERTS,
    MZ_OP_COMBINE,
    MZ_OP_FFN,
    MZ_OP_MOE,
    MZ_OP_SELF_ATTENTION,
    MZ_OP_LINEAR_BACKWARD,
    MZ_OP_NORM_BACKWARD,
    MZ_OP_ROPE_BACKWARD,
    MZ_OP_SOFTMAX_BACKWARD,
    MZ_OP_GATED_ACTIVATION_BACKWARD,
    MZ_OP_ACCUMULATE,
    MZ_OP_GATHER_ROWS_BACKWARD,
    MZ_OP_SELF_ATTENTION_BACKWARD,
    MZ_OP_MASK_LOGITS_BACKWARD,
    MZ_OP_ROUTE_BACKWARD,
    MZ_OP_GROUPED_LINEAR_BACKWARD,
    MZ_OP_PLAIN_EXPERTS_BACKWARD,
    MZ_OP_COMBINE_BACKWARD,
    MZ_OP_COUNT
} mz_op_id;

/* Attached to a stream by its owner. Times exclude nested ops: a composed op charges its parts. */
typedef struct mz_profile {
    struct {
        int64_t n_calls;
        double seconds;
        double flops; /* multiply and add counted as two */
    } ops[MZ_OP_COUNT];
} mz_profile;

const char *mz_op_name(mz_op_id op);

/* Monotonic seconds. */
double mz_now_s(void);

#ifdef __cplusplus
}
#endif
#endif
