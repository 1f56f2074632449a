"""The Lovász hinge: a convex surrogate of 1 - IoU for one foreground class.

Berman et al., "The Lovász-Softmax Loss", CVPR 2018; as D²Conv3D trains: per clip, all its frames together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["jaccard_steps", "lovasz_hinge"]


def lovasz_hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over clips of the Lovász hinge; a scalar in float32 (float64 for float64 logits).

    With errors e_i = 1 - f_i (2 y_i - 1) sorted descending and the loss of Jaccard's index
    J_k = 1 - (G - sum_{j<=k} y_j) / (G + sum_{j<=k} (1 - y_j)), G = sum y:
    loss = sum_k max(e_(k), 0) (J_k - J_{k-1}), J_0 = 0. The steps of J are constants in the backward pass.
    A clip without foreground costs max(0, 1 + its largest logit).

    logits: f, [N, ...], any float dtype; target: y, of the same shape, 0 or 1, any dtype.
    Raises ``ValueError`` where the shapes differ.
    """
    if logits.shape != target.shape:
        raise ValueError(f"target must be shaped like logits {list(logits.shape)}, got {list(target.shape)}")
    precise = logits.dtype if logits.dtype == torch.float64 else torch.float32
    scores = logits.flatten(1).to(precise)
    labels = target.flatten(1).to(precise)
    errors = 1 - scores * (2 * labels - 1)
    errors, order = errors.sort(dim=1, descending=True)
    steps = jaccard_steps(labels.gather(1, order))
    return (F.relu(errors) * steps).sum(dim=1).mean()


@torch.no_grad()
def jaccard_steps(labels: Tensor) -> Tensor:
    """J_k - J_{k-1} for ``labels`` [N, P] of 0 and 1, sorted by error; of their dtype.

    Counts are exact integers: a clip of 8 x 480 x 864 pixels is beyond what float32 can add up.
    """
    positive = labels.to(torch.int64)
    found = positive.cumsum(dim=1)
    total = found[:, -1:]
    missed = torch.arange(1, labels.shape[1] + 1, device=labels.device) - found
    jaccard = 1 - (total - found).double() / (total + missed).double()
    return jaccard.diff(dim=1, prepend=jaccard.new_zeros(len(jaccard), 1)).to(labels.dtype)
