// Philox4x32-10 (Salmon et al., SC'11) as in samplernn/generate/song_rng.py: sample t of song (seed, song).
#pragma once

#include <cstdint>

namespace snn {

struct SongStream {
    uint32_t seed = 0, song = 0;
    int64_t block = -1;  // which four samples `words` are for
    uint32_t words[4] = {};

    // Uniform in (0, 1] with 24 random bits.
    float uniform(int64_t sample) {
        if (sample / 4 != block) {
            block = sample / 4;
            fill();
        }
        return (static_cast<float>(words[sample % 4] >> 8) + 0.5f) * 0x1p-24f;
    }

  private:
    void fill() {
        uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
        uint32_t k0 = seed, k1 = song;
        for (int round = 0; round < 10; ++round) {
            const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
            c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
            c1 = static_cast<uint32_t>(p1);
            c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
            c3 = static_cast<uint32_t>(p0);
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
    }
};

}  // namespace snn
