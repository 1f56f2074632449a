"""Other people's weights in RPM-Net: none of its own were ever released, an ordinary ResNet can start the
embedding.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pliant.errors import WeightsError
from pliant.models.rpmnet.network import RPMNet

__all__ = ["from_official", "load_resnet", "options_in"]


def from_official(state: dict[str, Tensor], network: RPMNet) -> dict[str, Tensor]:
    """The state as it is: no code or weights of RPM-Net were released, so there are no other key names."""
    return state


def options_in(state: dict[str, Tensor]) -> dict[str, Any]:
    """The options of ``build`` that weights of an RPM-Net were made with, read from names and shapes.

    Dilation leaves no trace in them: say ``matching="dilated", dilation=6`` for such a network.
    """
    first = state.get("embedding.conv1.weight")
    if first is None:
        return {}
    bottleneck = "embedding.layer1.0.conv3.weight" in state
    blocks = sum(f"embedding.layer3.{block}.conv1.weight" in state for block in range(23))
    backbones = {(False, 2): 18, (False, 6): 34, (True, 6): 50, (True, 23): 101}
    deformable = "matching.layers.0.deform_conv.weight" in state
    layers = len({key.split(".")[2] for key in state if key.startswith("matching.layers.")})
    found = {
        "backbone": backbones.get((bottleneck, blocks)),
        "stem": "standard" if len(first) == 64 else "table",
        "matching": "deformable" if deformable else "standard",
        "layers": layers,
    }
    return {name: value for name, value in found.items() if value}


def load_resnet(network: RPMNet, state: dict[str, Tensor]) -> list[str]:
    """Start the embedding with an ordinary ResNet; returns the keys of the embedding's stages that it could
    not fill.

    state: torchvision's key names (``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``fc``). All of the stem and
    stages fit with ``stem="standard"``; with the 32-channel stem of Table 1 the stem and the convolutions
    that read it do not. A network started so has seen labels: say so with its scores.
    Raises WeightsError where no stage fits: another depth, or no ResNet.
    """
    own = network.embedding.state_dict()
    stages = [key for key in own if not key.startswith("up") and not key.endswith("num_batches_tracked")]
    fitting = {key: state[key] for key in stages if key in state and state[key].shape == own[key].shape}
    deep = [key for key in stages if key.startswith(("layer2", "layer3", "layer4"))]
    if not all(key in fitting for key in deep):
        left = [key for key in deep if key not in fitting]
        depth = network.preset.backbone
        raise WeightsError(
            f"these weights are no ResNet-{depth} under torchvision's names: {len(left)} of its {len(deep)} tensors "
            f"of stages 2 to 4 are missing or of another shape (first: {left[0]})."
        )
    network.embedding.load_state_dict(own | fitting)
    return [key for key in stages if key not in fitting]
