// The part of PyTorch's stable C interface (torch/csrc/stable/c/shim.h, since 2.10) that the operator needs.
//
// It is declared here and looked up where the library is loaded, so that building needs no torch: an isolated build
// would fetch the largest one there is, and what was built would fit that one only.
#pragma once
#include <cstdint>

extern "C" {
using StableIValue = uint64_t;  // a tensor's handle or an integer
using Tensor = struct AtenTensorOpaque*;
using Library = struct TorchLibraryOpaque*;
using TorchError = int32_t;
using Boxed = void (*)(StableIValue* stack, uint64_t inputs, uint64_t outputs);
using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);
}

// X(result, name, parameters)
#define MBCOMPRESS_TORCH_FUNCTIONS(X)                                                                                \
  X(TorchError, aoti_torch_library_init_fragment, (const char*, const char*, uint32_t, Library*))                    \
  X(TorchError, aoti_torch_library_init_impl, (const char*, const char*, const char*, uint32_t, Library*))           \
  X(TorchError, aoti_torch_library_def, (Library, const char*))                                                      \
  X(TorchError, torch_library_impl, (Library, const char*, Boxed, uint64_t))                                         \
  X(TorchError, aoti_torch_get_dim, (Tensor, int64_t*))                                                              \
  X(TorchError, aoti_torch_get_sizes, (Tensor, int64_t**))                                                           \
  X(TorchError, aoti_torch_get_strides, (Tensor, int64_t**))                                                         \
  X(TorchError, aoti_torch_get_dtype, (Tensor, int32_t*))                                                            \
  X(TorchError, aoti_torch_get_device_type, (Tensor, int32_t*))                                                      \
  X(TorchError, aoti_torch_get_data_ptr, (Tensor, void**))                                                           \
  X(TorchError, aoti_torch_empty_strided,                                                                            \
    (int64_t, const int64_t*, const int64_t*, int32_t, int32_t, int32_t, Tensor*))                                   \
  X(TorchError, aoti_torch_delete_tensor_object, (Tensor))                                                           \
  X(int32_t, aoti_torch_dtype_float32, ())                                                                           \
  X(int32_t, aoti_torch_device_type_cpu, ())                                                                         \
  X(TorchError, torch_parallel_for, (int64_t, int64_t, int64_t, ParallelBody, void*))
