// 4 floats in a vector, by what every processor of the platform has.
#define LEVEL portable
#define WIDEST 4
#include "kernels.inl"
