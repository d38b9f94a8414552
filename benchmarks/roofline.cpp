// Peak of fused multiply-adds, and the bandwidth of reading from each level of memory: one line of JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#ifdef __AVX512F__
constexpr int N = 16;
#elif defined(__AVX2__)
constexpr int N = 8;
#else
constexpr int N = 4;
#endif
typedef float Vector __attribute__((vector_size(N * 4)));

// Wall-clock seconds; the best of many short rounds is least disturbed by other processes.
static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static float sink;

#define TEN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)

static double peak() {
  const Vector factor = Vector{} + 0.999f, term = Vector{} + 0.001f;
#define DECLARE(k) Vector s##k = {};
  TEN(DECLARE)
  const long rounds = 100'000;
  const double start = now();
  for (long i = 0; i < rounds; i++) {
#define ADD(k) s##k = s##k * factor + term;
    TEN(ADD)
    asm volatile("" : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8), "+v"(s9));
  }
  const double seconds = now() - start;
#define SINK(k) sink += s##k[0];
  TEN(SINK)
  return 2.0 * N * 10 * rounds / seconds / 1e9;
}

static double bandwidth(size_t bytes) {
  std::vector<float> data(bytes / 4, 1.0f);
  const size_t count = data.size() / (N * 4) * (N * 4);
  const long rounds = std::max<long>(1, 50'000'000L / long(bytes));
  const double start = now();
  for (long r = 0; r < rounds; r++)
    for (const float *at = data.data(), *end = at + count; at < end; at += N * 4) {
      Vector a, b, c, d;
      __builtin_memcpy(&a, at, sizeof(a));
      __builtin_memcpy(&b, at + N, sizeof(b));
      __builtin_memcpy(&c, at + 2 * N, sizeof(c));
      __builtin_memcpy(&d, at + 3 * N, sizeof(d));
      asm volatile("" : : "v"(a), "v"(b), "v"(c), "v"(d));
    }
  const double seconds = now() - start;
  return double(count) * 4 * rounds / seconds / 1e9;
}

int main() {
  double best = 0;
  for (int i = 0; i < 200; i++) best = std::max(best, peak());
  std::printf("{\"lanes\": %d, \"peak_gflops\": %.1f", N, best);
  const struct { const char* name; size_t bytes; } levels[] = {
      {"l1", 24 << 10}, {"l2", 1 << 20}, {"l3", 16 << 20}, {"memory", size_t(256) << 20}};
  for (auto& level : levels) {
    best = 0;
    for (int i = 0; i < (level.bytes > (64 << 20) ? 5 : 40); i++) best = std::max(best, bandwidth(level.bytes));
    std::printf(", \"%s_gb_s\": %.1f", level.name, best);
  }
  std::printf("}\n");
  return sink == 12345.0f;
}
