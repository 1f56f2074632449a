"""Official STCN checkpoints and torchvision ResNets as weights of this family."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["from_official", "from_torchvision", "options_in"]


def from_official(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """``state`` of an official file with what ``network`` wants in other shapes or adds.

    A single-object file (``value_encoder.conv1.weight`` [64, 4, 7, 7]) gets a zero channel for the others.
    Gates, which no official file has, keep the values of ``network``. Missing and unknown keys are left for
    the caller.
    """
    expected = network.state_dict()
    state = dict(state)
    name = "value_encoder.conv1.weight"
    if name in state and name in expected and state[name].shape[1] + 1 == expected[name].shape[1]:
        first = state[name]
        state[name] = torch.cat([first, first.new_zeros(len(first), 1, *first.shape[2:])], dim=1)
    for key, value in expected.items():
        if ".gate." in f".{key}":
            state.setdefault(key, value)
    return state


def options_in(state: dict[str, Tensor]) -> dict[str, int]:
    """The options of ``build`` that an official state dict was made with, read from its shapes."""
    if "key_comp.weight" not in state or "key_proj.key_proj.weight" not in state:
        return {}
    return {
        "key_channels": len(state["key_proj.key_proj.weight"]),
        "value_channels": len(state["key_comp.weight"]),
    }


def from_torchvision(resnet50: dict[str, Tensor], resnet18: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ImageNet state dicts under the names of key and value encoder: initial weights for
    training.

    Returns all of ``key_encoder`` and of the ResNet in ``value_encoder``, whose first convolution gets
    orthogonal channels for mask and others after RGB. Stage 4 and the classifiers are dropped. Convolution
    biases of the value encoder, which torchvision does not have, start at zero.
    """
    result: dict[str, Tensor] = {}
    for prefix, source, first in (("key_encoder", resnet50, "res2"), ("value_encoder", resnet18, "layer1")):
        for key, value in source.items():
            if key.startswith(("layer4.", "fc.")):
                continue
            name = f"{prefix}.{first}{key.removeprefix('layer1')}" if key.startswith("layer1.") else f"{prefix}.{key}"
            result[name] = value
            if prefix == "value_encoder" and name.endswith(".weight") and value.ndim == 4:
                result[name.removesuffix("weight") + "bias"] = value.new_zeros(len(value))
    rgb = result["value_encoder.conv1.weight"]
    extra = torch.empty(64, 2, 7, 7, dtype=rgb.dtype)
    nn.init.orthogonal_(extra)
    result["value_encoder.conv1.weight"] = torch.cat([rgb, extra], dim=1)
    return result
