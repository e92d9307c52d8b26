// What the songs carry and what the threads compute on their way: all fp32 rows, one a song of the block.
#pragma once

#include <vector>

#include "model.h"
#include "philox.h"

namespace snn {

// Shared by all threads: each writes its own panels (or its own rows) between two barriers and reads anything after.
template <class P>
struct TierValues {
    TierValues(const Model<P>& model, const Tier<P>& tier, int rows) : h(2), above_width(tier.ratio * model.wide) {
        const size_t size = size_t(rows) * model.wide;
        for (int layer = 0; layer < model.n_rnn; ++layer) {
            h[0].emplace_back(size);
            h[1].emplace_back(size);
            c.emplace_back(model.rnn == SNN_LSTM ? size : 0);
        }
        const size_t gru = model.rnn == SNN_LSTM ? 0 : size;
        x = Array<float>(size), out = Array<float>(size), above = Array<float>(size_t(rows) * above_width);
        reset = Array<float>(gru), update = Array<float>(gru);
    }

    std::vector<std::vector<Array<float>>> h;  // [2][layer]: a step reads one and writes the other
    int now = 0;                               // which one holds the state between two steps
    std::vector<Array<float>> c;
    Array<float> x;              // below the top: the expanded frame plus the conditioning
    Array<float> reset, update;  // GRUs
    Array<float> out;
    Array<float> above;  // conditioning for the tier below [rows][ratio][wide]
    int above_width;
};

// One thread's own: inputs packed for its tiles, which is cheaper done twice than waited for.
template <class P>
struct Member {
    using Inputs = typename P::Inputs;

    struct TierInputs {
        TierInputs(const Model<P>& model, const Tier<P>& tier, int rows)
            : frame_width(padded(tier.frame_size + (tier.top ? model.features : 0), P::ALIGN)),
              frame_values(size_t(rows) * frame_width),
              frame(rows, frame_width), x(rows, tier.width), reset(rows, model.wide), out(rows, model.wide) {
            for (int layer = 0; layer < model.n_rnn; ++layer) h.emplace_back(rows, model.wide);
        }
        int frame_width;
        Array<float> frame_values;  // the frame's samples in [-2, 2], then the features
        Inputs frame, x;
        std::vector<Inputs> h;
        Inputs reset, out;
    };

    Member(const Model<P>& model, int rows)
        : hidden_values(size_t(rows) * model.wide), first(rows, model.wide), second(rows, model.wide),
          sums(Matrix<P>::SUMS), draw(model.levels), streams(rows),
          table_rows(size_t(rows) * model.frame) {
        for (const Tier<P>& tier : model.tiers) tiers.emplace_back(model, tier, rows);
    }

    std::vector<TierInputs> tiers;
    Array<float> hidden_values;  // after the table and the first ReLU
    Inputs first, second;        // what the sample tier's two products read
    Array<float> sums;
    Draw draw;
    std::vector<SongStream> streams;
    std::vector<const typename P::Entry*> table_rows;  // [rows][frame]
};

}  // namespace snn
