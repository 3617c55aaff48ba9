// softmax(q k^T / sqrt(d) + biases) v, times sigmoid(gate): flash style, the logits of a row are never in memory at once.
//
// A threadgroup has up to 32 queries of one head, eight for each of its four SIMD groups, and goes over the keys in tiles.
// Products are of simdgroup matrices. Which element of such a matrix a lane holds is not assumed anywhere: what a lane has
// to see goes through threadgroup memory, and rows are rescaled by a product with a diagonal matrix.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

struct AttentionParams {
  uint n, m, d;      // queries, keys, width of a head
  uint n_query;      // queries of a threadgroup, at most 32
  uint n_key;        // keys that it sees: m, or those of its window
  uint windowed;     // 1: the keys begin at starts[threadgroup]; those at m and beyond have no weight
  uint biases;       // how many
  uint gated;
  float scale;
  uint q_b, q_l, k_b, k_l, v_b, v_l, g_b, g_l;  // strides of sample and position, in elements; heads lie d apart
  uint bias[4][5];   // strides of each bias: sample, head, threadgroup, query in it, key
};

constant constexpr uint BQ = 32;
constant constexpr uint SIMDS = 4;
constant constexpr float LOWEST = -3.0e38f;  // finite, so that the difference of two maxima is a number

static inline float row_max(float x) {
  x = max(x, simd_shuffle_xor(x, ushort(1)));
  return max(x, simd_shuffle_xor(x, ushort(2)));
}

static inline float row_sum(float x) {
  x += simd_shuffle_xor(x, ushort(1));
  return x + simd_shuffle_xor(x, ushort(2));
}

// dst[r * D + c] = src[r * stride + c] * scale, zero beyond the rows and the channels there are
template <typename T, int D>
static inline void load_tile(
    threadgroup float* dst, device const T* src, uint tile, uint rows, uint d, uint stride, float scale, uint tid) {
  for (uint i = tid; i < tile * D; i += 32 * SIMDS) {
    const uint r = i / D, c = i % D;
    dst[i] = r < rows && c < d ? float(src[r * stride + c]) * scale : 0.0f;
  }
}

// grid: (ceil(n / n_query), heads, samples) threadgroups of 128 threads; D is d rounded up, BK the keys of a tile
template <typename T, int D, int BK>
[[kernel]] void attention(
    device const T* q [[buffer(0)]],
    device const T* k [[buffer(1)]],
    device const T* v [[buffer(2)]],
    device const T* gate [[buffer(3)]],
    device const T* bias0 [[buffer(4)]],
    device const T* bias1 [[buffer(5)]],
    device const T* bias2 [[buffer(6)]],
    device const T* bias3 [[buffer(7)]],
    device const uint* starts [[buffer(8)]],
    device T* out [[buffer(9)]],
    constant AttentionParams& p [[buffer(10)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint tid [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup float tiles[2 * BK * D];  // keys, values; before the first tile the queries
  threadgroup float logits[SIMDS * 8 * BK];
  threadgroup float diagonals[SIMDS * 64];
  threadgroup float* keys = tiles;
  threadgroup float* values = tiles + BK * D;
  threadgroup float* s = logits + sg * 8 * BK;
  threadgroup float* diagonal = diagonals + sg * 64;

  const uint head = group.y * p.d, q0 = group.x * p.n_query;
  const uint rows = min(p.n - q0, p.n_query);
  const uint k0 = p.windowed ? starts[group.x] : 0u;
  const uint n_key = k0 < p.m ? min(p.n_key, p.m - k0) : 0u;
  device const T* bias[4] = {bias0, bias1, bias2, bias3};
  for (uint i = 0; i < p.biases; i++) {
    bias[i] += group.z * p.bias[i][0] + group.y * p.bias[i][1] + group.x * p.bias[i][2];
  }
  k += group.z * p.k_b + k0 * p.k_l + head;
  v += group.z * p.v_b + k0 * p.v_l + head;

  load_tile<T, D>(tiles, q + group.z * p.q_b + q0 * p.q_l + head, BQ, rows, p.d, p.q_l, p.scale, tid);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_matrix<float, 8, 8> qm[D / 8], o[D / 8];
  for (int c = 0; c < D / 8; c++) {
    simdgroup_load(qm[c], tiles + sg * 8 * D + c * 8, D);
    o[c] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }

  // Four lanes share a row, each with every fourth column.
  const uint r = lane / 4, column = lane % 4, row = sg * 8 + r;
  float largest = LOWEST, sum = 0.0f;
  for (uint first = 0; first < n_key; first += BK) {
    const uint nk = min(n_key - first, uint(BK));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_tile<T, D>(keys, k + first * p.k_l, BK, nk, p.d, p.k_l, 1.0f, tid);
    load_tile<T, D>(values, v + first * p.v_l, BK, nk, p.d, p.v_l, 1.0f, tid);
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (int j = 0; j < BK / 8; j++) {
      simdgroup_matrix<float, 8, 8> product = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), key;
      for (int c = 0; c < D / 8; c++) {
        simdgroup_load(key, keys + j * 8 * D + c * 8, D, ulong2(0, 0), true);
        simdgroup_multiply_accumulate(product, qm[c], key, product);
      }
      simdgroup_store(product, s + j * 8, BK);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);

    float e[BK / 4], tile_largest = LOWEST;
    for (uint j = 0; j < uint(BK / 4); j++) {
      const uint key = 4 * j + column;
      e[j] = LOWEST;
      if (key < nk) {
        e[j] = s[r * BK + key];
        for (uint i = 0; i < 4; i++) {
          if (i < p.biases && row < rows) e[j] += float(bias[i][row * p.bias[i][3] + (first + key) * p.bias[i][4]]);
        }
      }
      tile_largest = max(tile_largest, e[j]);
    }
    const float next = max(largest, row_max(tile_largest));
    const float shrink = precise::exp(largest - next);
    float tile_sum = 0.0f;
    for (uint j = 0; j < uint(BK / 4); j++) {
      const uint key = 4 * j + column;
      const float weight = key < nk ? precise::exp(e[j] - next) : 0.0f;
      tile_sum += weight;
      s[r * BK + key] = weight;
    }
    sum = sum * shrink + row_sum(tile_sum);
    largest = next;
    for (uint c = 2 * column; c < 2 * column + 2; c++) diagonal[r * 8 + c] = r == c ? shrink : 0.0f;
    simdgroup_barrier(mem_flags::mem_threadgroup);

    simdgroup_matrix<float, 8, 8> scaling, weights[BK / 8], value;
    simdgroup_load(scaling, diagonal, 8);
    for (int j = 0; j < BK / 8; j++) simdgroup_load(weights[j], s + j * 8, BK);
    for (int c = 0; c < D / 8; c++) {
      simdgroup_multiply(o[c], scaling, o[c]);
      for (int j = 0; j < BK / 8; j++) {
        simdgroup_load(value, values + j * 8 * D + c * 8, D);
        simdgroup_multiply_accumulate(o[c], weights[j], value, o[c]);
      }
    }
  }

  const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
  const uint position = q0 + row, c_all = groups.y * p.d;
  out += (group.z * p.n + position) * c_all + head;
  gate += group.z * p.g_b + position * p.g_l + head;
  for (uint c0 = 0; c0 < uint(D); c0 += 8) {
    simdgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_store(o[c0 / 8], s, 8);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (uint j = 2 * column; j < 2 * column + 2; j++) {
      if (row < rows && c0 + j < p.d) {
        float y = s[r * 8 + j] * inverse;
        if (p.gated) y /= 1.0f + precise::exp(-float(gate[c0 + j]));
        out[c0 + j] = T(y);
      }
    }
  }
}

#if defined(__HAVE_BFLOAT__)
#define BFLOAT(...) __VA_ARGS__
#else
#define BFLOAT(...)
#endif
#define ENTRY(D, BK) \
  template [[host_name("attention_" #D "_f32")]] [[kernel]] decltype(attention<float, D, BK>) attention<float, D, BK>; \
  template [[host_name("attention_" #D "_f16")]] [[kernel]] decltype(attention<half, D, BK>) attention<half, D, BK>; \
  BFLOAT(template [[host_name("attention_" #D "_bf16")]] [[kernel]] decltype(attention<bfloat, D, BK>) attention<bfloat, D, BK>;)
ENTRY(8, 32)
ENTRY(16, 32)
ENTRY(24, 32)
ENTRY(32, 32)
ENTRY(48, 32)
ENTRY(64, 32)
ENTRY(96, 16)
ENTRY(128, 16)
