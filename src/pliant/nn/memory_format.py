"""Weights with channels last, for networks that mix layers of images and of clips."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["channels_last"]

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(network: nn.Module) -> nn.Module:
    """``network`` with every weight of a 2-D or 3-D convolution laid out channels last, in place; returns it.

    ``network.to(memory_format=...)`` knows one of the two layouts and refuses weights of the other.
    """
    for parameter in network.parameters():
        if parameter.dim() in _FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=_FORMATS[parameter.dim()])
    return network
