"""SteeringMaps: what the dynamic dilated convolutions of a network predict while it runs (Fig. 4 of
D²Conv3D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pliant.nn.dynamic_dilated_conv import DynamicDilatedConv3d

__all__ = ["Steered", "SteeringMaps"]


@dataclass(frozen=True)
class Steered:
    """Last prediction of one layer: dilation [N, 3, T, H, W] (t, y, x); modulation [N, taps, T, H, W] or
    None.
    """

    dilation: Tensor
    modulation: Tensor | None


class SteeringMaps:
    """Keeps, while the block runs, the dilation map and the modulation of every ``DynamicDilatedConv3d``.

    ``maps``: layer's path in ``network`` -> ``Steered``, of the last forward. Costs a second run of each
    layer's predictor.

    >>> layer = DynamicDilatedConv3d(4, 4, 3, padding=1)
    >>> with SteeringMaps(layer) as steering:
    ...     _ = layer(torch.randn(1, 4, 2, 6, 8))
    >>> steering.maps[""].dilation.unique().tolist()
    [1.0]
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, DynamicDilatedConv3d)
        }
        self.maps: dict[str, Steered] = {}
        self._hooks: list = []

    def __enter__(self) -> SteeringMaps:
        for name, layer in self.layers.items():
            self._hooks.append(
                layer.register_forward_pre_hook(
                    lambda layer, inputs, name=name: self._observe(name, layer, inputs[0])
                )
            )
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @torch.no_grad()
    def _observe(self, name: str, layer: DynamicDilatedConv3d, input: Tensor) -> None:
        raw = layer.predict(input)
        self.maps[name] = Steered(layer.spread(layer.dilate(raw)), layer.modulate(raw))
