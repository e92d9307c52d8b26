// A matrix in panels of 64 outputs, and its product with rows of inputs.
//
// The inputs of a product are the vectors ("parts") that a concatenation would join. Each output is its bias plus the
// parts' products, part after part and k after k, whatever the number of rows or threads: that is what makes a song
// independent of its neighbours.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "amx.h"
#include "panel.h"

namespace snn {

// Rows [k][columns] of a source matrix, input-major, that one part is multiplied with.
struct Source {
    const float* data;
    int depth;    // true inputs
    int columns;  // distance between two rows
    int padded;   // inputs as the vector is stored, zeros after the true ones
};

template <class P>
class Matrix {
  public:
    Matrix() = default;

    // columns[n] is the source column of output n, or -1 for padding; bias may be null.
    Matrix(const std::vector<Source>& sources, const std::vector<int>& columns, const float* bias,
           float padding_bias = 0.0f)
        : panels_(static_cast<int>(columns.size()) / PANEL), bias_(columns.size()) {
        for (const Source& source : sources) {
            depth_.push_back(source.padded);
            panel_size_ += int64_t{source.padded} * PANEL;
        }
        weights_ = Array<typename P::Weight>(panels_ * panel_size_);
        if (P::SCALED) scales_ = Array<float>(columns.size() * sources.size());
        for (size_t n = 0; n < columns.size(); ++n) {
            bias_[n] = columns[n] < 0 ? padding_bias : bias != nullptr ? bias[columns[n]] : 0.0f;
        }
        for (int panel = 0; panel < panels_; ++panel) {
            typename P::Weight* to = weights_.get() + panel * panel_size_;
            for (size_t part = 0; part < sources.size(); ++part) {
                fill(sources[part], columns.data() + panel * PANEL, to, scale(panel, part));
                to += int64_t{sources[part].padded} * PANEL;
            }
        }
    }

    int panels() const { return panels_; }

    // For each panel and row: done(panel, row, sums[64]). `parts` has one Inputs a source; `sums` holds SUMS floats.
    template <class Done>
    void product(const std::vector<const typename P::Inputs*>& parts, Range panels, Range rows, float* sums,
                 Done done) const {
        for (int panel = panels.begin; panel < panels.end; ++panel) {
            for (int first = rows.begin; first < rows.end; first += P::GROUP) {
                const Range group = {first, std::min(first + P::GROUP, rows.end)};
                for (int i = 0; i < group.end - first; ++i) {
                    std::memcpy(sums + i * PANEL, &bias_[panel * PANEL], PANEL * sizeof(float));
                }
                const typename P::Weight* w = weights_.get() + panel * panel_size_;
                for (size_t part = 0; part < depth_.size(); ++part) {
                    for (int from = 0; from < depth_[part]; from += P::DEPTH) {
                        const int depth = std::min(P::DEPTH, depth_[part] - from);
                        P::add(sums, *parts[part], group, from, w, depth, scale(panel, part));
                        w += int64_t{depth} * PANEL;
                    }
                }
                for (int row = first; row < group.end; ++row) done(panel, row, sums + (row - first) * PANEL);
            }
        }
    }

    static constexpr int SUMS = (P::GROUP + SPARE_ROWS) * PANEL;

  private:
    float* scale(int panel, size_t part) const {
        return P::SCALED ? scales_.get() + (panel * depth_.size() + part) * PANEL : nullptr;
    }

    static void fill(const Source& source, const int* columns, typename P::Weight* to, float* scales) {
        constexpr int T = P::TOGETHER;
        float together[T];
        for (int lane = 0; lane < PANEL; ++lane) {
            const float* from = columns[lane] < 0 ? nullptr : source.data + columns[lane];
            float most = 0.0f;
            for (int k = 0; P::SCALED && from != nullptr && k < source.depth; ++k) {
                most = std::max(most, std::fabs(from[int64_t{k} * source.columns]));
            }
            if (P::SCALED) scales[lane] = most / 127.0f;
            for (int k = 0; k < source.padded; k += T) {
                for (int i = 0; i < T; ++i) {
                    const bool real = from != nullptr && k + i < source.depth;
                    together[i] = real ? from[int64_t{k + i} * source.columns] : 0.0f;
                }
                P::store_weights(together, T, most / 127.0f, to + int64_t{k} * PANEL + lane * T);
            }
        }
    }

    int panels_ = 0;
    int64_t panel_size_ = 0;
    std::vector<int> depth_;
    Array<typename P::Weight> weights_;
    Array<float> scales_;
    Array<float> bias_;
};

}  // namespace snn
