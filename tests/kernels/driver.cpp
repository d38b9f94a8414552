// Random shapes through every kernel of every level, each tensor in memory of its own and of exactly its size, so that
// AddressSanitizer or valgrind sees any access beyond it; results are compared with a loop that anybody can check.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "depthwise.h"

using namespace mbcompress;

static double exact(const Problem& p, const float* taps, int64_t n, int64_t c, int64_t oy, int64_t ox) {
  double sum = p.bias[c];
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) {
      const int64_t y = oy * p.stride + i - 1, x = ox * p.stride + j - 1;
      if (y >= 0 && y < p.h && x >= 0 && x < p.w)
        sum += double(taps[(i * 3 + j) * p.c + c]) * p.x[n * p.xn + y * p.xh + x * p.xw + c];
    }
  switch (p.activation) {
    case RELU: return std::max(0.0, sum);
    case RELU6: return std::min(6.0, std::max(0.0, sum));
    case HARDSWISH: return sum * std::min(6.0, std::max(0.0, sum + 3)) / 6;
    default: return sum;
  }
}

int main(int count, char** arguments) {
  const int shapes = count > 1 ? std::atoi(arguments[1]) : 200;
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  auto between = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random); };
  const double g[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  double worst = 0;
  int done = 0;
  for (const char* name : {"avx512", "avx2", "portable"}) {
    if (!choose_level(name)) {
      std::printf("%s: not here\n", name);
      continue;
    }
    for (int shape = 0; shape < shapes; shape++) {
      const int64_t n = between(1, 3), h = between(1, 40), w = between(1, 40);
      const int64_t c = between(0, 4) ? between(1, 40) : between(1, 1100), stride = between(1, 2);
      const int64_t extra = between(0, 3), oh = (h - 1) / stride + 1, ow = (w - 1) / stride + 1;
      const int64_t xw = c + extra, xh = w * xw, xn = h * xh, size = n * xn - extra;  // the last pixel ends the memory
      auto x = std::make_unique<float[]>(size), bias = std::make_unique<float[]>(c);
      auto taps = std::make_unique<float[]>(9 * c), y = std::make_unique<float[]>(n * oh * ow * c);
      for (int64_t i = 0; i < size; i++) x[i] = normal(random);
      for (int64_t i = 0; i < 9 * c; i++) taps[i] = normal(random);
      for (int64_t i = 0; i < c; i++) bias[i] = normal(random);
      for (int variant = 0; variant < (stride == 1 ? VARIANTS : 1); variant++) {
        const int64_t rows = variant == DIRECT ? 9 : variant == WINOGRAD_2 ? 12 : 16;
        auto weight = std::make_unique<float[]>(rows * c);
        for (int64_t k = 0; k < c; k++)
          for (int64_t row = 0; row < rows; row++) {
            double value = 0;
            for (int a = 0; a < 3; a++)
              for (int b = 0; b < 3; b++) {
                const double left = variant == WINOGRAD_2X2 ? g[row / 4][a] : (row / (variant == DIRECT ? 3 : 4) == a);
                const double right = variant == DIRECT ? (row % 3 == b) : g[row % 4][b];
                value += left * right * taps[(a * 3 + b) * c + k];
              }
            weight[row * c + k] = float(value);
          }
        Problem p = {x.get(), xn, xh, xw, weight.get(), bias.get(), y.get(), zeros(c), n, h, w, c, oh, ow, stride,
                     between(0, 3)};
        const int64_t all = units(p, Variant(variant)), middle = between(0, all);
        level().kernels[variant](p, 0, middle);
        level().kernels[variant](p, middle, all);
        for (int64_t i = 0; i < n; i++)
          for (int64_t oy = 0; oy < oh; oy++)
            for (int64_t ox = 0; ox < ow; ox++)
              for (int64_t k = 0; k < c; k++)
                worst = std::max(worst, std::abs(y[((i * oh + oy) * ow + ox) * c + k] - exact(p, taps.get(), i, k, oy, ox)));
        done++;
      }
    }
  }
  std::printf("%d convolutions, worst absolute error %.1e\n", done, worst);
  return worst < 1e-4 ? 0 : 1;
}
