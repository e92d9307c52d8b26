// exp, the logistic function and tanh on sixteen lanes: fixed sequences of IEEE operations, the same bits everywhere.
#pragma once

#include "simd.h"

namespace snn {

constexpr float EXP_MIN = -87.0f, EXP_MAX = 87.0f;

// x = n ln 2 + r with |r| <= ln 2 / 2; e^r - 1 by Taylor to r^7 (next term below 6e-9).
struct Expansion {
    F16 power;     // 2^n
    F16 fraction;  // e^r - 1
};

inline Expansion expand(F16 x) {
    x = min(max(x, all(EXP_MIN)), all(EXP_MAX));
    const F16 n = nearest(x * all(1.44269504088896341f));
    F16 r = fma(n, all(-0.693359375f), x);  // ln 2 in two parts, the first exact in 9 bits
    r = fma(n, all(2.12194440054690583e-4f), r);
    F16 p = fma(r, all(1.0f / 5040), all(1.0f / 720));
    p = fma(p, r, all(1.0f / 120));
    p = fma(p, r, all(1.0f / 24));
    p = fma(p, r, all(1.0f / 6));
    p = fma(p, r, all(0.5f));
    return {power_of_two(n), fma(p, r * r, r)};
}

inline F16 exponential(F16 x) {
    const Expansion e = expand(x);
    return fma(e.power, e.fraction, e.power);
}

inline F16 logistic(F16 x) {
    const F16 one = all(1.0f);
    return one / (one + exponential(all(0.0f) - x));
}

// tanh x = m / (m + 2) with m = e^2x - 1, which keeps its digits near 0.
inline F16 hyperbolic_tangent(F16 x) {
    x = min(max(x, all(-10.0f)), all(10.0f));
    const Expansion e = expand(x + x);
    const F16 m = fma(e.power, e.fraction, e.power - all(1.0f));
    return m / (m + all(2.0f));
}

}  // namespace snn
