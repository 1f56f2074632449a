"""Builds the native kernels of csrc/ where a compiler and PyTorch are at hand; without them pliant works,
slower.

Everything else is in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# End of a source file's name -> flags it alone is compiled with; a kernel runs only where the processor has
# them.
_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
INSTRUCTION_SETS = {
    "_avx2.cpp": ["-mavx2", "-mfma"],
    "_avx512.cpp": _AVX512,
    "_avx512bf16.cpp": [*_AVX512, "-mavx512bf16"],
    "_amx.cpp": [*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}


ON_X86 = platform.machine() in ("x86_64", "AMD64")
# Written in intrinsics; the others compile anywhere, to the vectors that a machine has.
X86_ALONE = ("_avx512bf16.cpp", "_amx.cpp")


class BuildKernels(build_ext):
    """Adds each file's instruction-set flags, and replaces a library in the source tree in one step."""

    def build_extensions(self) -> None:
        compile_one = self.compiler._compile

        def with_flags(obj, src, ext, cc_args, extra_postargs, pp_opts):
            flags = next((f for end, f in INSTRUCTION_SETS.items() if src.endswith(end) and ON_X86), [])
            compile_one(obj, src, ext, cc_args, [*extra_postargs, *flags], pp_opts)

        self.compiler._compile = with_flags
        super().build_extensions()

    def copy_extensions_to_source(self) -> None:
        # Running processes have the old library mapped: write beside it and rename, never into it.
        package = Path(self.get_finalized_command("build_py").get_package_dir("pliant"))
        for extension in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(self.get_ext_fullname(extension.name)))
            if built.exists():
                partial = package / f".{built.name}.{os.getpid()}.partial"
                shutil.copyfile(built, partial)
                os.replace(partial, package / built.name)


def kernels() -> list[Extension]:
    """The one extension, or nothing where PyTorch is not there at build time (use --no-build-isolation)."""
    try:
        from torch.utils import cpp_extension
    except ImportError:
        print(
            "pliant: no PyTorch at build time, so no native kernels; build with --no-build-isolation for them"
        )
        return []
    return [
        Extension(
            "pliant._C",
            sources=sorted(str(p) for p in Path("csrc").rglob("*.cpp") if ON_X86 or not p.name.endswith(X86_ALONE)),
            depends=sorted(str(p) for p in Path("csrc").rglob("*.[hi]*")),
            include_dirs=[*cpp_extension.include_paths(), "csrc"],
            library_dirs=cpp_extension.library_paths(),
            libraries=["torch_cpu"],
            # The stable binary interface, from PyTorch 2.10 on.
            define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000"), ("Py_LIMITED_API", "0x030a0000")],
            extra_compile_args=[
                *("-O3", "-g0", "-std=c++17", "-fvisibility=hidden"),
                # Products and sums may fuse; comparisons with not-a-number keep their meaning.
                *("-ffp-contract=fast", "-fno-trapping-math", "-fno-math-errno"),
            ],
            extra_link_args=["-s"],
            py_limited_api=True,
            optional=True,
        )
    ]


setup(
    ext_modules=kernels(),
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
