// Recurrent layers over a whole window: the recurrence's products from packed panels, the gates while they are in the
// first-level cache. Plain C ABI, called by recurrent.py.
//
// Each thread owns blocks of 16 units for all frames and waits for the others once (the reference's GRU: twice) a frame.
// dim is a multiple of 16. Every element is made by one thread in a fixed order, so results do not depend on the number
// of threads. Weights are float32 or rounded to bfloat16; everything else is float32. Gates: i, f, g, o for LSTM; r, u (or
// z), candidate for GRU; gates is [frames][batch][gates * dim], w [gates * dim][dim], hs [frames + 1][batch][dim].

#include "walk.h"

namespace {

template <class W>
void lstm_forward(float* gates, const float* w, float* hs, float* cs, Walk s) {
    const int64_t d = s.dim, batch = s.batch;
    auto panels = room<W>(4 * d * d);
    auto x = room<float>(2 * s.wide());  // h of this frame and of the next, transposed
    turn_all(x.get(), hs, batch, d);
#pragma omp parallel
    {
        pack_forward(panels.get(), w, 4, s);
        for (int64_t t = 0; t < s.frames; t++) {
            const float *before = x.get() + t % 2 * s.wide(), *c_before = cs + t * s.wide();
            float *after = x.get() + (t + 1) % 2 * s.wide(), *c_after = cs + (t + 1) * s.wide();
            float *h = hs + (t + 1) * s.wide(), *at = gates + t * 4 * s.wide();
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                for (int64_t g = 0; g < 4; g++)
                    product(before, batch, panels.get() + (u * 4 + g) * d * LANES, d, [&](int64_t b, V v) {
                        float* gate = at + b * 4 * d + g * d + unit;
                        store16(gate, load16(gate) + v);
                    });
                for (int64_t b = 0; b < batch; b++) {
                    float* gate = at + b * 4 * d + unit;
                    const V i = sigmoid(load16(gate)), f = sigmoid(load16(gate + d));
                    const V g = tanh16(load16(gate + 2 * d)), o = sigmoid(load16(gate + 3 * d));
                    const V c = f * load16(c_before + b * d + unit) + i * g, y = o * tanh16(c);
                    store16(gate, i);
                    store16(gate + d, f);
                    store16(gate + 2 * d, g);
                    store16(gate + 3 * d, o);
                    store16(c_after + b * d + unit, c);
                    store16(h + b * d + unit, y);
                    turn16(after + unit * batch, batch, b, y);
                }
            });
#pragma omp barrier
        }
    }
}

// gates become their gradients; dh and dc, [batch][dim], go in as zeros or the next window's, come out as the state's.
template <class W>
void lstm_backward(float* gates, const float* w, const float* cs, const float* dy, float* dh, float* dc, Walk s) {
    const int64_t d = s.dim, batch = s.batch;
    auto panels = room<W>(4 * d * d);
    auto x = room<float>(2 * 4 * s.wide());
#pragma omp parallel
    {
        pack_backward(panels.get(), w, 4, s);
        for (int64_t t = s.frames - 1; t >= 0; t--) {
            const float *c_before = cs + t * s.wide(), *c_after = c_before + s.wide(), *above = dy + t * s.wide();
            float *into = x.get() + t % 2 * 4 * s.wide(), *at = gates + t * 4 * s.wide();
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                for (int64_t b = 0; b < batch; b++) {
                    float *gate = at + b * 4 * d + unit, *cell = dc + b * d + unit;
                    const V i = load16(gate), f = load16(gate + d), g = load16(gate + 2 * d), o = load16(gate + 3 * d);
                    const V tc = tanh16(load16(c_after + b * d + unit));
                    const V dyh = load16(above + b * d + unit) + load16(dh + b * d + unit);
                    const V dcell = load16(cell) + dyh * o * (1.0f - tc * tc);
                    const V di = dcell * g * i * (1.0f - i), dg = dcell * i * (1.0f - g * g);
                    const V df = dcell * load16(c_before + b * d + unit) * f * (1.0f - f);
                    const V d_o = dyh * tc * o * (1.0f - o);
                    store16(cell, dcell * f);
                    const V all[4] = {di, df, dg, d_o};
                    for (int64_t k = 0; k < 4; k++) {
                        store16(gate + k * d, all[k]);
                        turn16(into + (k * d + unit) * batch, batch, b, all[k]);
                    }
                }
            });
#pragma omp barrier
            add_products(dh, into, panels.get(), 4 * d, 4 * d, true, t, s);
        }
    }
}

// torch's GRU: the reset gate after the matrix. hidden [frames][batch][3 dim] keeps h W.
template <class W>
void gru_torch_forward(float* gates, float* hidden, const float* w, float* hs, Walk s) {
    const int64_t d = s.dim, batch = s.batch;
    auto panels = room<W>(3 * d * d);
    auto x = room<float>(2 * s.wide());
    turn_all(x.get(), hs, batch, d);
#pragma omp parallel
    {
        pack_forward(panels.get(), w, 3, s);
        for (int64_t t = 0; t < s.frames; t++) {
            const float *before = x.get() + t % 2 * s.wide(), *h_before = hs + t * s.wide();
            float *after = x.get() + (t + 1) % 2 * s.wide(), *h = hs + (t + 1) * s.wide();
            float *at = gates + t * 3 * s.wide(), *from = hidden + t * 3 * s.wide();
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                for (int64_t g = 0; g < 3; g++)
                    product(before, batch, panels.get() + (u * 3 + g) * d * LANES, d,
                            [&](int64_t b, V v) { store16(from + b * 3 * d + g * d + unit, v); });
                for (int64_t b = 0; b < batch; b++) {
                    float *gate = at + b * 3 * d + unit, *part = from + b * 3 * d + unit;
                    const V r = sigmoid(load16(gate) + load16(part));
                    const V z = sigmoid(load16(gate + d) + load16(part + d));
                    const V n = tanh16(load16(gate + 2 * d) + r * load16(part + 2 * d));
                    const V y = n + z * (load16(h_before + b * d + unit) - n);
                    store16(gate, r);
                    store16(gate + d, z);
                    store16(gate + 2 * d, n);
                    store16(h + b * d + unit, y);
                    turn16(after + unit * batch, batch, b, y);
                }
            });
#pragma omp barrier
        }
    }
}

// gates become the gradients of the input's part, hidden those of h W; dh comes out as the state's.
template <class W>
void gru_torch_backward(float* gates, float* hidden, const float* w, const float* hs, const float* dy, float* dh,
                        Walk s) {
    const int64_t d = s.dim, batch = s.batch;
    auto panels = room<W>(3 * d * d);
    auto x = room<float>(2 * 3 * s.wide());
#pragma omp parallel
    {
        pack_backward(panels.get(), w, 3, s);
        for (int64_t t = s.frames - 1; t >= 0; t--) {
            const float *h_before = hs + t * s.wide(), *above = dy + t * s.wide();
            float *into = x.get() + t % 2 * 3 * s.wide();
            float *at = gates + t * 3 * s.wide(), *from = hidden + t * 3 * s.wide();
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                for (int64_t b = 0; b < batch; b++) {
                    float *gate = at + b * 3 * d + unit, *part = from + b * 3 * d + unit, *dhb = dh + b * d + unit;
                    const V r = load16(gate), z = load16(gate + d), n = load16(gate + 2 * d);
                    const V g = load16(above + b * d + unit) + load16(dhb);
                    const V dn = g * (1.0f - z) * (1.0f - n * n);
                    const V dz = g * (load16(h_before + b * d + unit) - n) * z * (1.0f - z);
                    const V dr = dn * load16(part + 2 * d) * r * (1.0f - r);
                    store16(dhb, g * z);
                    store16(gate, dr);
                    store16(gate + d, dz);
                    store16(gate + 2 * d, dn);
                    const V all[3] = {dr, dz, dn * r};
                    for (int64_t k = 0; k < 3; k++) {
                        store16(part + k * d, all[k]);
                        turn16(into + (k * d + unit) * batch, batch, b, all[k]);
                    }
                }
            });
#pragma omp barrier
            add_products(dh, into, panels.get(), 3 * d, 3 * d, false, t, s);
        }
    }
}

// The reference's GRU: the reset gate before the matrix. reset [frames][batch][dim] keeps r h.
template <class W>
void gru_forward(float* gates, float* reset, const float* w, float* hs, Walk s) {
    const int64_t d = s.dim, batch = s.batch;
    auto panels = room<W>(3 * d * d);
    auto x = room<float>(2 * s.wide());  // h and r h, transposed
    float *turned = x.get(), *turned_reset = x.get() + s.wide();
    turn_all(turned, hs, batch, d);
#pragma omp parallel
    {
        pack_forward(panels.get(), w, 3, s);
        for (int64_t t = 0; t < s.frames; t++) {
            const float* h_before = hs + t * s.wide();
            float *h = hs + (t + 1) * s.wide(), *at = gates + t * 3 * s.wide(), *rh = reset + t * s.wide();
            auto add = [&](const float* from, int64_t u, int64_t g) {
                product(from, batch, panels.get() + (u * 3 + g) * d * LANES, d, [&](int64_t b, V v) {
                    float* gate = at + b * 3 * d + g * d + u * LANES;
                    store16(gate, load16(gate) + v);
                });
            };
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                add(turned, u, 0);
                add(turned, u, 1);
                for (int64_t b = 0; b < batch; b++) {
                    float* gate = at + b * 3 * d + unit;
                    const V r = sigmoid(load16(gate)), v = r * load16(h_before + b * d + unit);
                    store16(gate, r);
                    store16(gate + d, sigmoid(load16(gate + d)));
                    store16(rh + b * d + unit, v);
                    turn16(turned_reset + unit * batch, batch, b, v);
                }
            });
#pragma omp barrier
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                add(turned_reset, u, 2);
                for (int64_t b = 0; b < batch; b++) {
                    float* gate = at + b * 3 * d + unit;
                    const V n = tanh16(load16(gate + 2 * d)), before = load16(h_before + b * d + unit);
                    const V y = before + load16(gate + d) * (n - before);
                    store16(gate + 2 * d, n);
                    store16(h + b * d + unit, y);
                    turn16(turned + unit * batch, batch, b, y);
                }
            });
#pragma omp barrier
        }
    }
}

// gates become their gradients; dh comes out as the state's.
template <class W>
void gru_backward(float* gates, const float* w, const float* hs, const float* dy, float* dh, Walk s) {
    const int64_t d = s.dim, batch = s.batch;
    auto panels = room<W>(3 * d * d);
    auto x = room<float>(3 * s.wide());  // gradients of r, u and the candidate, transposed
#pragma omp parallel
    {
        pack_backward(panels.get(), w, 3, s);
        for (int64_t t = s.frames - 1; t >= 0; t--) {
            const float *h_before = hs + t * s.wide(), *above = dy + t * s.wide();
            float* at = gates + t * 3 * s.wide();
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                for (int64_t b = 0; b < batch; b++) {
                    float *gate = at + b * 3 * d + unit, *dhb = dh + b * d + unit;
                    const V g = load16(above + b * d + unit) + load16(dhb);
                    const V z = load16(gate + d), n = load16(gate + 2 * d);
                    const V dz = g * (n - load16(h_before + b * d + unit)) * z * (1.0f - z);
                    const V dn = g * z * (1.0f - n * n);
                    store16(dhb, g * (1.0f - z));
                    store16(gate + d, dz);
                    store16(gate + 2 * d, dn);
                    turn16(x.get() + (d + unit) * batch, batch, b, dz);
                    turn16(x.get() + (2 * d + unit) * batch, batch, b, dn);
                }
            });
#pragma omp barrier
            order(s.blocks(), t, [&](int64_t u) {
                const int64_t unit = u * LANES;
                product(x.get() + 2 * d * batch, batch, panels.get() + (u * 3 + 2) * d * LANES, d, [&](int64_t b, V v) {
                    float *gate = at + b * 3 * d + unit, *dhb = dh + b * d + unit;
                    const V r = load16(gate), dr = v * load16(h_before + b * d + unit) * r * (1.0f - r);
                    store16(dhb, load16(dhb) + v * r);
                    store16(gate, dr);
                    turn16(x.get() + unit * batch, batch, b, dr);
                });
            });
#pragma omp barrier
            add_products(dh, x.get(), panels.get(), 3 * d, 2 * d, false, t, s);
#pragma omp barrier
        }
    }
}

}  // namespace

#define BOTH(name, parameters, ...)                                             \
    extern "C" void name##_f32 parameters { name<float>(__VA_ARGS__); }         \
    extern "C" void name##_bf16 parameters { name<bf16>(__VA_ARGS__); }
#define SIZES int64_t frames, int64_t batch, int64_t dim
#define WALK Walk { frames, batch, dim }

BOTH(lstm_forward, (float* gates, const float* w, float* hs, float* cs, SIZES), gates, w, hs, cs, WALK)
BOTH(lstm_backward, (float* gates, const float* w, const float* cs, const float* dy, float* dh, float* dc, SIZES), gates, w,
     cs, dy, dh, dc, WALK)
BOTH(gru_torch_forward, (float* gates, float* hidden, const float* w, float* hs, SIZES), gates, hidden, w, hs, WALK)
BOTH(gru_torch_backward,
     (float* gates, float* hidden, const float* w, const float* hs, const float* dy, float* dh, SIZES), gates, hidden, w,
     hs, dy, dh, WALK)
BOTH(gru_forward, (float* gates, float* reset, const float* w, float* hs, SIZES), gates, reset, w, hs, WALK)
BOTH(gru_backward, (float* gates, const float* w, const float* hs, const float* dy, float* dh, SIZES), gates, w, hs, dy, dh,
     WALK)
