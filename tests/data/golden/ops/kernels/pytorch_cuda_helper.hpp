// Lets mmcv's CUDA kernel headers be compiled as plain C++ and run by one thread.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>

using std::log;
using std::max;
using std::min;
using std::pow;

#define __global__
#define __device__
#define CUDA_1D_KERNEL_LOOP(i, n) for (int i = 0; i < (n); ++i)

template <typename T>
void atomicAdd(T* address, T value) {
  *address += value;
}
