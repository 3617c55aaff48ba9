// Softmax over the last dimension; each row's largest value is subtracted first.
#include <metal_stdlib>
using namespace metal;

struct SoftmaxParams {
  uint rows, c;
  uint d1, d2;      // the row number is (i0 * d1 + i1) * d2 + i2
  uint s0, s1, s2;  // strides of those in x, in elements; the values of a row are contiguous
};

constant constexpr uint ROWS = 8;  // rows of a threadgroup, one for each SIMD group

// grid: ceil(rows / 8) threadgroups of 256 threads; y is contiguous
template <typename T>
[[kernel]] void softmax(
    device const T* x [[buffer(0)]],
    device T* y [[buffer(1)]],
    constant SoftmaxParams& p [[buffer(2)]],
    uint group [[threadgroup_position_in_grid]],
    uint sg [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  const uint row = group * ROWS + sg;
  if (row >= p.rows) return;
  x += (row / (p.d1 * p.d2)) * p.s0 + (row / p.d2 % p.d1) * p.s1 + (row % p.d2) * p.s2;
  y += row * p.c;
  float largest = -INFINITY;
  for (uint i = lane; i < p.c; i += 32) largest = max(largest, float(x[i]));
  largest = simd_max(largest);
  float sum = 0.0f;
  for (uint i = lane; i < p.c; i += 32) sum += precise::exp(float(x[i]) - largest);
  const float inverse = 1.0f / simd_sum(sum);
  for (uint i = lane; i < p.c; i += 32) y[i] = T(precise::exp(float(x[i]) - largest) * inverse);
}
template [[host_name("softmax_f32")]] [[kernel]] decltype(softmax<float>) softmax<float>;
template [[host_name("softmax_f16")]] [[kernel]] decltype(softmax<half>) softmax<half>;
#if defined(__HAVE_BFLOAT__)
template [[host_name("softmax_bf16")]] [[kernel]] decltype(softmax<bfloat>) softmax<bfloat>;
#endif
