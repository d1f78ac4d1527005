#include "core/ops/cuda/cuda_device.cuh"
#include "core/ops/cuda/cuda_internal.h"

/* Ops on single rows. Nothing need divide or be aligned in any of them. They are written for
 * clarity and not tuned; their speed has not been measured on a GPU. Test:
 * tests/cudasim/test_cuda_ops. */

enum {
    ROW_THREADS = 128,                           /* of a block that owns one row */
    ROWS_PER_BLOCK = ROW_THREADS / MZ_CUDA_WARP, /* where one warp owns one row */
};

/* y_i = weight_i * x_i / sqrt(mean(x^2) + eps), sums in f32.
 * One warp owns a row, one lane every 32nd element of it; four rows a block. Twin: mz_ref_rms_norm.
 */
static __global__ void __launch_bounds__(ROW_THREADS)
    rms_norm_kernel(float *y, const float *x, const float *weight, int64_t n_rows, int64_t width,
                    int64_t ld_y, int64_t ld_x, float eps) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const int64_t row = (int64_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / MZ_CUDA_WARP;
    if (row >= n_rows) {
        return;
    }
    const float *in = x + row * ld_x;
    float sum = 0.0f;
    for (int64_t i = lane; i < width; i += MZ_CUDA_WARP) {
        sum += in[i] * in[i];
    }
    const float scale = 1.0f / sqrtf(mz_cuda_warp_sum(sum) / (float)width + eps);
    for (int64_t i = lane; i < width; i += MZ_CUDA_WARP) {
        y[row * ld_y + i] = weight[i] * (in[i] * scale);
    }
}

mz_status mz_cuda_rms_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_tensor *weight, float eps) {
    const int64_t n_rows = mz_tensor_n_rows(x);
    const int64_t width = mz_tensor_n_cols(x);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "rms_norm", mz_cuda_ceil_div((size_t)n_rows, ROWS_PER_BLOCK), 1,
                        ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, rms_norm_kernel, (float *)y->data, (const float *)x->data,
                           (const float *)weight->data, n_rows, width, y->ld, x->ld, eps);
    return mz_cuda_check(s, code, "rms_norm");
}

/* y_i = exp(x_i - max x) / sum; a row without any value above -inf gives zeros.
 * Work as in rms_norm: one warp a row. Twin: mz_ref_softmax. */
static __global__ void __launch_bounds__(ROW_THREADS)
    softmax_kernel(float *y, const float *x, int64_t n_rows, int64_t width, int64_t ld_y,
                   int64_t ld_x) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const int64_t row = (int64_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / MZ_CUDA_WARP;
    if (row >= n_rows) {
        return;
    }
    const float *in = x + row * ld_x;
    float max = -INFINITY;
    for (int64_t i = lane; i < width; i += MZ_CUDA_WARP) {
        max = fmaxf(max, in[i]);
    }
    max = mz_cuda_warp_max(max);
    const bool empty = max == -INFINITY;
    float sum = 0.0f;
    for (int64_t i = lane; i < width && !empty; i += MZ_CUDA_WARP) {
        sum += expf(in[i] - max);
    }
    sum = mz_cuda_warp_sum(sum);
    for (int64_t i = lane; i < width; i += MZ_CUDA_WARP) {
        y[row * ld_y + i] = empty ? 0.0f : expf(in[i] - max) / sum;
    }
}

mz_status mz_cuda_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x) {
    const int64_t n_rows = mz_tensor_n_rows(x);
    const int64_t width = mz_tensor_n_cols(x);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "softmax", mz_cuda_ceil_div((size_t)n_rows, ROWS_PER_BLOCK), 1,
                        ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, softmax_kernel, (float *)y->data, (const float *)x->data,
                           n_rows, width, y->ld, x->ld);
    return mz_cuda_check(s, code, "softmax");
}

struct rope_shape {
    int64_t width, half_dim;
    int64_t ld_y, ld_x;
};

/* With c and n the cosine and sine of the row's position: y_i = x_i c_i - x_{i+h} n_i, y_{i+h} =
 * x_{i+h} c_i + x_i n_i. One block owns a row, one thread every 128th pair of all heads; a pair is
 * read whole before it is written, so that y may be x. Twin: mz_ref_rope. */
static __global__ void __launch_bounds__(ROW_THREADS)
    rope_kernel(float *y, const float *x, const float *cosines, const float *sines,
                const int32_t *position, rope_shape shape) {
    const int64_t row = blockIdx.x;
    const float *c = cosines + position[row] * shape.half_dim;
    const float *n = sines + position[row] * shape.half_dim;
    for (int64_t pair = threadIdx.x; pair < shape.width / 2; pair += ROW_THREADS) {
        const int64_t i = pair % shape.half_dim;
        const int64_t first = pair / shape.half_dim * 2 * shape.half_dim + i;
        const float a = x[row * shape.ld_x + first];
        const float b = x[row * shape.ld_x + first + shape.half_dim];
        y[row * shape.ld_y + first] = a * c[i] - b * n[i];
        y[row * shape.ld_y + first + shape.half_dim] = b * c[i] + a * n[i];
    }
}

mz_status mz_cuda_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                       const mz_rope_table *table, const mz_rows *rows) {
    const int64_t width = mz_tensor_n_cols(x);
    if (rows->n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    rope_shape shape = {};
    shape.width = width;
    shape.half_dim = table->half_dim;
    shape.ld_y = y->ld;
    shape.ld_x = x->ld;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "rope", (size_t)rows->n_rows, 1, ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, rope_kernel, (float *)y->data, (const float *)x->data,
                           table->cos, table->sin, rows->position, shape);
    return mz_cuda_check(s, code, "rope");
}

/* y = silu(gate) * up, silu(g) = g / (1 + exp(-g)). One block owns a row. Twin:
 * mz_ref_gated_activation. */
static __global__ void __launch_bounds__(ROW_THREADS)
    gated_silu_kernel(float *y, const float *gate, const float *up, int64_t width, int64_t ld_y,
                      int64_t ld_gate, int64_t ld_up) {
    const int64_t row = blockIdx.x;
    for (int64_t i = threadIdx.x; i < width; i += ROW_THREADS) {
        const float g = gate[row * ld_gate + i];
        y[row * ld_y + i] = g / (1.0f + expf(-g)) * up[row * ld_up + i];
    }
}

mz_status mz_cuda_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                   const mz_tensor *up, mz_activation activation) {
    if (activation != MZ_ACTIVATION_SILU) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "cuda: gated_activation: no kernel for activation %d", (int)activation);
    }
    const int64_t n_rows = mz_tensor_n_rows(y);
    const int64_t width = mz_tensor_n_cols(y);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "gated_activation", (size_t)n_rows, 1, ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, gated_silu_kernel, (float *)y->data, (const float *)gate->data,
                           (const float *)up->data, width, y->ld, gate->ld, up->ld);
    return mz_cuda_check(s, code, "gated_activation");
}

/* y = a + scale b, the product not rounded. One block owns a row. Twin: mz_ref_add. */
static __global__ void __launch_bounds__(ROW_THREADS)
    add_kernel(float *y, const float *a, const float *b, float scale, int64_t width, int64_t ld_y,
               int64_t ld_a, int64_t ld_b) {
    const int64_t row = blockIdx.x;
    for (int64_t i = threadIdx.x; i < width; i += ROW_THREADS) {
        y[row * ld_y + i] = fmaf(scale, b[row * ld_b + i], a[row * ld_a + i]);
    }
}

mz_status mz_cuda_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                      float scale) {
    const int64_t n_rows = mz_tensor_n_rows(y);
    const int64_t width = mz_tensor_n_cols(y);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "add", (size_t)n_rows, 1, ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, add_kernel, (float *)y->data, (const float *)a->data,
                           (const float *)b->data, scale, width, y->ld, a->ld, b->ld);
    return mz_cuda_check(s, code, "add");
}

/* y[r] = x[rows[r]]. One block owns a row of y. Twin: mz_ref_gather_rows. */
static __global__ void __launch_bounds__(ROW_THREADS)
    gather_rows_kernel(float *y, const float *x, const int32_t *rows, int64_t width, int64_t ld_y,
                       int64_t ld_x) {
    const int64_t row = blockIdx.x;
    const int64_t source = rows[row];
    for (int64_t i = threadIdx.x; i < width; i += ROW_THREADS) {
        y[row * ld_y + i] = x[source * ld_x + i];
    }
}

mz_status mz_cuda_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                              const int32_t *rows) {
    const int64_t n_rows = mz_tensor_n_rows(y);
    const int64_t width = mz_tensor_n_cols(y);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "gather_rows", (size_t)n_rows, 1, ROW_THREADS, &config));
    const cudaError_t code = cudaLaunchKernelEx(&config, gather_rows_kernel, (float *)y->data,
                                                (const float *)x->data, rows, width, y->ld, x->ld);
    return mz_cuda_check(s, code, "gather_rows");
}
