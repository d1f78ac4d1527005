#include "core/ops/cuda/cuda_device.cuh"
#include "core/ops/cuda/cuda_internal.h"

/* Routing, dispatch and combine. Nothing need divide or be aligned; expert ids lie in [0,
 * n_experts), which route guarantees. None of this has been measured on a GPU. Test:
 * tests/cudasim/test_cuda_ops. */

enum {
    ROUTE_WARPS = 4,
    SORT_THREADS = 256,
    SORT_WARPS = SORT_THREADS / MZ_CUDA_WARP,
    COMBINE_THREADS = 128,
};

/* Whether expert i with score a comes before expert j with score b: higher score, lower id; NaN
 * after all numbers. */
static __device__ __forceinline__ bool comes_before(float a, int i, float b, int j) {
    if (isnan(a) != isnan(b)) {
        return isnan(b);
    }
    if (!isnan(a) && a != b) {
        return a > b;
    }
    return i < j;
}

/* The first expert, in the order above, of those that come after expert `last` (all of them where
 * last is -1). One warp calls; lane l looks at experts l, l + 32, ...; all lanes get the answer. */
static __device__ int next_expert(const float *logits, int n_experts, int last) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const float last_score = last >= 0 ? logits[last] : 0.0f;
    int best = -1;
    float best_score = 0.0f;
    for (int e = lane; e < n_experts; e += MZ_CUDA_WARP) {
        const bool open = last < 0 || comes_before(last_score, last, logits[e], e);
        if (open && (best < 0 || comes_before(logits[e], e, best_score, best))) {
            best = e;
            best_score = logits[e];
        }
    }
    for (int offset = MZ_CUDA_WARP / 2; offset > 0; offset /= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, best, offset);
        const float other_score = __shfl_xor_sync(0xffffffffu, best_score, offset);
        if (other >= 0 && (best < 0 || comes_before(other_score, other, best_score, best))) {
            best = other;
            best_score = other_score;
        }
    }
    return best;
}

/* The top_k experts of each token, and for each exp(logit - max) / sum over all experts of
 * exp(logit - max), where a NaN counts as -inf and a row of only those gives zeros. One warp owns a
 * token, four a block; scores are compared as they were given, so that the choice is the same on
 * every backend. Twin: mz_ref_route. */
static __global__ void __launch_bounds__(ROUTE_WARPS *MZ_CUDA_WARP)
    route_kernel(int32_t *expert_ids, float *gate_weights, const float *logits, int64_t n_tokens,
                 int n_experts, int top_k, int64_t ld) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const int64_t token = (int64_t)blockIdx.x * ROUTE_WARPS + threadIdx.x / MZ_CUDA_WARP;
    if (token >= n_tokens) {
        return;
    }
    const float *row = logits + token * ld;
    float max = -INFINITY;
    for (int e = lane; e < n_experts; e += MZ_CUDA_WARP) {
        max = fmaxf(max, row[e]);
    }
    max = mz_cuda_warp_max(max);
    const bool empty = max == -INFINITY;
    float sum = 0.0f;
    for (int e = lane; e < n_experts && !empty; e += MZ_CUDA_WARP) {
        sum += isnan(row[e]) ? 0.0f : expf(row[e] - max);
    }
    sum = mz_cuda_warp_sum(sum);
    int expert = -1;
    for (int rank = 0; rank < top_k; rank++) {
        expert = next_expert(row, n_experts, expert);
        if (lane == 0) {
            const bool counts = !empty && !isnan(row[expert]);
            expert_ids[token * top_k + rank] = expert;
            gate_weights[token * top_k + rank] = counts ? expf(row[expert] - max) / sum : 0.0f;
        }
    }
}

mz_status mz_cuda_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    const bool is_plain = !router->renormalise && !router->unit_weights && router->scale == 0 &&
                          router->selection_bias.n_dims == 0 && router->n_groups == 0 &&
                          !router->by_modality && router->n_zero == 0;
    if (router->kind != MZ_ROUTER_SOFTMAX_TOPK || !is_plain) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "cuda: route: no kernel for router kind %d%s", (int)router->kind,
                       is_plain ? "" : " with its options");
    }
    if (routing->n_tokens == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "route", mz_cuda_ceil_div((size_t)routing->n_tokens, ROUTE_WARPS), 1,
                        ROUTE_WARPS * MZ_CUDA_WARP, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, route_kernel, routing->expert_ids, routing->gate_weights,
                           (const float *)routing->logits.data, routing->n_tokens,
                           (int)router->n_experts, (int)router->top_k, routing->logits.ld);
    return mz_cuda_check(s, code, "route");
}

/* How many threads before this one, and how many in the block, have `hit` set. All threads of a
 * block call, with the same `counts` in shared memory, which is free again on return. */
static __device__ int2 count_hits(bool hit, int (&counts)[SORT_WARPS]) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const int warp = (int)threadIdx.x / MZ_CUDA_WARP;
    const unsigned hits = __ballot_sync(0xffffffffu, hit);
    if (lane == 0) {
        counts[warp] = __popc(hits);
    }
    __syncthreads();
    int before = __popc(hits & ((1u << lane) - 1u));
    int total = 0;
    for (int w = 0; w < SORT_WARPS; w++) {
        before += w < warp ? counts[w] : 0;
        total += counts[w];
    }
    __syncthreads();
    return make_int2(before, total);
}

/* expert_offsets[e + 1] = number of slots of expert e. Block e owns expert e and looks at every
 * slot. Shared: one count a warp. */
static __global__ void __launch_bounds__(SORT_THREADS)
    count_kernel(int32_t *expert_offsets, const int32_t *expert_ids, int64_t n_slots) {
    __shared__ int counts[SORT_WARPS];
    const int expert = (int)blockIdx.x;
    int n = 0;
    for (int64_t first = 0; first < n_slots; first += SORT_THREADS) {
        const int64_t slot = first + threadIdx.x;
        n += count_hits(slot < n_slots && expert_ids[slot] == expert, counts).y;
    }
    if (threadIdx.x == 0) {
        expert_offsets[expert + 1] = n;
    }
}

/* expert_offsets[e + 1] += expert_offsets[e], in order, from expert_offsets[0] = 0. One thread:
 * there are few experts. */
static __global__ void scan_kernel(int32_t *expert_offsets, int n_experts) {
    int32_t sum = 0;
    expert_offsets[0] = 0;
    for (int e = 0; e < n_experts; e++) {
        sum += expert_offsets[e + 1];
        expert_offsets[e + 1] = sum;
    }
}

/* The j-th slot of expert e in ascending order goes to sorted row expert_offsets[e] + j: row_index
 * and its inverse. Block e owns expert e as above, so that places follow from the order of slots
 * and no atomics are needed. */
static __global__ void __launch_bounds__(SORT_THREADS)
    place_kernel(int32_t *row_index, int32_t *slot_row, const int32_t *expert_offsets,
                 const int32_t *expert_ids, int64_t n_slots) {
    __shared__ int counts[SORT_WARPS];
    const int expert = (int)blockIdx.x;
    int next = expert_offsets[expert];
    for (int64_t first = 0; first < n_slots; first += SORT_THREADS) {
        const int64_t slot = first + threadIdx.x;
        const bool hit = slot < n_slots && expert_ids[slot] == expert;
        const int2 hits = count_hits(hit, counts);
        if (hit) {
            row_index[next + hits.x] = (int32_t)slot;
            slot_row[slot] = next + hits.x;
        }
        next += hits.y;
    }
}

/* Counting sort in three launches, since blocks cannot wait for each other. Twin: mz_ref_dispatch.
 */
mz_status mz_cuda_dispatch(mz_stream *s, const mz_routing *routing) {
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    const int n_experts = (int)routing->n_experts;
    if (n_slots == 0) {
        return MZ_OK;
    }
    if (n_slots > INT32_MAX) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT, "cuda: dispatch: %lld slots, at most %d fit",
                       (long long)n_slots, INT32_MAX);
    }
    cudaLaunchConfig_t per_expert;
    cudaLaunchConfig_t single;
    MZ_TRY(mz_cuda_grid(s, "dispatch", (size_t)n_experts, 1, SORT_THREADS, &per_expert));
    MZ_TRY(mz_cuda_grid(s, "dispatch", 1, 1, 1, &single));
    const int32_t *ids = routing->expert_ids;
    const int32_t *offsets = routing->expert_offsets;
    cudaError_t code =
        cudaLaunchKernelEx(&per_expert, count_kernel, routing->expert_offsets, ids, n_slots);
    if (code == cudaSuccess) {
        code = cudaLaunchKernelEx(&single, scan_kernel, routing->expert_offsets, n_experts);
    }
    if (code == cudaSuccess) {
        code = cudaLaunchKernelEx(&per_expert, place_kernel, routing->row_index, routing->slot_row,
                                  offsets, ids, n_slots);
    }
    return mz_cuda_check(s, code, "dispatch");
}

struct combine_shape {
    int64_t width;
    int64_t ld_y, ld_expert, ld_shared, ld_logit;
    int top_k;
};

/* y_t = sum over ranks k, ascending, of gate_weights[t, k] expert_out[slot_row[t, k]], then
 * + sigmoid(shared_logit_t) shared_out_t unless shared_out is NULL; without logits times 1.
 * One block owns a token, one thread every 128th column. Twin: mz_ref_combine. */
static __global__ void __launch_bounds__(COMBINE_THREADS)
    combine_kernel(float *y, const float *expert_out, const int32_t *slot_row,
                   const float *gate_weights, const float *shared_out, const float *shared_logit,
                   combine_shape shape) {
    const int64_t token = blockIdx.x;
    const float gate =
        shared_logit != NULL ? mz_cuda_sigmoid(shared_logit[token * shape.ld_logit]) : 1.0f;
    for (int64_t i = threadIdx.x; i < shape.width; i += COMBINE_THREADS) {
        float sum = 0.0f;
        for (int rank = 0; rank < shape.top_k; rank++) {
            const int64_t slot = token * shape.top_k + rank;
            sum += gate_weights[slot] * expert_out[slot_row[slot] * shape.ld_expert + i];
        }
        if (shared_out != NULL) {
            sum += gate * shared_out[token * shape.ld_shared + i];
        }
        y[token * shape.ld_y + i] = sum;
    }
}

mz_status mz_cuda_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                          const mz_routing *routing, const mz_tensor *shared_out,
                          const mz_tensor *shared_logit) {
    const int64_t width = mz_tensor_n_cols(y);
    if (routing->n_tokens == 0 || width == 0) {
        return MZ_OK;
    }
    const bool shared = shared_out != NULL;
    const bool gated = shared_logit != NULL;
    combine_shape shape = {};
    shape.width = width;
    shape.ld_y = y->ld;
    shape.ld_expert = expert_out->ld;
    shape.ld_shared = shared ? shared_out->ld : 0;
    shape.ld_logit = gated ? shared_logit->ld : 0;
    shape.top_k = routing->top_k;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "combine", (size_t)routing->n_tokens, 1, COMBINE_THREADS, &config));
    const cudaError_t code = cudaLaunchKernelEx(
        &config, combine_kernel, (float *)y->data, (const float *)expert_out->data,
        (const int32_t *)routing->slot_row, (const float *)routing->gate_weights,
        shared ? (const float *)shared_out->data : (const float *)NULL,
        gated ? (const float *)shared_logit->data : (const float *)NULL, shape);
    return mz_cuda_check(s, code, "combine");
}
