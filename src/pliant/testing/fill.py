"""Weights and inputs of parity fixtures, made from their names: the public rule, so that no fixture stores
weights.

A tensor's generator is NumPy's frozen ``RandomState``, seeded by the CRC-32 of salt + name.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["fill", "load_filled", "made_input"]


def _generator(name: str, salt: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"{salt}{name}".encode()))


def fill(key: str, shape: Sequence[int], salt: str = "", gain: float = 2.0) -> np.ndarray:
    """The float64 value of a state-dict entry, by the end of its key and its number of dimensions.

    running_var: uniform in [0.5, 1.5]; running_mean: 0.1 normal; num_batches_tracked: 0 (int64); two
    dimensions or more: normal sqrt(gain / fan_in), fan_in the product of all but the first; one: ``weight``
    uniform in [0.5, 1.5], anything else 0.1 normal.
    """
    shape = tuple(shape)
    generator = _generator(key, salt)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return generator.uniform(0.5, 1.5, size=shape)
    if len(shape) >= 2 and not key.endswith("running_mean"):
        return generator.standard_normal(size=shape) * np.sqrt(gain / max(1, int(np.prod(shape[1:]))))
    if key.endswith("weight"):
        return generator.uniform(0.5, 1.5, size=shape)
    return 0.1 * generator.standard_normal(size=shape)


def load_filled(
    network: nn.Module, shapes: Mapping[str, Sequence[int]], rule: Mapping[str, Any], dtype: torch.dtype
) -> nn.Module:
    """``network`` in eval mode and ``dtype``, every entry of its state dict filled.

    shapes: official key -> shape, which must be exactly those of ``network``; rule: ``fill`` of a manifest
    (salt, gain, overrides: regular expression -> factor, the first that is found in a key counts).
    Raises ``ValueError`` naming keys that are missing, unknown or of another shape.
    """
    own = {key: list(value.shape) for key, value in network.state_dict().items()}
    if own != {key: list(shape) for key, shape in shapes.items()}:
        differing = sorted(
            key for key in own.keys() | shapes.keys() if own.get(key) != list(shapes.get(key, [None]))
        )
        differing = [f"{key} {own.get(key)} for {shapes.get(key)}" for key in differing]
        raise ValueError(f"{len(differing)} keys differ from the manifest: {'; '.join(differing[:5])}")
    state = {}
    for key, shape in shapes.items():
        value = fill(key, shape, rule.get("salt", ""), rule.get("gain", 2.0))
        factors = (f for pattern, f in (rule.get("overrides") or {}).items() if re.search(pattern, key))
        state[key] = torch.from_numpy(np.asarray(value * next(factors, 1)))
    network.to(torch.float64).load_state_dict(state)  # float64 first: rounding to float32 happens once
    return network.to(dtype).eval()


def made_input(name: str, shape: Sequence[int], kind: str, salt: str, dtype: torch.dtype) -> Tensor:
    """An input by name. kind: normal; uniform in [0, 1); mask: 0/1 in blocks of 8 x 8 pixels."""
    shape = tuple(shape)
    generator = _generator(f"input:{name}", salt)
    if kind == "normal":
        value = generator.standard_normal(size=shape)
    elif kind == "uniform":
        value = generator.uniform(0.0, 1.0, size=shape)
    elif kind == "mask":
        *lead, rows, columns = shape
        blocks = generator.uniform(0.0, 1.0, size=(*lead, -(-rows // 8), -(-columns // 8))) < 0.35
        value = np.kron(blocks, np.ones((8, 8)))[..., :rows, :columns]
    else:
        raise ValueError(f"kind of input {name!r} must be normal, uniform or mask, got {kind!r}")
    return torch.from_numpy(value).to(dtype)
