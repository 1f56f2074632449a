"""DynamicDilatedConv3d: a convolution that predicts its own dilation at every position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pliant.nn.steered_conv import SteeredConv, convert_conv
from pliant.ops import dynamic_dilated_conv3d

# Which predicted channel is the rate along t, y, x; None: the fixed rate 1. A comma stands between two rates.
# In Table 1 of the paper: "yx" is (I), "y,x" is (II), "t,y,x" is (III) and (IV); "t,yx" is in the repository
# only.
RATES: dict[str, tuple[int | None, int | None, int | None]] = {
    "t,y,x": (0, 1, 2),
    "y,x": (None, 0, 1),
    "yx": (None, 0, 0),
    "t,yx": (0, 1, 1),
}


def elu_plus_one(raw: Tensor) -> Tensor:
    """1 + elu(raw), computed so that small rates keep their digits: exp(min(raw, 0)) + max(raw, 0)."""
    return raw.clamp(max=0).exp() + functional.relu(raw)


# Table 2 of the paper, by the formulas that its numbers were measured with: its "ReLU" is relu(raw + 1), its
# "1 + ReLU" is 1 + relu(raw + 0.001). Rates at the start (raw = 0): 1, 1, 1.001, 0.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu_plus_one": elu_plus_one,
    "relu": lambda raw: functional.relu(raw + 1),
    "relu_plus_one": lambda raw: 1 + functional.relu(raw + 0.001),
    "none": lambda raw: raw,
}


class DynamicDilatedConv3d(SteeredConv):
    """D2Conv3D: Y(u) = b + sum over taps i of M(u, i) W(i) X(u + i D(u)), D and M predicted from X.

    Takes and returns what an ``nn.Conv3d`` of the same arguments does, [N, C, T, H, W] -> [N, O, To, Ho, Wo].

    in_channels ... bias: as of ``nn.Conv3d``.
    rates: which rates are learned, ``"t,y,x"`` (three), ``"y,x"`` (two, time fixed at 1), ``"yx"`` (one for
    both
        spatial axes), ``"t,yx"`` (time, and one for both spatial axes).
    modulation: ``"sigmoid"``, ``"relu"``, ``"tanh"``, ``"linear"`` or None (no M).
    activation: of the rates; ``"elu_plus_one"``, ``"relu"`` (relu(f + 1)), ``"relu_plus_one"``, ``"none"``.
    input_norm: a module in front of the predictor of D and M only, or None.

    The predictor starts at zero, so that D = 1 and M = 1/2: half of the convolution. ``from_conv`` makes up
    for it.
    Raises ValueError for an unknown name. Source: Schmidt et al., WACV 2022, Eq. 2 and 3, Tables 1 and 2.

    >>> layer = DynamicDilatedConv3d(8, 16, 3, padding=1)
    >>> layer(torch.randn(1, 8, 4, 10, 12)).shape
    torch.Size([1, 16, 4, 10, 12])
    """

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
        rates: str = "t,y,x",
        modulation: str | None = "sigmoid",
        activation: str = "elu_plus_one",
        input_norm: nn.Module | None = None,
    ) -> None:
        for name, value, known in (("rates", rates, RATES), ("activation", activation, ACTIVATIONS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(repr(k) for k in known)}, not {value!r}")
        learned = 1 + max(i for i in RATES[rates] if i is not None)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            moving_channels=lambda taps: learned,
            offset_groups=1,
            modulation=modulation,
            input_norm=input_norm,
        )
        self.rates = rates
        self.activation = activation

    @classmethod
    def from_conv(cls, conv: nn.Conv3d, *, keep_output: bool = True, **options) -> DynamicDilatedConv3d:
        """A layer in the place of ``conv``, with its weight, bias, stride, padding, dilation and groups.

        keep_output: the layer starts with exactly the output of ``conv`` (the copied weight is doubled where
        the modulation starts at 1/2). False copies the weight as it is, as the published recipe does, which
        trains from scratch. options: rates, modulation, activation, input_norm.
        Raises ValueError where the output cannot be kept: an activation that does not start at rate 1.
        """
        layer = convert_conv(cls, conv, keep_output, options)
        if keep_output and layer.activation not in ("elu_plus_one", "relu"):
            start = ACTIVATIONS[layer.activation](torch.zeros(())).item()
            raise ValueError(
                f"activation {layer.activation!r} starts at the rate {start:.4g}, so the output of the "
                "convolution cannot be kept; use keep_output=False, or 'elu_plus_one' or 'relu'"
            )
        return layer

    def dilate(self, raw: Tensor) -> Tensor:
        """The learned rates out of the raw prediction, [N, rates, To, Ho, Wo]."""
        return ACTIVATIONS[self.activation](raw[:, : self.moving_channels])

    def spread(self, learned: Tensor) -> Tensor:
        """The dilation map [N, 3, To, Ho, Wo] (t, y, x) of the learned rates; 1 where an axis has none."""
        one = torch.ones_like(learned[:, :1])
        return torch.cat([one if i is None else learned[:, i : i + 1] for i in RATES[self.rates]], dim=1)

    def convolve(self, input: Tensor, learned: Tensor, mask: Tensor | None) -> Tensor:
        """The output, given the learned rates and the modulation."""
        conv = self.deform_conv
        return dynamic_dilated_conv3d(
            input, self.spread(learned), conv.weight, conv.bias, *self.geometry, mask
        )

    def forward(self, input: Tensor) -> Tensor:
        raw = self.predict(input)
        return self.convolve(input, self.dilate(raw), self.modulate(raw))

    def extra_repr(self) -> str:
        return f"rates={self.rates!r}, activation={self.activation!r}, {super().extra_repr()}"
