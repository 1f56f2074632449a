"""Every network of the family, literally: a name, who builds it, and what differs from the dense network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BUILDERS", "PRESETS", "Preset"]

# builder -> module:function of a preset's options
BUILDERS = {
    "stcn": "pliant.models.spvos.network:STCN",
    "small": "pliant.models.spvos.small:build",
}


@dataclass(frozen=True)
class Preset:
    """One network: ``builder`` (a key of ``BUILDERS``) called with ``options`` as keywords."""

    builder: str
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "stcn": Preset("stcn"),
    "spvos_small": Preset("small"),
}
