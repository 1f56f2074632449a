#include "instruction_set.h"

#include <torch/csrc/stable/library.h>

#include <atomic>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pliant {
namespace {

#if defined(__x86_64__)
bool amx_granted() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  const bool tiles = edx >> 24 & 1, bfloat16 = edx >> 22 & 1;
  constexpr int request_permission = 0x1023, tile_data = 18;
  return tiles && bfloat16 && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

InstructionSet detect() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return InstructionSet::plain;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return InstructionSet::avx2;
  return __builtin_cpu_supports("avx512bf16") && amx_granted() ? InstructionSet::amx : InstructionSet::avx512;
}
#else
InstructionSet detect() { return InstructionSet::plain; }
#endif

bool detect_bfloat16_products() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

std::atomic<int> cap{static_cast<int>(InstructionSet::amx)};

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet found = detect();
  const int allowed = cap.load(std::memory_order_relaxed);
  return static_cast<int>(found) < allowed ? found : static_cast<InstructionSet>(allowed);
}

bool bfloat16_products() {
  static const bool found = detect_bfloat16_products();
  return found && instruction_set() >= InstructionSet::avx512;
}

namespace {
int64_t current() { return static_cast<int64_t>(instruction_set()); }
void set_cap(int64_t level) { cap.store(static_cast<int>(level)); }
}  // namespace

}  // namespace pliant

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def("instruction_set() -> int");
  m.def("bfloat16_products() -> bool");
  m.def("cap_instruction_set(int level) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&pliant::current));
  m.impl("bfloat16_products", TORCH_BOX(&pliant::bfloat16_products));
  m.impl("cap_instruction_set", TORCH_BOX(&pliant::set_cap));
}
