"""deform_conv2d: a convolution whose taps move freely."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pliant.ops.arguments import empty_output
from pliant.ops.backend import requested_backend
from pliant.ops.deform_conv2d import cpu
from pliant.ops.deform_conv2d.reference import deform_conv
from pliant.ops.deformable import check_axes, output_extent, prepare
from pliant.ops.registration import register


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution, [N, O, Ho, Wo]: the numbers of torchvision's operator of that name.

    Y[o, u] = bias[o] + sum over c, i of W[o, c, i] M[i, u] X(c, u s - p + i d + offset[i, u])

    i runs over the K = kh kw taps, u over output positions; X between grid points is bilinear, 0 outside,
    each corner for itself. A position that is infinite or not a number counts as outside.

    input: [N, C, H, W], float32, float64, bfloat16 or float16.
    offset: [N, 2 G K, Ho, Wo], in cells of the input, (dy, dx) fastest, then tap, then offset group; group g
        moves the channels g C/G ... (g + 1) C/G - 1. Computed in float32 at least.
    weight: [O, C/groups, kh, kw], of input's dtype; its shape says the groups. bias: [O] or None.
    stride, padding, dilation: an integer or (y, x). Static dilation comes on top of the offsets.
    mask: modulation [N, G K, Ho, Wo], or None for 1 everywhere. Not applied to the bias.

    Differentiable by every tensor (once); at grid points the derivative by the offset is the one from the
    right. Raises ValueError or TypeError where shapes, dtypes or devices do not fit, with the arithmetic.
    Source: Dai et al. 2017, Zhu et al. 2019.

    >>> x, w = torch.randn(1, 8, 10, 12), torch.randn(16, 8, 3, 3)
    >>> deform_conv2d(x, torch.zeros(1, 18, 10, 12), w, padding=1).shape
    torch.Size([1, 16, 10, 12])
    """
    check_axes("deform_conv2d", input, 2)
    count = weight.shape[2:].numel()
    arguments = prepare(
        "deform_conv2d", input, ("offset", offset, -2 * count), weight, bias, mask, stride, padding, dilation
    )
    return torch.ops.pliant.deform_conv2d(*arguments, requested_backend())


def _fake(input, offset, weight, bias, mask, stride, padding, dilation):
    out = output_extent(input.shape[2:], weight.shape[2:], stride, padding, dilation)
    return empty_output(input, [input.shape[0], weight.shape[0], *out])


register(
    "deform_conv2d",
    "Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, "
    "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation",
    reference=deform_conv,
    fake=_fake,
    cpu=cpu,
    gpu="pliant.ops.deform_conv2d.gpu",
)
