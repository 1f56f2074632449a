"""DeformConv2d, DeformConv3d: convolutions that predict an offset for every tap at every position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pliant.nn.steered_conv import SteeredConv, convert_conv
from pliant.ops import deform_conv2d, deform_conv3d


class _DeformConv(SteeredConv):
    """What the two- and three-dimensional layers share: everything but the number of axes."""

    names = "tyx"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        offset_groups: int = 1,
        modulation: str | None = "sigmoid",
        moving: str | None = None,
        input_norm: nn.Module | None = None,
    ) -> None:
        moving = self.names if moving is None else moving
        if not moving or any(axis not in self.names for axis in moving):
            raise ValueError(f"moving must name axes out of {self.names!r}, not {moving!r}")
        if offset_groups < 1 or in_channels % offset_groups:
            raise ValueError(
                f"offset_groups must divide the {in_channels} input channels, {offset_groups} does not"
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            moving_channels=lambda taps: self.axes * offset_groups * taps,
            offset_groups=offset_groups,
            modulation=modulation,
            input_norm=input_norm,
        )
        self.moving = moving

    @classmethod
    def from_conv(cls, conv: nn.Module, *, keep_output: bool = True, **options) -> _DeformConv:
        """A layer in the place of ``conv``, with its weight, bias, stride, padding, dilation and groups.

        keep_output: the layer starts with exactly the output of ``conv`` (the copied weight is doubled where
        the modulation starts at 1/2). False copies the weight as it is. options: offset_groups, modulation,
        moving, input_norm.
        """
        return convert_conv(cls, conv, keep_output, options)

    def offset(self, raw: Tensor) -> Tensor:
        """The offsets out of the raw prediction, [N, axes * offset groups * taps, ...]; 0 along axes that are
        still.
        """
        offset = raw[:, : self.moving_channels]
        if self.moving == self.names:
            return offset
        keep = torch.tensor([axis in self.moving for axis in self.names], device=raw.device)
        keep = keep.repeat(offset.shape[1] // self.axes).view(1, -1, *([1] * self.axes))
        return torch.where(keep, offset, torch.zeros_like(offset))

    def convolve(self, input: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """The output, given offsets and modulation."""
        operator = deform_conv3d if self.axes == 3 else deform_conv2d
        conv = self.deform_conv
        return operator(input, offset, conv.weight, conv.bias, *self.geometry, mask)

    def forward(self, input: Tensor) -> Tensor:
        raw = self.predict(input)
        return self.convolve(input, self.offset(raw), self.modulate(raw))

    def extra_repr(self) -> str:
        return f"moving={self.moving!r}, offset_groups={self.offset_groups}, {super().extra_repr()}"


class DeformConv3d(_DeformConv):
    """Deformable convolution in time and space: an offset (dt, dy, dx) and, in version 2, a modulation a tap.

    Takes and returns what an ``nn.Conv3d`` of the same arguments does, [N, C, T, H, W] -> [N, O, To, Ho, Wo].

    in_channels ... bias: as of ``nn.Conv3d``. offset_groups: groups of input channels with offsets of their
    own.
    modulation: ``"sigmoid"``, ``"relu"``, ``"tanh"``, ``"linear"`` (version 2) or None (version 1).
    moving: the axes along which taps move: ``"tyx"``, ``"yx"`` (spatial only), ``"t"`` (temporal only). The
    predictor has channels for all three, as in the published layers. input_norm: a module in front of the
    predictor.

    The predictor starts at zero: no offset, modulation 1/2, half of the convolution; ``from_conv`` makes up
    for it.
    Raises ValueError for an unknown name or groups that do not divide. Source: Dai et al. 2017, Zhu et al.
    2019.
    """


class DeformConv2d(_DeformConv):
    """Deformable convolution: an offset (dy, dx) and, in version 2, a modulation a tap, [N, C, H, W] -> [N,
    O, Ho, Wo].

    Arguments as of ``DeformConv3d`` (``moving`` out of ``"yx"``), sizes as of ``nn.Conv2d``.
    """

    axes = 2
    names = "yx"
