// The walk: frame tiers and sample tier over one block of samples, by all threads of a team side by side.
//
// A frame tier's products are split over outputs, so that each weight is read by one thread. The sample tier is split
// over songs, without a barrier, where each thread gets a few; over outputs otherwise, and each thread draws the same.
// Every output is computed by the same operations in the same order either way.
#pragma once

#include <memory>

#include "activations.h"

namespace snn {

template <class P>
class Generator {
    using Mine = Member<P>;
    using Inputs = typename P::Inputs;

  public:
    explicit Generator(const SnnModel& about)
        : model_(about), team_(about.threads), first_(size_t(about.slots) * model_.wide),
          hidden_(size_t(about.slots) * model_.wide), logits_width_(Draw(about.q_levels).width()),
          logits_(size_t(about.slots) * logits_width_) {
        for (const Tier<P>& tier : model_.tiers) values_.emplace_back(model_, tier, about.slots);
        for (int i = 0; i < about.threads; ++i) members_.push_back(std::make_unique<Mine>(model_, about.slots));
    }

    void advance(const SnnBlock& block) {
        codes_.resize(size_t(block.rows) * (model_.context + block.samples));
        team_.run([&](int member) { walk(block, member); });
    }

  private:
    void walk(const SnnBlock& block, int member) {
        const unsigned rounding = _mm_getcsr();
        _mm_setcsr(rounding | 0x8040);  // denormals are zero: a hundred times faster, and alike on all machines
        const Tiles tiles;
        Mine& me = *members_[member];
        const Range mine = share(block.rows, member, team_.size());
        for (int row = mine.begin; row < mine.end; ++row) take_up(block, row);
        for (int row = 0; row < block.rows; ++row) {
            const int slot = block.slots[row];
            me.streams[row] = SongStream{block.seed[slot], block.song[slot]};
        }
        meet(member);
        pack_states(me, block.rows);
        const bool songs_apart = apart(block.rows);
        for (int t = 0; t < block.samples; t += model_.frame) {
            for (int tier = int(model_.tiers.size()) - 1; tier >= 0; --tier) {
                if (t % model_.tiers[tier].frame_size == 0) step(block, member, me, tier, t);
            }
            for (int i = 0; i < model_.frame; ++i) {
                if (songs_apart) {
                    draw_songs(block, me, t + i, mine);
                } else {
                    draw_together(block, member, me, t + i);
                }
            }
            meet(member);
        }
        for (int row = mine.begin; row < mine.end; ++row) put_down(block, row);
        _mm_setcsr(rounding);
    }

    void meet(int member) { team_.barrier.wait(member); }

    // ---- states between blocks

    // A row's codes: the largest frame before the block, then the block.
    int16_t* past(const SnnBlock& block, int row) {
        return codes_.data() + size_t(row) * (model_.context + block.samples);
    }

    void take_up(const SnnBlock& block, int row) {
        const int slot = block.slots[row];
        std::memcpy(past(block, row), block.history + int64_t{slot} * model_.context, model_.context * 2);
        each_state(block, row, [&](float* outside, float* inside) { std::memcpy(inside, outside, model_.dim * 4); });
    }

    void put_down(const SnnBlock& block, int row) {
        const int slot = block.slots[row];
        const int16_t* codes = past(block, row);
        std::memcpy(block.history + int64_t{slot} * model_.context, codes + block.samples, model_.context * 2);
        std::memcpy(block.codes + int64_t{slot} * block.samples, codes + model_.context, block.samples * 2);
        each_state(block, row, [&](float* outside, float* inside) { std::memcpy(outside, inside, model_.dim * 4); });
    }

    // move(outside, inside) for every part of every layer of every tier of a row.
    template <class Move>
    void each_state(const SnnBlock& block, int row, Move move) {
        const size_t at = size_t(row) * model_.wide;
        for (size_t tier = 0; tier < values_.size(); ++tier) {
            TierValues<P>& v = values_[tier];
            float* outside = block.states[tier] +
                             int64_t{block.slots[row]} * model_.n_rnn * model_.parts() * model_.dim;
            for (int layer = 0; layer < model_.n_rnn; ++layer, outside += model_.parts() * model_.dim) {
                move(outside, &v.h[v.now][layer][at]);
                if (model_.parts() == 2) move(outside + model_.dim, &v.c[layer][at]);
            }
        }
    }

    void pack_states(Mine& me, int rows) {
        for (size_t tier = 0; tier < values_.size(); ++tier) {
            for (int layer = 0; layer < model_.n_rnn; ++layer) {
                const TierValues<P>& v = values_[tier];
                me.tiers[tier].h[layer].pack(v.h[v.now][layer].get(), model_.wide, {0, rows});
            }
        }
    }

    // ---- frame tiers

    Range panels(const Matrix<P>& matrix, int member) const { return share(matrix.panels(), member, team_.size()); }

    void step(const SnnBlock& block, int member, Mine& me, int index, int t) {
        const Tier<P>& tier = model_.tiers[index];
        TierValues<P>& v = values_[index];
        auto& in = me.tiers[index];
        const Range rows = {0, block.rows};
        read_frame(block, tier, in, t);
        if (tier.top) {
            in.x.pack(in.frame_values.get(), in.frame_width, rows);
        } else {
            in.frame.pack(in.frame_values.get(), in.frame_width, rows);
            expand(tier, v, values_[index + 1], in, t, panels(tier.expand, member), rows, me.sums.get());
            meet(member);
            in.x.pack(v.x.get(), model_.wide, rows);
        }
        const int next = 1 - v.now;
        for (int layer = 0; layer < model_.n_rnn; ++layer) {
            if (model_.rnn == SNN_LSTM) {
                lstm(tier, v, in, layer, next, member, rows, me.sums.get());
            } else {
                gru(tier, v, in, layer, next, member, rows, me.sums.get());
            }
            meet(member);
            in.h[layer].pack(v.h[next][layer].get(), model_.wide, rows);
        }
        const Inputs* result = &in.h.back();
        if (model_.skip) {
            std::vector<const Inputs*> all;
            for (const Inputs& h : in.h) all.push_back(&h);
            store_rows(tier.out, all, panels(tier.out, member), rows, me.sums.get(), v.out.get(), model_.wide);
            meet(member);
            in.out.pack(v.out.get(), model_.wide, rows);
            result = &in.out;
        }
        store_rows(tier.up, {result}, panels(tier.up, member), rows, me.sums.get(), v.above.get(), v.above_width);
        meet(member);
        if (member == 0) v.now = next;  // read again only after the next barrier
    }

    void read_frame(const SnnBlock& block, const Tier<P>& tier, typename Mine::TierInputs& in, int t) {
        const float half = static_cast<float>(model_.levels) / 2.0f;
        for (int row = 0; row < block.rows; ++row) {
            const int16_t* codes = past(block, row) + model_.context + t - tier.frame_size;
            float* x = &in.frame_values[size_t(row) * in.frame_width];
            for (int i = 0; i < tier.frame_size; ++i) {
                x[i] = (static_cast<float>(__atomic_load_n(codes + i, __ATOMIC_RELAXED)) / half - 1.0f) * 2.0f;
            }
            if (!tier.top || model_.features == 0) continue;
            const int64_t frames = block.samples / model_.context, frame = t / model_.context;
            const float* from = block.features + (block.slots[row] * frames + frame) * model_.features;
            std::memcpy(x + tier.frame_size, from, model_.features * sizeof(float));
        }
    }

    void expand(const Tier<P>& tier, TierValues<P>& v, const TierValues<P>& upper, const typename Mine::TierInputs& in,
                int t, Range panels, Range rows, float* sums) {
        const int phase = t / tier.frame_size % (upper.above_width / model_.wide);
        tier.expand.product({&in.frame}, panels, rows, sums, [&](int panel, int row, const float* sum) {
            const float* from = &upper.above[size_t(row) * upper.above_width + phase * model_.wide + panel * PANEL];
            float* to = &v.x[size_t(row) * model_.wide + panel * PANEL];
            for (int i = 0; i < PANEL; i += LANES) store(to + i, load(sum + i) + load(from + i));
        });
    }

    std::vector<const Inputs*> layer_inputs(const typename Mine::TierInputs& in, int layer) const {
        std::vector<const Inputs*> parts;
        if (layer > 0) parts.push_back(&in.h[layer - 1]);
        if (layer == 0 || model_.skip) parts.push_back(&in.x);
        return parts;
    }

    void lstm(const Tier<P>& tier, TierValues<P>& v, const typename Mine::TierInputs& in, int layer, int next,
              int member, Range rows, float* sums) {
        const Matrix<P>& gates = tier.layers[layer].gates;
        std::vector<const Inputs*> parts = layer_inputs(in, layer);
        parts.push_back(&in.h[layer]);
        float *h = v.h[next][layer].get(), *c = v.c[layer].get();
        gates.product(parts, panels(gates, member), rows, sums, [&](int panel, int row, const float* sum) {
            const int64_t at = int64_t{row} * model_.wide + panel * LANES;
            const F16 i = logistic(load(sum)), f = logistic(load(sum + 16)), o = logistic(load(sum + 32));
            const F16 cell = fma(f, load(c + at), i * hyperbolic_tangent(load(sum + 48)));
            store(c + at, cell);
            store(h + at, o * hyperbolic_tangent(cell));
        });
    }

    void gru(const Tier<P>& tier, TierValues<P>& v, typename Mine::TierInputs& in, int layer, int next, int member,
             Range rows, float* sums) {
        const Layer<P>& part = tier.layers[layer];
        const int wide = model_.wide;
        std::vector<const Inputs*> below = layer_inputs(in, layer), all = below;
        all.push_back(&in.h[layer]);
        const float* h = v.h[v.now][layer].get();
        float* to = v.h[next][layer].get();
        const bool torch = model_.rnn == SNN_GRU_TORCH;
        part.gates.product(all, panels(part.gates, member), rows, sums, [&](int panel, int row, const float* sum) {
            const bool first = panel * PANEL < wide;  // r, then u (torch's z)
            const int64_t at = int64_t{row} * wide + panel * PANEL - (first ? 0 : wide);
            for (int i = 0; i < PANEL; i += LANES) {
                const F16 gate = logistic(load(sum + i));
                if (first) {
                    store(&v.reset[at + i], torch ? gate : gate * load(h + at + i));
                } else {
                    store(&v.update[at + i], gate);
                }
            }
        });
        meet(member);
        if (torch) {
            part.recurrent.product({&in.h[layer]}, panels(part.recurrent, member), rows, sums,
                                   [&](int panel, int row, const float* sum) {
                float* reset = &v.reset[int64_t{row} * wide + panel * PANEL];
                for (int i = 0; i < PANEL; i += LANES) store(reset + i, load(reset + i) * load(sum + i));
            });
        } else {
            in.reset.pack(v.reset.get(), wide, rows);
            below.push_back(&in.reset);
        }
        part.candidate.product(below, panels(part.candidate, member), rows, sums,
                               [&](int panel, int row, const float* sum) {
            const int64_t at = int64_t{row} * wide + panel * PANEL;
            for (int i = 0; i < PANEL; i += LANES) {
                const F16 old = load(h + at + i), u = load(&v.update[at + i]), a = load(sum + i);
                const F16 fresh = hyperbolic_tangent(torch ? a + load(&v.reset[at + i]) : a);
                // reference: old + u (new - old); torch: new + z (old - new)
                store(to + at + i, torch ? fma(u, old - fresh, fresh) : fma(u, fresh - old, old));
            }
        });
    }

    void store_rows(const Matrix<P>& matrix, const std::vector<const Inputs*>& parts, Range panels, Range rows,
                    float* sums, float* out, int width) {
        matrix.product(parts, panels, rows, sums, [&](int panel, int row, const float* sum) {
            std::memcpy(out + int64_t{row} * width + panel * PANEL, sum, PANEL * sizeof(float));
        });
    }

    // ---- sample tier

    // Each thread its own songs, from the table to the draw: no barrier.
    void draw_songs(const SnnBlock& block, Mine& me, int t, Range rows) {
        first_layer(block, me, t, rows, me.hidden_values.get());
        me.first.pack(me.hidden_values.get(), model_.wide, rows);
        hidden_layer(me, {0, model_.hidden.panels()}, rows);
        last_layer(me, {0, model_.logits.panels()}, rows);
        for (int row = rows.begin; row < rows.end; ++row) draw(block, me, t, row, true);
    }

    // All threads the same songs, each its own outputs. The table and the draw of few songs are done by every thread,
    // which is cheaper than waiting; of more, each does its own.
    void draw_together(const SnnBlock& block, int member, Mine& me, int t) {
        const Range rows = {0, block.rows};
        const bool few = block.rows <= FEW;
        const Range mine = few ? rows : share(block.rows, member, team_.size());
        float* values = few ? me.hidden_values.get() : first_.get();
        first_layer(block, me, t, mine, values);
        if (!few) meet(member);
        me.first.pack(values, model_.wide, rows);
        hidden_layer(me, panels(model_.hidden, member), rows);
        meet(member);
        last_layer(me, panels(model_.logits, member), rows);
        meet(member);
        for (int row = mine.begin; row < mine.end; ++row) draw(block, me, t, row, !few || member == 0);
        if (!few) meet(member);
    }

    // Whether each thread has songs enough of its own: where the sample tier's weights stay in its cache a few will do;
    // where not, only many are worth reading all weights for.
    bool apart(int rows) const {
        const int64_t bytes = int64_t{model_.wide} * (model_.wide + logits_width_) * sizeof(typename P::Weight);
        return team_.size() == 1 || rows >= team_.size() * (bytes <= CACHED ? 4 : 32);
    }

    // relu(conditioning + one table row for each sample of the frame before this one)
    void first_layer(const SnnBlock& block, Mine& me, int t, Range rows, float* to) {
        const Table<P>& table = *model_.table;
        const int frame = model_.frame;
        for (int row = rows.begin; row < rows.end; ++row) {
            const int16_t* codes = past(block, row) + model_.context + t - frame;
            for (int i = 0; i < frame; ++i) {
                me.table_rows[size_t(row) * frame + i] = table.row(i, __atomic_load_n(codes + i, __ATOMIC_RELAXED));
            }
        }
        for (int row = rows.begin; row < rows.end; ++row) {
            const auto* mine = &me.table_rows[size_t(row) * frame];
            if (row + 1 < rows.end) table.fetch(mine + frame, frame);
            const float* above = &values_[0].above[size_t(row) * values_[0].above_width + t % frame * model_.wide];
            table.sum(mine, above, to + size_t(row) * model_.wide);
        }
        if (rows.end - rows.begin > FEW) return;
        for (int row = rows.begin; row < rows.end; ++row) {  // the next sample's rows but the one not drawn yet
            const int16_t* codes = past(block, row) + model_.context + t + 1 - frame;
            const auto** next = &me.table_rows[size_t(row) * frame];
            for (int i = 0; i < frame - 1; ++i) next[i] = table.row(i, __atomic_load_n(codes + i, __ATOMIC_RELAXED));
            table.fetch(next, frame - 1);
        }
    }

    void hidden_layer(Mine& me, Range panels, Range rows) {
        model_.hidden.product({&me.first}, panels, rows, me.sums.get(), [&](int panel, int row, const float* sum) {
            float* to = &hidden_[size_t(row) * model_.wide + panel * PANEL];
            for (int i = 0; i < PANEL; i += LANES) store(to + i, max(load(sum + i), all(0.0f)));
        });
    }

    void last_layer(Mine& me, Range panels, Range rows) {
        me.second.pack(hidden_.get(), model_.wide, rows);
        store_rows(model_.logits, {&me.second}, panels, rows, me.sums.get(), logits_.get(), logits_width_);
    }

    // `report`: whether this thread also writes the logits that were asked for.
    void draw(const SnnBlock& block, Mine& me, int t, int row, bool report) {
        const int slot = block.slots[row];
        const int64_t at = int64_t{slot} * block.samples + t;
        const float* logits = &logits_[size_t(row) * logits_width_];
        if (report && block.logits != nullptr) {
            float* to = block.logits + at * model_.levels;
            for (int level = 0; level < model_.levels; ++level) to[level] = logits[me.draw.position(level)];
        }
        int code = block.forced != nullptr ? block.forced[at] : -1;
        if (code < 0) {
            const float uniform = me.streams[row].uniform(block.start[slot] + t);
            code = me.draw(logits, {block.temperature[at], block.top_k[slot], block.top_p[slot], uniform});
        }
        // Relaxed and atomic: where all threads draw together, all of them store the same code here.
        __atomic_store_n(past(block, row) + model_.context + t, static_cast<int16_t>(code), __ATOMIC_RELAXED);
    }

    static constexpr int FEW = 2;                      // songs
    static constexpr int64_t CACHED = int64_t{1} << 20;  // bytes of weights that stay in a core's cache

    const Model<P> model_;
    Team team_;
    std::vector<TierValues<P>> values_;
    Array<float> first_;   // after the first ReLU, where threads share it [rows][wide]
    Array<float> hidden_;  // after the second ReLU [rows][wide]
    const int logits_width_;
    Array<float> logits_;  // [rows][logits_width], in Draw's order
    std::vector<std::unique_ptr<Mine>> members_;
    std::vector<int16_t> codes_;  // [rows][context + samples]
};

}  // namespace snn
