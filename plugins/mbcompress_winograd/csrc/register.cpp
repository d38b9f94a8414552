// `mbcompress::depthwise3x3` for PyTorch: registered when the library is loaded into a process that has torch.
#include <dlfcn.h>

#include <stdexcept>
#include <string>

#include "depthwise.h"
#include "torch_abi.h"

namespace {

#define DECLARE(result, name, parameters) result(*name) parameters = nullptr;
MBCOMPRESS_TORCH_FUNCTIONS(DECLARE)
#undef DECLARE

constexpr uint64_t ABI_VERSION = (2ULL << 56) | (10ULL << 48);  // of PyTorch, as this file was written for
constexpr const char* SCHEMA =
    "depthwise3x3(Tensor x, Tensor weight, Tensor bias, int stride, int activation) -> Tensor";

void check(TorchError error) {
  if (error != 0) throw std::runtime_error("mbcompress::depthwise3x3: PyTorch reports an error");
}

void require(bool condition, const char* problem) {
  if (!condition) throw std::invalid_argument(std::string("mbcompress::depthwise3x3: ") + problem);
}

// A tensor that is let go of at the end of its scope.
class Owned {
 public:
  explicit Owned(StableIValue value) : handle(reinterpret_cast<Tensor>(value)) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle != nullptr) aoti_torch_delete_tensor_object(handle);
  }

  // Looks at the tensor, which must have `dims` dimensions of float32 on the CPU.
  void look(int64_t dims) {
    int64_t found = 0;
    int32_t dtype = 0, device = 0;
    check(aoti_torch_get_dim(handle, &found));
    check(aoti_torch_get_dtype(handle, &dtype));
    check(aoti_torch_get_device_type(handle, &device));
    require(found == dims, "x must be (N, C, H, W), weight (T, C) and bias (C)");
    require(dtype == aoti_torch_dtype_float32() && device == aoti_torch_device_type_cpu(),
            "all tensors must be float32 on the CPU");
    check(aoti_torch_get_sizes(handle, &sizes));
    check(aoti_torch_get_strides(handle, &strides));
    void* pointer = nullptr;
    check(aoti_torch_get_data_ptr(handle, &pointer));
    data = static_cast<float*>(pointer);
  }

  Tensor release() {
    Tensor released = handle;
    handle = nullptr;
    return released;
  }

  Tensor handle;
  int64_t* sizes = nullptr;
  int64_t* strides = nullptr;
  float* data = nullptr;
};

mbcompress::Variant variant_of(int64_t taps) {
  switch (taps) {
    case 9:
      return mbcompress::DIRECT;
    case 12:
      return mbcompress::WINOGRAD_2;
    case 16:
      return mbcompress::WINOGRAD_2X2;
  }
  throw std::invalid_argument("mbcompress::depthwise3x3: weight must have 9, 12 or 16 rows");
}

struct Job {
  mbcompress::Problem problem;
  mbcompress::Kernel kernel;
};

void work(int64_t begin, int64_t end, void* context) {
  const Job& job = *static_cast<Job*>(context);
  job.kernel(job.problem, begin, end);
}

Tensor depthwise(Owned& x, Owned& weight, Owned& bias, int64_t stride, int64_t activation) {
  x.look(4);
  weight.look(2);
  bias.look(1);
  const int64_t n = x.sizes[0], c = x.sizes[1], h = x.sizes[2], w = x.sizes[3];
  const mbcompress::Variant variant = variant_of(weight.sizes[0]);
  require(weight.sizes[1] == c && bias.sizes[0] == c, "weight and bias must have as many channels as x");
  require((weight.strides[1] == 1 || c == 1) && (weight.strides[0] == c || c == 0), "weight must be contiguous");
  require(bias.strides[0] == 1 || c == 1, "bias must be contiguous");
  require(stride == 1 || (stride == 2 && variant == mbcompress::DIRECT), "stride must be 1, or 2 for 9 rows of weights");
  require(activation >= mbcompress::NONE && activation <= mbcompress::HARDSWISH, "activation must be 0 to 3");
  const int64_t oh = h == 0 ? 0 : (h - 1) / stride + 1, ow = w == 0 ? 0 : (w - 1) / stride + 1;
  const int64_t sizes[] = {n, c, oh, ow}, strides[] = {oh * ow * c, 1, ow * c, c};
  Tensor result = nullptr;
  check(aoti_torch_empty_strided(4, sizes, strides, aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0,
                                 &result));
  Owned y(reinterpret_cast<StableIValue>(result));
  if (n * c * oh * ow == 0) return y.release();
  void* pointer = nullptr;
  check(aoti_torch_get_data_ptr(result, &pointer));
  std::vector<float> dense;
  Job job = {{x.data, x.strides[0], x.strides[2], x.strides[3], weight.data, bias.data, static_cast<float*>(pointer),
              mbcompress::zeros(c), n, h, w, c, oh, ow, stride, activation},
             mbcompress::level().kernels[variant]};
  if (x.strides[1] != 1 && c > 1) {
    dense = mbcompress::channels_last(x.data, x.sizes, x.strides);
    job.problem.x = dense.data();
    job.problem.xn = h * w * c;
    job.problem.xh = w * c;
    job.problem.xw = c;
  }
  const int64_t count = units(job.problem, variant), grain = mbcompress::grain(job.problem, variant);
  if (count <= grain)
    work(0, count, &job);
  else
    check(torch_parallel_for(0, count, grain, work, &job));
  return y.release();
}

void boxed(StableIValue* stack, uint64_t, uint64_t) {
  Owned x(stack[0]), weight(stack[1]), bias(stack[2]);
  stack[0] = reinterpret_cast<StableIValue>(
      depthwise(x, weight, bias, static_cast<int64_t>(stack[3]), static_cast<int64_t>(stack[4])));
}

// Finds torch in this process and registers the operator.
struct Registration {
  Registration() {
    void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (torch == nullptr) return;  // as in a test of the kernels alone
    bool complete = true;
#define FIND(result, name, parameters)                                   \
  name = reinterpret_cast<result(*) parameters>(dlsym(torch, #name));    \
  complete = complete && name != nullptr;
    MBCOMPRESS_TORCH_FUNCTIONS(FIND)
#undef FIND
    if (!complete) return;  // a torch older than 2.10
    Library definitions = nullptr, kernels = nullptr;
    registered = aoti_torch_library_init_fragment("mbcompress", __FILE__, __LINE__, &definitions) == 0 &&
                 aoti_torch_library_def(definitions, SCHEMA) == 0 &&
                 aoti_torch_library_init_impl("mbcompress", "CPU", __FILE__, __LINE__, &kernels) == 0 &&
                 torch_library_impl(kernels, "depthwise3x3", boxed, ABI_VERSION) == 0;
  }
  bool registered = false;
} registration;  // the libraries of torch stay: operators are never unregistered

}  // namespace

extern "C" {

// Whether PyTorch knows the operator now.
bool mbcompress_registered() { return registration.registered; }

// Name of the level of instructions in use.
const char* mbcompress_level() { return mbcompress::level().name; }

// Chooses another one; false if it is unknown or the processor lacks it.
bool mbcompress_choose_level(const char* name) { return mbcompress::choose_level(name); }
}
