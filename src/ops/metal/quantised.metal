// y = x w^T + bias, w of codes with a scale and a bias for each group of neighbours in a row: unpacked where it is used.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

struct QuantisedParams {
  uint m, n, k;  // rows of x, channels out, channels in (a multiple of 32)
  uint bits;     // of a code, 4 or 8, the first in the lowest bits of a word
  uint group;    // 32, 64 or 128
  uint shifted;  // is there a bias of the layer?
};

constant constexpr uint ROWS = 8;   // channels of a threadgroup of quantised_rows, one for each SIMD group
constant constexpr uint TILE = 32;  // rows, channels out and channels in of a step of quantised_tiles
constant constexpr uint SIMDS = 4;

// For few rows. grid: (ceil(n / 8), m) threadgroups of 256 threads; the lanes of a SIMD group share the words of a channel.
template <typename T>
[[kernel]] void quantised_rows(
    device const T* x [[buffer(0)]],
    device const uint* codes [[buffer(1)]],
    device const float* scales [[buffer(2)]],
    device const float* biases [[buffer(3)]],
    device const T* shift [[buffer(4)]],
    device T* y [[buffer(5)]],
    constant QuantisedParams& p [[buffer(6)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint sg [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  const uint channel = group.x * ROWS + sg, row = group.y;
  if (channel >= p.n) return;
  const uint per = 32 / p.bits, mask = (1u << p.bits) - 1u, words = p.k / per;
  codes += channel * words;
  scales += channel * (p.k / p.group);
  biases += channel * (p.k / p.group);
  x += row * p.k;
  float sum = 0.0f;
  for (uint i = lane; i < words; i += 32) {
    const uint word = codes[i], at = i * per;
    float products = 0.0f, values = 0.0f;
    for (uint j = 0; j < per; j++) {
      const float v = float(x[at + j]);
      products += float((word >> (j * p.bits)) & mask) * v;
      values += v;
    }
    sum += scales[at / p.group] * products + biases[at / p.group] * values;
  }
  sum = simd_sum(sum);
  if (lane == 0) y[row * p.n + channel] = T(p.shifted ? sum + float(shift[channel]) : sum);
}

// For many rows. grid: (ceil(n / 32), ceil(m / 32)) threadgroups of 128 threads; each SIMD group makes a quarter of the tile.
template <typename T>
[[kernel]] void quantised_tiles(
    device const T* x [[buffer(0)]],
    device const uint* codes [[buffer(1)]],
    device const float* scales [[buffer(2)]],
    device const float* biases [[buffer(3)]],
    device const T* shift [[buffer(4)]],
    device T* y [[buffer(5)]],
    constant QuantisedParams& p [[buffer(6)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint tid [[thread_index_in_threadgroup]],
    uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup float left[TILE * TILE];   // rows of x
  threadgroup float right[TILE * TILE];  // channels of w
  const uint row0 = group.y * TILE, channel0 = group.x * TILE;
  const uint per = 32 / p.bits, mask = (1u << p.bits) - 1u;
  const uint r0 = sg / 2 * 16, c0 = sg % 2 * 16;
  simdgroup_matrix<float, 8, 8> sums[2][2];
  for (uint i = 0; i < 2; i++) {
    for (uint j = 0; j < 2; j++) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
  for (uint k0 = 0; k0 < p.k; k0 += TILE) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = tid; i < TILE * TILE; i += 32 * SIMDS) {
      const uint row = row0 + i / TILE;
      left[i] = row < p.m ? float(x[row * p.k + k0 + i % TILE]) : 0.0f;
    }
    for (uint i = tid; i < TILE * TILE / per; i += 32 * SIMDS) {
      const uint c = i / (TILE / per), at = i % (TILE / per) * per, channel = channel0 + c;
      uint word = 0;
      float scale = 0.0f, bias = 0.0f;
      if (channel < p.n) {
        const uint of = channel * (p.k / p.group) + (k0 + at) / p.group;
        word = codes[channel * (p.k / per) + (k0 + at) / per];
        scale = scales[of];
        bias = biases[of];
      }
      for (uint j = 0; j < per; j++) {
        right[c * TILE + at + j] = scale * float((word >> (j * p.bits)) & mask) + bias;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint kk = 0; kk < TILE; kk += 8) {
      simdgroup_matrix<float, 8, 8> a[2], b[2];
      for (uint i = 0; i < 2; i++) {
        simdgroup_load(a[i], left + (r0 + i * 8) * TILE + kk, TILE);
        simdgroup_load(b[i], right + (c0 + i * 8) * TILE + kk, TILE, ulong2(0, 0), true);
      }
      for (uint i = 0; i < 2; i++) {
        for (uint j = 0; j < 2; j++) simdgroup_multiply_accumulate(sums[i][j], a[i], b[j], sums[i][j]);
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = 0; i < 2; i++) {
    for (uint j = 0; j < 2; j++) simdgroup_store(sums[i][j], left + (r0 + i * 8) * TILE + c0 + j * 8, TILE);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = tid; i < TILE * TILE; i += 32 * SIMDS) {
    const uint row = row0 + i / TILE, channel = channel0 + i % TILE;
    if (row < p.m && channel < p.n) {
      y[row * p.n + channel] = T(p.shifted ? left[i] + float(shift[channel]) : left[i]);
    }
  }
}

#define ENTRY(T, name) \
  template [[host_name("quantised_rows_" name)]] [[kernel]] decltype(quantised_rows<T>) quantised_rows<T>; \
  template [[host_name("quantised_tiles_" name)]] [[kernel]] decltype(quantised_tiles<T>) quantised_tiles<T>;
ENTRY(float, "f32")
ENTRY(half, "f16")
#if defined(__HAVE_BFLOAT__)
ENTRY(bfloat, "bf16")
#endif
