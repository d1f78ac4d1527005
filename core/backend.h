/* The backend table: what a device must offer, and how one is chosen and opened. */
#ifndef MZ_CORE_BACKEND_H
#define MZ_CORE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/ops.h"
#include "core/ops_backward.h"
#include "core/profile.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_BACKEND_ABI = 2 };

/* The sizes that an op's scratch depends on; those an op does not have are 0. */
typedef struct mz_op_size {
    int64_t n_rows;
    int64_t d_in,
        d_out;    /* of a product; of a gated feed-forward d_out = d_in and d_ff between them */
    int64_t d_ff; /* feed-forward; of a mixture the routed width */
    int64_t d_ff_shared; /* of a mixture's shared expert */
    int32_t n_experts, top_k;
    int64_t n_heads, head_dim;
} mz_op_size;

/* What training needs besides, for backends with host memory: attention over whole sequences, and
 * the backwards of the primitive ops. Each backward adds to the gradients named d_x of its inputs,
 * given the gradient d_y of its output; a gradient that is absent (n_dims 0, or NULL) is not
 * wanted. Contracts stand in core/ops_backward.h. */
typedef struct mz_training_ops {
    mz_status (*linear_backward)(mz_stream *s, const mz_linear_gradient *d_w, const mz_tensor *d_x,
                                 const mz_tensor *d_y, const mz_tensor *x, const mz_linear *w);
    mz_status (*norm_backward)(mz_stream *s, const mz_norm_gradient *d, const mz_tensor *d_y,
                               const mz_tensor *x, const mz_norm *norm);
    mz_status (*rope_backward)(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                               const mz_rope_table *table, const mz_rows *rows);
    mz_status (*softmax_backward)(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                  const mz_tensor *y);
    mz_status (*gated_activation_backward)(mz_stream *s, const mz_gated_gradient *d,
                                           const mz_tensor *d_y, const mz_tensor *gate,
                                           const mz_tensor *up, mz_activation activation);
    mz_status (*accumulate)(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y, float scale);
    mz_status (*gather_rows_backward)(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                      const int32_t *rows, float scale);
    mz_status (*self_attention)(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                const mz_qkv *in, const mz_rows *rows,
                                const mz_attention_rule *rule);
    mz_status (*self_attention_backward)(mz_stream *s, const mz_qkv *d, const mz_tensor *d_y,
                                         const mz_tensor *y, const mz_tensor *log_sums,
                                         const mz_qkv *in, const mz_rows *rows,
                                         const mz_attention_rule *rule);
    mz_status (*route_backward)(mz_stream *s, const mz_tensor *d_logits,
                                const mz_tensor *d_gate_weights, const mz_router *router,
                                const mz_routing *routing);
    mz_status (*grouped_linear_backward)(mz_stream *s, const mz_bank_gradient *d_w,
                                         const mz_tensor *d_x, const mz_tensor *d_y,
                                         const mz_tensor *x, const mz_linear_bank *bank,
                                         const mz_routing *routing, bool gather);
    mz_status (*combine_backward)(mz_stream *s, const mz_combine_gradient *d, const mz_tensor *d_y,
                                  const mz_tensor *expert_out, const mz_routing *routing,
                                  const mz_tensor *shared_out, const mz_tensor *shared_logit);
    mz_status (*mask_logits_backward)(mz_stream *s, const mz_tensor *d_in,
                                      const mz_tensor *d_logits, const mz_router *router,
                                      const mz_rows *rows);
    mz_status (*plain_experts_backward)(mz_stream *s, const mz_plain_gradient *d,
                                        const mz_tensor *d_expert_out, const mz_tensor *x,
                                        const mz_plain_experts *plain, const mz_routing *routing);
} mz_training_ops;

/* A constant table. Implementations hold only the maths: the wrappers in core/ops.c have checked
 * shapes and types. Order of arguments: stream, outputs, inputs, weights, scalars. Contracts stand
 * beside the wrappers in core/ops.h. */
struct mz_backend {
    const char *name;
    uint32_t abi_version;
    bool host_memory; /* its buffers are host memory: mapped weights are used in place, upload is a
                         copy */

    /* state and buffers */
    mz_status (*open)(mz_stream *s); /* fills s->native */
    void (*close)(mz_stream *s);
    mz_status (*buffer_alloc)(
        mz_stream *s, size_t bytes,
        void **out); /* 64-byte aligned; committed by touching where possible */
    void (*buffer_free)(mz_stream *s, void *buffer, size_t bytes);
    mz_status (*upload)(mz_stream *s, void *dst, const void *src,
                        size_t bytes); /* src may be reused on return */
    mz_status (*download)(mz_stream *s, void *dst, const void *src,
                          size_t bytes); /* complete on return */
    mz_status (*copy)(mz_stream *s, void *dst, const void *src,
                      size_t bytes); /* between buffers of its own that do not overlap */
    mz_status (*synchronize)(mz_stream *s);
    /* bytes that an op takes from the stream's arena while it runs, at most; NULL: none does */
    size_t (*scratch_bytes)(const mz_stream *s, mz_op_id op, const mz_op_size *size);

    /* primitive ops, all required */
    mz_status (*linear)(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w);
    mz_status (*norm)(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm);
    mz_status (*rope)(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                      const mz_rope_table *table, const mz_rows *rows);
    mz_status (*softmax)(mz_stream *s, const mz_tensor *y, const mz_tensor *x);
    mz_status (*gated_activation)(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation);
    mz_status (*add)(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                     float scale);
    mz_status (*gather_rows)(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const int32_t *rows, float scale);
    mz_status (*kv_write)(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                          const mz_tensor *v, const mz_rows *rows);
    mz_status (*attention)(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule);
    mz_status (*kv_rotate)(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                           int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                           int64_t n); /* may be NULL: positions cannot be shifted */
    mz_status (*route)(mz_stream *s, const mz_router *router, const mz_routing *routing);
    mz_status (*dispatch)(mz_stream *s, const mz_routing *routing);
    mz_status (*grouped_linear)(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const mz_linear_bank *bank, const mz_routing *routing, bool gather);
    mz_status (*combine)(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                         const mz_routing *routing, const mz_tensor *shared_out,
                         const mz_tensor *shared_logit);

    /* fused ops; NULL: composed from primitives by core/ops/composed.c */
    mz_status (*linears)(mz_stream *s, int n, const mz_tensor *const *y, const mz_tensor *x,
                         const mz_linear *const *w);
    mz_status (*ffn)(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn);
    mz_status (*moe)(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                     const mz_routing *routing);

    /* needed by some kinds of routers and experts only; NULL: those are UNSUPPORTED */
    mz_status (*mask_logits)(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                             const mz_router *router, const mz_rows *rows);
    mz_status (*plain_experts)(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                               const mz_plain_experts *plain, const mz_routing *routing);

    const mz_training_ops *training; /* NULL: cannot train */
};

/* Plain loops with f64 sums, one thread: what every other backend is tested against. */
const mz_backend *mz_backend_reference(void);

/* The fast one: kernels for the context's instruction set and threads. */
const mz_backend *mz_backend_cpu(void);

/* Backend i of this build, the preferred one first; NULL after the last. */
const mz_backend *mz_backend_at(int i);

/* By name, or NULL. */
const mz_backend *mz_backend_find(const char *name);

/* Opens a stream whose arena holds `arena_bytes`. Errors: UNSUPPORTED naming a primitive op that
 * the backend lacks; NOMEM; DEVICE. */
mz_status mz_stream_open(mz_context *ctx, const mz_backend *backend, size_t arena_bytes,
                         mz_stream *out);

/* A stream in measure mode: takes count, ops do nothing. */
void mz_stream_open_measure(mz_context *ctx, const mz_backend *backend, mz_stream *out);

/* Frees the arena and the backend's state; accepts an all-zero stream. */
void mz_stream_close(mz_stream *s);

#ifdef __cplusplus
}
#endif
#endif
