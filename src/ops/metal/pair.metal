// Between rows of channels, [rows, c], and planes, [c, rows], with what is done on the way.
#include <metal_stdlib>
using namespace metal;

constant constexpr uint TILE = 32;
constant constexpr uint SIMDS = 8;
constant constexpr uint C = 224;  // channels that fit in threadgroup memory

struct PlanesParams {
  uint rows, c;
  uint x_row, g_row;  // strides in elements
  uint dst_plane;
  uint gated, masked;
};

static inline float sigmoid(float x) {
  const float e = precise::exp(-fabs(x));
  return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

// dst[c][row] = x[row][c] * sigmoid(g[row][c]) * mask[row]; grid: (ceil(rows / 32), ceil(c / 32)) threadgroups of 256
template <typename T>
[[kernel]] void planes(
    device const T* x [[buffer(0)]],
    device const T* g [[buffer(1)]],
    device const T* mask [[buffer(2)]],
    device T* dst [[buffer(3)]],
    constant PlanesParams& p [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint sg [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float tile[TILE * (TILE + 1)];
  const uint row0 = group.x * TILE, c0 = group.y * TILE;
  for (uint i = sg; i < TILE; i += SIMDS) {
    const uint row = row0 + i, c = c0 + lane;
    float v = 0.0f;
    if (row < p.rows && c < p.c) {
      v = float(x[row * p.x_row + c]);
      if (p.gated) v *= sigmoid(float(g[row * p.g_row + c]));
      if (p.masked) v *= float(mask[row]);
    }
    tile[i * (TILE + 1) + lane] = v;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = sg; i < TILE; i += SIMDS) {
    const uint row = row0 + lane, c = c0 + i;
    if (row < p.rows && c < p.c) dst[c * p.dst_plane + row] = T(tile[lane * (TILE + 1) + i]);
  }
}

struct PlanesNormParams {
  uint rows, c;
  uint x_plane;
  uint scaled, shifted;
  float eps;
};

// y[row] = the layer norm of x[..][row] over the c <= 224 planes; grid: ceil(rows / 32) threadgroups of 256 threads
template <typename T>
[[kernel]] void planes_norm(
    device const T* x [[buffer(0)]],
    device const T* scale [[buffer(1)]],
    device const T* shift [[buffer(2)]],
    device T* y [[buffer(3)]],
    constant PlanesNormParams& p [[buffer(4)]],
    uint group [[threadgroup_position_in_grid]],
    uint sg [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float tile[C * (TILE + 1)];
  const uint row0 = group * TILE;
  for (uint c = sg; c < p.c; c += SIMDS) {
    tile[c * (TILE + 1) + lane] = row0 + lane < p.rows ? float(x[c * p.x_plane + row0 + lane]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = sg; i < TILE && row0 + i < p.rows; i += SIMDS) {
    float sum = 0.0f;
    for (uint c = lane; c < p.c; c += 32) sum += tile[c * (TILE + 1) + i];
    const float mean = simd_sum(sum) / float(p.c);
    float squares = 0.0f, rest = 0.0f;
    for (uint c = lane; c < p.c; c += 32) {
      const float d = tile[c * (TILE + 1) + i] - mean;
      squares += d * d;
      rest += d;
    }
    rest = simd_sum(rest) / float(p.c);  // what rounding took from the mean
    const float variance = max(simd_sum(squares) / float(p.c) - rest * rest, 0.0f);
    const float r = 1.0f / precise::sqrt(variance + p.eps);
    for (uint c = lane; c < p.c; c += 32) {
      float v = (tile[c * (TILE + 1) + i] - mean - rest) * r;
      if (p.scaled) v *= float(scale[c]);
      if (p.shifted) v += float(shift[c]);
      y[(row0 + i) * p.c + c] = T(v);
    }
  }
}

#if defined(__HAVE_BFLOAT__)
#define BFLOAT(...) __VA_ARGS__
#else
#define BFLOAT(...)
#endif
#define ENTRY(kernel_name, name) \
  template [[host_name(name "_f32")]] [[kernel]] decltype(kernel_name<float>) kernel_name<float>; \
  template [[host_name(name "_f16")]] [[kernel]] decltype(kernel_name<half>) kernel_name<half>; \
  BFLOAT(template [[host_name(name "_bf16")]] [[kernel]] decltype(kernel_name<bfloat>) kernel_name<bfloat>;)
ENTRY(planes, "planes")
ENTRY(planes_norm, "planes_norm")
