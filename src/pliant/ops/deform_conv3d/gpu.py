"""The Triton kernels of deform_conv3d; see pliant/ops/deformable_gpu.py."""

from __future__ import annotations

from functools import partial

from pliant.ops import deformable_gpu
from pliant.ops.triton_support import why_unavailable

__all__ = ["backward", "forward", "why_unavailable", "why_unsupported"]

why_unsupported = deformable_gpu.why_unsupported
forward = partial(deformable_gpu.forward, False)
backward = partial(deformable_gpu.backward, False)
