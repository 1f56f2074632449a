"""Dense 3 x 3 convolutions of stride 1 in float32, by the tiles of sparse_conv2d's kernels; without gradients.

Winograd's F(2 x 2, 3 x 3) takes 16 multiplications where the sum over nine taps takes 36. Its rounding errors are up to
three times those of that sum, in proportion to the largest numbers of a tile's 4 x 4 pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant.ops import native
from pliant.ops.backend import requested_backend
from pliant.ops.packing import packed
from pliant.ops.registration import LIBRARY

__all__ = ["conv2d_by_tiles", "pack_tiles", "suits_tiles", "tiles_pay_when_dense"]

VECTOR = 16  # channels: the kernels transform whole vectors
CHANNELS, OUTPUTS = 32, 16
"""With fewer the transforms cost what the products save."""


def suits_tiles(weight: Tensor, stride) -> bool:
    """Whether the kernels can do it: 3 x 3, stride 1, whole vectors of channels."""
    return tuple(weight.shape[2:]) == (3, 3) and tuple(stride) == (1, 1) and weight.shape[1] % VECTOR == 0


def tiles_pay_when_dense(input: Tensor, weight: Tensor, stride, dilation, groups: int) -> bool:
    """Whether ``conv2d_by_tiles`` takes this convolution on this machine and is faster than oneDNN's."""
    return (
        input.dtype == weight.dtype == torch.float32
        and suits_tiles(weight, stride)
        and weight.shape[1] >= CHANNELS
        and weight.shape[0] >= OUTPUTS
        and tuple(dilation) == (1, 1)
        and groups == 1
        and not weight.is_inference()  # its transformed form could not be kept
        and requested_backend() in ("auto", "cpu")
        and native.why_missing() is None
    )


def pack_tiles(weight: Tensor) -> Tensor:
    """The transformed weight, G g G', in the order in which the kernels in use read it."""
    weight = weight.detach().float().contiguous()
    found = torch.empty(torch.ops.pliant_native.sparse_conv2d_packed_elements(weight, True))
    torch.ops.pliant_native.sparse_conv2d_pack(weight, True, found)
    return found


def conv2d_by_tiles(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int],
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """activation(convolution + bias + residual), [N, O, Ho, Wo] channels-last, float32.

    input [N, C, H, W], weight [O, C, 3, 3], bias [O], residual [N, O, Ho, Wo], all float32 and on the CPU;
    ``tiles_pay_when_dense`` must hold. Raises ValueError where 3 x 3 does not fit into the padded input.
    """
    return torch.ops.pliant.conv2d_by_tiles(input, weight, bias, padding, residual, relu)


def _conv2d_by_tiles(input, weight, bias, padding, residual, relu) -> Tensor:
    size = [n + 2 * pad - 2 for n, pad in zip(input.shape[2:], padding)]
    if min(size) < 1:
        raise ValueError(f"a kernel of 3 x 3 does not fit into {list(input.shape[2:])} with padding {list(padding)}")
    out = torch.empty([len(input), len(weight), *size], memory_format=torch.channels_last)
    finite = torch.ops.pliant_native.sparse_conv2d(
        input.contiguous(memory_format=torch.channels_last),
        packed(weight, (native.instruction_set(), "tiles"), pack_tiles),
        True, 3, 3,
        None if bias is None else bias.contiguous(),
        None, None, 1, 1, *padding,
        None if residual is None else residual.contiguous(memory_format=torch.channels_last),
        relu, False, out,
    )  # fmt: skip
    if finite:
        return out
    out = F.conv2d(input, weight, bias, padding=padding)  # inf and NaN must not spread over a tile
    if residual is not None:
        out = out + residual
    return F.relu(out) if relu else out


LIBRARY.define(
    "conv2d_by_tiles(Tensor input, Tensor weight, Tensor? bias, int[2] padding, Tensor? residual, bool relu) -> Tensor"
)
LIBRARY.impl("conv2d_by_tiles", _conv2d_by_tiles, "CompositeExplicitAutograd")
