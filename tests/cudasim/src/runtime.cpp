// The simulated runtime: host memory plays the device. Stream work is deferred until something synchronises, device
// memory is unreadable for host code between operations, and every pointer is range-checked.
#include "sim_internal.h"

#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include <sys/mman.h>

#if defined(CUDASIM_ASAN)
extern "C" {
void __asan_poison_memory_region(const volatile void *, size_t);
void __asan_unpoison_memory_region(const volatile void *, size_t);
}
#endif

namespace cudasim {
static const size_t ARENA = (size_t)4 << 30;
static const unsigned char CANARY = 0xc7;
static const size_t PAD = 256;
static char *arena;
static size_t arena_used;
static int open_depth;
static std::map<uintptr_t, size_t> allocs, pinned;
static size_t live_bytes;
static cudaError_t last_error;
static std::multimap<size_t, uintptr_t> freelist;
static size_t device_bytes() {
    const char *e = getenv("CUDASIM_MEM_MB");
    return e ? (size_t)atol(e) << 20 : (size_t)1 << 30;
}
static void init() {
    if (arena)
        return;
    start_fibers();
    arena =
        (char *)mmap(nullptr, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        abort();
}
static void open_mem() {
    if (open_depth++)
        return;
#if defined(CUDASIM_ASAN)
    for (auto &a : allocs)
        __asan_unpoison_memory_region((void *)a.first, a.second);
#else
    if (arena_used)
        mprotect(arena, arena_used, PROT_READ | PROT_WRITE);
#endif
}
static void close_mem() {
    if (--open_depth)
        return;
#if defined(CUDASIM_ASAN)
    for (auto &a : allocs)
        __asan_poison_memory_region((void *)a.first, a.second);
#else
    for (auto &a : allocs)
        for (size_t i = 0; i < PAD; i++)
            if (((unsigned char *)a.first)[a.second + i] != CANARY) {
                fprintf(stderr,
                        "cudasim: write past the end of the %zu-byte allocation %p (+%zu)\n",
                        a.second, (void *)a.first, i);
                abort();
            }
    if (arena_used)
        mprotect(arena, arena_used, PROT_NONE);
#endif
}
static std::map<uintptr_t, size_t>::iterator find(const void *p) {
    auto i = allocs.upper_bound((uintptr_t)p);
    if (i == allocs.begin())
        return allocs.end();
    --i;
    return (uintptr_t)p < i->first + std::max<size_t>(i->second, 1) ? i : allocs.end();
}
bool is_device_ptr(const void *p, size_t n) {
    auto i = find(p);
    return i != allocs.end() && (uintptr_t)p + n <= i->first + i->second;
}
} // namespace cudasim
using namespace cudasim;
static cudaError_t err(cudaError_t e) {
    if (e != cudaSuccess && e != cudaErrorNotReady)
        last_error = e;
    return e;
}
struct cudasimEvent {
    bool recorded = false, done = false;
    cudasimStream *s = nullptr;
};
struct cudasimStream {
    std::deque<std::function<void()>> q;
    bool busy = false;
};
static cudasimStream legacy;
static std::vector<cudasimStream *> all_streams;
static void drain(cudasimStream *s) {
    if (s->busy)
        return;
    s->busy = true;
    while (!s->q.empty()) {
        auto op = std::move(s->q.front());
        s->q.pop_front();
        op();
    }
    s->busy = false;
}
static void drain_all() {
    drain(&legacy);
    for (size_t i = 0; i < all_streams.size(); i++)
        drain(all_streams[i]);
}
static cudasimStream *st(cudaStream_t s) {
    return s ? s : &legacy;
}
static bool no_gpu() {
    return getenv("CUDASIM_NO_GPU") != nullptr;
}
void cudasim::enqueue(cudaStream_t s, std::function<void()> op) {
    init();
    if (!s)
        drain_all();
    else
        drain(&legacy);
    st(s)->q.push_back([op] {
        open_mem();
        op();
        close_mem();
    });
    if (getenv("CUDASIM_EAGER"))
        drain(st(s));
}
static std::map<const void *, int> smem_limit;
cudaError_t cudasim::set_smem_limit(const void *fn, int b) {
    if (b < 0 || b > 232448 - 1024)
        return err(cudaErrorInvalidValue);
    smem_limit[fn] = b;
    return cudaSuccess;
}
cudaError_t cudasim::enqueue_launch(const cudaLaunchConfig_t &c, const void *fn,
                                    std::function<void()> b) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    const dim3 g = c.gridDim, d = c.blockDim;
    size_t n = (size_t)d.x * d.y * d.z;
    if (!n || n > 1024 || d.z > 64 || !g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535)
        return err(cudaErrorInvalidConfiguration);
    auto l = smem_limit.find(fn);
    if (c.dynamicSmemBytes > (size_t)(l == smem_limit.end() ? 49152 : l->second))
        return err(cudaErrorInvalidValue);
    size_t smem = c.dynamicSmemBytes;
    enqueue(c.stream, [g, d, smem, b] { run_grid(g, d, smem, b); });
    return cudaSuccess;
}
// ---------------------------------------------------------------- runtime API
cudaError_t cudaGetDeviceCount(int *n) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    *n = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
    return d ? err(cudaErrorInvalidDevice) : cudaSuccess;
}
cudaError_t cudaGetDevice(int *d) {
    *d = 0;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v) {
    *v = no_gpu() ? 0 : 13000;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) {
    *v = 13000;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    *p = {};
    std::strcpy(p->name, "cudasim");
    p->totalGlobalMem = device_bytes();
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 232448;
    p->major = 9;
    p->multiProcessorCount = 4;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    switch (a) {
    case cudaDevAttrMultiProcessorCount:
        *v = 4;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *v = 9;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *v = 0;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *v = 232448;
        break;
    default:
        return err(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *f, size_t *t) {
    *t = device_bytes();
    *f = *t - live_bytes;
    return cudaSuccess;
}
static long fail_after = -2;
cudaError_t cudaMalloc(void **p, size_t n) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    init();
    *p = nullptr;
    if (!n)
        return cudaSuccess;
    if (fail_after == -2) {
        const char *e = getenv("CUDASIM_FAIL_MALLOC_AFTER");
        fail_after = e ? atol(e) : -1;
    }
    if (fail_after == 0 || live_bytes + n > device_bytes())
        return err(cudaErrorMemoryAllocation);
    if (fail_after > 0)
        fail_after--;
#if defined(CUDASIM_ASAN)
    void *q;
    if (posix_memalign(&q, 256, n))
        return err(cudaErrorMemoryAllocation);
    std::memset(q, 0xff, n);
    __asan_poison_memory_region(q, n);
#else
    size_t need = (n + PAD + 255) & ~(size_t)255;
    auto it = freelist.find(need);
    char *q;
    if (it != freelist.end()) {
        q = (char *)it->second;
        freelist.erase(it);
    } else {
        if (arena_used + need > ARENA)
            return err(cudaErrorMemoryAllocation);
        q = arena + arena_used;
        arena_used += (need + 4095) & ~(size_t)4095;
    }
    mprotect((void *)((uintptr_t)q & ~(uintptr_t)4095), need, PROT_READ | PROT_WRITE);
    std::memset(q, 0xff, n);
    std::memset(q + n, CANARY, PAD);
    if (!open_depth)
        mprotect((void *)((uintptr_t)q & ~(uintptr_t)4095), need, PROT_NONE);
#endif
    allocs[(uintptr_t)q] = n;
    live_bytes += n;
    *p = q;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    if (!p)
        return cudaSuccess;
    drain_all();
    auto i = allocs.find((uintptr_t)p);
    if (i == allocs.end()) {
        fail("cudaFree of a pointer cudaMalloc did not give", "cudaFree", 0);
        return err(cudaErrorInvalidValue);
    }
    size_t n = i->second;
    live_bytes -= n;
#if defined(CUDASIM_ASAN)
    allocs.erase(i);
    __asan_unpoison_memory_region(p, n);
    free(p);
#else
    allocs.erase(i);
    freelist.emplace((n + PAD + 255) & ~(size_t)255, (uintptr_t)p);
#endif
    return cudaSuccess;
}
cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t) {
    return cudaMalloc(p, n);
}
cudaError_t cudaFreeAsync(void *p, cudaStream_t) {
    return cudaFree(p);
}
cudaError_t cudaMallocHost(void **p, size_t n) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    if (posix_memalign(p, 4096, n ? n : 1))
        return err(cudaErrorMemoryAllocation);
    pinned[(uintptr_t)*p] = n;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    drain_all();
    pinned.erase((uintptr_t)p);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t strm) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    if (!n)
        return cudaSuccess;
    bool dd = is_device_ptr(d, n), sd = is_device_ptr(s, n), dany = find(d) != allocs.end(),
         sany = find(s) != allocs.end();
    if ((dany && !dd) || (sany && !sd))
        return err(cudaErrorInvalidValue); // runs past an allocation
    if (k == cudaMemcpyDefault)
        k = dd ? (sd ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
               : (sd ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
    if (((k == cudaMemcpyHostToDevice || k == cudaMemcpyDeviceToDevice) != dd) ||
        ((k == cudaMemcpyDeviceToHost || k == cudaMemcpyDeviceToDevice) != sd))
        return err(cudaErrorInvalidValue);
    bool is_pinned = false;
    if (k == cudaMemcpyHostToDevice) {
        auto i = pinned.upper_bound((uintptr_t)s);
        if (i != pinned.begin() && (--i, (uintptr_t)s < i->first + i->second))
            is_pinned = true;
    }
    if (k == cudaMemcpyHostToDevice && !is_pinned) {
        auto buf = std::make_shared<std::vector<char>>((const char *)s, (const char *)s + n);
        enqueue(strm, [=] { std::memcpy(d, buf->data(), n); });
    } else
        enqueue(strm, [=] { std::memcpy(d, s, n); });
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k) {
    cudaError_t e = cudaMemcpyAsync(d, s, n, k, nullptr);
    if (e == cudaSuccess) {
        drain(&legacy);
    }
    return e;
}
cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t s) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    if (!n)
        return cudaSuccess;
    if (!is_device_ptr(d, n))
        return err(cudaErrorInvalidValue);
    enqueue(s, [=] { std::memset(d, v, n); });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *d, int v, size_t n) {
    return cudaMemsetAsync(d, v, n, nullptr);
}
cudaError_t cudaStreamCreate(cudaStream_t *s) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    *s = new cudasimStream;
    all_streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    return cudaStreamCreate(s);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    drain(s);
    all_streams.erase(std::find(all_streams.begin(), all_streams.end(), s));
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    drain(st(s));
    return err(sticky);
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    return st(s)->q.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
    if (no_gpu())
        return err(cudaErrorInsufficientDriver);
    drain_all();
    return err(sticky);
}
cudaError_t cudaEventCreate(cudaEvent_t *e) {
    *e = new cudasimEvent;
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    return cudaEventCreate(e);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    drain_all();
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    e->recorded = true;
    e->done = false;
    e->s = st(s);
    st(s)->q.push_back([e] { e->done = true; });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    if (e->recorded && !e->done)
        drain(e->s);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    st(s)->q.push_back([e] {
        if (e->recorded && !e->done)
            drain(e->s);
    });
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t) {
    *ms = 0;
    return cudaSuccess;
}
cudaError_t cudaGetLastError() {
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError() {
    return last_error;
}
const char *cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
        return "cudaErrorInsufficientDriver";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    default:
        return "cudaError";
    }
}
const char *cudaGetErrorString(cudaError_t e) {
    return cudaGetErrorName(e);
}
