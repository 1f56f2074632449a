"""dynamic_dilated_conv3d: a convolution with a dilation of its own at every position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pliant.ops.arguments import empty_output
from pliant.ops.backend import requested_backend
from pliant.ops.deformable import check_axes, output_extent, prepare
from pliant.ops.dynamic_dilated_conv3d import cpu
from pliant.ops.dynamic_dilated_conv3d.reference import dynamic_dilated_conv
from pliant.ops.registration import register


def dynamic_dilated_conv3d(
    input: Tensor,
    dilation_map: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Three-dimensional convolution, dilated at each output position by rates of its own, [N, O, To, Ho, Wo].

    Y[o, u] = bias[o] + sum over c, i of W[o, c, i] M[i, u] X(c, centre(u) + d (i - (k - 1) / 2) D(u))
    centre(u) = u s - p + d (k - 1) / 2, a number an axis

    i runs over the K = kt kh kw taps, u over output positions; X between grid points is trilinear, 0 outside,
    each corner for itself. D = 1 is the ordinary convolution, D = 0 reads the centre alone; the static
    dilation multiplies with the learned one, and the centre never moves. The offsets are never formed.

    input: [N, C, T, H, W], float32, float64, bfloat16 or float16.
    dilation_map: D, [N, 3, To, Ho, Wo], rates along (t, y, x), any real number; computed in float32 at least.
    weight: [O, C/groups, kt, kh, kw], of input's dtype; its shape says the groups. bias: [O] or None.
    stride, padding, dilation: an integer or (t, y, x), as in a convolution.
    mask: modulation M [N, K, To, Ho, Wo], or None for 1 everywhere. Not applied to the bias.

    Differentiable by every tensor (once); at grid points the derivative by D is the one from the right.
    Raises ValueError or TypeError where shapes, dtypes or devices do not fit, with the arithmetic.
    Source: Schmidt et al., D2Conv3D, WACV 2022, equation 3.

    >>> x, w = torch.randn(1, 8, 4, 10, 12), torch.randn(16, 8, 3, 3, 3)
    >>> dynamic_dilated_conv3d(x, torch.full((1, 3, 4, 10, 12), 1.5), w, padding=1).shape
    torch.Size([1, 16, 4, 10, 12])
    """
    name = "dynamic_dilated_conv3d"
    check_axes(name, input, 3)
    steering = ("dilation_map", dilation_map, 3)
    arguments = prepare(name, input, steering, weight, bias, mask, stride, padding, dilation)
    return torch.ops.pliant.dynamic_dilated_conv3d(*arguments, requested_backend())


def _fake(input, dilation_map, weight, bias, mask, stride, padding, dilation):
    out = output_extent(input.shape[2:], weight.shape[2:], stride, padding, dilation)
    return empty_output(input, [input.shape[0], weight.shape[0], *out])


register(
    "dynamic_dilated_conv3d",
    "Tensor input, Tensor dilation_map, Tensor weight, Tensor? bias, Tensor? mask, "
    "SymInt[3] stride, SymInt[3] padding, SymInt[3] dilation",
    reference=dynamic_dilated_conv,
    fake=_fake,
    cpu=cpu,
    gpu="pliant.ops.dynamic_dilated_conv3d.gpu",
)
