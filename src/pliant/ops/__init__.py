"""The primitives: tensors in, tensors out; no modules, no state.

``OPERATORS`` is the one table: tests, benchmarks, ``pliant ops`` and the docs iterate over it.
"""

from __future__ import annotations

from pliant.ops.deform_attention3d.op import deform_attention3d
from pliant.ops.memory_readout.op import memory_readout
from pliant.ops.sparse_conv2d.op import sparse_conv2d
from pliant.ops.warp.op import warp

__all__ = ["OPERATORS", "deform_attention3d", "memory_readout", "sparse_conv2d", "warp"]

OPERATORS: dict[str, object] = {}
