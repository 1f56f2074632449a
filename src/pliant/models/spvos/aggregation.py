"""Soft aggregation of objects (spatio-temporal memory networks, eq. 4) and the official padding of frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["aggregate", "aggregate_log_odds", "pad_to_multiple", "unpad"]

_EPSILON = 1e-7


def aggregate_log_odds(foreground: Tensor, dim: int = 0) -> Tensor:
    """Log-odds with the background first: K independent probabilities in [0, 1] along ``dim`` -> K + 1 rows.

    p_0 = prod(1 - p_k); all are clamped to [1e-7, 1 - 1e-7]; log(p / (1 - p)). Cross-entropy takes these as
    logits.
    """
    background = torch.prod(1 - foreground, dim=dim, keepdim=True)
    p = torch.cat([background, foreground], dim=dim).clamp(_EPSILON, 1 - _EPSILON)
    return torch.log(p / (1 - p))


def aggregate(foreground: Tensor, dim: int = 0) -> Tensor:
    """Probabilities of background and K objects that sum to 1 along ``dim``: softmax of
    ``aggregate_log_odds``.

    foreground: K rows in [0, 1] along ``dim``. For K = 1 the object gets p^2 / (p^2 + (1 - p)^2).
    """
    return torch.softmax(aggregate_log_odds(foreground, dim), dim=dim)


def pad_to_multiple(x: Tensor, multiple: int = 16) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Zero-padded copy of x [..., H, W] and the padding (left, right, top, bottom), as STCN and XMem pad.

    What is missing to the next multiple is split: floor of the half before, the rest after.
    """
    missing_rows, missing_columns = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    top, left = missing_rows // 2, missing_columns // 2
    padding = (left, missing_columns - left, top, missing_rows - top)
    return F.pad(x, padding), padding


def unpad(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """x [..., H, W] without the padding that ``pad_to_multiple`` returned."""
    left, right, top, bottom = padding
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
