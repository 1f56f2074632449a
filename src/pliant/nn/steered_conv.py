"""What the convolutions with predicted sampling points share: the predictor, the weight, conversion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# What turns the predicted modulation into a factor of each tap.
MODULATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "linear": lambda raw: raw,
}


class SteeredConv(nn.Module):
    """A convolution (``deform_conv``) whose sampling points another one (``deform_params``) predicts from its
    input.

    The predictor has the kernel, stride, padding and dilation of the convolution, groups 1, a bias where the
    convolution has one, and starts at zero. Its channels are what moves the points, then the modulation, one
    a tap and offset group. ``deform_conv`` holds weight and bias; its own forward is not used. These two
    names, and ``norm`` for a norm in front of the predictor, are those of the D2Conv3D checkpoints.
    """

    axes = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int | Sequence[int],
        dilation: int | Sequence[int],
        groups: int,
        bias: bool,
        *,
        moving_channels: Callable[[int], int],
        offset_groups: int,
        modulation: str | None,
        input_norm: nn.Module | None,
    ) -> None:
        super().__init__()
        if modulation is not None and modulation not in MODULATIONS:
            known = ", ".join(repr(name) for name in MODULATIONS)
            raise ValueError(f"modulation must be {known} or None, not {modulation!r}")
        conv = nn.Conv3d if self.axes == 3 else nn.Conv2d
        shape = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
        self.deform_conv = conv(in_channels, out_channels, kernel_size, groups=groups, **shape)
        taps = math.prod(self.deform_conv.kernel_size)
        self.modulation = modulation
        self.offset_groups = offset_groups
        self.moving_channels = moving_channels(taps)
        channels = self.moving_channels + (0 if modulation is None else offset_groups * taps)
        self.norm = input_norm
        self.deform_params = conv(in_channels, channels, kernel_size, **shape)
        nn.init.zeros_(self.deform_params.weight)
        if self.deform_params.bias is not None:
            nn.init.zeros_(self.deform_params.bias)

    def predict(self, input: Tensor) -> Tensor:
        """The raw output of ``deform_params``, at least float32: what moves the points, then the
        modulation.
        """
        raw = self.deform_params(input if self.norm is None else self.norm(input))
        return raw if raw.dtype == torch.float64 else raw.float()

    def modulate(self, raw: Tensor) -> Tensor | None:
        """The modulation out of the raw prediction, [N, offset groups * taps, ...], or None."""
        if self.modulation is None:
            return None
        return MODULATIONS[self.modulation](raw[:, self.moving_channels :])

    @property
    def geometry(self) -> tuple:
        """Stride, padding and dilation, as the operators take them."""
        return self.deform_conv.stride, self.deform_conv.padding, self.deform_conv.dilation

    def extra_repr(self) -> str:
        return f"modulation={self.modulation!r}"


def convert_conv(
    layer_type: type[SteeredConv], conv: nn.Module, keep_output: bool, options: dict
) -> SteeredConv:
    """A layer in the place of ``conv``, with its weight and bias; see ``from_conv`` of the layers."""
    expected = nn.Conv3d if layer_type.axes == 3 else nn.Conv2d
    if not isinstance(conv, expected):
        raise TypeError(
            f"from_conv of {layer_type.__name__} takes an nn.{expected.__name__}, not {type(conv).__name__}"
        )
    if conv.padding_mode != "zeros":
        raise ValueError(
            f"padding_mode must be 'zeros', not {conv.padding_mode!r}: outside of the input is 0"
        )
    layer = layer_type(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        _padding(conv),
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        **options,
    )
    if keep_output and layer.modulation not in (None, "sigmoid"):
        raise ValueError(
            f"modulation {layer.modulation!r} starts at 0, so the output cannot be kept; keep_output=False"
        )
    layer.to(device=conv.weight.device, dtype=conv.weight.dtype).train(conv.training)
    with torch.no_grad():
        # sigmoid(0) = 1/2, and 1/2 (2 W) = W without rounding.
        factor = 2 if keep_output and layer.modulation == "sigmoid" else 1
        layer.deform_conv.weight.copy_(conv.weight * factor)
        if conv.bias is not None:
            layer.deform_conv.bias.copy_(conv.bias)
    return layer


def _padding(conv: nn.Module) -> tuple[int, ...]:
    if conv.padding == "valid":
        return (0,) * len(conv.kernel_size)
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size)]
        if any(n % 2 for n in total):
            raise ValueError(f"padding 'same' of kernel {tuple(conv.kernel_size)} is not equal on both sides")
        return tuple(n // 2 for n in total)
    return tuple(conv.padding)
