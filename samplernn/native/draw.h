// One sample from a row of logits: softmax at a temperature, top-k and top-p, and the inverse of the distribution.
//
// The logits come in "lanes order": level q at [q % blocks][q / blocks] of blocks x 16, so that a lane holds
// neighbouring levels, sixteen partial sums of the distribution are sixteen lanes, and the drawn level is found by
// walking lanes and then one lane: the inverse in the order of the levels with no horizontal sums.
#pragma once

#include <algorithm>
#include <vector>

#include "memory.h"
#include "nonlinear.h"

namespace snn {

struct Choice {
    float temperature;  // 0: the most likely level
    int top_k;          // 0: all
    float top_p;        // 1: all
    float uniform;      // (0, 1]
};

class Draw {
  public:
    explicit Draw(int levels) : levels_(levels), blocks_(padded(levels, 64) / LANES), weights_(blocks_ * LANES) {}

    // Where level q stands in a row of logits.
    int position(int level) const { return level % blocks_ * LANES + level / blocks_; }

    int width() const { return blocks_ * LANES; }

    // A level in [0, levels).
    int operator()(const float* logits, const Choice& choice) {
        F16 most = load(logits);
        for (int b = 1; b < blocks_; ++b) most = max(most, load(logits + b * LANES));
        const float top = largest(most);
        if (choice.temperature == 0.0f) return first_at(logits, top);
        const F16 shift = all(top), sharpness = all(1.0f / choice.temperature);
        for (int b = 0; b < blocks_; ++b) {
            const F16 x = (load(logits + b * LANES) - shift) * sharpness;
            store(&weights_[b * LANES], where_at_least(x, EXP_MIN, exponential(x)));
        }
        if (choice.top_k > 0 || choice.top_p < 1.0f) keep_most_likely(choice);
        return invert(choice.uniform);
    }

  private:
    int first_at(const float* logits, float top) const {
        for (int level = 0; level < levels_; ++level) {
            if (logits[position(level)] == top) return level;
        }
        return 0;
    }

    // The level where the distribution passes uniform x total, by counting: no branch depends on what is drawn.
    int invert(float uniform) const {
        F16 sum = load(&weights_[0]);
        for (int b = 1; b < blocks_; ++b) sum = sum + load(&weights_[b * LANES]);
        float lanes[LANES], reached[LANES], total = 0.0f;
        store(lanes, sum);
        for (int i = 0; i < LANES; ++i) reached[i] = total += lanes[i];
        const float target = uniform * total;
        int lane = 0;
        for (const float mass : reached) lane += mass <= target;
        if (lane == LANES) return last_likely(LANES - 1);  // uniform was 1
        float mass = lane > 0 ? reached[lane - 1] : 0.0f;
        int level = 0;
        for (int b = 0; b < blocks_; ++b) level += (mass += weights_[b * LANES + lane]) <= target;
        // Rounding may leave the lane's end just short of the target: its last likely level then.
        return level < blocks_ ? lane * blocks_ + level : last_likely(lane);
    }

    // The last level with any probability in this lane or those below.
    int last_likely(int lane) const {
        for (int level = (lane + 1) * blocks_ - 1; level > 0; --level) {
            if (weights_[position(level)] > 0.0f) return level;
        }
        return 0;
    }

    // Zero all but the top_k most likely, then all but the fewest of those that hold top_p of their probability.
    void keep_most_likely(const Choice& choice) {
        order_.clear();
        for (int level = 0; level < levels_; ++level) order_.push_back({-weights_[position(level)], level});
        std::sort(order_.begin(), order_.end());
        size_t kept = choice.top_k > 0 ? std::min<size_t>(choice.top_k, order_.size()) : order_.size();
        float total = 0.0f, held = 0.0f;
        for (size_t i = 0; i < kept; ++i) total -= order_[i].first;
        for (size_t i = 0; i < kept; ++i) {
            if (held >= choice.top_p * total && i > 0) kept = i;
            held -= order_[i].first;
        }
        for (size_t i = kept; i < order_.size(); ++i) weights_[position(order_[i].second)] = 0.0f;
    }

    int levels_, blocks_;
    Array<float> weights_;
    std::vector<std::pair<float, int>> order_;
};

}  // namespace snn
