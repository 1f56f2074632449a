"""The specification of :func:`pliant.ops.sparse_conv2d`: the dense convolution, then a choice at each position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SKIP, REUSE, COMPUTE = 0, 1, 2
"""What a policy says of a position."""
ACTIVATIONS = {None: lambda x: x, "relu": F.relu}


def sparse_conv2d_reference(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    policy: Tensor,
    previous: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """See :func:`pliant.ops.sparse_conv2d`. Sums in float32 at least and rounds once."""
    work = torch.promote_types(input.dtype, torch.float32)
    groups = input.shape[1] // weight.shape[1]
    bias = None if bias is None else bias.to(work)
    computed = F.conv2d(input.to(work), weight.to(work), bias, stride, padding, groups=groups)
    if residual is not None:
        computed = computed + residual.to(work)
    computed = ACTIVATIONS[activation](computed).to(input.dtype)
    out = torch.where(policy == COMPUTE, computed, 0)
    return out if previous is None else torch.where(policy == REUSE, previous, out)
