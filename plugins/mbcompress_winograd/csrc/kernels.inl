// The kernels of one level: included by level_*.cpp with LEVEL, its name, and WIDEST, its floats in a vector.
#include "problem.h"

#include "lanes.h"

namespace {

using mbcompress::Problem;

// Outputs of a direct tile: 8 sums, 9 weights and an input fit in 32 registers. Few layers have narrower vectors.
constexpr int rows_of(int n) { return n == WIDEST ? 2 : 1; }
constexpr int columns_of(int n) { return n == WIDEST ? 4 : 1; }

// Where the inputs of a tile are, zeros where the image ends; `HEIGHT` x `WIDTH` of them from row y, column x on.
template <int HEIGHT, int WIDTH>
INLINE void find(const Problem& p, int64_t n, int64_t y, int64_t x, const float** cells) {
  for (int i = 0; i < HEIGHT; i++) {
    const bool row = y + i >= 0 && y + i < p.h;
    for (int j = 0; j < WIDTH; j++) {
      const bool there = row && x + j >= 0 && x + j < p.w;
      cells[i * WIDTH + j] = there ? p.x + n * p.xn + (y + i) * p.xh + (x + j) * p.xw : p.zeros;
    }
  }
}

// R x X outputs of N channels. Inputs are at `cells`, or, INSIDE the image, at their distance from `first`.
template <int N, int S, int R, int X, int A, bool INSIDE>
INLINE void direct_tile(const Problem& p, const float* const* cells, const float* first, float* y, int64_t c) {
  constexpr int HEIGHT = S * (R - 1) + 3, WIDTH = S * (X - 1) + 3;
  Vector<N> weight[9], sum[R][X];
  UNROLL for (int k = 0; k < 9; k++) weight[k] = load<N>(p.weight + k * p.c + c);
  const Vector<N> bias = load<N>(p.bias + c);
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < X; q++) sum[r][q] = bias;
  UNROLL for (int i = 0; i < HEIGHT; i++) {
    UNROLL for (int j = 0; j < WIDTH; j++) {
      const Vector<N> d = load<N>((INSIDE ? first + i * p.xh + j * p.xw : cells[i * WIDTH + j]) + c);
      UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < X; q++) {
        const int ki = i - S * r, kj = j - S * q;
        if (ki >= 0 && ki < 3 && kj >= 0 && kj < 3) sum[r][q] += d * weight[ki * 3 + kj];
      }
    }
  }
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < X; q++)
      store<N>(y + (r * p.ow + q) * p.c + c, activate<N, A>(sum[r][q]));
}

template <int N, int S, int R, int X, int A>
void direct_columns(const Problem& p, int64_t n, int64_t oy, int64_t ox) {
  constexpr int HEIGHT = S * (R - 1) + 3, WIDTH = S * (X - 1) + 3;
  const int64_t iy = S * oy - 1, ix = S * ox - 1;
  float* y = p.y + ((n * p.oh + oy) * p.ow + ox) * p.c;
  if (R == rows_of(WIDEST) && X == columns_of(WIDEST) && iy >= 0 && ix >= 0 && iy + HEIGHT <= p.h && ix + WIDTH <= p.w) {
    const float* first = p.x + n * p.xn + iy * p.xh + ix * p.xw;
    for_channels<N>(p.c, [&](int64_t c) { direct_tile<N, S, R, X, A, true>(p, nullptr, first, y, c); });
  } else {
    const float* cells[HEIGHT * WIDTH];
    find<HEIGHT, WIDTH>(p, n, iy, ix, cells);
    for_channels<N>(p.c, [&](int64_t c) { direct_tile<N, S, R, X, A, false>(p, cells, nullptr, y, c); });
  }
}

template <int N, int S, int R, int A>
void direct_rows(const Problem& p, int64_t n, int64_t oy) {
  constexpr int X = columns_of(N);
  int64_t ox = 0;
  for (; ox + X <= p.ow; ox += X) direct_columns<N, S, R, X, A>(p, n, oy, ox);
  if constexpr (X > 1) {
    switch (p.ow - ox) {
      case 3:
        return direct_columns<N, S, R, 3, A>(p, n, oy, ox);
      case 2:
        return direct_columns<N, S, R, 2, A>(p, n, oy, ox);
      case 1:
        return direct_columns<N, S, R, 1, A>(p, n, oy, ox);
    }
  }
}

// A unit is two rows of outputs.
template <int N, int S, int A>
void direct(const Problem& p, int64_t begin, int64_t end) {
  constexpr int R = rows_of(N);
  const int64_t pairs = (p.oh + 1) / 2;
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t n = unit / pairs, first = unit % pairs * 2;
    const int64_t last = first + 2 < p.oh ? first + 2 : p.oh;
    int64_t oy = first;
    for (; oy + R <= last; oy += R) direct_rows<N, S, R, A>(p, n, oy);
    if (oy < last) direct_rows<N, S, 1, A>(p, n, oy);
  }
}

// F(2,3) along a row, for N channels of one column pair, down the rows from `top` to `end`: each input row is transformed
// once and adds to three rows of outputs, which are transformed back when they are complete.
template <int N, int A>
INLINE void stream(const Problem& p, const float* const* columns, const int64_t* steps, float* y, bool both,
                   int64_t top, int64_t end, int64_t c) {
  using V = Vector<N>;
  V u[3][4];
  UNROLL for (int k = 0; k < 12; k++) u[k / 4][k % 4] = load<N>(p.weight + k * p.c + c);
  const V bias = load<N>(p.bias + c);
  V above[4] = {}, here[4] = {}, below[4] = {};
  const float* at[4];
  const int64_t first_row = top > 0 ? top - 1 : 0;
  UNROLL for (int j = 0; j < 4; j++) at[j] = columns[j] + first_row * steps[j] + c;
  auto transform = [&](V* v) INLINE_LAMBDA {
    V d[4];
    UNROLL for (int j = 0; j < 4; j++) d[j] = load<N>(at[j]);
    UNROLL for (int j = 0; j < 4; j++) at[j] += steps[j];
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
  };
  auto write = [&](int64_t row, const V* m) INLINE_LAMBDA {
    float* to = y + row * p.ow * p.c + c;
    const V middle = m[1] + bias;
    store<N>(to, activate<N, A>(m[0] + (middle + m[2])));
    if (both) store<N>(to + p.c, activate<N, A>((middle - m[2]) - m[3]));
  };
  auto step = [&](int64_t row, V* first, V* second, V* third) INLINE_LAMBDA {
    V v[4];
    transform(v);
    UNROLL for (int k = 0; k < 4; k++) {
      first[k] += v[k] * u[2][k];
      second[k] += v[k] * u[1][k];
      third[k] = v[k] * u[0][k];
    }
    write(row - 1, first);
  };
  auto finish = [&](V* last) INLINE_LAMBDA {
    if (end < p.h) {
      V v[4];
      transform(v);
      UNROLL for (int k = 0; k < 4; k++) last[k] += v[k] * u[2][k];
    }
    write(end - 1, last);
  };
  V v[4];
  if (top > 0) {
    transform(v);
    UNROLL for (int k = 0; k < 4; k++) above[k] = v[k] * u[0][k];
  }
  transform(v);
  UNROLL for (int k = 0; k < 4; k++) {
    above[k] += v[k] * u[1][k];
    here[k] = v[k] * u[0][k];
  }
  int64_t row = top + 1;
  for (; row + 3 <= end; row += 3) {
    step(row, above, here, below);
    step(row + 1, here, below, above);
    step(row + 2, below, above, here);
  }
  if (row == end) return finish(above);
  step(row++, above, here, below);
  if (row == end) return finish(here);
  step(row, here, below, above);
  finish(below);
}

// A unit is two columns of a band of rows: few enough rows that their pages stay known to the processor.
template <int N, int A>
void winograd_2(const Problem& p, int64_t begin, int64_t end) {
  const int64_t pairs = (p.ow + 1) / 2, bands = (p.h + mbcompress::BAND - 1) / mbcompress::BAND;
  const int64_t height = (p.h + bands - 1) / bands;
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t n = unit / pairs / bands, top = unit / pairs % bands * height, ox = unit % pairs * 2;
    const int64_t last = top + height < p.h ? top + height : p.h;
    if (top >= last) continue;
    const float* columns[4];
    int64_t steps[4];
    for (int j = 0; j < 4; j++) {
      const int64_t x = ox - 1 + j;
      const bool there = x >= 0 && x < p.w;
      columns[j] = there ? p.x + n * p.xn + x * p.xw : p.zeros;
      steps[j] = there ? p.xh : 0;
    }
    float* y = p.y + (n * p.oh * p.ow + ox) * p.c;
    for_channels<N>(p.c, [&](int64_t c) { stream<N, A>(p, columns, steps, y, ox + 1 < p.ow, top, last, c); });
  }
}

// F(2x2,3x3): 16 multiplications for 4 outputs of N channels.
template <int N, int A>
INLINE void square_tile(const Problem& p, const float* const* cells, float* y, bool right, bool low, int64_t c) {
  using V = Vector<N>;
  V rows[4][4], half[2][4];  // B^T d; A^T of the products
  UNROLL for (int j = 0; j < 4; j++) {
    V d[4];
    UNROLL for (int i = 0; i < 4; i++) d[i] = load<N>(cells[i * 4 + j] + c);
    rows[0][j] = d[0] - d[2];
    rows[1][j] = d[1] + d[2];
    rows[2][j] = d[2] - d[1];
    rows[3][j] = d[1] - d[3];
  }
  V m[4][4];
  UNROLL for (int i = 0; i < 4; i++) {
    const V* r = rows[i];
    const V v[4] = {r[0] - r[2], r[1] + r[2], r[2] - r[1], r[1] - r[3]};
    UNROLL for (int j = 0; j < 4; j++) m[i][j] = v[j] * load<N>(p.weight + (i * 4 + j) * p.c + c);
  }
  UNROLL for (int j = 0; j < 4; j++) {
    half[0][j] = m[0][j] + m[1][j] + m[2][j];
    half[1][j] = m[1][j] - m[2][j] - m[3][j];
  }
  const V bias = load<N>(p.bias + c);
  UNROLL for (int i = 0; i < 2; i++) {
    if (i == 1 && !low) break;
    const V middle = half[i][1] + bias;
    float* to = y + i * p.ow * p.c + c;
    store<N>(to, activate<N, A>(half[i][0] + (middle + half[i][2])));
    if (right) store<N>(to + p.c, activate<N, A>((middle - half[i][2]) - half[i][3]));
  }
}

// A unit is two rows of outputs.
template <int N, int A>
void winograd_2x2(const Problem& p, int64_t begin, int64_t end) {
  const int64_t pairs = (p.oh + 1) / 2;
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t n = unit / pairs, oy = unit % pairs * 2;
    for (int64_t ox = 0; ox < p.ow; ox += 2) {
      const float* cells[16];
      find<4, 4>(p, n, oy - 1, ox - 1, cells);
      float* y = p.y + ((n * p.oh + oy) * p.ow + ox) * p.c;
      for_channels<N>(p.c, [&](int64_t c) {
        square_tile<N, A>(p, cells, y, ox + 1 < p.ow, oy + 1 < p.oh, c);
      });
    }
  }
}

template <int N, int A>
struct Direct {
  static void run(const Problem& p, int64_t begin, int64_t end) {
    p.stride == 1 ? direct<N, 1, A>(p, begin, end) : direct<N, 2, A>(p, begin, end);
  }
};
template <int N, int A>
struct Winograd2 {
  static void run(const Problem& p, int64_t begin, int64_t end) { winograd_2<N, A>(p, begin, end); }
};
template <int N, int A>
struct Winograd2x2 {
  static void run(const Problem& p, int64_t begin, int64_t end) { winograd_2x2<N, A>(p, begin, end); }
};

template <int N, template <int, int> class Variant>
void activated(const Problem& p, int64_t begin, int64_t end) {
  switch (p.activation) {
    case mbcompress::RELU:
      return Variant<N, mbcompress::RELU>::run(p, begin, end);
    case mbcompress::RELU6:
      return Variant<N, mbcompress::RELU6>::run(p, begin, end);
    case mbcompress::HARDSWISH:
      return Variant<N, mbcompress::HARDSWISH>::run(p, begin, end);
    default:
      return Variant<N, mbcompress::NONE>::run(p, begin, end);
  }
}

// The widest vectors that the channels fill.
template <template <int, int> class Variant>
void widest(const Problem& p, int64_t begin, int64_t end) {
#if WIDEST >= 16
  if (p.c >= 16) return activated<16, Variant>(p, begin, end);
#endif
#if WIDEST >= 8
  if (p.c >= 8) return activated<8, Variant>(p, begin, end);
#endif
  if (p.c >= 4) return activated<4, Variant>(p, begin, end);
  activated<1, Variant>(p, begin, end);
}

}  // namespace

namespace mbcompress {

#define QUOTED(name) #name
#define NAME_OF(level) QUOTED(level)
extern const Level LEVEL;
const Level LEVEL = {NAME_OF(LEVEL), {widest<Direct>, widest<Winograd2>, widest<Winograd2x2>}};

}  // namespace mbcompress
