#include "core/ops/cuda/cuda_backend.h"
#include "core/ops/cuda/cuda_internal.h"

mz_status mz_cuda_check(mz_stream *s, cudaError_t code, const char *what) {
    if (code == cudaSuccess) {
        return MZ_OK;
    }
    /* The runtime also keeps the last error; it would come up again at a later, innocent call. */
    (void)cudaGetLastError();
    const mz_status status = code == cudaErrorMemoryAllocation ? MZ_ERR_NOMEM : MZ_ERR_DEVICE;
    return mz_fail(&s->ctx->error, status, "cuda: %s: %s", what, cudaGetErrorString(code));
}

size_t mz_cuda_ceil_div(size_t a, size_t b) {
    return a / b + (a % b != 0 ? 1 : 0);
}

mz_status mz_cuda_grid(mz_stream *s, const char *what, size_t n_x, size_t n_y, unsigned n_threads,
                       cudaLaunchConfig_t *out) {
    const size_t max_x = 2147483647;
    const size_t max_y = 65535;
    if (n_x > max_x || n_y > max_y) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                       "cuda: %s: needs a grid of %zu x %zu blocks, at most %zu x %zu are possible",
                       what, n_x, n_y, max_x, max_y);
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)n_x, (unsigned)n_y);
    config.blockDim = dim3(n_threads);
    config.stream = (cudaStream_t)s->native;
    *out = config;
    return MZ_OK;
}

static mz_status cuda_open(mz_stream *s) {
    int n_devices = 0;
    MZ_TRY(mz_cuda_check(s, cudaGetDeviceCount(&n_devices), "looking for a device"));
    if (n_devices == 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_DEVICE, "cuda: this machine has no CUDA device");
    }
    MZ_TRY(mz_cuda_check(s, cudaSetDevice(0), "choosing device 0"));
    cudaStream_t stream = NULL;
    MZ_TRY(mz_cuda_check(s, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                         "creating a stream"));
    s->native = stream;
    return MZ_OK;
}

static void cuda_close(mz_stream *s) {
    if (s->native != NULL) {
        /* Nobody can act on a fault at this point; work whose result matters was synchronised
         * before. */
        (void)cudaStreamSynchronize((cudaStream_t)s->native);
        (void)cudaStreamDestroy((cudaStream_t)s->native);
        s->native = NULL;
    }
}

/* cudaMalloc aligns to 256 bytes. An empty buffer still gets an address of its own. */
static mz_status cuda_buffer_alloc(mz_stream *s, size_t bytes, void **out) {
    void *buffer = NULL;
    const cudaError_t code = cudaMalloc(&buffer, bytes > 0 ? bytes : 1);
    if (code == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return mz_fail(&s->ctx->error, MZ_ERR_NOMEM, "cuda: %zu bytes of device memory: %s", bytes,
                       cudaGetErrorString(code));
    }
    MZ_TRY(mz_cuda_check(s, code, "allocating device memory"));
    *out = buffer;
    return MZ_OK;
}

static void cuda_buffer_free(mz_stream *s, void *buffer, size_t bytes) {
    (void)s;
    (void)bytes;
    (void)cudaFree(buffer); /* waits for work that may still use the buffer; accepts NULL */
}

static mz_status cuda_synchronize(mz_stream *s) {
    return mz_cuda_check(s, cudaStreamSynchronize((cudaStream_t)s->native), "running queued work");
}

/* Waits, because a copy from pinned memory may otherwise read `src` after the return. */
static mz_status cuda_upload(mz_stream *s, void *dst, const void *src, size_t bytes) {
    if (bytes == 0) {
        return MZ_OK;
    }
    MZ_TRY(mz_cuda_check(
        s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, (cudaStream_t)s->native),
        "copying to the device"));
    return cuda_synchronize(s);
}

static mz_status cuda_download(mz_stream *s, void *dst, const void *src, size_t bytes) {
    if (bytes == 0) {
        return MZ_OK;
    }
    MZ_TRY(mz_cuda_check(
        s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, (cudaStream_t)s->native),
        "copying from the device"));
    return cuda_synchronize(s);
}

static mz_status cuda_copy(mz_stream *s, void *dst, const void *src, size_t bytes) {
    if (bytes == 0) {
        return MZ_OK;
    }
    return mz_cuda_check(
        s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, (cudaStream_t)s->native),
        "copying on the device");
}

static const mz_backend cuda_backend = {
    /* name */ "cuda",
    /* abi_version */ MZ_BACKEND_ABI,
    /* host_memory */ false,
    /* open */ cuda_open,
    /* close */ cuda_close,
    /* buffer_alloc */ cuda_buffer_alloc,
    /* buffer_free */ cuda_buffer_free,
    /* upload */ cuda_upload,
    /* download */ cuda_download,
    /* copy */ cuda_copy,
    /* synchronize */ cuda_synchronize,
    /* scratch_bytes */ NULL,
    /* linear */ mz_cuda_linear,
    /* norm */ mz_cuda_norm,
    /* rope */ mz_cuda_rope,
    /* softmax */ mz_cuda_softmax,
    /* gated_activation */ mz_cuda_gated_activation,
    /* add */ mz_cuda_add,
    /* gather_rows */ mz_cuda_gather_rows,
    /* kv_write */ mz_cuda_kv_write,
    /* attention */ mz_cuda_attention,
    /* kv_rotate */ NULL,
    /* route */ mz_cuda_route,
    /* dispatch */ mz_cuda_dispatch,
    /* grouped_linear */ mz_cuda_grouped_linear,
    /* combine */ mz_cuda_combine,
    /* linears */ NULL,
    /* ffn */ NULL,
    /* moe */ NULL,
    /* mask_logits */ NULL,
    /* plain_experts */ NULL,
    /* training */ NULL,
};

const mz_backend *mz_backend_cuda(void) {
    return &cuda_backend;
}
