// 8 floats in a vector, multiplied and added in one instruction.
#define LEVEL avx2
#define WIDEST 8
#include "kernels.inl"
