"""Do the Triton kernels compile for a GPU that is not here, and how much of it do they take?

    python benchmarks/gpu_compile.py [--capability 80 90] [--operator NAME ...] [--case TEXT]

Runs forward and backward of each operator's case in float32 and bfloat16 on CPU tensors, but compiles each kernel
instead of starting it: what Triton's interpreter lets through and the compiler refuses is found without a GPU. Printed
are registers and bytes of spilled registers a thread, and bytes of shared memory a block. Exit 1 where one does not
compile.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler.errors import CompilationError
from triton.runtime.jit import JITFunction

from pliant.ops import OPERATORS, triton_support, use_backend
from pliant.ops.registration import load_gpu

DUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Absent:
    """What Triton asks its driver for, of a GPU with that compute capability."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # Triton keeps what it compiled by device

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def needs(binary: bytes) -> str:
    """Registers and spilled bytes a thread, as the assembler noted them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        text = subprocess.run([DUMP, "-res-usage", file.name], capture_output=True, text=True).stdout
    registers, spilled = re.search(r"REG:(\d+) STACK:(\d+)", text).groups()
    return f"{registers} registers, {spilled} bytes spilled"


def compile_instead(self: JITFunction, grid: tuple[int, ...]):
    def launch(*arguments, **options):
        compiled = self.warmup(*arguments, grid=grid, **options)
        shared = compiled.metadata.shared
        print(f"    {self.fn.__name__}: {needs(compiled.asm['cubin'])}, {shared} bytes shared", flush=True)

    return launch


def compile_case(name: str, case, dtype: torch.dtype) -> None:
    arguments, wanted = case.make(dtype), case.differentiable()
    for key in wanted:
        arguments[key].requires_grad_(True)
    with use_backend("gpu"):
        output = OPERATORS[name].function(**arguments)
        torch.autograd.grad(output, [arguments[key] for key in wanted], torch.ones_like(output))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capability", type=int, nargs="*", default=[80, 90])
    parser.add_argument("--operator", nargs="*", choices=OPERATORS, default=list(OPERATORS))
    parser.add_argument("--case", help="cases whose name holds this text; else the first benchmark case")
    chosen = parser.parse_args()
    JITFunction.__getitem__ = compile_instead
    triton_support.why_not_tensor = lambda tensor: None
    triton_support.multiprocessors = lambda tensor: 132
    triton_support.precision = lambda tensor: "tf32x3"
    refused = 0
    for capability in chosen.capability:
        triton.runtime.driver.set_active(Absent(capability))
        for name in (name for name in chosen.operator if OPERATORS[name].gpu):
            load_gpu(OPERATORS[name].gpu)[0].why_unavailable = lambda: None
            benchmarks = [case for case in OPERATORS[name].cases if case.benchmark][:1]
            named = [case for case in OPERATORS[name].cases if chosen.case and chosen.case in case.name]
            for case in named if chosen.case else benchmarks:
                for dtype in (torch.float32, torch.bfloat16):
                    print(f"{name} [{case.name}] {str(dtype).removeprefix('torch.')}, capability {capability}")
                    try:
                        compile_case(name, case, dtype)
                    except CompilationError as error:
                        refused += 1
                        print(f"    does not compile: {error}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
