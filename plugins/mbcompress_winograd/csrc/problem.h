// What every kernel is given, and the levels of instructions that there are.
#pragma once
#include <cstdint>

namespace mbcompress {

enum Activation : int64_t { NONE = 0, RELU = 1, RELU6 = 2, HARDSWISH = 3 };
enum Variant { DIRECT = 0, WINOGRAD_2 = 1, WINOGRAD_2X2 = 2, VARIANTS = 3 };

// A depthwise 3x3 convolution with padding 1, channels innermost in memory. Strides count floats.
struct Problem {
  const float* x;  // (n, h, w, c), channels side by side
  int64_t xn, xh, xw;
  const float* weight;  // (9, c), (12, c) or (16, c), as the variant wants it
  const float* bias;    // (c)
  float* y;             // (n, oh, ow, c), dense
  const float* zeros;   // at least c of them
  int64_t n, h, w, c, oh, ow;
  int64_t stride;  // 1 or 2; Winograd's variants know 1 only
  int64_t activation;
};

constexpr int64_t BAND = 16;  // rows that F(2,3) goes down at a time

// Computes units `begin` to `end`: rows or columns of outputs, of which `units` says how many there are.
using Kernel = void (*)(const Problem&, int64_t begin, int64_t end);

struct Level {
  const char* name;
  Kernel kernels[VARIANTS];
};

int64_t units(const Problem& problem, Variant variant);

extern const Level portable;
#ifdef MBCOMPRESS_X86
extern const Level avx2;
extern const Level avx512;
#endif

}  // namespace mbcompress
