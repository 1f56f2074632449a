"""In what frames are compared when masks are taken from references: the embedding, or the embedding and the backbone's
stages together, reduced to fewer channels.

Ours, not the paper's. The embedding tells where exactly something is, deeper stages what it is; together they find more
of what was seen longer ago (docs/experiments.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["find_basis", "likeness"]


def _unit(stages: tuple[Tensor, ...]) -> list[Tensor]:
    return [F.normalize(stage.float(), dim=1) for stage in stages]


def find_basis(stages: tuple[Tensor, ...], channels: int) -> Tensor:
    """The ``channels`` directions that hold most of a frame's features: [sum of C, channels], orthonormal, float32.

    stages: the embedding [1, 32, h, w] and coarser maps [1, C, ., .]. Each position's vector of each stage counts with
    length 1; not centred, so that cosines are kept. Source: eigenvectors of the second moment.
    """
    parts = _unit(stages)
    size = parts[1].shape[-2:]
    parts = [F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True) for x in parts]
    joined = torch.cat(parts, 1)[0].flatten(1)
    return torch.linalg.eigh(joined @ joined.T)[1][:, -channels:].contiguous()


def likeness(stages: tuple[Tensor, ...], basis: Tensor | None) -> Tensor:
    """Vectors of length 1 whose products say how alike two positions are: [1, C, h, w], float32.

    stages: as for ``find_basis``. basis: its answer, C its channels; None: the embedding alone, C = 32.
    """
    if basis is None:
        return F.normalize(stages[0].float(), dim=1)
    size, total = stages[0].shape[-2:], 0.0
    for stage, rows in zip(_unit(stages), basis.split([stage.shape[1] for stage in stages])):
        reduced = torch.einsum("nchw,cd->ndhw", stage, rows)  # before it is enlarged: both are linear
        if reduced.shape[-2:] != size:
            reduced = F.interpolate(reduced, size=size, mode="bilinear", align_corners=False)
        total = total + reduced
    return F.normalize(total, dim=1)
