// What the three precisions share: how wide a panel of weights is, and how a tile is compiled.
//
// A precision P gives: P::Weight, P::Inputs (rows of one kind of vector as its tiles read them; pack() makes them from
// fp32), P::store_weights, and P::add<M>, which adds the product of M rows and one block of a panel to M x 64 sums.
#pragma once

#include <cstdint>
#include <cstring>

#include "memory.h"
#include "simd.h"
#include "team.h"

namespace snn {

constexpr int PANEL = 64;  // outputs of one panel

// Accumulators spill when a tile is inlined into something larger or its loops are not unrolled (gcc 12).
#define SNN_TILE __attribute__((noinline))
#define SNN_UNROLL _Pragma("GCC unroll 16")

}  // namespace snn
