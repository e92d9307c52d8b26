// The C interface of the native backend.
#include <exception>
#include <memory>

#include "bf16.h"
#include "fp32.h"
#include "generator.h"
#include "int8.h"

#define SNN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Handle {
    virtual ~Handle() = default;
    virtual void advance(const SnnBlock& block) = 0;
};

template <class P>
struct Of : Handle {
    explicit Of(const SnnModel& model) : generator(model) {}
    void advance(const SnnBlock& block) override { generator.advance(block); }
    snn::Generator<P> generator;
};

std::unique_ptr<Handle> make(const SnnModel& model) {
    switch (model.precision) {
        case SNN_FP32: return std::make_unique<Of<snn::Fp32>>(model);
        case SNN_BF16: return std::make_unique<Of<snn::Bf16>>(model);
        case SNN_INT8: return std::make_unique<Of<snn::Int8>>(model);
        default: return nullptr;
    }
}

}  // namespace

// Raised whenever the structs or the samples change.
SNN_EXPORT int snn_version() { return 1; }

// Whether this machine has the instructions this library was compiled for. Itself compiled for any x86-64.
SNN_EXPORT __attribute__((target("no-avx"))) int snn_runs_here() {
    __builtin_cpu_init();
#ifdef __AMX_TILE__
    if (!__builtin_cpu_supports("amx-int8") || !__builtin_cpu_supports("amx-bf16") || !snn::may_use_tiles()) return 0;
#endif
#ifdef __AVX512F__
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#else
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
}

// Packs the model; null when memory or threads run out.
SNN_EXPORT void* snn_create(const SnnModel* model) {
    try {
        return make(*model).release();
    } catch (const std::exception&) {
        return nullptr;
    }
}

SNN_EXPORT void snn_destroy(void* handle) { delete static_cast<Handle*>(handle); }

// 0, or -1 when memory runs out.
SNN_EXPORT int snn_advance(void* handle, const SnnBlock* block) {
    try {
        static_cast<Handle*>(handle)->advance(*block);
        return 0;
    } catch (const std::exception&) {
        return -1;
    }
}
