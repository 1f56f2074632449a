// Which instructions the kernels may use: what the processor has, capped for tests.
#pragma once

namespace pliant {

enum class InstructionSet : int { plain = 0, avx2 = 1, avx512 = 2, amx = 3 };

// The strongest set of this machine that the cap allows. amx: tiles and bfloat16 products, with the kernel's consent.
InstructionSet instruction_set();

// Whether it multiplies pairs of bfloat16 (AVX512_BF16, which AMX includes); some processors with AVX-512 do not.
bool bfloat16_products();

// A kernel is written once (in a file named *.inl) and compiled once an instruction set, each time in a translation
// unit with its own flags, which exports one table of function pointers. This picks among the tables.
template <class Table>
const Table& best(const Table& plain, const Table& avx2, const Table& avx512) {
  const InstructionSet set = instruction_set();
  return set >= InstructionSet::avx512 ? avx512 : set >= InstructionSet::avx2 ? avx2 : plain;
}

}  // namespace pliant
