#include "core/ops/cuda/cuda_device.cuh"
#include "core/ops/cuda/cuda_internal.h"

enum {
    TILE_TOKENS = 32,
    TILE_OUTPUTS = 64,
    TILE_K = 16,
    PER_THREAD = 4,                           /* tokens, and outputs, that one thread owns */
    OUTPUT_LANES = TILE_OUTPUTS / PER_THREAD, /* threads side by side along the outputs */
    N_THREADS = OUTPUT_LANES * (TILE_TOKENS / PER_THREAD),
};

/* One product y[r] = W x[source(r)] + b over a range of rows r. */
struct product_shape {
    int64_t d_out, d_in;
    int64_t ld_y, ld_x, ld_w; /* elements from one row to the next */
    int top_k; /* with a row index: source(r) = row_index[r] / top_k; without: source(r) = r */
    bool round_bf16; /* inputs and weights are rounded to bf16 first */
};

/* What a block shares. */
struct product_tiles {
    float x[TILE_K][TILE_TOKENS +
                    1]; /* 16 columns of 32 rows, transposed and padded against bank conflicts */
    float w[TILE_K][TILE_OUTPUTS + 1];
    int64_t source[TILE_TOKENS]; /* the row of x that each row of the tile reads */
};

/* The block's shared memory. In a plain function, because g++ does not put static variables of
 * templates into the section by which the tests' simulator finds shared memory; on a device it
 * makes no difference. */
static __device__ __forceinline__ product_tiles *shared_tiles() {
    __shared__ product_tiles tiles;
    return &tiles;
}

/* The tile of y at rows [first_row, first_row + TILE_TOKENS) below end_row and outputs [first_out,
 * first_out + 64):
 *   y_ro = b_o + sum_i W_oi x_source(r),i
 * accumulated in f32 with i ascending, whatever the tile and the other rows. Block: 128 threads;
 * thread (g, l) = (t / 16, t % 16) owns rows 4 g .. 4 g + 3 and outputs l, l + 16, l + 32, l + 48.
 * Shared: product_tiles. Nothing need divide or be aligned: what lies outside reads as 0 and is not
 * written. One variant for one token and for many, because both must add in the same order; it is
 * not tuned, and its speed has not been measured on a GPU. Twins: mz_ref_linear and
 * mz_ref_grouped_linear. Test: tests/cudasim/test_cuda_ops. */
template <class W>
static __device__ void product_tile(float *y, const float *x, const W *w, const float *bias,
                                    const int32_t *row_index, const product_shape &shape,
                                    int64_t first_row, int64_t end_row) {
    product_tiles *tiles = shared_tiles();
    const int thread = (int)threadIdx.x;
    const int group = thread / OUTPUT_LANES;
    const int lane = thread % OUTPUT_LANES;
    const int64_t first_out = (int64_t)blockIdx.y * TILE_OUTPUTS;
    if (thread < TILE_TOKENS && first_row + thread < end_row) {
        const int64_t row = first_row + thread;
        tiles->source[thread] = row_index != NULL ? row_index[row] / shape.top_k : row;
    }
    float acc[PER_THREAD][PER_THREAD] = {};
    for (int64_t first_k = 0; first_k < shape.d_in; first_k += TILE_K) {
        __syncthreads();
        for (int i = thread; i < TILE_TOKENS * TILE_K; i += N_THREADS) {
            const int row = i / TILE_K;
            const int64_t k = first_k + i % TILE_K;
            float v = 0.0f;
            if (first_row + row < end_row && k < shape.d_in) {
                v = x[tiles->source[row] * shape.ld_x + k];
            }
            tiles->x[i % TILE_K][row] = shape.round_bf16 ? mz_cuda_round_bf16(v) : v;
        }
        for (int i = thread; i < TILE_OUTPUTS * TILE_K; i += N_THREADS) {
            const int64_t out = first_out + i / TILE_K;
            const int64_t k = first_k + i % TILE_K;
            float v = 0.0f;
            if (out < shape.d_out && k < shape.d_in) {
                v = mz_cuda_widen(w[out * shape.ld_w + k]);
            }
            tiles->w[i % TILE_K][i / TILE_K] = shape.round_bf16 ? mz_cuda_round_bf16(v) : v;
        }
        __syncthreads();
        for (int k = 0; k < TILE_K; k++) {
            for (int a = 0; a < PER_THREAD; a++) {
                const float v = tiles->x[k][group * PER_THREAD + a];
                for (int b = 0; b < PER_THREAD; b++) {
                    acc[a][b] += v * tiles->w[k][lane + b * OUTPUT_LANES];
                }
            }
        }
    }
    for (int a = 0; a < PER_THREAD; a++) {
        const int64_t row = first_row + group * PER_THREAD + a;
        for (int b = 0; b < PER_THREAD; b++) {
            const int64_t out = first_out + lane + b * OUTPUT_LANES;
            if (row < end_row && out < shape.d_out) {
                y[row * shape.ld_y + out] = acc[a][b] + (bias != NULL ? bias[out] : 0.0f);
            }
        }
    }
}

/* Block (i, j): rows [32 i, 32 i + 32), outputs [64 j, 64 j + 64). `bias` may be NULL. */
template <class W>
static __global__ void __launch_bounds__(N_THREADS)
    linear_kernel(float *y, const float *x, const W *w, const float *bias, product_shape shape,
                  int64_t n_rows) {
    product_tile<W>(y, x, w, bias, NULL, shape, (int64_t)blockIdx.x * TILE_TOKENS, n_rows);
}

/* Block (i, j): the i-th tile of rows over all experts, where each expert's rows begin a new tile;
 * outputs as above. The host knows only the bound n_slots / 32 + n_experts on the number of tiles,
 * so that blocks find their expert themselves and those beyond the last tile end at once.
 * `row_index` is NULL unless rows are gathered. */
template <class W>
static __global__ void __launch_bounds__(N_THREADS)
    grouped_linear_kernel(float *y, const float *x, const void *const *weights,
                          const int32_t *expert_offsets, const int32_t *row_index,
                          product_shape shape, int n_experts) {
    int64_t tile = blockIdx.x;
    for (int e = 0; e < n_experts; e++) {
        const int64_t begin = expert_offsets[e];
        const int64_t end = expert_offsets[e + 1];
        const int64_t n_tiles = (end - begin + TILE_TOKENS - 1) / TILE_TOKENS;
        if (tile < n_tiles) {
            product_tile<W>(y, x, (const W *)weights[e], NULL, row_index, shape,
                            begin + tile * TILE_TOKENS, end);
            return;
        }
        tile -= n_tiles;
    }
}

mz_status mz_cuda_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w) {
    const int64_t n_rows = mz_tensor_n_rows(x);
    product_shape shape = {};
    shape.d_out = mz_tensor_n_cols(y);
    shape.d_in = mz_tensor_n_cols(x);
    shape.ld_y = y->ld;
    shape.ld_x = x->ld;
    shape.ld_w = w->weight.ld;
    shape.round_bf16 = w->precision == MZ_PRECISION_BF16;
    if (n_rows == 0 || shape.d_out == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "linear", mz_cuda_ceil_div((size_t)n_rows, TILE_TOKENS),
                        mz_cuda_ceil_div((size_t)shape.d_out, TILE_OUTPUTS), N_THREADS, &config));
    float *out = (float *)y->data;
    const float *in = (const float *)x->data;
    const float *bias = w->bias.n_dims > 0 ? (const float *)w->bias.data : NULL;
    cudaError_t code = cudaSuccess;
    switch (w->weight.dtype) {
    case MZ_DTYPE_F32:
        code = cudaLaunchKernelEx(&config, linear_kernel<float>, out, in,
                                  (const float *)w->weight.data, bias, shape, n_rows);
        break;
    case MZ_DTYPE_F16:
        code = cudaLaunchKernelEx(&config, linear_kernel<__half>, out, in,
                                  (const __half *)w->weight.data, bias, shape, n_rows);
        break;
    case MZ_DTYPE_BF16:
        code = cudaLaunchKernelEx(&config, linear_kernel<__nv_bfloat16>, out, in,
                                  (const __nv_bfloat16 *)w->weight.data, bias, shape, n_rows);
        break;
    default:
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE, "cuda: linear: no kernel for %s weights",
                       mz_dtype_get(w->weight.dtype)->name);
    }
    return mz_cuda_check(s, code, "linear");
}

mz_status mz_cuda_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                 const mz_linear_bank *bank, const mz_routing *routing,
                                 bool gather) {
    if (bank->bias != NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "cuda: grouped_linear: no kernel for experts with biases");
    }
    const size_t n_slots = (size_t)mz_tensor_n_rows(y);
    if (n_slots == 0 || bank->d_out == 0) {
        return MZ_OK;
    }
    product_shape shape = {};
    shape.d_out = bank->d_out;
    shape.d_in = bank->d_in;
    shape.ld_y = y->ld;
    shape.ld_x = x->ld;
    shape.ld_w = bank->ld;
    shape.top_k = routing->top_k;
    shape.round_bf16 = bank->precision == MZ_PRECISION_BF16;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "grouped_linear", n_slots / TILE_TOKENS + (size_t)bank->n_experts,
                        mz_cuda_ceil_div((size_t)shape.d_out, TILE_OUTPUTS), N_THREADS, &config));
    float *out = (float *)y->data;
    const float *in = (const float *)x->data;
    const int32_t *index = gather ? routing->row_index : NULL;
    const int n_experts = (int)bank->n_experts;
    cudaError_t code = cudaSuccess;
    switch (bank->dtype) {
    case MZ_DTYPE_F32:
        code =
            cudaLaunchKernelEx(&config, grouped_linear_kernel<float>, out, in, bank->data,
                               (const int32_t *)routing->expert_offsets, index, shape, n_experts);
        break;
    case MZ_DTYPE_F16:
        code =
            cudaLaunchKernelEx(&config, grouped_linear_kernel<__half>, out, in, bank->data,
                               (const int32_t *)routing->expert_offsets, index, shape, n_experts);
        break;
    case MZ_DTYPE_BF16:
        code =
            cudaLaunchKernelEx(&config, grouped_linear_kernel<__nv_bfloat16>, out, in, bank->data,
                               (const int32_t *)routing->expert_offsets, index, shape, n_experts);
        break;
    default:
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "cuda: grouped_linear: no kernel for %s weights",
                       mz_dtype_get(bank->dtype)->name);
    }
    return mz_cuda_check(s, code, "grouped_linear");
}
