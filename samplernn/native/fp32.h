// Products in fp32. A panel is weights[k][64]; each of 64 outputs sums over k in order, one FMA a step.
#pragma once

#include "panel.h"

namespace snn {

struct Fp32 {
    using Weight = float;
    static constexpr int TOGETHER = 1;    // consecutive k that lie side by side in a panel
    static constexpr int DEPTH = 128;     // of a panel's block that stays in L1 while all rows pass
    static constexpr bool SCALED = false;  // whether a panel's weights carry scales
    static constexpr int GROUP = 48;      // rows whose sums stay in L1, and whose inputs in L2
    static constexpr int ALIGN = 16;      // what a vector's width is padded to

    struct Inputs {
        const float* data = nullptr;
        int stride = 0;
        Inputs() = default;
        Inputs(int, int) {}
        void pack(const float* from, int width, Range) { data = from, stride = width; }
    };

    static void store_weights(const float* from, int count, float, float* to) {
        for (int i = 0; i < count; ++i) to[i] = from[i];
    }

    using Entry = float;
    static void store_entries(const float* from, const float*, float* to) { std::memcpy(to, from, LANES * 4); }
    static F16 add_entries(const float* row, const float*, F16 sum) { return sum + load(row); }

#ifdef __AVX512F__
    static constexpr int ROWS = 6;  // 24 accumulators, 4 weights, 1 input

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const float* w, int depth,
                              const float*, Ahead ahead) {
        const float* x = in.data + int64_t{row} * in.stride + from;
        const int stride = in.stride;
        __m512 c[M][4];
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            SNN_UNROLL for (int j = 0; j < 4; ++j) c[m][j] = _mm512_loadu_ps(sums + m * PANEL + j * 16);
        }
        for (int k = 0; k < depth; ++k, w += PANEL) {
            ahead.fetch();
            const __m512 w0 = _mm512_load_ps(w), w1 = _mm512_load_ps(w + 16);
            const __m512 w2 = _mm512_load_ps(w + 32), w3 = _mm512_load_ps(w + 48);
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                const __m512 one = _mm512_set1_ps(x[int64_t{m} * stride + k]);
                c[m][0] = _mm512_fmadd_ps(one, w0, c[m][0]);
                c[m][1] = _mm512_fmadd_ps(one, w1, c[m][1]);
                c[m][2] = _mm512_fmadd_ps(one, w2, c[m][2]);
                c[m][3] = _mm512_fmadd_ps(one, w3, c[m][3]);
            }
        }
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            SNN_UNROLL for (int j = 0; j < 4; ++j) _mm512_storeu_ps(sums + m * PANEL + j * 16, c[m][j]);
        }
    }
#else
    static constexpr int ROWS = 6;  // 12 accumulators, 2 weights, 1 input

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const float* w, int depth,
                              const float*, Ahead ahead) {
        const float* x = in.data + int64_t{row} * in.stride + from;
        const int stride = in.stride;
        constexpr int WIDE = M == 1 ? 8 : 2;  // registers of outputs: one row alone needs 8 chains to hide latency
        ahead.step /= PANEL / (WIDE * 8);
        for (int first = 0; first < PANEL; first += WIDE * 8) {
            __m256 c[M][WIDE];
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                SNN_UNROLL for (int j = 0; j < WIDE; ++j) c[m][j] = _mm256_loadu_ps(sums + m * PANEL + first + j * 8);
            }
            const float* at = w + first;
            for (int k = 0; k < depth; ++k, at += PANEL) {
                ahead.fetch();
                __m256 weight[WIDE];
                SNN_UNROLL for (int j = 0; j < WIDE; ++j) weight[j] = _mm256_load_ps(at + j * 8);
                SNN_UNROLL for (int m = 0; m < M; ++m) {
                    const __m256 one = _mm256_broadcast_ss(x + int64_t{m} * stride + k);
                    SNN_UNROLL for (int j = 0; j < WIDE; ++j) c[m][j] = _mm256_fmadd_ps(one, weight[j], c[m][j]);
                }
            }
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                SNN_UNROLL for (int j = 0; j < WIDE; ++j) _mm256_storeu_ps(sums + m * PANEL + first + j * 8, c[m][j]);
            }
        }
    }
#endif

    static void add(float* sums, const Inputs& in, Range rows, int from, const float* w, int depth,
                    const float* scale) {
        add_in_tiles<Fp32>(sums, in, rows, from, w, depth, scale);
    }
};

}  // namespace snn
