"""The native kernels of dynamic_dilated_conv3d; see pliant/ops/deformable_native.py."""

from __future__ import annotations

from functools import partial

from pliant.ops import deformable_native
from pliant.ops.native import why_missing as why_unavailable

__all__ = ["backward", "forward", "why_unavailable", "why_unsupported"]

why_unsupported = deformable_native.why_unsupported
forward = partial(deformable_native.forward, True)
backward = partial(deformable_native.backward, True)
