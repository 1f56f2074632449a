"""From a training run's weights to the file that the package carries: half precision, with what made it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import save_file

from pliant.errors import WeightsError
from pliant.weights import read_state

__all__ = ["embed"]

LIMIT_BYTES = 25_000_000


def embed(
    weights: str | Path, out: str | Path, about: dict[str, str] | None = None, eight_bit: Collection[str] = ()
) -> int:
    """Write ``weights`` as float16 safetensors to ``out`` with ``about`` as metadata; returns the bytes.

    eight_bit: names of tensors that are kept as float8 (e4m3: steps of 6 %, finest from 1/64 to 448) to save room.
    Raises ``WeightsError`` where a value does not fit float16, or the file would exceed 25 MB.
    """
    state = {key: value.to(torch.float16).contiguous() for key, value in read_state(Path(weights)).items()}
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{weights}: {key} does not fit half precision.")
        if key in eight_bit:
            state[key] = value.to(torch.float8_e4m3fn)
    size = sum(value.numel() * value.element_size() for value in state.values())
    if size > LIMIT_BYTES:
        raise WeightsError(f"{weights} would take {size} bytes, more than the {LIMIT_BYTES} that the package allows.")
    partial = Path(out).with_name(Path(out).name + ".partial")
    save_file(state, partial, metadata=about)
    partial.replace(out)
    return size
