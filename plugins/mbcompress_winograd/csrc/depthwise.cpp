#include "depthwise.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

namespace mbcompress {

namespace {

constexpr int64_t LEAST_WORK = 32768;  // outputs; fewer take less time than another thread's start
constexpr int64_t MOST_CHANNELS = 4096;
constexpr int64_t BLOCK = 16;

alignas(64) const float NOTHING[MOST_CHANNELS] = {};

bool supported(const Level& level) {
#ifdef MBCOMPRESS_X86
  __builtin_cpu_init();
  const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (&level == &avx2) return fma;
  if (&level == &avx512)
    return fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#endif
  return &level == &portable;
}

const Level* const LEVELS[] = {
#ifdef MBCOMPRESS_X86
    &avx512, &avx2,
#endif
    &portable};

const Level* find(const char* name) {
  for (const Level* each : LEVELS)
    if (supported(*each) && (name == nullptr || std::strcmp(name, each->name) == 0)) return each;
  return nullptr;
}

const Level*& chosen() {
  static const Level* level = nullptr;
  if (level == nullptr) level = find(std::getenv("MBCOMPRESS_ISA"));
  if (level == nullptr) level = find(nullptr);  // a name that no level has
  return level;
}

}  // namespace

const Level& level() { return *chosen(); }

bool choose_level(const char* name) {
  const Level* found = find(name);
  if (found != nullptr) chosen() = found;
  return found != nullptr;
}

const float* zeros(int64_t count) {
  if (count <= MOST_CHANNELS) return NOTHING;
  static std::mutex mutex;
  static std::vector<std::unique_ptr<float[]>> kept;  // others may still read the shorter ones
  static int64_t longest = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  if (count > longest) {
    kept.push_back(std::make_unique<float[]>(count));
    longest = count;
  }
  return kept.back().get();
}

std::vector<float> channels_last(const float* x, const int64_t* sizes, const int64_t* strides) {
  const int64_t c = sizes[1], h = sizes[2], w = sizes[3];
  std::vector<float> dense(sizes[0] * c * h * w);
  float* to = dense.data();
  for (int64_t n = 0; n < sizes[0]; n++)
    for (int64_t i = 0; i < h; i++, to += w * c)
      for (int64_t first = 0; first < c; first += BLOCK)
        for (int64_t j = 0; j < w; j++) {
          const float* from = x + n * strides[0] + i * strides[2] + j * strides[3];
          for (int64_t k = first; k < std::min(first + BLOCK, c); k++) to[j * c + k] = from[k * strides[1]];
        }
  return dense;
}

int64_t units(const Problem& p, Variant variant) {
  if (variant == WINOGRAD_2) return p.n * ((p.h + BAND - 1) / BAND) * ((p.ow + 1) / 2);
  return p.n * ((p.oh + 1) / 2);
}

int64_t grain(const Problem& p, Variant variant) {
  const int64_t work = 2 * p.c * (variant == WINOGRAD_2 ? std::min(p.oh, BAND) : p.ow);
  return std::max<int64_t>(1, LEAST_WORK / std::max<int64_t>(1, work));
}

}  // namespace mbcompress
