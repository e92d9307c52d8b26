// The sample tier's first two layers as rows to look up and add: one row for each position of the frame and each level.
//
// 16 rows a sample are more bytes than the sample tier's weights, so their precision is the backend's: fp32, bf16, or
// int8 with a scale for each position and unit.
#pragma once

#include <cmath>
#include <vector>

#include "panel.h"

namespace snn {

template <class P>
class Table {
    using Entry = typename P::Entry;

  public:
    // rows [frame * levels][dim]; a row is padded to `wide` units.
    Table(const float* rows, int frame, int levels, int dim, int wide)
        : frame_(frame), levels_(levels), wide_(wide), entries_(size_t(frame) * levels * wide),
          scales_(P::SCALED ? size_t(frame) * wide : 0) {
        std::vector<float> row(wide);
        for (int position = 0; position < frame; ++position) {
            const float* from = rows + int64_t{position} * levels * dim;
            float* scale = scales_.get() + (P::SCALED ? int64_t{position} * wide : 0);
            for (int i = 0; P::SCALED && i < levels * dim; ++i) {
                scale[i % dim] = std::fmax(scale[i % dim], std::fabs(from[i]) / 127.0f);
            }
            for (int level = 0; level < levels; ++level) {
                std::copy(from + int64_t{level} * dim, from + int64_t{level + 1} * dim, row.begin());
                for (int i = 0; i < wide; i += LANES) {
                    P::store_entries(&row[i], scale + i, entries_.get() + entry(position, level) + i);
                }
            }
        }
    }

    int frame() const { return frame_; }

    const Entry* row(int position, int code) const { return entries_.get() + entry(position, code); }

    // The first `count` rows' first lines on their way while something else is computed.
    void fetch(const Entry* const* rows, int count) const {
        const int64_t bytes = int64_t{wide_} * sizeof(Entry);
        for (int position = 0; position < count; ++position) {
            const char* line = reinterpret_cast<const char*>(rows[position]);
            for (int64_t at = 0; at < bytes && at < FETCHED; at += 64) _mm_prefetch(line + at, _MM_HINT_T0);
        }
    }

    // to[wide] = relu(start + one row for each position)
    void sum(const Entry* const* rows, const float* start, float* to) const {
        int at = 0;
        for (; at + BROAD * LANES <= wide_; at += BROAD * LANES) sum_columns<BROAD>(rows, start, to, at);
        for (; at < wide_; at += 4 * LANES) sum_columns<4>(rows, start, to, at);
    }

  private:
#ifdef __AVX512F__
    static constexpr int BROAD = 16;  // registers of sums: long runs of a row, which the prefetcher follows
#else
    static constexpr int BROAD = 4;
#endif
    static constexpr int64_t FETCHED = 1024;

    int64_t entry(int position, int code) const { return (int64_t{position} * levels_ + code) * wide_; }

    template <int N>
    SNN_TILE void sum_columns(const Entry* const* rows, const float* start, float* to, int at) const {
        F16 sum[N];
        SNN_UNROLL for (int j = 0; j < N; ++j) sum[j] = load(start + at + j * LANES);
        for (int position = 0; position < frame_; ++position) {
            const Entry* row = rows[position] + at;
            const float* scale = scales_.get() + (P::SCALED ? int64_t{position} * wide_ + at : 0);
            SNN_UNROLL for (int j = 0; j < N; ++j) {
                sum[j] = P::add_entries(row + j * LANES, scale + j * LANES, sum[j]);
            }
        }
        SNN_UNROLL for (int j = 0; j < N; ++j) store(to + at + j * LANES, max(sum[j], all(0.0f)));
    }

    int frame_, levels_, wide_;
    Array<Entry> entries_;
    Array<float> scales_;  // [frame][wide], int8 only
};

}  // namespace snn
