// Sixteen floats at a time in the compiler's vector extension, float32 and bfloat16 in memory, and the few functions that
// a training step needs of them.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

using bf16 = uint16_t;
constexpr int64_t SMALL = 4096;  // elements below which a second thread does not pay
constexpr int64_t LANES = 16;    // of a vector; the compiler makes two of one where registers are shorter
#ifdef __AVX512F__
constexpr int BLOCK = 8;  // vectors of a row that stay in registers
#else
constexpr int BLOCK = 4;
#endif

using V = float __attribute__((vector_size(64), aligned(4), may_alias));
using I = int32_t __attribute__((vector_size(64), aligned(4), may_alias));
using U = uint32_t __attribute__((vector_size(64), aligned(4), may_alias));
using H = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));

inline float load(float x) { return x; }
inline float load(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline void store(float* at, float x) { *at = x; }
inline void store(bf16* at, float x) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    *at = bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline V load16(const float* at) { return *reinterpret_cast<const V*>(at); }
inline V load16(const bf16* at) {
    return (V)(__builtin_convertvector(*reinterpret_cast<const H*>(at), U) << 16);
}
inline void store16(float* at, V x) { *reinterpret_cast<V*>(at) = x; }
inline void store16(bf16* at, V x) {
    U bits = (U)x;
    *reinterpret_cast<H*>(at) = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, H);
}

// e^x for x <= 0: 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes' expf coefficients), about 1e-7 relative. What is
// below e^-60 can't be seen in a float32 sum, and would make denormal gradients.
inline V exp16(V x) {
    x = x < -60.0f ? V{} - 60.0f : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer
    V rounded = x * 1.44269504f + magic;
    I n = (I)rounded;
    rounded -= magic;
    V r = x - rounded * 0.693359375f + rounded * 2.12194440e-4f;
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (V)((n - 0x4b400000 + 127) << 23);
}
inline V absolute(V x) { return (V)((I)x & 0x7fffffff); }
inline V sigmoid(V x) {
    V e = exp16(-absolute(x)), s = 1.0f / (1.0f + e);
    return x < 0.0f ? e * s : s;
}
inline V tanh16(V x) {
    V e = exp16(-2.0f * absolute(x)), t = (1.0f - e) / (1.0f + e), square = x * x;
    t = x < 0.0f ? -t : t;
    // Near 0 the difference above has no digits left: the series to x^7.
    V series = x * (1.0f + square * (-1.0f / 3 + square * (2.0f / 15 - square * (17.0f / 315))));
    return square < 0.01f ? series : t;
}

}  // namespace
