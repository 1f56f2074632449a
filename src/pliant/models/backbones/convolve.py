"""A convolution with what follows it in a residual block: norm, addition, ReLU; fused where the machine can.

A norm that was folded into its convolution (``fold_batch_norms``) is None. Convolutions that carry a ``gate`` keep
their output for the next frame, so it is never written over.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.nn.fused_conv import conv2d, conv2d_add
from pliant.ops.gating import add_relu

__all__ = ["convolve", "convolve_add", "fold_batch_norms"]


def _is_gated(conv: nn.Module) -> bool:
    return getattr(conv, "gate", None) is not None


def convolve(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, x: Tensor, *, relu: bool = False) -> Tensor:
    """``norm(conv(x))``, followed by a ReLU where asked."""
    if norm is None:
        return conv(x, relu=relu) if _is_gated(conv) else conv2d(conv, x, relu=relu)
    x = norm(conv(x))
    return F.relu(x) if relu else x


def convolve_add(
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d | None,
    y: Tensor,
    x: Tensor,
    shortcut: nn.Module | None,
    *,
    relu: bool = False,
) -> Tensor:
    """``norm(conv(y)) + shortcut(x)``, followed by a ReLU where asked: the end of a residual block.

    Without gradients the result may take the place of x, which only the block before made and nobody else keeps.
    shortcut: None for the identity, a convolution, or a sequence of convolution and norm (None where folded).
    """
    kept = getattr(conv, "keeps_input", False)  # x is then what the block's first layer keeps
    if shortcut is not None:
        layers = list(shortcut) if isinstance(shortcut, nn.Sequential) else [shortcut]
        x = convolve(layers[0], layers[1] if len(layers) > 1 else None, x)
        kept = _is_gated(layers[0])
    if norm is None and not _is_gated(conv):
        return conv2d_add(conv, y, x, relu=relu)
    y = convolve(conv, norm, y)
    if torch.is_grad_enabled():
        return F.relu(y + x) if relu else y + x
    in_place = not kept and x.dtype == y.dtype and x.is_contiguous(memory_format=torch.channels_last)
    if relu:
        return add_relu(y, x, out=x if in_place else None)
    return x.add_(y) if in_place else y + x


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> nn.Module:
    """``network`` in place, its frozen batch norms folded into the convolutions before them; for inference alone.

    Norms become None; a gated convolution keeps what the norm makes of a skipped position. Returns the network.
    """
    for block in list(network.modules()):
        children = dict(block.named_children())
        for name, norm in children.items():
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            conv_name = str(int(name) - 1) if name.isdigit() else name.replace("bn", "conv")
            _fold(children[conv_name], norm)
            if isinstance(block, nn.Sequential):
                del block[int(name)]
            else:
                setattr(block, name, None)
    return network


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    at_zero = norm.bias - norm.running_mean * scale
    bias = at_zero if conv.bias is None else at_zero + conv.bias * scale
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    if _is_gated(conv):
        conv.skip_value = at_zero.clone()
