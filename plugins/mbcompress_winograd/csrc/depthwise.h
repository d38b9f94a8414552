// The convolution without PyTorch: which level of instructions, how much there is to do, and other layouts.
#pragma once
#include <cstdint>
#include <vector>

#include "problem.h"

namespace mbcompress {

// The level in use: the best one of this processor, or the one that MBCOMPRESS_ISA names.
const Level& level();

// Chooses a level by its name; false if it is unknown or the processor lacks it.
bool choose_level(const char* name);

// Zeros that the borders read, at least `count`; they stay where they are.
const float* zeros(int64_t count);

// (n, c, h, w) with any strides, as a dense (n, h, w, c).
std::vector<float> channels_last(const float* x, const int64_t* sizes, const int64_t* strides);

// How many units a thread should take at least.
int64_t grain(const Problem& problem, Variant variant);

}  // namespace mbcompress
