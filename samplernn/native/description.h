// What crosses the C interface; samplernn/generate/native_library.py mirrors these structs.
#pragma once

#include <cstdint>

extern "C" {

enum SnnRnn { SNN_LSTM = 0, SNN_GRU = 1, SNN_GRU_TORCH = 2 };
enum SnnPrecision { SNN_FP32 = 0, SNN_BF16 = 1, SNN_INT8 = 2 };

struct SnnModel {
    int32_t rnn_type, tiers, dim, n_rnn, skip, q_levels, features, precision, threads, slots;
    int32_t frame_sizes[8];  // lowest tier first
    // fp32 arrays as samplernn/folding.py has them, in this order. For each tier, lowest first: the expansion's matrix
    // and bias (null at the top); for each layer w_x, w_h, bias, to_out (null without skip connections); out_bias (null
    // without), up, up_bias. Then table, w3, b3, w_out, b_out.
    const float* const* arrays;
};

// One block of n samples of some slots. Arrays over slots have all slots of the model as their first axis.
struct SnnBlock {
    int32_t samples, rows;
    const int32_t* slots;  // [rows]: the active ones
    const uint32_t* seed;
    const uint32_t* song;
    const int64_t* start;
    const float* temperature;  // [slots, samples]
    const int32_t* top_k;
    const float* top_p;
    const int16_t* forced;   // [slots, samples], -1 where a sample is drawn; or null
    const float* features;   // [slots, samples / largest frame, features]; or null
    int16_t* history;        // [slots, largest frame]: in and out
    float* const* states;    // for each tier [slots, n_rnn, parts, dim]: in and out
    int16_t* codes;          // [slots, samples]: out
    float* logits;           // [slots, samples, q_levels]: out; or null
};

}  // extern "C"
