"""sparse_conv2d: a convolution that works only where its policy says so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pliant.ops.arguments import autocast, check_same_dtype, check_tensors, empty_output, per_axis
from pliant.ops.backend import requested_backend
from pliant.ops.registration import LIBRARY, choose_kernels, register
from pliant.ops.sparse_conv2d import cpu
from pliant.ops.sparse_conv2d.reference import ACTIVATIONS, sparse_conv2d_reference

GPU = "pliant.ops.sparse_conv2d.gpu"


def sparse_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    policy: Tensor,
    previous: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """A convolution that skips, reuses or computes each output position, [N, O, Ho, Wo].

    Y[n, :, u] = 0                                                    where policy[n, 0, u] is 0, skip
                 previous[n, :, u]                                    where it is 1, reuse
                 activation((W * X)[n, :, u] + bias + residual[n, :, u])    where it is 2, compute

    Native kernels take time in proportion to the computed positions.

    input: [N, C, H, W], float32, float64, bfloat16 or float16.
    weight: [O, C/groups, kh, kw], of input's dtype; its shape says the groups. bias: [O] or None.
    policy: [N, 1, Ho, Wo], uint8 in 0, 1, 2: one decision for all channels of a position.
    previous: [N, O, Ho, Wo], of input's dtype; None: reuse yields 0.
    stride, padding: an integer or (y, x).
    residual: [N, O, Ho, Wo] or None; added before the activation, at computed positions alone.
    activation: None or "relu".

    The result is channels-last where input is. Differentiable by every floating tensor (once); policy has no gradient.
    Raises ValueError or TypeError where shapes, dtypes or devices do not fit, with the arithmetic.
    Source: SpVOS (Lin et al.), Eq. 8.

    >>> x, w = torch.randn(1, 8, 10, 12), torch.randn(16, 8, 3, 3)
    >>> sparse_conv2d(x, w, None, torch.full((1, 1, 10, 12), 2, dtype=torch.uint8), padding=1).shape
    torch.Size([1, 16, 10, 12])
    """
    input, weight, bias, previous, residual = autocast(input, weight, bias, previous, residual)
    stride = per_axis("sparse_conv2d", "stride", stride, 2, 1)
    padding = per_axis("sparse_conv2d", "padding", padding, 2, 0)
    _check(input, weight, bias, policy, previous, stride, padding, residual, activation)
    return torch.ops.pliant.sparse_conv2d(
        input, weight, bias, policy, previous, stride, padding, residual, activation, requested_backend()
    )


@torch.no_grad()
def sparse_conv2d_(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    policy: Tensor,
    previous: Tensor,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """``sparse_conv2d`` for inference that writes into ``previous`` and returns it: reused positions are not touched.

    Arguments as there; ``previous`` must own its memory apart from input and residual, nobody else may rely on it,
    and it has no gradient. With few computed positions this saves the copying, most of what is left of the time.
    """
    stride = per_axis("sparse_conv2d_", "stride", stride, 2, 1)
    padding = per_axis("sparse_conv2d_", "padding", padding, 2, 0)
    _check(input, weight, bias, policy, previous, stride, padding, residual, activation)
    for name, tensor in {"input": input, "residual": residual}.items():
        if (
            tensor is not None
            and tensor.untyped_storage().data_ptr() == previous.untyped_storage().data_ptr()
        ):
            raise ValueError(f"sparse_conv2d_: previous shares its memory with {name}; give it its own")
    arguments = (input, weight, bias, policy, previous, stride, padding, residual, activation)
    torch.ops.pliant.sparse_conv2d_(*arguments, requested_backend())
    return previous


def _in_place(*arguments) -> None:
    *arguments, backend = arguments
    kernels = choose_kernels("sparse_conv2d", backend, arguments, cpu, GPU)
    if kernels is None:
        arguments[4].copy_(sparse_conv2d_reference(*arguments))
    else:
        kernels.forward_in_place(*arguments)


def output_size(input: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> list[int]:
    """(Ho, Wo): what fits."""
    return [
        (extent + 2 * pad - kernel) // step + 1
        for extent, kernel, step, pad in zip(input.shape[2:], weight.shape[2:], stride, padding)
    ]


def _check(input, weight, bias, policy, previous, stride, padding, residual, activation) -> None:
    name = "sparse_conv2d"
    if input.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f"{name}: input and weight must be [N, C, H, W] and [O, C/groups, kh, kw], "
            f"not {list(input.shape)} and {list(weight.shape)}"
        )
    groups, rest = divmod(input.shape[1], max(1, weight.shape[1]))
    if rest or groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{name}: input has {input.shape[1]} channels, weight reads {weight.shape[1]} a group and makes "
            f"{weight.shape[0]}; both must be whole multiples for the same number of groups"
        )
    size = output_size(input, weight, stride, padding)
    if min(size) < 1:
        raise ValueError(
            f"{name}: a kernel of {list(weight.shape[2:])} does not fit into an input of {list(input.shape[2:])} "
            f"with padding {padding}"
        )
    full = [input.shape[0], weight.shape[0], *size]
    expected = {
        "bias": (bias, full[1:2]),
        "policy": (policy, [full[0], 1, *size]),
        "previous": (previous, full),
        "residual": (residual, full),
    }
    for key, (tensor, shape) in expected.items():
        if tensor is not None and list(tensor.shape) != shape:
            raise ValueError(
                f"{name}: {key} must be {shape} for input {list(input.shape)}, weight {list(weight.shape)}, "
                f"stride {stride} and padding {padding}, not {list(tensor.shape)}"
            )
    tensors = {"input": input, "weight": weight, "bias": bias, "previous": previous, "residual": residual}
    check_tensors(name, "input", **tensors)
    check_same_dtype(name, "input", **tensors)
    if policy.dtype != torch.uint8:
        raise TypeError(f"{name}: policy must be uint8 (0 skip, 1 reuse, 2 compute), not {policy.dtype}")
    if policy.device != input.device:
        raise ValueError(f"{name}: policy is on {policy.device}, input on {input.device}; move one of them")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name}: activation must be None or 'relu', not {activation!r}")


def _fake(input, weight, bias, policy, previous, stride, padding, residual, activation):
    return empty_output(
        input, [input.shape[0], weight.shape[0], *output_size(input, weight, stride, padding)]
    )


_OTHERS = "SymInt[2] stride, SymInt[2] padding, Tensor? residual, str? activation"

register(
    "sparse_conv2d",
    "Tensor input, Tensor weight, Tensor? bias, Tensor policy, Tensor? previous, " + _OTHERS,
    reference=sparse_conv2d_reference,
    fake=_fake,
    cpu=cpu,
    gpu=GPU,
)

LIBRARY.define(
    f"sparse_conv2d_(Tensor input, Tensor weight, Tensor? bias, Tensor policy, Tensor(a!) previous, {_OTHERS}, "
    "str backend) -> ()"
)
LIBRARY.impl("sparse_conv2d_", _in_place, "CompositeExplicitAutograd")
torch.library.register_fake("pliant::sparse_conv2d_", lambda *values: None, lib=LIBRARY)
