// What the three precisions share: how wide a panel of weights is, and how rows are cut into tiles of registers.
//
// A precision P gives: P::Weight, P::Inputs (rows of one kind of vector as its tiles read them; pack() makes them from
// fp32), P::store_weights, P::Entry with the rows of the sample tier's table, and P::add, which adds the product of
// some rows and one block of a panel to their sums [rows][64].
#pragma once

#include <algorithm>
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

// Where the next block of weights begins, of which a tile fetches its share on the way: `step` bytes for each k.
struct Ahead {
    const char* at;
    int64_t step;

    void fetch() {
        _mm_prefetch(at, _MM_HINT_T1);
        at += step;
    }
};

// Rows in tiles of nearly the same size, at most P::ROWS each: P::tile<M>(sums, in, row, from, w, depth, scale, ahead).
template <class P>
void add_in_tiles(float* sums, const typename P::Inputs& in, Range rows, int from, const typename P::Weight* w,
                  int depth, const float* scale) {
    const int count = rows.end - rows.begin;
    const int tiles = (count + P::ROWS - 1) / P::ROWS;
    const int64_t block = int64_t{depth} * PANEL * sizeof(*w), steps = depth / P::TOGETHER;
    Ahead ahead = {reinterpret_cast<const char*>(w) + block, std::min<int64_t>(64, block / tiles / steps)};
    for (int tile = 0; tile < tiles; ++tile) {
        const Range mine = share(count, tile, tiles);
        const int row = rows.begin + mine.begin;
        float* to = sums + mine.begin * PANEL;
        switch (mine.end - mine.begin) {
            case 1: P::template tile<1>(to, in, row, from, w, depth, scale, ahead); break;
            case 2: P::template tile<2>(to, in, row, from, w, depth, scale, ahead); break;
            case 3: P::template tile<3>(to, in, row, from, w, depth, scale, ahead); break;
            case 4: P::template tile<4>(to, in, row, from, w, depth, scale, ahead); break;
            case 5: P::template tile<5>(to, in, row, from, w, depth, scale, ahead); break;
            case 6: P::template tile<6>(to, in, row, from, w, depth, scale, ahead); break;
        }
        ahead.at += ahead.step * steps;
    }
}

}  // namespace snn
