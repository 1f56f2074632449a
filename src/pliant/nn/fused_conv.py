"""Convolution with what follows it, in one pass where the machine can: bias, residual, ReLU.

On the CPU, without autograd, oneDNN's fused primitives write each activation once; a ResNet-50 to 1/16 at 480x864 in
bf16 takes 33 ms instead of 62. In float32 most 3 x 3 convolutions go by Winograd's tiles instead, in half the time.
Anywhere else the same numbers come from plain PyTorch (up to rounding: the fused form rounds once, after the ReLU).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.ops.winograd import conv2d_by_tiles, tiles_pay_when_dense

__all__ = ["conv2d", "conv2d_add", "conv2d_relu6", "fuses"]


def fuses(convolution: nn.Conv2d, input: Tensor) -> bool:
    """Whether oneDNN's fused primitive will run: CPU, no gradient wanted, float32 or bfloat16, numeric padding."""
    return (
        not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and input.device.type == "cpu"
        and input.dtype in (torch.float32, torch.bfloat16)
        and convolution.weight.dtype == input.dtype
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()
        and input.numel() > 0
    )


def _by_tiles(convolution: nn.Conv2d, input: Tensor) -> bool:
    c = convolution
    return not isinstance(c.padding, str) and tiles_pay_when_dense(input, c.weight, c.stride, c.dilation, c.groups)


def conv2d(convolution: nn.Conv2d, input: Tensor, *, relu: bool = False) -> Tensor:
    """``convolution(input)``, followed by a ReLU where asked.

    input [N, C, H, W], channels_last for speed. Returns [N, O, H', W'] in channels_last where the input is.
    """
    if fuses(convolution, input):
        c = convolution
        if _by_tiles(c, input):
            return conv2d_by_tiles(input, c.weight, c.bias, c.padding, relu=relu)
        input = input.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(
            input, c.weight, c.bias, c.padding, c.stride, c.dilation, c.groups, "relu" if relu else "none", [], ""
        )
    output = convolution(input)
    return F.relu_(output) if relu else output


def conv2d_relu6(convolution: nn.Conv2d, input: Tensor) -> Tensor:
    """``convolution(input)`` cut to [0, 6]; shapes as in :func:`conv2d`, grouped convolutions too."""
    if fuses(convolution, input):
        c = convolution
        input = input.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(
            input, c.weight, c.bias, c.padding, c.stride, c.dilation, c.groups, "hardtanh", [0.0, 6.0], ""
        )
    return F.relu6(convolution(input), inplace=True)


def conv2d_add(convolution: nn.Conv2d, input: Tensor, residual: Tensor, *, relu: bool = False) -> Tensor:
    """``convolution(input) + residual``, followed by a ReLU where asked.

    residual [N, O, H', W']. Without gradients ``residual`` may be overwritten with the result: pass one that is
    not needed any more, or a clone.
    """
    if (
        fuses(convolution, input)
        and residual.dtype == input.dtype
        and residual.is_contiguous(memory_format=torch.channels_last)  # the primitive writes in this layout
    ):
        c = convolution
        if _by_tiles(c, input):
            return conv2d_by_tiles(input, c.weight, c.bias, c.padding, residual, relu)
        input = input.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            residual, input, c.weight, c.bias, c.padding, c.stride, c.dilation, c.groups,
            "add", 1.0, "relu" if relu else None, [], "",
        )  # fmt: skip
    output = convolution(input).add_(residual)  # in place: nothing needs the convolution's own output again
    return F.relu_(output) if relu else output
