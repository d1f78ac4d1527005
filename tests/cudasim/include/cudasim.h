// cudasim: compile CUDA C++ kernels as ordinary C++17 and run every block as a set of fibers on the
// CPU. Device-side view: qualifiers, built-in variables, barriers, warp collectives, atomics, math
// intrinsics. The same .cu file goes through nvcc unchanged; this header is only seen by the host
// compiler.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#define CUDASIM 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
// Static shared arrays: one block runs at a time, so a plain static is the block's copy.
// Without ASan they go to their own section, which the scheduler refills with 0xFF (NaN) before
// each block; with ASan they stay ordinary globals so that each one gets its own red zone.
#if defined(__SANITIZE_ADDRESS__) || defined(CUDASIM_PLAIN_SHARED)
#define __shared__ static
#else
#define __shared__ static __attribute__((section("cudasim_smem")))
#endif

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {
    }
};
struct uint3 {
    unsigned x, y, z;
};
#define CUDASIM_VEC(T, N)                                                                          \
    struct alignas(sizeof(T) * 2 > 16 ? 16 : sizeof(T) * 2) N##2 {                                 \
        T x, y;                                                                                    \
    };                                                                                             \
    struct N##3 {                                                                                  \
        T x, y, z;                                                                                 \
    };                                                                                             \
    struct alignas(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4) N##4 {                                 \
        T x, y, z, w;                                                                              \
    };                                                                                             \
    static inline N##2 make_##N##2(T a, T b) {                                                     \
        return {a, b};                                                                             \
    }                                                                                              \
    static inline N##4 make_##N##4(T a, T b, T c, T d) {                                           \
        return {a, b, c, d};                                                                       \
    }
CUDASIM_VEC(float, float)
CUDASIM_VEC(int, int)
CUDASIM_VEC(double, double) CUDASIM_VEC(short, short) CUDASIM_VEC(signed char, char)
    CUDASIM_VEC(unsigned char, uchar) CUDASIM_VEC(unsigned short, ushort) struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) {
    return {a, b, c, d};
}
static inline uint2 make_uint2(unsigned a, unsigned b) {
    return {a, b};
}

namespace cudasim {
struct Thread {
    uint3 tid;
    int lane, warp;
};
extern Thread *self; // the running CUDA thread
void sync_block(const char *file, int line);
int sync_block_reduce(int pred, int op, const char *file, int line); // op: 0 or, 1 and, 2 count
enum { OP_SHFL = 1, OP_SYNCWARP, OP_VOTE, OP_MMA };
// Deposits n (<=64) bytes of this lane; returns the deposited bytes of all 32 lanes (stride 64)
// once every lane in mask came.
const unsigned char *collective(unsigned mask, int op, const void *mine, size_t n, const char *file,
                                int line);
void *dyn_smem();
void fail(const char *what, const char *file, int line);
unsigned active_mask();
void cp_async(void *dst, const void *src,
              size_t n); // deferred until commit+wait, to catch missing waits
void cp_async_commit();
void cp_async_wait(int pending);

template <class T> static inline T shfl(unsigned mask, T v, int src, const char *f, int l) {
    static_assert(sizeof(T) <= 16 && std::is_trivially_copyable<T>::value, "shuffle type");
    const unsigned char *b = collective(mask, OP_SHFL, &v, sizeof(T), f, l);
    T r;
    if (!((mask >> (src & 31)) & 1))
        fail("shuffle reads a lane outside its mask", f, l);
    std::memcpy(&r, b + 64 * (src & 31), sizeof(T));
    return r;
}
template <class T> static inline T shfl_idx(unsigned m, T v, int s, int w, const char *f, int l) {
    int ln = self->lane;
    return shfl(m, v, (ln & ~(w - 1)) | (s & (w - 1)), f, l);
}
template <class T> static inline T shfl_xor(unsigned m, T v, int x, int w, const char *f, int l) {
    int ln = self->lane, s = ln ^ x;
    if (s >= ((ln & ~(w - 1)) + w))
        s = ln;
    return shfl(m, v, s, f, l);
}
template <class T> static inline T shfl_down(unsigned m, T v, int d, int w, const char *f, int l) {
    int ln = self->lane, s = ln + d;
    if ((ln & (w - 1)) + d >= w)
        s = ln;
    return shfl(m, v, s, f, l);
}
template <class T> static inline T shfl_up(unsigned m, T v, int d, int w, const char *f, int l) {
    int ln = self->lane, s = ln - d;
    if ((ln & (w - 1)) - d < 0)
        s = ln;
    return shfl(m, v, s, f, l);
}
static inline unsigned ballot(unsigned m, int p, const char *f, int l) {
    int v = p != 0;
    const unsigned char *b = collective(m, OP_VOTE, &v, sizeof v, f, l);
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        if ((m >> i) & 1) {
            int x;
            std::memcpy(&x, b + 64 * i, 4);
            r |= (unsigned)(x != 0) << i;
        }
    return r;
}
template <class T, class F>
static inline T warp_reduce(unsigned m, T v, F op, const char *f, int l) {
    const unsigned char *b = collective(m, OP_VOTE, &v, sizeof v, f, l);
    bool first = true;
    T r{};
    for (int i = 0; i < 32; i++)
        if ((m >> i) & 1) {
            T x;
            std::memcpy(&x, b + 64 * i, sizeof(T));
            r = first ? x : op(r, x);
            first = false;
        }
    return r;
}
} // namespace cudasim

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim; // reloaded at every fiber switch
static constexpr int warpSize = 32;
#define CUDASIM_HERE __FILE__, __LINE__
#define __syncthreads() ::cudasim::sync_block(CUDASIM_HERE)
#define __syncthreads_or(p) ::cudasim::sync_block_reduce((p) != 0, 0, CUDASIM_HERE)
#define __syncthreads_and(p) ::cudasim::sync_block_reduce((p) != 0, 1, CUDASIM_HERE)
#define __syncthreads_count(p) ::cudasim::sync_block_reduce((p) != 0, 2, CUDASIM_HERE)
static inline void cudasim_syncwarp(const char *f, int l, unsigned m = 0xffffffffu) {
    char c = 0;
    ::cudasim::collective(m, ::cudasim::OP_SYNCWARP, &c, 1, f, l);
}
#define __syncwarp(...) cudasim_syncwarp(CUDASIM_HERE, ##__VA_ARGS__)
namespace cudasim {
struct Shfl {
    template <class T> static T idx(const char *f, int l, unsigned m, T v, int a, int w = 32) {
        return shfl_idx(m, v, a, w, f, l);
    }
    template <class T> static T xr(const char *f, int l, unsigned m, T v, int a, int w = 32) {
        return shfl_xor(m, v, a, w, f, l);
    }
    template <class T> static T dn(const char *f, int l, unsigned m, T v, int a, int w = 32) {
        return shfl_down(m, v, a, w, f, l);
    }
    template <class T> static T up(const char *f, int l, unsigned m, T v, int a, int w = 32) {
        return shfl_up(m, v, a, w, f, l);
    }
};
} // namespace cudasim
#define __shfl_sync(...) ::cudasim::Shfl::idx(CUDASIM_HERE, __VA_ARGS__)
#define __shfl_xor_sync(...) ::cudasim::Shfl::xr(CUDASIM_HERE, __VA_ARGS__)
#define __shfl_down_sync(...) ::cudasim::Shfl::dn(CUDASIM_HERE, __VA_ARGS__)
#define __shfl_up_sync(...) ::cudasim::Shfl::up(CUDASIM_HERE, __VA_ARGS__)
#define __ballot_sync(m, p) ::cudasim::ballot(m, p, CUDASIM_HERE)
#define __any_sync(m, p) (::cudasim::ballot(m, p, CUDASIM_HERE) != 0)
#define __all_sync(m, p) (::cudasim::ballot(m, p, CUDASIM_HERE) == (unsigned)(m))
#define __activemask() ::cudasim::active_mask()
#define __reduce_add_sync(m, v)                                                                    \
    ::cudasim::warp_reduce(                                                                        \
        m, v, [](auto a_, auto b_) { return a_ + b_; }, CUDASIM_HERE)
#define __reduce_max_sync(m, v)                                                                    \
    ::cudasim::warp_reduce(                                                                        \
        m, v, [](auto a_, auto b_) { return a_ > b_ ? a_ : b_; }, CUDASIM_HERE)
#define __reduce_min_sync(m, v)                                                                    \
    ::cudasim::warp_reduce(                                                                        \
        m, v, [](auto a_, auto b_) { return a_ < b_ ? a_ : b_; }, CUDASIM_HERE)

// ---- atomics: real atomics, so that TSan sees them as such ----
template <class T> static inline T atomicAdd(T *p, typename std::common_type<T>::type v) {
    if constexpr (std::is_integral<T>::value)
        return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
    else {
        T o, n;
        __atomic_load(p, &o, __ATOMIC_RELAXED);
        do {
            n = o + v;
        } while (!__atomic_compare_exchange(p, &o, &n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return o;
    }
}
template <class T> static inline T atomicMax(T *p, typename std::common_type<T>::type v) {
    T o = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (o < v &&
           !__atomic_compare_exchange_n(p, &o, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return o;
}
template <class T> static inline T atomicMin(T *p, typename std::common_type<T>::type v) {
    T o = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (o > v &&
           !__atomic_compare_exchange_n(p, &o, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return o;
}
template <class T> static inline T atomicExch(T *p, typename std::common_type<T>::type v) {
    return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);
}
template <class T>
static inline T atomicCAS(T *p, typename std::common_type<T>::type c,
                          typename std::common_type<T>::type v) {
    __atomic_compare_exchange_n(p, &c, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return c;
}
template <class T> static inline T atomicOr(T *p, typename std::common_type<T>::type v) {
    return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
template <class T> static inline T atomicAnd(T *p, typename std::common_type<T>::type v) {
    return __atomic_fetch_and(p, v, __ATOMIC_RELAXED);
}
static inline void __threadfence() {
}
static inline void __threadfence_block() {
}
static inline void __threadfence_system() {
}

// ---- math and bit intrinsics ----
template <class T> static inline T __ldg(const T *p) {
    return *p;
}
template <class T> static inline T __ldcs(const T *p) {
    return *p;
}
template <class T> static inline void __stcs(T *p, T v) {
    *p = v;
}
static inline float rsqrtf(float x) {
    return 1.0f / std::sqrt(x);
}
#define __expf(x) (::std::exp((float)(x))) // macros: glibc declares functions of these names
#define __logf(x) (::std::log((float)(x)))
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __frcp_rn(float a) {
    return 1.0f / a;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return std::fma(a, b, c);
}
static inline int __float2int_rn(float x) {
    return (int)std::lrint(x);
}
static inline float __int_as_float(int i) {
    float f;
    std::memcpy(&f, &i, 4);
    return f;
}
static inline int __float_as_int(float f) {
    int i;
    std::memcpy(&i, &f, 4);
    return i;
}
static inline unsigned __float_as_uint(float f) {
    unsigned i;
    std::memcpy(&i, &f, 4);
    return i;
}
static inline float __uint_as_float(unsigned i) {
    float f;
    std::memcpy(&f, &i, 4);
    return f;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++)
        c += (int)(int8_t)(a >> (8 * i)) * (int)(int8_t)(b >> (8 * i));
    return c;
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    uint64_t v = ((uint64_t)b << 32) | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++)
        r |= (unsigned)((v >> (8 * ((s >> (4 * i)) & 7))) & 0xff) << (8 * i);
    return r;
}
using std::max;
using std::min;
static inline void __trap() {
    ::cudasim::fail("__trap", "", 0);
}
