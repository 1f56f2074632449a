"""Official XMem checkpoints as weights of this family. Key names are equal."""

from __future__ import annotations

from torch import Tensor

from pliant.models.spvos.checkpoint import from_official

__all__ = ["from_official", "options_in"]


def options_in(state: dict[str, Tensor]) -> dict[str, int]:
    """The options of ``build`` that an official state dict was made with, read from its shapes."""
    if "key_proj.d_proj.weight" not in state:
        return {}
    transform = state.get("decoder.hidden_update.transform.weight")
    return {
        "key_channels": len(state["key_proj.key_proj.weight"]),
        "value_channels": len(state["value_encoder.fuser.block2.conv2.weight"]),
        "hidden_channels": 0 if transform is None else len(transform) // 3,
    }
