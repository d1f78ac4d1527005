#pragma once
#include "cudasim.h"
struct __nv_bfloat16 {
    uint16_t u;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f);
    operator float() const;
};
static inline uint16_t cudasim_f2b(float f) {
    uint32_t x;
    std::memcpy(&x, &f, 4);
    if ((x & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (uint16_t)((x + 0x7fff + ((x >> 16) & 1)) >> 16);
}
static inline float cudasim_b2f(uint16_t u) {
    uint32_t x = (uint32_t)u << 16;
    float f;
    std::memcpy(&f, &x, 4);
    return f;
}
inline __nv_bfloat16::__nv_bfloat16(float f) : u(cudasim_f2b(f)) {
}
inline __nv_bfloat16::operator float() const {
    return cudasim_b2f(u);
}
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
static inline __nv_bfloat16 __float2bfloat16(float f) {
    return __nv_bfloat16(f);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    return __nv_bfloat16(f);
}
static inline float __bfloat162float(__nv_bfloat16 h) {
    return (float)h;
}
static inline float2 __bfloat1622float2(__nv_bfloat162 h) {
    return make_float2((float)h.x, (float)h.y);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
    return {__nv_bfloat16(a), __nv_bfloat16(b)};
}
