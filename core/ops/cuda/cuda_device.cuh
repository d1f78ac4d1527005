/* What kernels of several .cu files share. Functions stand in this header because device code that
 * is compiled file by file cannot be inlined from elsewhere. */
#ifndef MZ_CORE_OPS_CUDA_CUDA_DEVICE_CUH
#define MZ_CORE_OPS_CUDA_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>

enum { MZ_CUDA_WARP = 32 };

static __device__ __forceinline__ float mz_cuda_widen(float v) {
    return v;
}

static __device__ __forceinline__ float mz_cuda_widen(__half v) {
    return __half2float(v);
}

static __device__ __forceinline__ float mz_cuda_widen(__nv_bfloat16 v) {
    return __bfloat162float(v);
}

/* To the nearest bf16, ties to even, and back. */
static __device__ __forceinline__ float mz_cuda_round_bf16(float v) {
    return __bfloat162float(__float2bfloat16_rn(v));
}

/* Sum and maximum over the 32 lanes of a warp, in every lane; all lanes must call. The butterfly
 * adds in one fixed order, and a NaN loses the maximum. */
static __device__ __forceinline__ float mz_cuda_warp_sum(float v) {
    for (int offset = MZ_CUDA_WARP / 2; offset > 0; offset /= 2) {
        v += __shfl_xor_sync(0xffffffffu, v, offset);
    }
    return v;
}

static __device__ __forceinline__ float mz_cuda_warp_max(float v) {
    for (int offset = MZ_CUDA_WARP / 2; offset > 0; offset /= 2) {
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    }
    return v;
}

static __device__ __forceinline__ float mz_cuda_sigmoid(float v) {
    return 1.0f / (1.0f + expf(-v));
}

#endif
