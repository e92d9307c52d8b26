// What the machine can do at most: multiply-adds in registers, and reads of memory, by all threads at once.
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "memory.h"
#include "panel.h"

#define SNN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Sum over the threads of work(thread, until)'s rates: what each did, by its own clock.
double together(int threads, double seconds, const std::function<double(int)>& work) {
    std::vector<double> rates(threads);
    std::vector<std::thread> pool;
    for (int i = 0; i < threads; ++i) {
        pool.emplace_back([&, i] {
            const auto start = Clock::now();
            double done = 0;
            do done += work(i);
            while (seconds_since(start) < seconds);
            rates[i] = done / seconds_since(start);
        });
    }
    double total = 0;
    for (int i = 0; i < threads; ++i) {
        pool[i].join();
        total += rates[i];
    }
    return total;
}

// Keeps a value alive without a store.
template <class T>
inline void keep(T& value) {
    asm volatile("" : "+v"(value));
}

constexpr int CHAINS = 12, TURNS = 20000;

#ifdef __AVX512F__
constexpr int WIDTH = 16;
SNN_TILE void run_fp32() {
    __m512 c[CHAINS] = {}, a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (int t = 0; t < TURNS; ++t) {
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) c[i] = _mm512_fmadd_ps(c[i], a, b);
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) keep(c[i]);
    }
}
SNN_TILE void run_bf16() {
    __m512 c[CHAINS] = {};
    __m512i a = _mm512_set1_epi32(0x3F803F80);
    for (int t = 0; t < TURNS; ++t) {
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) c[i] = _mm512_dpbf16_ps(c[i], (__m512bh)a, (__m512bh)a);
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) keep(c[i]);
    }
}
SNN_TILE void run_int8() {
    __m512i c[CHAINS] = {}, a = _mm512_set1_epi8(3);
    for (int t = 0; t < TURNS; ++t) {
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) c[i] = _mm512_dpbusd_epi32(c[i], a, a);
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) keep(c[i]);
    }
}
constexpr int PRODUCTS[3] = {WIDTH, 2 * WIDTH, 4 * WIDTH};
#else
constexpr int WIDTH = 8;
SNN_TILE void run_fp32() {
    __m256 c[CHAINS] = {}, a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    for (int t = 0; t < TURNS; ++t) {
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) c[i] = _mm256_fmadd_ps(c[i], a, b);
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) keep(c[i]);
    }
}
SNN_TILE void run_bf16() { run_fp32(); }  // widened: fp32's instructions
// The exact chain: sign, unsigned x signed, pairs, sum.
SNN_TILE void run_int8() {
    __m256i c[CHAINS] = {}, a = _mm256_set1_epi8(3), one = _mm256_set1_epi16(1);
    for (int t = 0; t < TURNS; ++t) {
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) {
            keep(a);
            c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_sign_epi8(a, a)), one));
        }
        SNN_UNROLL for (int i = 0; i < CHAINS; ++i) keep(c[i]);
    }
}
constexpr int PRODUCTS[3] = {WIDTH, WIDTH, 4 * WIDTH};
#endif

}  // namespace

// Multiplications and additions a second in registers, all threads together; precision as in description.h.
SNN_EXPORT double snn_peak(int32_t precision, int32_t threads, double seconds) {
    void (*const run[3])() = {run_fp32, run_bf16, run_int8};
    return together(threads, seconds, [&](int) {
        run[precision]();
        return 2.0 * PRODUCTS[precision] * CHAINS * TURNS;
    });
}

// Bytes a second that all threads together read, each over its own share of `bytes` again and again.
SNN_EXPORT double snn_bandwidth(int64_t bytes, int32_t threads, double seconds) {
    const int64_t each = bytes / threads / 4096 * 1024;  // floats
    std::vector<snn::Array<float>> memory;
    for (int i = 0; i < threads; ++i) memory.emplace_back(each);
    return together(threads, seconds, [&](int thread) {
        const float* from = memory[thread].get();
        snn::F16 a = snn::all(0), b = a, c = a, d = a;
        for (int64_t i = 0; i < each; i += 64) {
            a = a + snn::load(from + i), b = b + snn::load(from + i + 16);
            c = c + snn::load(from + i + 32), d = d + snn::load(from + i + 48);
        }
        volatile float sum = snn::largest(a + b + c + d);
        (void)sum;
        return 4.0 * each;
    });
}
