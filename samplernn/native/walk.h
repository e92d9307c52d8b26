// A recurrence's products: packed panels of 16 units, rows of the batch transposed, threads that own blocks of units.

#pragma once

#include <omp.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#include "vectors.h"

namespace {

#ifdef __AVX512F__
constexpr int ROWS = 16;  // rows of a tile: its accumulators stay in registers
#else
constexpr int ROWS = 6;
#endif

constexpr int64_t DEPTH = 256;  // of a product at a time

struct Free {
    void operator()(void* at) const { std::free(at); }
};

// Memory that begins on a cache line: a vector that straddles two costs two loads.
template <class T>
std::unique_ptr<T[], Free> room(int64_t size) {
    void* at = nullptr;
    if (posix_memalign(&at, 64, std::max<int64_t>(size, 1) * sizeof(T))) throw std::bad_alloc();
    return std::unique_ptr<T[], Free>(static_cast<T*>(at));
}

// acc[r] += sum over k of x[k * batch + r] * panel[k]
template <int R, class W>
__attribute__((noinline)) void tile(V* out, const float* x, int64_t batch, const W* panel, int64_t depth) {
    V acc[R] = {};
    for (int64_t k = 0; k < depth; k++) {
        const V w = load16(panel + k * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) acc[r] += x[k * batch + r] * w;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) out[r] = acc[r];
}

// use(b, sum over k of x[k][b] * panel[k]) for every row b: x is transposed, [depth][batch].
template <class W, class Use>
inline void product(const float* x, int64_t batch, const W* panel, int64_t depth, const Use& use) {
    V out[ROWS];
    int64_t b = 0;
    auto rows = [&](auto count) {
        constexpr int R = decltype(count)::value;
        for (; b + R <= batch; b += R) {
            tile<R>(out, x + b, batch, panel, depth);
            for (int r = 0; r < R; r++) use(b + r, out[r]);
        }
    };
    rows(std::integral_constant<int, ROWS>());
    rows(std::integral_constant<int, ROWS / 2>());
    rows(std::integral_constant<int, ROWS / 4>());
    rows(std::integral_constant<int, 1>());
}

// Where one call's loops find things. `order` walks a thread's blocks back and forth: what was used last is still in the
// second-level cache.
struct Walk {
    int64_t frames, batch, dim;
    int64_t blocks() const { return dim / LANES; }
    int64_t wide() const { return batch * dim; }
};

template <class Body>
inline void order(int64_t blocks, int64_t turn, const Body& body) {
#ifdef _OPENMP
    const int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
#else
    const int64_t threads = 1, me = 0;
#endif
    const int64_t first = blocks * me / threads, last = blocks * (me + 1) / threads;
    for (int64_t i = first; i < last; i++) body(turn % 2 ? first + last - 1 - i : i);
}

// panel[k][j] = w[j][k] of 16 rows of w [..][depth]: for products with a transposed matrix.
template <class W>
void pack_rows(W* panel, const float* w, int64_t depth) {
    for (int64_t k = 0; k < depth; k++)
        for (int64_t j = 0; j < LANES; j++) store(panel + k * LANES + j, w[j * depth + k]);
}

// panel[k][j] = w[k][j] of 16 columns of w [depth][dim].
template <class W>
void pack_columns(W* panel, const float* w, int64_t depth, int64_t dim) {
    for (int64_t k = 0; k < depth; k++) store16(panel + k * LANES, load16(w + k * dim));
}

// x[j][b] = v[j] for a block of units: the transposed copy that the next product reads.
inline void turn16(float* x, int64_t batch, int64_t b, V v) {
    for (int j = 0; j < LANES; j++) x[j * batch + b] = v[j];
}

inline void turn_all(float* x, const float* rows, int64_t batch, int64_t dim) {
    for (int64_t b = 0; b < batch; b++)
        for (int64_t j = 0; j < dim; j++) x[j * batch + b] = rows[b * dim + j];
}

// out[b] += (or =, when it is `fresh`) x^T panels for the units of this thread: out [batch][dim], x [depth][batch], a panel
// of `high` rows a block of units. A piece of x stays in the first-level cache while all panels pass.
template <class W>
void add_products(float* out, const float* x, const W* panels, int64_t high, int64_t depth, bool fresh, int64_t turn,
                  Walk s) {
    for (int64_t k = 0; k < depth; k += DEPTH)
        order(s.blocks(), turn, [&](int64_t u) {
            product(x + k * s.batch, s.batch, panels + (u * high + k) * LANES, std::min(DEPTH, depth - k),
                    [&](int64_t b, V v) {
                        float* at = out + b * s.dim + u * LANES;
                        store16(at, fresh && k == 0 ? v : load16(at) + v);
                    });
        });
}

// A panel a gate and block of units of w [gates * dim][dim], and for the way back one a block of all gates' rows.
template <class W>
void pack_forward(W* panels, const float* w, int64_t gates, Walk s) {
    order(s.blocks(), 0, [&](int64_t u) {
        for (int64_t g = 0; g < gates; g++)
            pack_rows(panels + (u * gates + g) * s.dim * LANES, w + (g * s.dim + u * LANES) * s.dim, s.dim);
    });
}

template <class W>
void pack_backward(W* panels, const float* w, int64_t gates, Walk s) {
    order(s.blocks(), 0, [&](int64_t u) {
        pack_columns(panels + u * gates * s.dim * LANES, w + u * LANES, gates * s.dim, s.dim);
    });
}

}  // namespace
