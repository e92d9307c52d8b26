// Products of bf16 weights and inputs with fp32 sums. A panel is weights[k / 2][64][2]: pairs of k side by side.
//
// The two instruction sets round differently (VDPBF16PS against two FMAs), so the engine id names which one it was.
#pragma once

#include "amx.h"
#include "panel.h"

namespace snn {

struct Bf16 {
    using Weight = uint16_t;
    static constexpr int TOGETHER = 2;
    static constexpr int DEPTH = 256;
    static constexpr bool SCALED = false;
    static constexpr int GROUP = 96;
    static constexpr int ALIGN = 32;

    struct Inputs {
        Array<uint16_t> data;
        int stride = 0;
        Inputs() = default;
        Inputs(int rows, int width) : data(size_t(rows + SPARE_ROWS) * width), stride(width) {}
        void pack(const float* from, int width, Range rows) {
            for (int64_t i = int64_t{rows.begin} * width; i < int64_t{rows.end} * width; i += LANES) {
                store_bf16(data.get() + i, load(from + i));
            }
        }
    };

    static void store_weights(const float* from, int count, float, uint16_t* to) {
        for (int i = 0; i < count; ++i) {
            uint32_t bits;
            std::memcpy(&bits, from + i, 4);
            to[i] = static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
        }
    }

    using Entry = uint16_t;
    static void store_entries(const float* from, const float*, uint16_t* to) { store_weights(from, LANES, 1.0f, to); }
    static F16 add_entries(const uint16_t* row, const float*, F16 sum) { return sum + load_bf16(row); }

    // A pair of inputs as one word, for a broadcast.
    static int pair(const uint16_t* x) {
        int word;
        std::memcpy(&word, x, 4);
        return word;
    }

#ifdef __AVX512F__
    static constexpr int ROWS = 6;

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const uint16_t* w, int depth,
                              const float*, Ahead ahead) {
        const uint16_t* x = in.data.get() + int64_t{row} * in.stride + from;
        const int stride = in.stride;
        __m512 c[M][4];
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            SNN_UNROLL for (int j = 0; j < 4; ++j) c[m][j] = _mm512_loadu_ps(sums + m * PANEL + j * 16);
        }
        for (int k = 0; k < depth; k += 2, w += 2 * PANEL) {
            ahead.fetch();
            __m512bh weight[4];
            SNN_UNROLL for (int j = 0; j < 4; ++j) weight[j] = (__m512bh)_mm512_load_si512(w + j * 32);
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                const __m512bh two = (__m512bh)_mm512_set1_epi32(pair(x + int64_t{m} * stride + k));
                SNN_UNROLL for (int j = 0; j < 4; ++j) c[m][j] = _mm512_dpbf16_ps(c[m][j], weight[j], two);
            }
        }
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            SNN_UNROLL for (int j = 0; j < 4; ++j) _mm512_storeu_ps(sums + m * PANEL + j * 16, c[m][j]);
        }
    }
#else
    static constexpr int ROWS = 4;  // 8 accumulators, 4 weights (even and odd k), 2 inputs

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const uint16_t* w, int depth,
                              const float*, Ahead ahead) {
        const uint16_t* x = in.data.get() + int64_t{row} * in.stride + from;
        const int stride = in.stride;
        const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
        ahead.step /= PANEL / 16;
        for (int first = 0; first < PANEL; first += 16) {
            __m256 c[M][2];
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                SNN_UNROLL for (int j = 0; j < 2; ++j) c[m][j] = _mm256_loadu_ps(sums + m * PANEL + first + j * 8);
            }
            const uint16_t* at = w + 2 * first;
            for (int k = 0; k < depth; k += 2, at += 2 * PANEL) {
                ahead.fetch();
                __m256 even[2], odd[2];
                SNN_UNROLL for (int j = 0; j < 2; ++j) {
                    const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 16 * j));
                    even[j] = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
                    odd[j] = _mm256_castsi256_ps(_mm256_and_si256(both, upper));
                }
                SNN_UNROLL for (int m = 0; m < M; ++m) {
                    const __m256i two = _mm256_set1_epi32(pair(x + int64_t{m} * stride + k));
                    const __m256 x0 = _mm256_castsi256_ps(_mm256_slli_epi32(two, 16));
                    const __m256 x1 = _mm256_castsi256_ps(_mm256_and_si256(two, upper));
                    SNN_UNROLL for (int j = 0; j < 2; ++j) {
                        c[m][j] = _mm256_fmadd_ps(x1, odd[j], _mm256_fmadd_ps(x0, even[j], c[m][j]));
                    }
                }
            }
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                SNN_UNROLL for (int j = 0; j < 2; ++j) _mm256_storeu_ps(sums + m * PANEL + first + j * 8, c[m][j]);
            }
        }
    }
#endif

#ifdef __AMX_BF16__
    // 16 or 32 rows by 32 outputs: their sums in tiles 0 to 3, inputs in 4 and 5, weights in 6 and 7.
    static SNN_TILE void block(float* sums, const uint16_t* x, int64_t stride, const uint16_t* w, int depth, bool two) {
        constexpr int64_t SUM_STRIDE = PANEL * 4, WEIGHT_STRIDE = PANEL * 4;
        float* below = sums + TILE_ROWS * PANEL;
        _tile_loadd(0, sums, SUM_STRIDE);
        _tile_loadd(1, sums + 16, SUM_STRIDE);
        if (two) {
            _tile_loadd(2, below, SUM_STRIDE);
            _tile_loadd(3, below + 16, SUM_STRIDE);
        }
        for (int k = 0; k < depth; k += 32, w += 32 * PANEL) {
            _tile_loadd(4, x + k, stride * 2);
            _tile_loadd(6, w, WEIGHT_STRIDE);
            _tile_loadd(7, w + 32, WEIGHT_STRIDE);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (!two) continue;
            _tile_loadd(5, x + TILE_ROWS * stride + k, stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, sums, SUM_STRIDE);
        _tile_stored(1, sums + 16, SUM_STRIDE);
        if (!two) return;
        _tile_stored(2, below, SUM_STRIDE);
        _tile_stored(3, below + 16, SUM_STRIDE);
    }

    // One row alone goes the same way: its sums must be those it has among others.
    static void add(float* sums, const Inputs& in, Range rows, int from, const uint16_t* w, int depth, const float*) {
        for (int row = rows.begin; row < rows.end; row += 2 * TILE_ROWS, sums += 2 * TILE_ROWS * PANEL) {
            const uint16_t* x = in.data.get() + int64_t{row} * in.stride + from;
            const bool two = rows.end - row > TILE_ROWS;
            for (int half = 0; half < PANEL; half += 32) block(sums + half, x, in.stride, w + 2 * half, depth, two);
        }
    }
#else
    static void add(float* sums, const Inputs& in, Range rows, int from, const uint16_t* w, int depth,
                    const float* scale) {
        add_in_tiles<Bf16>(sums, in, rows, from, w, depth, scale);
    }
#endif
};

}  // namespace snn
