"""Losses that pull gated layers towards a share of computed positions (SpVOS Eq. 11 to 13, bounds after DynConv)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["global_sparse_loss", "layer_sparse_loss", "relaxed_bounds"]


def relaxed_bounds(progress: float, target: float, relax_until: float = 0.33) -> tuple[float, float]:
    """Lower and upper bound of a layer's share at ``progress`` in [0, 1] of the training.

    Both are ``target`` at the start and open to 0 and 1 by ``relax_until``: with c = cos²(π/2 p), p the progress
    within the relaxation, c target and 1 - c (1 - target). Source: DynConv (Verelst, Tuytelaars, CVPR 2020).
    """
    c = math.cos(math.pi / 2 * min(max(progress / relax_until, 0.0), 1.0)) ** 2
    return c * target, 1 - c * (1 - target)


def layer_sparse_loss(shares: Tensor, lower: float, upper: float, reduction: str = "sum") -> Tensor:
    """Σ_k max(s_k - upper, 0)² + max(lower - s_k, 0)², Eq. 11. shares [K] in [0, 1]; reduction: "sum" or "mean"."""
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    losses = (shares - upper).clamp(min=0).square() + (lower - shares).clamp(min=0).square()
    return losses.sum() if reduction == "sum" else losses.mean()


def global_sparse_loss(
    computed: Tensor, positions: Sequence[int] | Tensor, costs: Sequence[int] | Tensor, target: float
) -> Tensor:
    """(Σ_k c_k n_k / Σ_k c_k P_k - target)², Eq. 12: the share of multiply-adds in gated layers against ``target``.

    computed n_k [K]: positions computed; positions P_k [K]; costs c_k [K]: multiply-adds of one position.
    """
    costs = torch.as_tensor(costs, dtype=torch.float64, device=computed.device)
    positions = torch.as_tensor(positions, dtype=torch.float64, device=computed.device)
    return ((computed * costs).sum() / (positions * costs).sum() - target).square()
