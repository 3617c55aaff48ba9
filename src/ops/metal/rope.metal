// Layer norm over the width of all heads, then rotary positions: channels i and i + d / 2 of a head are turned.
#include <metal_stdlib>
using namespace metal;

struct RopeParams {
  uint rows, c;
  uint d1, d2;      // the row number is (i0 * d1 + i1) * d2 + i2
  uint s0, s1, s2;  // strides of those in x, in elements; the channels are contiguous
  uint n, half_d;   // positions, which repeat over the rows; pairs of a head
  uint normed, scaled, shifted;
  float eps;
};

constant constexpr uint ROWS = 8;  // rows of a threadgroup, one for each SIMD group

// grid: ceil(rows / 8) threadgroups of 256 threads; y is contiguous
template <typename T>
[[kernel]] void norm_rotate(
    device const T* x [[buffer(0)]],
    device const T* scale [[buffer(1)]],
    device const T* shift [[buffer(2)]],
    device const float* cosines [[buffer(3)]],
    device const float* sines [[buffer(4)]],
    device T* y [[buffer(5)]],
    constant RopeParams& p [[buffer(6)]],
    uint group [[threadgroup_position_in_grid]],
    uint sg [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  const uint row = group * ROWS + sg;
  if (row >= p.rows) return;
  x += (row / (p.d1 * p.d2)) * p.s0 + (row / p.d2 % p.d1) * p.s1 + (row % p.d2) * p.s2;
  y += row * p.c;
  float mean = 0.0f, rest = 0.0f, r = 1.0f;
  if (p.normed) {
    float sum = 0.0f;
    for (uint i = lane; i < p.c; i += 32) sum += float(x[i]);
    mean = simd_sum(sum) / float(p.c);
    float squares = 0.0f;
    for (uint i = lane; i < p.c; i += 32) {
      const float d = float(x[i]) - mean;
      squares += d * d;
      rest += d;
    }
    rest = simd_sum(rest) / float(p.c);  // what rounding took from the mean
    r = 1.0f / precise::sqrt(max(simd_sum(squares) / float(p.c) - rest * rest, 0.0f) + p.eps);
  }
  cosines += row % p.n * p.half_d;
  sines += row % p.n * p.half_d;
  for (uint i = lane; i < p.c / 2; i += 32) {
    const uint pair = i % p.half_d, left = i / p.half_d * 2 * p.half_d + pair, right = left + p.half_d;
    float a = (float(x[left]) - mean - rest) * r, b = (float(x[right]) - mean - rest) * r;
    if (p.scaled) {
      a *= float(scale[left]);
      b *= float(scale[right]);
    }
    if (p.shifted) {
      a += float(shift[left]);
      b += float(shift[right]);
    }
    y[left] = T(a * cosines[pair] - b * sines[pair]);
    y[right] = T(b * cosines[pair] + a * sines[pair]);
  }
}
template [[host_name("norm_rotate_f32")]] [[kernel]] decltype(norm_rotate<float>) norm_rotate<float>;
template [[host_name("norm_rotate_f16")]] [[kernel]] decltype(norm_rotate<half>) norm_rotate<half>;
#if defined(__HAVE_BFLOAT__)
template [[host_name("norm_rotate_bf16")]] [[kernel]] decltype(norm_rotate<bfloat>) norm_rotate<bfloat>;
#endif
