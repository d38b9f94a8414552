// 16 floats in a vector.
#define LEVEL avx512
#define WIDEST 16
#include "kernels.inl"
