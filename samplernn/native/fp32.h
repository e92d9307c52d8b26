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
    // One row spends its time reading weights: those of inputs that are zero, many behind a ReLU, are passed over. They
    // would add zeros, so its sums are those it has among others. Of the weights that soon follow, the first line of each
    // k is asked for: where they come from DRAM that is a seventh faster; asking for all four gains less.
    static void tile_of_one(float* sums, const float* x, const float* w, int depth) {
        int32_t at[DEPTH + LANES];
        int count = 0;
        __m512i k = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for (int i = 0; i < depth; i += LANES, k = _mm512_add_epi32(k, _mm512_set1_epi32(LANES))) {
            const __mmask16 nonzero = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_setzero_ps(), _CMP_NEQ_UQ);
            _mm512_storeu_si512(at + count, _mm512_maskz_compress_epi32(nonzero, k));
            count += __builtin_popcount(nonzero);
        }
        __m512 c[4];
        SNN_UNROLL for (int j = 0; j < 4; ++j) c[j] = _mm512_loadu_ps(sums + j * 16);
        for (int i = 0; i < count; ++i) {
            const __m512 one = _mm512_set1_ps(x[at[i]]);
            const float* weight = w + int64_t{at[i]} * PANEL;
            _mm_prefetch(reinterpret_cast<const char*>(weight + SOON * PANEL), _MM_HINT_T1);
            SNN_UNROLL for (int j = 0; j < 4; ++j) c[j] = _mm512_fmadd_ps(one, _mm512_load_ps(weight + j * 16), c[j]);
        }
        SNN_UNROLL for (int j = 0; j < 4; ++j) _mm512_storeu_ps(sums + j * 16, c[j]);
    }

    static constexpr int SOON = 16;  // how many k ahead: 4 KB
    static constexpr int ROWS = 6;  // 24 accumulators, 4 weights, 1 input

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const float* w, int depth,
                              const float*, Ahead ahead) {
        const float* x = in.data + int64_t{row} * in.stride + from;
        const int stride = in.stride;
        if (M == 1) return tile_of_one(sums, x, w, depth);
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
