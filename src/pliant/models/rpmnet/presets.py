"""Every network of the supplement's Table 2, and the ones that differ from them by a choice of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pliant.models.rpmnet.colour import ColourSpace

__all__ = ["BACKBONES", "PAPER", "PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """What differs between two RPM-Nets. The first five fields change weights, the others only how they are
    used.
    """

    backbone: Literal[18, 34, 50, 101] = 18
    matching: Literal["deformable", "standard", "dilated"] = "deformable"
    layers: Literal[1, 3, 5] = 3  # of the matching module, before the weightless 1x1
    dilation: int = 1  # of all of them
    # 32 channels and H/64 as printed, or an ordinary ResNet to H/32
    stem: Literal["table", "standard"] = "table"
    colour: ColourSpace = "lab"  # of the network's input; ours
    iterations: int = 1  # how often matching is repeated on the reference warped by the last answer; ours
    # masks are warped at full size, or at H/4 as the table has it
    resolution: Literal["full", "table"] = "full"
    sharpen: bool = False  # carry p^2 / sum p^2 on: keeps bilinear blur from eating thin objects; ours
    anchor: bool = False  # also match with the annotated frames, against drift; ours
    # How many recent frames are looked at beside the annotated ones; 0: only the last, as the supplement has it; ours
    references: int = 0
    # With references, in how many channels frames are compared: of embedding and stages together; 0: of the embedding
    likeness: int = 0
    reach: int = 3  # how far around the expected place, in cells of H/4; with references
    edges: bool = False  # answers follow the edges of the image; with references or resolution "table"; ours
    online_update: int = 0  # steps of fitting the matching module to the first frame; ours


BACKBONES = (18, 34, 50, 101)

# Row of Table 2 -> (matching, layers, dilation).
_ROWS: dict[str, tuple[str, int, int]] = {
    "deformable": ("deformable", 3, 1),
    "standard1": ("standard", 1, 1),
    "standard3": ("standard", 3, 1),
    "standard5": ("standard", 5, 1),
    "dilated3": ("dilated", 3, 3),
    "dilated6": ("dilated", 3, 6),
    "dilated9": ("dilated", 3, 9),
}

# Table 2 as printed: J mean, F mean in % on DAVIS-2017 validation, for ResNet-18, 34, 50, 101.
PAPER: dict[str, tuple[tuple[float, float], ...]] = {
    "deformable": ((32.9, 36.2), (34.6, 37.5), (35.3, 37.9), (35.7, 38.8)),
    "standard1": ((27.1, 27.9), (26.8, 27.5), (27.0, 27.9), (28.6, 29.2)),
    "standard3": ((31.8, 34.1), (31.3, 32.7), (30.4, 31.8), (31.7, 33.5)),
    "standard5": ((29.6, 31.0), (31.6, 33.0), (31.2, 33.3), (31.6, 33.8)),
    "dilated3": ((29.7, 31.4), (30.8, 33.6), (29.3, 30.9), (30.8, 33.1)),
    "dilated6": ((29.5, 31.0), (30.5, 32.1), (30.5, 32.6), (29.8, 31.3)),
    "dilated9": ((29.1, 30.5), (28.1, 30.1), (29.5, 31.5), (29.7, 31.1)),
}

# "rpmnet" has the weights of the first cell, ResNet-18 with deformable matching, and carries masks our way; the cells
# themselves are called rpmnet_r50_dilated6 and so on, and carry them as the supplement has it.
PRESETS: dict[str, Preset] = {"rpmnet": Preset(references=6, likeness=64, edges=True)} | {
    f"rpmnet_r{backbone}_{row}": Preset(backbone, matching, layers, dilation)
    for row, (matching, layers, dilation) in _ROWS.items()
    for backbone in BACKBONES
}
