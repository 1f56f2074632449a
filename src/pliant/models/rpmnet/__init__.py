"""RPM-Net: follows masks with what it learnt from video without labels (Kim et al., WACV 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any

from pliant.errors import UnknownNameError
from pliant.models.rpmnet.network import RPMNet
from pliant.models.rpmnet.presets import PRESETS, Preset

__all__ = ["PRESETS", "Preset", "RPMNet", "build"]


def build(name: str = "rpmnet", **options: Any) -> RPMNet:
    """The network of preset ``name`` with random weights; ``options`` replace fields of the preset.

    Raises UnknownNameError for a preset or an option that does not exist, ValueError for a value that cannot
    be built.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset of rpmnet", name, PRESETS)
    fields = [field.name for field in dataclasses.fields(Preset)]
    for option in options:
        if option not in fields:
            raise UnknownNameError("option of rpmnet", option, fields)
    return RPMNet(dataclasses.replace(PRESETS[name], **options))
