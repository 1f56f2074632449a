"""Batch normalisation with fixed statistics: constants of the network, not parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FrozenBatchNorm"]


class FrozenBatchNorm(nn.Module):
    """weight (x - running_mean) / sqrt(running_var + eps) + bias, also in training.

    channels: size of axis 1 of the input [N, channels, ...]; eps: added to the variance.
    The four tensors are buffers under the names of ``nn.BatchNorm3d``, so that its checkpoints load.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"
