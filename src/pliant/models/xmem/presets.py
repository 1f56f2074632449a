"""Every network of the family, literally: a name, and what differs from XMem as published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PRESETS"]

PRESETS: dict[str, Mapping[str, Any]] = {
    "xmem": {},
}
