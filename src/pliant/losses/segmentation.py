"""Losses of soft masks: bootstrapped cross-entropy and dice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bootstrapped_cross_entropy", "dice"]


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, share: float) -> Tensor:
    """Mean over samples of the mean cross-entropy of each sample's hardest pixels.

    logits [N, K + 1, H, W], any float dtype (computed in float32); labels [N, H, W] int64 in 0..K; share in (0, 1]:
    floor(share * H * W) pixels of each sample count, at least one. Source: STCN, training of stages 0 to 3.
    """
    loss = F.cross_entropy(logits.float(), labels, reduction="none").flatten(1)
    if share < 1:
        loss = loss.topk(max(1, int(share * loss.shape[1])), dim=1, sorted=False).values
    return loss.mean()


def dice(probabilities: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid objects of 1 - (2 Σ m g + 1) / (Σ m + Σ g + 1).

    probabilities, masks [N, K, H, W] in [0, 1]; valid [N, K] bool. Source: XMem, training losses.
    """
    overlap = (probabilities * masks).flatten(2).sum(-1)
    total = probabilities.flatten(2).sum(-1) + masks.flatten(2).sum(-1)
    loss = 1 - (2 * overlap + 1) / (total + 1)
    return torch.where(valid, loss, 0.0).sum() / valid.sum().clamp_min(1)
