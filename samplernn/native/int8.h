// Products of int8 weights (a scale for each output and input vector) and int8 inputs (a scale for each row), summed
// exactly in int32. A panel is weights[k / 4][64][4]: four k side by side.
//
// AVX-512 VNNI multiplies unsigned by signed bytes: weights are stored + 128 there, and 128 times the sum of the inputs
// is taken off. AVX2 multiplies magnitudes by signed bytes: at most 2 x 127 x 127 a pair, so VPMADDUBSW can't saturate.
// Both are exact: the same bits.
#pragma once

#include <cmath>

#include "panel.h"

namespace snn {

struct Int8 {
    using Weight = int8_t;
    static constexpr int TOGETHER = 4;
    static constexpr int DEPTH = 1 << 30;  // never cut: an int32 sum ends with its input vector
    static constexpr bool SCALED = true;

    struct Inputs {
        Array<int8_t> data;
        Array<float> scale;
        Array<int32_t> sum;
        int stride = 0;
        Inputs() = default;
        Inputs(int rows, int width) : data(size_t(rows) * width), scale(rows), sum(rows), stride(width) {}

        void pack(const float* from, int width, Range rows) {
            for (int row = rows.begin; row < rows.end; ++row) {
                const float* x = from + int64_t{row} * width;
                F16 most = all(0.0f);
                for (int i = 0; i < width; i += LANES) most = max(most, magnitude(load(x + i)));
                const float top = largest(most);
                scale[row] = top / 127.0f;
                const F16 inverse = all(top > 1e-30f ? 127.0f / top : 0.0f);
                int8_t* to = data.get() + int64_t{row} * width;
                int32_t total = 0;
                for (int i = 0; i < width; i += LANES) total += store_bytes(to + i, load(x + i) * inverse);
                sum[row] = total;
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

    static int four(const int8_t* x) {
        int word;
        std::memcpy(&word, x, 4);
        return word;
    }

#ifdef __AVX512F__
    static constexpr int ROWS = 6;

    template <int M>
    static SNN_TILE void tile(float* sums, const int8_t* x, int stride, const float* row_scale, const int32_t* row_sum,
                              const int8_t* w, int depth, const float* scale, const char* ahead) {
        __m512i c[M][4];
        SNN_UNROLL for (int m = 0; m < M; ++m) {
            SNN_UNROLL for (int j = 0; j < 4; ++j) c[m][j] = _mm512_set1_epi32(-OFFSET * row_sum[m]);
        }
        for (int k = 0; k < depth; k += 4, w += 4 * PANEL, ahead += 64) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            __m512i weight[4];
            SNN_UNROLL for (int j = 0; j < 4; ++j) weight[j] = _mm512_load_si512(w + j * 64);
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                const __m512i bytes = _mm512_set1_epi32(four(x + int64_t{m} * stride + k));
                SNN_UNROLL for (int j = 0; j < 4; ++j) c[m][j] = _mm512_dpbusd_epi32(c[m][j], weight[j], bytes);
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
    static SNN_TILE void tile(float* sums, const int8_t* x, int stride, const float* row_scale, const int32_t*,
                              const int8_t* w, int depth, const float* scale, const char*) {
        const __m256i ones = _mm256_set1_epi16(1);
        for (int first = 0; first < PANEL; first += 16) {
            __m256i c[M][2];
            SNN_UNROLL for (int m = 0; m < M; ++m) {
                SNN_UNROLL for (int j = 0; j < 2; ++j) c[m][j] = _mm256_setzero_si256();
            }
            const int8_t* at = w + 4 * first;
            for (int k = 0; k < depth; k += 4, at += 4 * PANEL) {
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

    template <int M>
    static void add(float* sums, const Inputs& in, int row, int from, const int8_t* w, int depth, const float* scale,
                    const char* ahead) {
        tile<M>(sums, in.data.get() + int64_t{row} * in.stride + from, in.stride, in.scale.get() + row,
                in.sum.get() + row, w, depth, scale, ahead);
    }
};

}  // namespace snn
