// A folded model as packed matrices: which columns of which folded array go where.
#pragma once

#include <memory>
#include <vector>

#include "description.h"
#include "draw.h"
#include "matrix.h"
#include "table.h"

namespace snn {

// The outputs of `groups` of `dim` each, every group padded to `wide`.
inline std::vector<int> group_columns(int groups, int dim, int wide, int first = 0) {
    std::vector<int> columns;
    for (int group = 0; group < groups; ++group) {
        for (int unit = 0; unit < wide; ++unit) columns.push_back(unit < dim ? first + group * dim + unit : -1);
    }
    return columns;
}

// The four gates of 16 units side by side in a panel, i, f, o, g: one panel has all that an LSTM's update needs.
inline std::vector<int> lstm_columns(int dim, int wide) {
    std::vector<int> columns;
    for (int unit = 0; unit < wide; unit += LANES) {
        for (const int gate : {0, 1, 3, 2}) {  // folded (torch's) order is i, f, g, o
            for (int lane = 0; lane < LANES; ++lane) {
                columns.push_back(unit + lane < dim ? gate * dim + unit + lane : -1);
            }
        }
    }
    return columns;
}

template <class P>
struct Layer {
    Matrix<P> gates;      // LSTM: all four over [below, x, h]; GRUs: r and u (z) over [below, x, h]
    Matrix<P> candidate;  // GRU: over [below, x, r * h]; GRU-torch: over [below, x]
    Matrix<P> recurrent;  // GRU-torch: the candidate's over [h]
};

template <class P>
struct Tier {
    int frame_size, ratio, width;  // width: of x, padded
    bool top;
    Matrix<P> expand;
    std::vector<Layer<P>> layers;
    Matrix<P> out;  // skip connections: the sum over all layers' h
    Matrix<P> up;
};

template <class P>
class Model {
  public:
    explicit Model(const SnnModel& about)
        : rnn(about.rnn_type), dim(about.dim), wide(padded(about.dim, PANEL)), n_rnn(about.n_rnn),
          levels(about.q_levels), features(about.features), skip(about.skip != 0), frame(about.frame_sizes[0]),
          context(about.frame_sizes[about.tiers - 1]), next_(about.arrays) {
        for (int index = 0; index < about.tiers; ++index) {
            const int below = index > 0 ? about.frame_sizes[index - 1] : 1;
            tiers.push_back(read_tier(about.frame_sizes[index], below, index == about.tiers - 1));
        }
        read_sample_tier();
    }

    const int rnn, dim, wide, n_rnn, levels, features;
    const bool skip;
    const int frame, context;
    int parts() const { return rnn == SNN_LSTM ? 2 : 1; }

    std::vector<Tier<P>> tiers;
    std::unique_ptr<Table<P>> table;
    Matrix<P> hidden, logits;

  private:
    const float* take() { return *next_++; }

    Tier<P> read_tier(int frame_size, int below, bool top) {
        Tier<P> tier;
        tier.frame_size = frame_size, tier.top = top;
        tier.ratio = frame_size / below;
        const int n_in = top ? frame_size + features : dim;
        tier.width = top ? padded(n_in, P::ALIGN) : wide;
        const std::vector<int> plain = group_columns(1, dim, wide);
        const float* expand = take();
        const float* expand_bias = take();
        const Source own = {expand, frame_size, dim, padded(frame_size, P::ALIGN)};
        if (!top) tier.expand = Matrix<P>({own}, plain, expand_bias);
        std::vector<Source> outputs;
        for (int layer = 0; layer < n_rnn; ++layer) {
            tier.layers.push_back(read_layer(layer, n_in, tier.width));
            outputs.push_back({take(), dim, dim, wide});
        }
        const float* out_bias = take();
        if (skip) tier.out = Matrix<P>(outputs, plain, out_bias);
        const float* up = take();
        const float* up_bias = take();
        tier.up = Matrix<P>({{up, dim, tier.ratio * dim, wide}}, group_columns(tier.ratio, dim, wide), up_bias);
        return tier;
    }

    Layer<P> read_layer(int layer, int n_in, int width) {
        const int gates = rnn == SNN_LSTM ? 4 : 3, columns = gates * dim;
        const float* w_x = take();
        const float* w_h = take();
        const float* bias = take();
        std::vector<Source> inputs;
        if (layer > 0) {
            inputs.push_back({w_x, dim, columns, wide});
            w_x += int64_t{dim} * columns;
        }
        if (layer == 0 || skip) inputs.push_back({w_x, n_in, columns, width});
        const Source own = {w_h, dim, columns, wide};
        std::vector<Source> all = inputs;
        all.push_back(own);
        if (rnn == SNN_LSTM) return {Matrix<P>(all, lstm_columns(dim, wide), bias), {}, {}};
        const std::vector<int> two = group_columns(2, dim, wide), third = group_columns(1, dim, wide, 2 * dim);
        Matrix<P> gate(all, two, bias);
        if (rnn == SNN_GRU) return {std::move(gate), Matrix<P>(all, third, bias), {}};
        return {std::move(gate), Matrix<P>(inputs, third, bias), Matrix<P>({own}, third, nullptr)};
    }

    void read_sample_tier() {
        table = std::make_unique<Table<P>>(take(), frame, levels, dim, wide);
        const float* w3 = take();
        const float* b3 = take();
        hidden = Matrix<P>({{w3, dim, dim, wide}}, group_columns(1, dim, wide), b3);
        const float* w_out = take();
        const float* b_out = take();
        const Draw draw(levels);
        std::vector<int> columns(draw.width(), -1);
        for (int level = 0; level < levels; ++level) columns[draw.position(level)] = level;
        logits = Matrix<P>({{w_out, dim, levels, wide}}, columns, b_out, -INFINITY);  // padding has no probability
    }

    const float* const* next_;
};

}  // namespace snn
