#include "core/ops/cuda/cuda_device.cuh"
#include "core/ops/cuda/cuda_internal.h"

/* Ops on single rows. Nothing need divide or be aligned in any of them. They are written for
 * clarity and not tuned; their speed has not been measured on a GPU. Test:
 * tests/cudasim/test_cuda_ops. */

enum {
    ROW_THREADS = 128,                           /* of a block that owns one row */
    ROWS_PER_BLOCK = ROW_THREADS / MZ_CUDA_WARP, /* where one warp owns one row */
};

struct norm_shape {
    int64_t n_groups, width, group; /* n_groups of all rows */
    int64_t ld_y, ld_x;
    int64_t n_weights, n_biases; /* width or group; 0: absent */
    float eps, offset;
    bool centred;
};

/* y = (weight + offset) (x - mean) / sqrt(mean((x - mean)^2) + eps) + bias, the mean 0 where the
 * norm is not centred; sums in f32. One warp owns a group of a row, one lane every 32nd element of
 * it; four groups a block. Twin: mz_ref_norm. */
static __global__ void __launch_bounds__(ROW_THREADS)
    norm_kernel(float *y, const float *x, const float *weight, const float *bias,
                norm_shape shape) {
    const int lane = (int)threadIdx.x % MZ_CUDA_WARP;
    const int64_t index = (int64_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / MZ_CUDA_WARP;
    if (index >= shape.n_groups) {
        return;
    }
    const int64_t per_row = shape.width / shape.group;
    const int64_t row = index / per_row;
    const int64_t begin = index % per_row * shape.group;
    const float *in = x + row * shape.ld_x + begin;
    float mean = 0.0f;
    if (shape.centred) {
        float sum = 0.0f;
        for (int64_t i = lane; i < shape.group; i += MZ_CUDA_WARP) {
            sum += in[i];
        }
        mean = mz_cuda_warp_sum(sum) / (float)shape.group;
    }
    float squares = 0.0f;
    for (int64_t i = lane; i < shape.group; i += MZ_CUDA_WARP) {
        squares += (in[i] - mean) * (in[i] - mean);
    }
    const float scale = 1.0f / sqrtf(mz_cuda_warp_sum(squares) / (float)shape.group + shape.eps);
    for (int64_t i = lane; i < shape.group; i += MZ_CUDA_WARP) {
        float v = (in[i] - mean) * scale;
        if (shape.n_weights > 0) {
            v *= weight[(begin + i) % shape.n_weights] + shape.offset;
        }
        if (shape.n_biases > 0) {
            v += bias[(begin + i) % shape.n_biases];
        }
        y[row * shape.ld_y + begin + i] = v;
    }
}

mz_status mz_cuda_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm) {
    const int64_t n_rows = mz_tensor_n_rows(x);
    const int64_t width = mz_tensor_n_cols(x);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    norm_shape shape = {};
    shape.width = width;
    shape.group = norm->group > 0 ? norm->group : width;
    shape.n_groups = n_rows * (width / shape.group);
    shape.ld_y = y->ld;
    shape.ld_x = x->ld;
    shape.n_weights = norm->weight.n_dims > 0 ? norm->weight.shape[0] : 0;
    shape.n_biases = norm->bias.n_dims > 0 ? norm->bias.shape[0] : 0;
    shape.eps = norm->eps;
    shape.offset = norm->offset;
    shape.centred = norm->kind == MZ_NORM_LAYER;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "norm", mz_cuda_ceil_div((size_t)shape.n_groups, ROWS_PER_BLOCK), 1,
                        ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, norm_kernel, (float *)y->data, (const float *)x->data,
                           (const float *)norm->weight.data, (const float *)norm->bias.data, shape);
    return mz_cuda_check(s, code, "norm");
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
    int64_t width, head_dim, first, half_dim;
    int64_t step, other; /* between pairs, and from the first to the second element of a pair */
    int64_t ld_y, ld_x;
};

/* With c and n the cosine and sine of the row's position, for the elements a and b of pair i: y_a =
 * x_a c_i - x_b n_i, y_b = x_b c_i + x_a n_i; what is not turned is copied. One block owns a row,
 * one thread every 128th element or pair of all heads; a pair is read whole before it is written,
 * so that y may be x. Twin: mz_ref_rope. */
static __global__ void __launch_bounds__(ROW_THREADS)
    rope_kernel(float *y, const float *x, const float *cosines, const float *sines,
                const int32_t *position, rope_shape shape) {
    const int64_t row = blockIdx.x;
    const float *c = cosines + position[row] * shape.half_dim;
    const float *n = sines + position[row] * shape.half_dim;
    const float *in = x + row * shape.ld_x;
    float *out = y + row * shape.ld_y;
    const int64_t n_pairs = shape.width / shape.head_dim * shape.half_dim;
    for (int64_t pair = threadIdx.x; pair < n_pairs; pair += ROW_THREADS) {
        const int64_t i = pair % shape.half_dim;
        const int64_t at = pair / shape.half_dim * shape.head_dim + shape.first + i * shape.step;
        const float a = in[at];
        const float b = in[at + shape.other];
        out[at] = a * c[i] - b * n[i];
        out[at + shape.other] = b * c[i] + a * n[i];
    }
    for (int64_t i = threadIdx.x; i < shape.width && out != in; i += ROW_THREADS) {
        const int64_t in_head = i % shape.head_dim;
        if (in_head < shape.first || in_head >= shape.first + 2 * shape.half_dim) {
            out[i] = in[i];
        }
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
    shape.head_dim = table->head_dim > 0 ? table->head_dim : 2 * table->half_dim;
    shape.first = table->first;
    shape.half_dim = table->half_dim;
    shape.step = table->interleaved ? 2 : 1;
    shape.other = table->interleaved ? 1 : table->half_dim;
    shape.ld_y = y->ld;
    shape.ld_x = x->ld;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "rope", (size_t)rows->n_rows, 1, ROW_THREADS, &config));
    const cudaError_t code =
        cudaLaunchKernelEx(&config, rope_kernel, (float *)y->data, (const float *)x->data,
                           table->cos, table->sin, rows->position, shape);
    return mz_cuda_check(s, code, "rope");
}

/* act(x); see mz_activation. */
static __device__ __forceinline__ float activate(float x, int activation) {
    switch (activation) {
    case MZ_ACTIVATION_GELU:
        return 0.5f * x * erfcf(-0.70710678f * x);
    case MZ_ACTIVATION_GELU_TANH:
        return x / (1.0f + expf(-1.5957691f * (x + 0.044715f * x * x * x)));
    case MZ_ACTIVATION_GELU_QUICK:
        return x / (1.0f + expf(-1.702f * x));
    case MZ_ACTIVATION_RELU:
        return fmaxf(x, 0.0f);
    case MZ_ACTIVATION_TANH:
        return tanhf(x);
    default:
        return x / (1.0f + expf(-x));
    }
}

struct gated_shape {
    int64_t width, ld_y, ld_gate, ld_up;
    int activation;
};

/* y = act(gate) * up, or act(gate) where up is NULL. One block owns a row. Twin:
 * mz_ref_gated_activation. */
static __global__ void __launch_bounds__(ROW_THREADS)
    gated_activation_kernel(float *y, const float *gate, const float *up, gated_shape shape) {
    const int64_t row = blockIdx.x;
    for (int64_t i = threadIdx.x; i < shape.width; i += ROW_THREADS) {
        const float v = activate(gate[row * shape.ld_gate + i], shape.activation);
        y[row * shape.ld_y + i] = up != NULL ? v * up[row * shape.ld_up + i] : v;
    }
}

mz_status mz_cuda_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                   const mz_tensor *up, mz_activation activation) {
    const int64_t n_rows = mz_tensor_n_rows(y);
    if (n_rows == 0 || mz_tensor_n_cols(y) == 0) {
        return MZ_OK;
    }
    gated_shape shape = {};
    shape.width = mz_tensor_n_cols(y);
    shape.ld_y = y->ld;
    shape.ld_gate = gate->ld;
    shape.ld_up = up != NULL ? up->ld : 0;
    shape.activation = (int)activation;
    const float *up_data = up != NULL ? (const float *)up->data : NULL;
    cudaLaunchConfig_t config;
    MZ_TRY(mz_cuda_grid(s, "gated_activation", (size_t)n_rows, 1, ROW_THREADS, &config));
    const cudaError_t code = cudaLaunchKernelEx(&config, gated_activation_kernel, (float *)y->data,
                                                (const float *)gate->data, up_data, shape);
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

/* y[r] = scale x[rows[r]]. One block owns a row of y. Twin: mz_ref_gather_rows. */
template <typename value>
static __global__ void __launch_bounds__(ROW_THREADS)
    gather_rows_kernel(float *y, const value *x, const int32_t *rows, float scale, int64_t width,
                       int64_t ld_y, int64_t ld_x) {
    const int64_t row = blockIdx.x;
    const int64_t source = rows != NULL ? rows[row] : row;
    for (int64_t i = threadIdx.x; i < width; i += ROW_THREADS) {
        y[row * ld_y + i] = scale * mz_cuda_widen(x[source * ld_x + i]);
    }
}

mz_status mz_cuda_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                              const int32_t *rows, float scale) {
    const int64_t n_rows = mz_tensor_n_rows(y);
    const int64_t width = mz_tensor_n_cols(y);
    if (n_rows == 0 || width == 0) {
        return MZ_OK;
    }
    cudaLaunchConfig_t config;
    cudaError_t code = cudaSuccess;
    float *out = (float *)y->data;
    MZ_TRY(mz_cuda_grid(s, "gather_rows", (size_t)n_rows, 1, ROW_THREADS, &config));
    switch (x->dtype) {
    case MZ_DTYPE_F32:
        code = cudaLaunchKernelEx(&config, gather_rows_kernel<float>, out, (const float *)x->data,
                                  rows, scale, width, y->ld, x->ld);
        break;
    case MZ_DTYPE_F16:
        code = cudaLaunchKernelEx(&config, gather_rows_kernel<__half>, out, (const __half *)x->data,
                                  rows, scale, width, y->ld, x->ld);
        break;
    case MZ_DTYPE_BF16:
        code = cudaLaunchKernelEx(&config, gather_rows_kernel<__nv_bfloat16>, out,
                                  (const __nv_bfloat16 *)x->data, rows, scale, width, y->ld, x->ld);
        break;
    default:
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "cuda: gather_rows: no kernel for rows of %s", mz_dtype_get(x->dtype)->name);
    }
    return mz_cuda_check(s, code, "gather_rows");
}
