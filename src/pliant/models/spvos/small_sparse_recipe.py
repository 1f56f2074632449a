"""How the small tracker with gates is trained: from the dense one's weights, on clips that begin dense."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from pliant.datasets.sources import Sources
from pliant.models.spvos.recipe import sparse_loss
from pliant.models.spvos.small_recipe import SmallRecipe, Stage
from pliant.models.spvos.small_recipe import from_sources as dense_from_sources

__all__ = ["SparseSmallRecipe"]


@dataclass(frozen=True)
class SparseSmallRecipe(SmallRecipe):
    """A small tracker with gates; ``initial``: weights of ``spvos_small``, or of a run to go on from.

    Mixed sparse training: the first two frames of a clip are remembered and dense, those after them sparse.
    """

    name: str = "spvos_small_triple"
    stages: tuple[Stage, ...] = (Stage(0.0, 4, 256, 1.0, 0.2),)
    remembered: int | None = 2

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Gates learn faster than what they gate; their few offsets faster still."""
        gates = [p for name, p in network.gate.named_parameters() if name.endswith("weight")]
        offsets = [p for name, p in network.gate.named_parameters() if not name.endswith("weight")]
        ours = {id(p) for p in (*gates, *offsets)}
        dense = [
            {**group, "params": [p for p in group["params"] if id(p) not in ours]}
            for group in super().parameter_groups(network)
        ]
        return [
            *dense,
            {"params": gates, "scale": 5.0},
            {"params": offsets, "scale": 100.0, "weight_decay": 0.0},
        ]

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The dense tracker's, and the sparse losses (SpVOS, Eq. 13) of sparse frames."""
        odds, records = self.run(network, batch)
        losses = self.segmentation_loss(odds, batch)
        owner = getattr(network, "module", network)
        sparsity = sparse_loss(records, progress, owner.target)
        computed = sum(r.computed.detach() * r.cost for r in records) / sum(r.positions * r.cost for r in records)
        return {**losses, "loss": losses["loss"] + sparsity, "sparsity": sparsity, "computed": computed}


def _from_sources(name: str, sources: Sources) -> SparseSmallRecipe:
    dense = dense_from_sources(sources)
    return SparseSmallRecipe(dense.pictures, dense.clips, dense.initial, dense.seed, name)


triple = partial(_from_sources, "spvos_small_triple")
static = partial(_from_sources, "spvos_small_static")
residual = partial(_from_sources, "spvos_small_residual")
triple_fully = partial(_from_sources, "spvos_small_triple_fully")
static_fully = partial(_from_sources, "spvos_small_static_fully")
residual_fully = partial(_from_sources, "spvos_small_residual_fully")
