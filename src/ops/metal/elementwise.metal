// Gates, activations, and sums in place.
#include <metal_stdlib>
using namespace metal;

// exp of what is not positive only: nothing overflows.
static inline float sigmoid(float x) {
  const float e = precise::exp(-fabs(x));
  return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

struct Sigmoid { static float of(float a, float) { return sigmoid(a); } };
struct Relu { static float of(float a, float) { return max(a, 0.0f); } };
struct SigmoidGate { static float of(float a, float b) { return a * sigmoid(b); } };
struct SiluGate { static float of(float a, float b) { return a * sigmoid(a) * b; } };

// grid: ceil(n / 256) threadgroups of 256 threads; everything contiguous
template <typename T, typename F>
[[kernel]] void map(
    device const T* a [[buffer(0)]],
    device const T* b [[buffer(1)]],
    device T* y [[buffer(2)]],
    constant uint& n [[buffer(3)]],
    uint i [[thread_position_in_grid]]) {
  if (i < n) y[i] = T(F::of(float(a[i]), float(b[i])));
}

struct ChangeParams {
  uint n;           // elements of dst
  uint d1, d2, d3;  // its last dimensions
  uint dst[4], x[4], g[4];  // strides in elements; 0 repeats
};

struct Add { static float of(float x, float) { return x; } };
struct AddProduct { static float of(float x, float g) { return x * g; } };
struct AddSigmoidGate { static float of(float x, float g) { return x * sigmoid(g); } };

// dst += F(x, g); grid: ceil(n / 256) threadgroups of 256 threads
template <typename T, typename F>
[[kernel]] void change(
    device T* dst [[buffer(0)]],
    device const T* x [[buffer(1)]],
    device const T* g [[buffer(2)]],
    constant ChangeParams& p [[buffer(3)]],
    uint i [[thread_position_in_grid]]) {
  if (i >= p.n) return;
  const uint i3 = i % p.d3, i2 = i / p.d3 % p.d2, i1 = i / (p.d3 * p.d2) % p.d1, i0 = i / (p.d3 * p.d2 * p.d1);
  const float vx = float(x[i0 * p.x[0] + i1 * p.x[1] + i2 * p.x[2] + i3 * p.x[3]]);
  const float vg = float(g[i0 * p.g[0] + i1 * p.g[1] + i2 * p.g[2] + i3 * p.g[3]]);
  device T& y = dst[i0 * p.dst[0] + i1 * p.dst[1] + i2 * p.dst[2] + i3 * p.dst[3]];
  y = T(float(y) + F::of(vx, vg));
}

#if defined(__HAVE_BFLOAT__)
#define BFLOAT(...) __VA_ARGS__
#else
#define BFLOAT(...)
#endif
#define ENTRY(kind, F, name) \
  template [[host_name(name "_f32")]] [[kernel]] decltype(kind<float, F>) kind<float, F>; \
  template [[host_name(name "_f16")]] [[kernel]] decltype(kind<half, F>) kind<half, F>; \
  BFLOAT(template [[host_name(name "_bf16")]] [[kernel]] decltype(kind<bfloat, F>) kind<bfloat, F>;)
ENTRY(map, Sigmoid, "sigmoid")
ENTRY(map, Relu, "relu")
ENTRY(map, SigmoidGate, "sigmoid_gate")
ENTRY(map, SiluGate, "silu_gate")
ENTRY(change, Add, "add")
ENTRY(change, AddProduct, "add_product")
ENTRY(change, AddSigmoidGate, "add_sigmoid_gate")
