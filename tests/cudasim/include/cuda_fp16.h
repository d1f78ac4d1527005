#pragma once
#include "cudasim.h"
// Own half type: storage is 16 bits, arithmetic goes through float and rounds once per operation
// (as the device does).
struct __half {
    uint16_t u;
    __half() = default;
    __half(float f);
    __half(int i) : __half((float)i) {
    }
    operator float() const;
};
static inline uint16_t
cudasim_f2h(float f) { // round to nearest even; no _Float16, which clang 14 lacks on x86
    uint32_t x;
    std::memcpy(&x, &f, 4);
    uint32_t s = (x >> 16) & 0x8000, e = (x >> 23) & 0xff, m = x & 0x7fffff;
    if (e == 255)
        return (uint16_t)(s | 0x7c00 | (m ? 0x200 | (m >> 13) : 0));
    int ne = (int)e - 112;
    if (ne >= 31)
        return (uint16_t)(s | 0x7c00);
    int sh = 13;
    if (ne <= 0) {
        if (ne < -10)
            return (uint16_t)s;
        m |= 0x800000;
        sh = 14 - ne;
        ne = 0;
    }
    uint32_t h = ((uint32_t)ne << 10) + (m >> sh), rest = m & ((1u << sh) - 1),
             half = 1u << (sh - 1);
    if (rest > half || (rest == half && (h & 1)))
        h++;
    return (uint16_t)(s | h);
}
static inline float cudasim_h2f(uint16_t u) {
    uint32_t s = (uint32_t)(u & 0x8000) << 16, e = (u >> 10) & 31, m = u & 0x3ff, x;
    if (e == 31)
        x = s | 0x7f800000 | (m << 13);
    else if (e)
        x = s | ((e + 112) << 23) | (m << 13);
    else {
        float f = (float)m * 5.9604644775390625e-8f;
        std::memcpy(&x, &f, 4);
        x |= s;
    }
    float r;
    std::memcpy(&r, &x, 4);
    return r;
}
inline __half::__half(float f) : u(cudasim_f2h(f)) {
}
inline __half::operator float() const {
    return cudasim_h2f(u);
}
typedef __half half;
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half2 half2;
static inline __half __float2half(float f) {
    return __half(f);
}
static inline __half __float2half_rn(float f) {
    return __half(f);
}
static inline float __half2float(__half h) {
    return (float)h;
}
static inline float2 __half22float2(__half2 h) {
    return make_float2((float)h.x, (float)h.y);
}
static inline __half2 __floats2half2_rn(float a, float b) {
    return {__half(a), __half(b)};
}
static inline __half __hadd(__half a, __half b) {
    return __half((float)a + (float)b);
}
static inline __half __hmul(__half a, __half b) {
    return __half((float)a * (float)b);
}
static inline __half __hfma(__half a, __half b, __half c) {
    return __half((float)std::fma((double)(float)a, (double)(float)b, (double)(float)c));
}
