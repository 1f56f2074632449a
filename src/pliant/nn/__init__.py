"""Layers over the primitives: what people put in their own networks."""

from __future__ import annotations

import importlib
from typing import Any

# Public name -> the module that defines it; imported at first use.
_PUBLIC = {
    "ASPP3d": "pliant.nn.aspp",
    "BinaryGate": "pliant.nn.sparse_gates",
    "Decision": "pliant.nn.sparse_stream",
    "DeformAttention3d": "pliant.nn.deform_attention",
    "DeformAttentionLevels": "pliant.nn.deform_attention",
    "DeformConv2d": "pliant.nn.deform_conv",
    "DeformConv3d": "pliant.nn.deform_conv",
    "DynamicDilatedConv3d": "pliant.nn.dynamic_dilated_conv",
    "OutOfBounds": "pliant.nn.out_of_bounds",
    "QueryReference": "pliant.nn.deform_attention",
    "ResidualSparseConv2d": "pliant.nn.sparse_conv",
    "SparseStream": "pliant.nn.sparse_stream",
    "StaticSparseConv2d": "pliant.nn.sparse_conv",
    "SteeringMaps": "pliant.nn.steering_maps",
    "TripleGate": "pliant.nn.sparse_gates",
    "TripleSparseConv2d": "pliant.nn.sparse_conv",
    "convert": "pliant.nn.convert",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pliant.nn' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
