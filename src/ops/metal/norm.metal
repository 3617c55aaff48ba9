// Layer norm over the last dimension, two-pass; adaptive layer norm is the same with a scale and a shift for each row.
#include <metal_stdlib>
using namespace metal;

struct NormParams {
  uint rows, c;
  uint d1, d2;      // the row number is (i0 * d1 + i1) * d2 + i2
  uint s0, s1, s2;  // strides of those in x, in elements; the channels are contiguous
  uint period;      // scale and shift repeat after this many rows
  uint scaled, shifted;
  float eps;
};

constant constexpr uint ROWS = 8;  // rows of a threadgroup, one for each SIMD group

// grid: ceil(rows / 8) threadgroups of 256 threads; y is contiguous
template <typename T>
[[kernel]] void layer_norm(
    device const T* x [[buffer(0)]],
    device const T* scale [[buffer(1)]],
    device const T* shift [[buffer(2)]],
    device T* y [[buffer(3)]],
    constant NormParams& p [[buffer(4)]],
    uint group [[threadgroup_position_in_grid]],
    uint sg [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  const uint row = group * ROWS + sg;
  if (row >= p.rows) return;
  x += (row / (p.d1 * p.d2)) * p.s0 + (row / p.d2 % p.d1) * p.s1 + (row % p.d2) * p.s2;
  y += row * p.c;
  scale += (row % p.period) * p.c;
  shift += (row % p.period) * p.c;
  float sum = 0.0f;
  for (uint i = lane; i < p.c; i += 32) sum += float(x[i]);
  const float mean = simd_sum(sum) / float(p.c);
  float squares = 0.0f, rest = 0.0f;
  for (uint i = lane; i < p.c; i += 32) {
    const float d = float(x[i]) - mean;
    squares += d * d;
    rest += d;
  }
  rest = simd_sum(rest) / float(p.c);  // what rounding took from the mean: much, where it is far from 0
  const float variance = max(simd_sum(squares) / float(p.c) - rest * rest, 0.0f);
  const float r = 1.0f / precise::sqrt(variance + p.eps);
  for (uint i = lane; i < p.c; i += 32) {
    float v = (float(x[i]) - mean - rest) * r;
    if (p.scaled) v *= float(scale[i]);
    if (p.shifted) v += float(shift[i]);
    y[i] = T(v);
  }
}
template [[host_name("layer_norm_f32")]] [[kernel]] decltype(layer_norm<float>) layer_norm<float>;
template [[host_name("layer_norm_f16")]] [[kernel]] decltype(layer_norm<half>) layer_norm<half>;
#if defined(__HAVE_BFLOAT__)
template [[host_name("layer_norm_bf16")]] [[kernel]] decltype(layer_norm<bfloat>) layer_norm<bfloat>;
#endif
