// Vectors of N floats by the compiler's own vector types; the level decides what they become.
// Everything has internal linkage: an inline function that two levels share would be linked from either of them.
#pragma once
#include <cstdint>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC's own header of intrinsics
#endif
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace {

template <int N>
struct Lanes {
  typedef float type __attribute__((vector_size(N * 4)));
};
template <>
struct Lanes<1> {
  typedef float type;
};
template <int N>
using Vector = typename Lanes<N>::type;

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

template <int N>
INLINE Vector<N> load(const float* from) {
  Vector<N> vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <int N>
INLINE void store(float* to, Vector<N> vector) {
  __builtin_memcpy(to, &vector, sizeof(vector));
}

template <int N>
INLINE Vector<N> all(float value) {
  return Vector<N>{} + value;
}

// The second argument where one is NaN, as the instruction has it: NaN goes through every activation.
template <int N>
INLINE Vector<N> larger(Vector<N> bound, Vector<N> value) {
  return bound > value ? bound : value;
}
template <int N>
INLINE Vector<N> smaller(Vector<N> bound, Vector<N> value) {
  return bound < value ? bound : value;
}
#if defined(__AVX512F__)
template <>
INLINE Vector<16> larger<16>(Vector<16> bound, Vector<16> value) {
  return _mm512_max_ps(bound, value);
}
template <>
INLINE Vector<16> smaller<16>(Vector<16> bound, Vector<16> value) {
  return _mm512_min_ps(bound, value);
}
#endif
#if defined(__AVX__)
template <>
INLINE Vector<8> larger<8>(Vector<8> bound, Vector<8> value) {
  return _mm256_max_ps(bound, value);
}
template <>
INLINE Vector<8> smaller<8>(Vector<8> bound, Vector<8> value) {
  return _mm256_min_ps(bound, value);
}
#endif

template <int N, int A>
INLINE Vector<N> activate(Vector<N> value) {
  if constexpr (A == mbcompress::RELU) return larger<N>(Vector<N>{}, value);
  if constexpr (A == mbcompress::RELU6) return smaller<N>(all<N>(6), larger<N>(Vector<N>{}, value));
  if constexpr (A == mbcompress::HARDSWISH)
    return value * smaller<N>(all<N>(6), larger<N>(Vector<N>{}, value + 3.0f)) * (1.0f / 6);
  return value;
}

// Calls `body(c)` for blocks of N channels that cover all of them; the last one may overlap the one before.
template <int N, class Body>
INLINE void for_channels(int64_t channels, Body body) {
  int64_t c = 0;
  for (; c + N <= channels; c += N) body(c);
  if (c < channels) body(channels - N);
}

}  // namespace
