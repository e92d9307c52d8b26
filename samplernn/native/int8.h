// Products of int8 weights (a scale for each output and input vector) and int8 inputs (a scale for each row), summed
// exactly in int32. A panel is weights[k / 4][64][4]: four k side by side.
//
// AVX-512 VNNI multiplies unsigned by signed bytes: weights are stored + 128 there, and 128 times the sum of the inputs
// is taken off. AVX2 multiplies magnitudes by signed bytes: at most 2 x 127 x 127 a pair, so VPMADDUBSW can't saturate.
// Both are exact: the same bits.
#pragma once

#include <algorithm>
#include <cmath>

#include "amx.h"
#include "panel.h"

namespace snn {

struct Int8 {
    using Weight = int8_t;
    static constexpr int TOGETHER = 4;
    static constexpr int DEPTH = 1 << 30;  // never cut: an int32 sum ends with its input vector
    static constexpr bool SCALED = true;
    static constexpr int GROUP = 96;
    static constexpr int ALIGN = 16;

    struct Inputs {
        Array<int8_t> data;
        Array<float> scale;
        Array<int32_t> sum;
        int stride = 0;
        Inputs() = default;
        Inputs(int rows, int width) : data(size_t(rows + SPARE_ROWS) * width), scale(rows), sum(rows), stride(width) {}

        void pack(const float* from, int width, Range rows) {
            for (int row = rows.begin; row < rows.end; ++row) {
                const float* x = from + int64_t{row} * width;
                F16 most = all(0.0f);
                for (int i = 0; i < width; i += LANES) most = max(most, magnitude(load(x + i)));
                const float top = largest(most);
                scale[row] = top / 127.0f;
                const F16 inverse = all(top > 1e-30f ? 127.0f / top : 0.0f);
                int8_t* to = data.get() + int64_t{row} * width;
                ByteWriter writer;
                for (int i = 0; i < width; i += LANES) writer.write(to + i, load(x + i) * inverse);
                sum[row] = writer.sum();
            }
        }
    };

#ifdef __AVX512F__
    static constexpr int OFFSET = 128;
#else
    static constexpr int OFFSET = 0;
#endif

    static void store_weights(const float* from, int count, float scale, int8_t* to) {
        for (int i = 0; i < count; ++i) {
            to[i] = static_cast<int8_t>((scale > 0 ? static_cast<int>(std::nearbyint(from[i] / scale)) : 0) + OFFSET);
        }
    }

    // A table's row: bytes with a scale for each unit.
    using Entry = int8_t;
    static void store_entries(const float* from, const float* scale, int8_t* to) {
        for (int i = 0; i < LANES; ++i) {
            to[i] = static_cast<int8_t>(scale[i] > 0 ? std::nearbyint(from[i] / scale[i]) : 0.0f);
        }
    }
    static F16 add_entries(const int8_t* row, const float* scale, F16 sum) {
        return fma(load_bytes(row), load(scale), sum);
    }

    static int four(const int8_t* x) {
        int word;
        std::memcpy(&word, x, 4);
        return word;
    }

#ifdef __AVX512F__
    static constexpr int ROWS = 6;

    // VPDPBUSD by hand: gcc 12 keeps copies of the accumulators when it is asked for by its intrinsic (half the speed).
    static void add_products(__m512i& sum, __m512i weight, __m512i bytes) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(bytes));
    }

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const int8_t* w, int depth,
                              const float* scale, Ahead ahead) {
        const int8_t* x = in.data.get() + int64_t{row} * in.stride + from;
        const float* row_scale = in.scale.get() + row;
        const int32_t* row_sum = in.sum.get() + row;
        const int stride = in.stride;
        __m512i c[M][4];
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            SNN_UNROLL for (int j = 0; j < 4; ++j) c[m][j] = _mm512_set1_epi32(-OFFSET * row_sum[m]);
        }
        for (int k = 0; k < depth; k += 4, w += 4 * PANEL) {
            ahead.fetch();
            __m512i weight[4];
            SNN_UNROLL for (int j = 0; j < 4; ++j) weight[j] = _mm512_load_si512(w + j * 64);
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                const __m512i bytes = _mm512_set1_epi32(four(x + int64_t{m} * stride + k));
                SNN_UNROLL for (int j = 0; j < 4; ++j) add_products(c[m][j], weight[j], bytes);
            }
        }
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            const __m512 by = _mm512_set1_ps(row_scale[m]);
            SNN_UNROLL for (int j = 0; j < 4; ++j) {
                float* sum = sums + m * PANEL + j * 16;
                const __m512 unit = _mm512_mul_ps(by, _mm512_loadu_ps(scale + j * 16));
                _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[m][j]), unit, _mm512_loadu_ps(sum)));
            }
        }
    }
#else
    static constexpr int ROWS = 4;

    template <int M>
    static SNN_TILE void tile(float* sums, const Inputs& in, int row, int from, const int8_t* w, int depth,
                              const float* scale, Ahead ahead) {
        const int8_t* x = in.data.get() + int64_t{row} * in.stride + from;
        const float* row_scale = in.scale.get() + row;
        const int stride = in.stride;
        const __m256i ones = _mm256_set1_epi16(1);
        ahead.step /= PANEL / 16;
        for (int first = 0; first < PANEL; first += 16) {
            __m256i c[M][2];
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                SNN_UNROLL for (int j = 0; j < 2; ++j) c[m][j] = _mm256_setzero_si256();
            }
            const int8_t* at = w + 4 * first;
            for (int k = 0; k < depth; k += 4, at += 4 * PANEL) {
                ahead.fetch();
                __m256i weight[2], size[2];
                SNN_UNROLL for (int j = 0; j < 2; ++j) {
                    weight[j] = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32 * j));
                    size[j] = _mm256_abs_epi8(weight[j]);
                }
                SNN_UNROLL for (int m = 0; m < M; ++m) {
                    const __m256i bytes = _mm256_set1_epi32(four(x + int64_t{m} * stride + k));
                    SNN_UNROLL for (int j = 0; j < 2; ++j) {
                        const __m256i pairs = _mm256_maddubs_epi16(size[j], _mm256_sign_epi8(bytes, weight[j]));
                        c[m][j] = _mm256_add_epi32(c[m][j], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                const __m256 by = _mm256_set1_ps(row_scale[m]);
                SNN_UNROLL for (int j = 0; j < 2; ++j) {
                    float* sum = sums + m * PANEL + first + j * 8;
                    const __m256 unit = _mm256_mul_ps(by, _mm256_loadu_ps(scale + first + j * 8));
                    _mm256_storeu_ps(sum, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[m][j]), unit, _mm256_loadu_ps(sum)));
                }
            }
        }
    }
#endif

#ifdef __AMX_INT8__
    // 16 or 32 rows by 32 outputs: their sums in tiles 0 to 3, inputs in 4 and 5, weights in 6 and 7.
    static SNN_TILE void block(int32_t* sums, const int8_t* x, int64_t stride, const int8_t* w, int depth, bool two) {
        constexpr int64_t SUM_STRIDE = PANEL * 4, WEIGHT_STRIDE = PANEL * 4;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int k = 0; k < depth; k += 64, w += 64 * PANEL) {
            _tile_loadd(4, x + k, stride);
            _tile_loadd(6, w, WEIGHT_STRIDE);
            _tile_loadd(7, w + 64, WEIGHT_STRIDE);
            _tile_dpbsud(0, 4, 6);
            _tile_dpbsud(1, 4, 7);
            if (!two) continue;
            _tile_loadd(5, x + TILE_ROWS * stride + k, stride);
            _tile_dpbsud(2, 5, 6);
            _tile_dpbsud(3, 5, 7);
        }
        _tile_stored(0, sums, SUM_STRIDE);
        _tile_stored(1, sums + 16, SUM_STRIDE);
        if (!two) return;
        _tile_stored(2, sums + TILE_ROWS * PANEL, SUM_STRIDE);
        _tile_stored(3, sums + TILE_ROWS * PANEL + 16, SUM_STRIDE);
    }

    static void add(float* sums, const Inputs& in, Range rows, int from, const int8_t* w, int depth,
                    const float* scale) {
        if (rows.end - rows.begin < FEW || depth % TILE_BYTES) {
            add_in_tiles<Int8>(sums, in, rows, from, w, depth, scale);
            return;
        }
        alignas(64) int32_t whole[2 * TILE_ROWS * PANEL];
        for (int first = rows.begin; first < rows.end; first += 2 * TILE_ROWS) {
            const int8_t* x = in.data.get() + int64_t{first} * in.stride + from;
            const bool two = rows.end - first > TILE_ROWS;
            for (int half = 0; half < PANEL; half += 32) block(whole + half, x, in.stride, w + 4 * half, depth, two);
            const int end = std::min(first + 2 * TILE_ROWS, rows.end);
            for (int row = first; row < end; ++row) {
                const __m512 by = _mm512_set1_ps(in.scale[row]);
                const __m512i offset = _mm512_set1_epi32(OFFSET * in.sum[row]);
                SNN_UNROLL for (int j = 0; j < PANEL; j += 16) {
                    float* sum = sums + (row - rows.begin) * PANEL + j;
                    const __m512i c = _mm512_sub_epi32(_mm512_load_si512(whole + (row - first) * PANEL + j), offset);
                    const __m512 unit = _mm512_mul_ps(by, _mm512_loadu_ps(scale + j));
                    _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_cvtepi32_ps(c), unit, _mm512_loadu_ps(sum)));
                }
            }
        }
    }

    static constexpr int FEW = 3;  // rows that are faster by VNNI, which gives the same integers
#else
    static void add(float* sums, const Inputs& in, Range rows, int from, const int8_t* w, int depth,
                    const float* scale) {
        add_in_tiles<Int8>(sums, in, rows, from, w, depth, scale);
    }
#endif
};

}  // namespace snn
