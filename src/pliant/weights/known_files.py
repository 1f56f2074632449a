"""What a weights file is, told by its keys: so that a wrong one is named, and ``convert-checkpoint`` needs
no flag.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["KNOWN_FILES", "KnownFile", "recognise"]


@dataclass(frozen=True)
class KnownFile:
    """A layout of keys. ``model``: the name in ``MODELS`` that its weights run under, None: none of its
    own.
    """

    what: str
    model: str | None
    keys: tuple[str, ...]  # all of them are in such a file, whole or as the beginning of a key


# The first that fits counts.
KNOWN_FILES = (
    KnownFile("XMem", "xmem", ("key_proj.d_proj.", "value_encoder.fuser.")),
    KnownFile("STCN", "stcn", ("key_proj.key_proj.", "key_comp.", "value_encoder.fuser.")),
    KnownFile("STEm-Seg", None, ("backbone.body.", "embedding_head.")),
    KnownFile("3DC-Seg with R(2+1)D", "threedc_seg_r2plus1d", ("encoder.conv1.0.", "decoders.0.GC.")),
    KnownFile("3DC-Seg", "threedc_seg", ("encoder.", "decoders.0.GC.")),
    KnownFile("d2conv3d", "d2conv3d", ("encoder.stem.", "decoder.gc.", "decoder.rf3.convFS1.0.deform_params.")),
    KnownFile("d2conv3d with ASPP", "d2conv3d_aspp", ("decoder.gc.", "decoder.rf3.convFS1.0.atrous_convs.")),
    KnownFile("d2conv3d's revised baseline", "threedc_seg_revised", ("decoder.gc.", "decoder.rf3.convFS1.0.")),
    KnownFile("a torchvision ResNet with bottlenecks", None, ("layer1.0.conv3.weight", "layer4.0.conv1.weight")),
    KnownFile("a torchvision ResNet-18 or -34", None, ("layer1.0.conv2.weight", "layer4.0.conv1.weight")),
    KnownFile("a torchvision MobileNetV2", None, ("features.0.0.weight", "features.18.0.weight")),
)


def recognise(keys: Iterable[str]) -> KnownFile | None:
    """The layout that ``keys`` of a state dict belong to; None where none fits."""
    keys = [key.removeprefix("model.") for key in keys]
    for known in KNOWN_FILES:
        if all(any(key.startswith(wanted) for key in keys) for wanted in known.keys):
            return known
    return None
