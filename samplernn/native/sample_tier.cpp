// The sample tier's passes that are no matrix product, each over memory once: plain C ABI, called by kernels.py.
//
// Rows are contiguous float32 or bfloat16; sums are float32. Every output element is made by one thread in a fixed order,
// so that results do not depend on the number of threads.

#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t CACHE = 1 << 20;  // bytes of a table at a time: half of a second-level cache

// x[i] = act(x[i] + bias[i % frame] + sum over p of table[p * q_levels + codes[starts[i] + p]]), act: ReLU or nothing.
// float32 rows of a large table are added a few places at a time for all rows; bfloat16 ones in one go, rounded once.
template <class T>
struct Gather {
    T* x;
    const float* bias;
    const T* table;
    const int32_t *codes, *starts;
    int64_t rows, dim, frame, q_levels;
    bool relu;

    template <int N>
    void block(T* out, const float* offset, const int64_t* at, int64_t places, int64_t d, bool last) const {
        V acc[N];
#pragma GCC unroll 8
        for (int k = 0; k < N; k++) acc[k] = load16(out + d + k * LANES);
        if (offset) {
#pragma GCC unroll 8
            for (int k = 0; k < N; k++) acc[k] += load16(offset + d + k * LANES);
        }
        for (int64_t p = 0; p < places; p++) {
            const T* row = table + at[p] + d;
#pragma GCC unroll 8
            for (int k = 0; k < N; k++) acc[k] += load16(row + k * LANES);
        }
        if (last) {
#pragma GCC unroll 8
            for (int k = 0; k < N; k++) acc[k] = acc[k] > 0.0f ? acc[k] : V{};
        }
#pragma GCC unroll 8
        for (int k = 0; k < N; k++) store16(out + d + k * LANES, acc[k]);
    }

    void run() const {
        const int64_t group = sizeof(T) == 4 ? std::max<int64_t>(1, std::min(frame, CACHE / (q_levels * dim * 4))) : frame;
#pragma omp parallel if (rows * dim > SMALL)
        for (int64_t first = 0; first < frame; first += group) {
            const int64_t places = std::min(group, frame - first);
            const bool last = relu && first + places == frame;
            std::vector<int64_t> at(places);
#pragma omp for schedule(static) nowait
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t p = 0; p < places; p++)
                    at[p] = ((first + p) * q_levels + codes[starts[i] + first + p]) * dim;
                T* out = x + i * dim;
                const float* offset = first ? nullptr : bias + (i % frame) * dim;
                int64_t d = 0;
                for (; d + BLOCK * LANES <= dim; d += BLOCK * LANES)
                    block<BLOCK>(out, offset, at.data(), places, d, last);
                for (; d + LANES <= dim; d += LANES) block<1>(out, offset, at.data(), places, d, last);
                for (; d < dim; d++) {
                    float sum = load(out[d]) + (offset ? offset[d] : 0.0f);
                    for (int64_t p = 0; p < places; p++) sum += load(table[at[p] + d]);
                    store(out + d, last ? std::max(sum, 0.0f) : sum);
                }
            }
        }
    }
};

// into[p * q_levels + codes[starts[i] + p]] += dx[i] for every row and p. The rows of a few places at a time stay in the
// second-level cache; a thread owns places.
template <class T>
struct Scatter {
    float* into;
    const T* dx;
    const int32_t *codes, *starts;
    int64_t rows, dim, frame, q_levels;

    template <int N>
    void block(const T* g, const int32_t* at, int64_t first, int64_t last, int64_t d) const {
        V acc[N];
#pragma GCC unroll 8
        for (int k = 0; k < N; k++) acc[k] = load16(g + d + k * LANES);
        for (int64_t p = first; p < last; p++) {
            float* row = into + (p * q_levels + at[p]) * dim + d;
#pragma GCC unroll 8
            for (int k = 0; k < N; k++) store16(row + k * LANES, load16(row + k * LANES) + acc[k]);
        }
    }

    void run() const {
        const int64_t group = std::max<int64_t>(1, std::min(frame / 2, CACHE / (q_levels * dim * 4)));
        const int64_t groups = (frame + group - 1) / group;
#pragma omp parallel for schedule(static) if (rows * dim > SMALL)
        for (int64_t number = 0; number < groups; number++) {
            const int64_t first = number * group, last = std::min(frame, first + group);
            for (int64_t i = 0; i < rows; i++) {
                const int32_t* at = codes + starts[i];
                const T* g = dx + i * dim;
                int64_t d = 0;
                for (; d + BLOCK * LANES <= dim; d += BLOCK * LANES) block<BLOCK>(g, at, first, last, d);
                for (; d + LANES <= dim; d += LANES) block<1>(g, at, first, last, d);
                for (; d < dim; d++)
                    for (int64_t p = first; p < last; p++) into[(p * q_levels + at[p]) * dim + d] += load(g[d]);
            }
        }
    }
};

// y = max(y + bias, 0) in place.
template <class T>
void bias_relu(T* y, const float* bias, int64_t rows, int64_t dim) {
#pragma omp parallel for schedule(static) if (rows * dim > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        T* row = y + i * dim;
        for (int64_t j = 0; j < dim; j++) store(row + j, std::max(load(row[j]) + bias[j], 0.0f));
    }
}

// dy = 0 where y <= 0 (when y is given), in place; sums[j] += sum of dy over the rows. A thread owns columns.
template <class T>
void relu_backward(T* dy, const T* y, float* sums, int64_t rows, int64_t dim) {
    constexpr int64_t WIDE = 256;
    const int64_t blocks = (dim + WIDE - 1) / WIDE;
#pragma omp parallel for schedule(static) if (rows * dim > SMALL)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t from = block * WIDE, width = std::min(dim - from, WIDE);
        float acc[WIDE] = {};
        for (int64_t i = 0; i < rows; i++) {
            T* g = dy + i * dim + from;
            if (y) {
                const T* v = y + i * dim + from;
                for (int64_t j = 0; j < width; j++) g[j] = load(v[j]) > 0.0f ? g[j] : T(0);
            }
            for (int64_t j = 0; j < width; j++) acc[j] += load(g[j]);
        }
        for (int64_t j = 0; j < width; j++) sums[from + j] += acc[j];
    }
}

// nll[i] = weight[i] * -log softmax(logits[i] + bias)[target[i]]; with `grad` the logits become its gradient.
template <class T>
void cross_entropy(T* logits, const float* bias, const int32_t* targets, const float* weight, float* nll,
                   int64_t rows, int64_t levels, bool grad) {
    constexpr int64_t MOST = 1024;  // q_levels
    const int64_t full = levels / LANES * LANES;
#pragma omp parallel for schedule(static) if (rows * levels > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        T* row = logits + i * levels;
        float z[MOST + LANES];
        V most = V{} - INFINITY, sums = V{};
        store16(z + full, most);  // the last vector is padded with what adds nothing
        for (int64_t j = full; j < levels; j++) z[j] = load(row[j]) + bias[j];
        for (int64_t j = 0; j < full; j += LANES) store16(z + j, load16(row + j) + load16(bias + j));
        for (int64_t j = 0; j < levels; j += LANES) most = load16(z + j) > most ? load16(z + j) : most;
        float top = most[0];
        for (int k = 1; k < LANES; k++) top = std::max(top, most[k]);
        const float chosen = z[targets[i]] - top;
        for (int64_t j = 0; j < levels; j += LANES) {
            V e = exp16(load16(z + j) - top);
            store16(z + j, e);
            sums += e;
        }
        float total = 0.0f;
        for (int k = 0; k < LANES; k++) total += sums[k];
        nll[i] = weight[i] * (std::log(total) - chosen);
        if (!grad) continue;
        const float scale = weight[i] / total;
        z[targets[i]] -= total;
        for (int64_t j = 0; j < full; j += LANES) store16(row + j, load16(z + j) * scale);
        for (int64_t j = full; j < levels; j++) store(row + j, z[j] * scale);
    }
}

}  // namespace

#define BOTH(name, parameters, arguments)                                      \
    extern "C" void name##_f32 parameters(float) { name<float> arguments; }    \
    extern "C" void name##_bf16 parameters(bf16) { name<bf16> arguments; }
#define BOTH_RUN(name, type, parameters, ...)                                       \
    extern "C" void name##_f32 parameters(float) { type<float> __VA_ARGS__.run(); }  \
    extern "C" void name##_bf16 parameters(bf16) { type<bf16> __VA_ARGS__.run(); }

#define GATHER(T) (T* x, const float* bias, const T* table, const int32_t* codes, const int32_t* starts, int64_t rows, int64_t dim, \
                   int64_t frame, int64_t q_levels, int relu)
BOTH_RUN(gather, Gather, GATHER, {x, bias, table, codes, starts, rows, dim, frame, q_levels, relu != 0})

#define SCATTER(T) (float* into, const T* dx, const int32_t* codes, const int32_t* starts, int64_t rows, int64_t dim, \
                    int64_t frame, int64_t q_levels)
BOTH_RUN(scatter, Scatter, SCATTER, {into, dx, codes, starts, rows, dim, frame, q_levels})

#define BIAS_RELU(T) (T* y, const float* bias, int64_t rows, int64_t dim)
BOTH(bias_relu, BIAS_RELU, (y, bias, rows, dim))

#define RELU_BACKWARD(T) (T* dy, const T* y, float* sums, int64_t rows, int64_t dim)
BOTH(relu_backward, RELU_BACKWARD, (dy, y, sums, rows, dim))

#define CROSS_ENTROPY(T) (T* logits, const float* bias, const int32_t* targets, const float* weight, float* nll, \
                          int64_t rows, int64_t levels, int grad)
BOTH(cross_entropy, CROSS_ENTROPY, (logits, bias, targets, weight, nll, rows, levels, grad != 0))
