"""Every network of the family, literally: a name, who builds it, and what differs from XMem as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """One network: ``builder`` (module:class) called with ``options`` as keywords."""

    builder: str
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "xmem": Preset("pliant.models.xmem.network:XMem"),
    "tri_xmem": Preset("pliant.models.xmem.sparse_network:TriXMem"),
}
